"""Checkpoints that torch reads are read, in the one way that fits; nothing in them is run."""

from __future__ import annotations

import argparse
import collections
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import Tensor, nn

from depara_bench.errors import InputError
from depara_bench.identity import model_identity
from depara_bench.loaders import weights
from depara_bench.loaders.unfilled import tell_lazy
from depara_bench.zoo import TorchvisionSpec

X = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """A backbone with batch norm, and a head."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 5, 3)
        self.bn1 = nn.BatchNorm2d(5)
        self.layers = nn.Sequential(nn.ReLU(), nn.Conv2d(5, 6, 3, stride=2))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(6, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.layers(self.bn1(self.conv1(x)))).flatten(1)
        return self.fc(x)


def spec(embedding: str | None = None, **given: Any) -> TorchvisionSpec:
    """What a manifest says of the model; the architecture is not asked for by `fill`."""
    return TorchvisionSpec.model_validate(
        {
            "name": "m", "loader": "torchvision", "architecture": "none", "weights": given or "w",
            "input": {"size": 32}, "roles": ["source"], "embedding": embedding,
        }
    )  # fmt: skip


def drawn(seed: int = 0, **options: Any) -> Net:
    torch.manual_seed(seed)
    net = Net(**options).eval()
    net.bn1.running_mean.uniform_()
    return net


def filled(path: Path, model: nn.Module | None = None, asked: Any = None) -> nn.Module:
    model = model or Net()
    held = weights.state_dict(path.read_bytes(), path, "m")
    weights.fill(model, held, path, "m", spec=asked)
    return model.eval()


def refused(call: Callable[[], object], *expected: str) -> str:
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for text in ("model 'm'", *expected):
        assert text in message, message
    return message


def under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "w.pth"


# --- entries and prefixes --------------------------------------------------------------------


@pytest.mark.parametrize(
    "prefix",
    [
        *("module.", "model.", "backbone.", "encoder_q.", "_orig_mod.", "net.", "encoder."),
        *("module.encoder_q.", "student.backbone.", "a.b.c."),
    ],
)
@pytest.mark.parametrize(
    "entry",
    [
        *(None, "state_dict", "model", "model_state_dict", "net", "model_ema", "ema_state_dict"),
        *("teacher", "student", "params", "weights"),
    ],
)
def test_the_only_way_to_read_a_file_is_taken(path: Path, entry: str | None, prefix: str) -> None:
    net = drawn()
    state = under(prefix, net.state_dict()) | {"other.scale": torch.zeros(3)}
    if prefix.startswith("module.enc"):
        state |= {"module.queue": torch.zeros(4, 3), "module.queue_ptr": torch.zeros(1)}
    optimizer = torch.optim.Adam(net.parameters())
    net(X).sum().backward()
    optimizer.step()
    state = under(prefix, net.state_dict()) | {"other.scale": torch.zeros(3)}
    rest = {"optimizer": optimizer.state_dict(), "epoch": 3}
    torch.save(state if entry is None else {**rest, entry: state}, path)
    assert torch.equal(filled(path)(X), net.eval()(X))


def test_several_that_fit_are_told_and_the_manifest_chooses(path: Path) -> None:
    student, teacher = drawn(1), drawn(2)
    torch.save(
        {"student": student.state_dict(), "teacher": under("module.", teacher.state_dict())}, path
    )
    refused(
        lambda: filled(path),
        "key: student | key: teacher; say which one is meant, e.g. weights: {file: ..., key: te",
    )
    assert torch.equal(filled(path, asked=spec(file="w", key="teacher"))(X), teacher(X))
    assert torch.equal(filled(path, asked=spec(file="w", key="student"))(X), student(X))
    refused(
        lambda: filled(path, asked=spec(file="w", key="techer")),
        "no tensors under 'techer'; correct 'key', nearest: teacher",
    )

    both = under("q.", student.state_dict()) | under("k.", teacher.state_dict())
    torch.save({"run": {"nets": both}}, path)
    refused(lambda: filled(path), "key: run.nets, strip: q. | key: run.nets, strip: k.")
    asked = spec(file="w", key="run.nets", strip="k.")
    assert torch.equal(filled(path, asked=asked)(X), teacher(X))
    assert torch.equal(filled(path, asked=spec(file="w", strip="q."))(X), student(X))
    refused(lambda: filled(path, asked=spec(file="w", strip="z.")), "begins with 'z.'", "k, q")

    torch.save({"model": student.state_dict(), "state_dict": student.state_dict()}, path)
    assert torch.equal(filled(path)(X), student(X))  # twice the same is no choice


def test_what_comes_nearest_is_told_not_a_part_that_fits(path: Path) -> None:
    part = {"part.conv1.weight": drawn().conv1.weight.detach(), "gain": torch.zeros(1)}
    torch.save({"net": {**drawn().state_dict(), **part}}, path)
    refused(lambda: filled(path, asked=spec("pool")), "(key: net) does not fit", "adds gain, part.")


def test_modules_that_pass_on_may_stand_inside_of_a_name(path: Path) -> None:
    net = drawn()
    names = {
        name: re.sub(r"^(layers|conv1)\.", r"\1.module._orig_mod.", name)
        for name in net.state_dict()
    }
    torch.save({names[name]: tensor for name, tensor in net.state_dict().items()}, path)
    assert torch.equal(filled(path)(X), net(X))
    averaged = torch.optim.swa_utils.AveragedModel(net)
    torch.save(averaged.state_dict(), path)
    assert torch.equal(filled(path)(X), net(X))


# --- what may be missing or added ------------------------------------------------------------


def test_a_head_that_the_embedding_does_not_need_may_be_missing(path: Path) -> None:
    net = drawn()
    body = {name: t for name, t in net.state_dict().items() if not name.startswith("fc.")}
    torch.save(body, path)
    model = filled(path, asked=spec("pool"))
    seen: list[Tensor] = []
    for each in (net, model):
        each.pool.register_forward_hook(lambda _m, _i, output: seen.append(output))
        each(X)
    assert torch.equal(*seen)
    assert model.fc.weight.isnan().all()  # what is not filled can never be a number
    for asked in (None, spec(), spec("fc")):
        refused(lambda a=asked: filled(path, asked=a), "lacks fc.weight, fc.bias (2 in all)")
    del body["bn1.running_mean"]
    torch.save(body, path)
    refused(lambda: filled(path, asked=spec("pool")), "lacks bn1.running_mean, fc.weight, fc.bias")


def test_counters_may_be_missing_or_added(path: Path) -> None:
    net = drawn()
    state = {n: t for n, t in net.state_dict().items() if not n.endswith("num_batches_tracked")}
    profiled = {"total_ops": torch.zeros(1), "conv1.total_params": torch.zeros(1)}
    torch.save(state | profiled, path)
    assert torch.equal(filled(path)(X), net(X))


def test_another_head_is_left_out_and_other_layers_are_not(path: Path) -> None:
    net = drawn()
    body = {name: t for name, t in net.state_dict().items() if not name.startswith("fc.")}
    projector = {"projector.0.weight": torch.zeros(2, 2), "fc.0.weight": torch.zeros(2, 2)}
    torch.save(body | projector, path)
    assert filled(path, asked=spec("pool")).fc.bias.isnan().all()
    torch.save(net.state_dict() | {"layers.2.weight": torch.zeros(3)}, path)
    refused(lambda: filled(path), "adds layers.2.weight (1 in all)")
    torch.save(net.state_dict() | {"norm_pre.weight": torch.zeros(3)}, path)
    refused(lambda: filled(path, asked=spec("pool")), "adds norm_pre.weight (1 in all)")


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight


def test_tensors_that_are_shared_are_written_once(tmp_path: Path) -> None:
    net, path = Tied(), tmp_path / "w.safetensors"
    save_model(net, str(path))
    assert len(weights.state_dict(path.read_bytes(), path, "m")) == 3
    model = filled(path, Tied())
    assert torch.equal(model.second.weight, net.second.weight)
    assert torch.equal(model.second.bias, net.second.bias)
    apart = nn.ModuleDict({"first": nn.Linear(4, 4), "second": nn.Linear(4, 4)})
    refused(lambda: filled(path, apart), "lacks ")


def test_other_shapes_name_both_and_the_classes(path: Path) -> None:
    torch.save(drawn(classes=7).state_dict(), path)
    message = refused(
        lambda: filled(path, asked=spec()),
        "another shape for fc.weight ([7, 6] for [4, 6]), fc.bias ([7] for [4]) (2 in all)",
    )
    assert message.endswith("give 'classes: 7'")
    state = drawn(classes=7).state_dict() | {"conv1.weight": torch.zeros(5, 1, 3, 3)}
    torch.save(state, path)
    assert "classes" not in refused(lambda: filled(path, asked=spec()), "[5, 1, 3, 3] for [5, 3")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("of_model", [torch.float32, torch.float16, torch.float64])
def test_other_precisions_are_computed_in_float32(
    path: Path, dtype: torch.dtype, of_model: torch.dtype
) -> None:
    net = drawn().to(dtype)
    torch.save(net.state_dict(), path)
    model = filled(path, Net().to(of_model))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    torch.testing.assert_close(model(X), net.float()(X))


def test_whole_numbers_for_real_ones_are_told(path: Path) -> None:
    state = drawn().state_dict()
    torch.save(state | {"conv1.weight": state["conv1.weight"].to(torch.int8)}, path)
    refused(lambda: filled(path), "another kind of numbers (whole or real) in conv1.weight")


def test_layers_without_a_size_are_one_line(path: Path) -> None:
    lazy = nn.Sequential(nn.Flatten(), nn.LazyLinear(3))
    refused(lambda: tell_lazy(lazy, "model 'm'"), "1.weight, 1.bias", "nn.LazyLinear(10)")
    source = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 3))
    torch.save(source.state_dict(), path)
    torch.testing.assert_close(filled(path, lazy)(X), source(X))  # the file says the size


def test_modules_that_read_their_earlier_names(path: Path) -> None:
    with pytest.warns(FutureWarning, match="weight_norm"):
        old = nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 4)), nn.Linear(4, 4))
    new = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), nn.Linear(4, 4))
    torch.save(old.state_dict(), path)
    x = torch.rand(2, 4)
    torch.testing.assert_close(filled(path, new)(x), old(x))


# --- what is in a pickle beside the tensors --------------------------------------------------


class Config(dict):  # type: ignore[type-arg]
    """As configurations of training scripts are: a dict with attributes."""


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return shutil.copyfile, (__file__, str(self.marker))


class Scalar(float):
    """Stands for any class of the script that saved a file."""


def things() -> dict[str, Any]:
    config = Config(lr=0.1)
    config.frozen = True  # type: ignore[attr-defined]
    lists = collections.defaultdict(list, loss=[1.0])
    return {
        "args": argparse.Namespace(lr=0.1, out=Path("/x"), betas=(0.9, 0.99)),
        "best": np.float64(0.5), "history": np.zeros(3), "rng": np.random.get_state(),
        "own": Scalar(1.5), "config": config, "lists": lists, "kind": torch.float32,
        "set": {1, 2}, "function": print,
    }  # fmt: skip


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("name", things())
def test_what_lies_beside_the_tensors_is_not_made(path: Path, new_format: bool, name: str) -> None:
    net = drawn()
    saved = {"state_dict": net.state_dict(), "epoch": 3, name: things()[name]}
    torch.save(saved, path, _use_new_zipfile_serialization=new_format)
    assert torch.equal(filled(path)(X), net(X))


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("where", ["beside", "around", "inside"])
def test_nothing_beside_the_tensors_is_run(path: Path, new_format: bool, where: str) -> None:
    net, marker = drawn(), path.with_name("ran")
    state: Any = net.state_dict()
    state["evil"] = Touch(marker) if where == "inside" else torch.zeros(1)
    if where != "inside":
        del state["evil"]
    saved = [state, Touch(marker)] if where == "around" else {"model": state, "x": Touch(marker)}
    torch.save(saved, path, _use_new_zipfile_serialization=new_format)
    if where == "around":
        refused(lambda: filled(path), "w.pth")
    else:
        assert torch.equal(filled(path)(X), net(X))
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists()  # so the file was hostile


@pytest.mark.parametrize(
    "code",
    [
        b"cos\nsystem\n(V%s\ntR.",
        b"cposix\nsystem\n(V%s\ntR.",
        b"cbuiltins\nexec\n(Vimport os; os.system('%s')\ntR.",
        b"c__builtin__\neval\n(V__import__('os').system('%s')\ntR.",
        b"csubprocess\nrun\n((lV/bin/sh\naV-c\naV%s\natR.",
        b"ctorch.hub\nload\n(V%s\ntR.",
    ],
)
def test_a_pickle_that_is_a_program_is_not_run(path: Path, code: bytes) -> None:
    marker = path.with_name("ran")
    path.write_bytes(b"\x80\x02" + code % f"touch {marker}".encode())
    refused(lambda: filled(path), "w.pth", "plain tensors")
    assert not marker.exists()


def test_a_whole_model_is_named(path: Path) -> None:
    torch.save(nn.Linear(2, 2), path)
    mend = ("torch.nn.modules.linear.Linear", "save model.state_dict() as safetensors")
    refused(lambda: filled(path), *mend)
    torch.save({"epoch": 1, "ema": nn.Linear(2, 2)}, path)
    refused(lambda: filled(path), "as 'ema' an object of", *mend)
    path.write_bytes(pickle.dumps(nn.Linear(2, 2), protocol=2))
    refused(lambda: filled(path), "plain tensors")


@pytest.mark.filterwarnings("ignore")
def test_files_of_other_loaders_are_told(path: Path) -> None:
    torch.jit.save(torch.jit.trace(drawn(), X), path)
    refused(lambda: filled(path), "TorchScript archive", "'loader: torchscript'")
    torch.export.save(torch.export.export(drawn(), (X,)), path.with_suffix(".pt2"))
    path.with_suffix(".pt2").rename(path)
    refused(lambda: filled(path), "torch.export archive", "'loader: exported'")


def test_safetensors_by_another_name(path: Path) -> None:
    save_file(drawn().state_dict(), path)
    assert torch.equal(filled(path)(X), drawn()(X))


def test_which_tensors_are_meant_is_part_of_what_a_model_is(path: Path) -> None:
    torch.save({"a": drawn(1).state_dict(), "b": drawn(2).state_dict()}, path)
    asked = [{"file": "w.pth", "key": key} for key in "ab"] + [{"file": "w.pth"}]
    identities = [model_identity(spec(**each), path.parent) for each in asked]
    assert identities[0] != identities[1]
    assert "key" not in identities[2]
