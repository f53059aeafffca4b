"""Loaders give the model the file says, or one line saying why not; nothing in a file runs."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import socket
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from depara_bench import loaders
from depara_bench.errors import InputError
from depara_bench.loaders import weights
from depara_bench.zoo import ExportedSpec, InputSpec, PythonSpec, TorchvisionSpec

COMMON: dict[str, Any] = {"name": "m", "input": InputSpec(size=16), "roles": ("source",)}


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def refused(call: Callable[[], object], *expected: str) -> str:
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for text in (*expected, "model 'm'"):
        assert text in message
    return message


# --- weight files ----------------------------------------------------------------------------


def fill(model: nn.Module, path: Path) -> None:
    content = weights.read_bytes(path, None, "m")
    weights.fill(model, weights.state_dict(content, path, "m"), path, "m")


def test_missing_file_and_wrong_hash(tmp_path: Path) -> None:
    refused(lambda: weights.resolve("none.pth", tmp_path, "m"), "none.pth do not exist")
    path = tmp_path / "w.pth"
    path.write_bytes(b"abc")
    right = hashlib.sha256(b"abc").hexdigest()
    assert weights.read_bytes(path, right, "m") == b"abc"
    assert weights.file_sha256(path) == right
    refused(lambda: weights.read_bytes(path, "0" * 64, "m"), right[:12], "000000000000", "w.pth")


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_round_trip(tmp_path: Path, suffix: str, wrapper: str | None) -> None:
    source, target = nn.Linear(3, 2), nn.Linear(3, 2)
    path = tmp_path / f"w{suffix}"
    state: Any = source.state_dict()
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({wrapper: state} if wrapper else state, path)
    fill(target, path)
    assert torch.equal(source.weight, target.weight)
    assert torch.equal(source.bias, target.bias)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_truncated_weights(tmp_path: Path, suffix: str, keep: int) -> None:
    path = tmp_path / f"w{suffix}"
    state = nn.Linear(3, 2).state_dict()
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    path.write_bytes(path.read_bytes()[:keep])
    refused(lambda: fill(nn.Linear(3, 2), path), path.name)


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_hostile_checkpoint_is_not_run(tmp_path: Path, how: str) -> None:
    marker, path = tmp_path / "ran", tmp_path / "w.pth"
    if how == "torch":
        torch.save({"weight": Touch(marker)}, path)
    else:
        path.write_bytes(pickle.dumps({"weight": Touch(marker)}, protocol=2))
    refused(lambda: fill(nn.Linear(3, 2), path), "w.pth", "plain tensors", "safetensors")
    assert not marker.exists()
    with suppress(RuntimeError):  # what is left after the pickle has run is no checkpoint
        torch.load(path, weights_only=False)
    assert marker.exists()  # so the file was hostile


@pytest.mark.parametrize(
    "content", [[1, 2], {"a": 1}, {1: torch.zeros(1)}, {"state_dict": {"a": 1}}]
)
def test_a_checkpoint_that_is_no_state_dict(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "w.pth")
    refused(lambda: fill(nn.Linear(3, 2), tmp_path / "w.pth"), "no state dict")


@pytest.mark.parametrize("content", [b"\x80\x02.", b"(", b"\x80\x02}q\x00R.", b"0", b"PK\x03\x04"])
def test_malformed_pickles_are_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    refused(lambda: fill(nn.Linear(3, 2), tmp_path / "w.pth"), "w.pth")


def test_keys_and_shapes_must_fit(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(4)))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = {f"{i}.extra": torch.zeros(1) for i in range(2)}
    state |= {"0.weight": torch.zeros(3, 2), "0.bias": torch.zeros(2)}
    save_file(state, path)
    message = refused(lambda: fill(model, path), "lacks 1.weight, 1.bias, 2.weight, ... (6 in all)")
    assert "adds 0.extra, 1.extra (2 in all)" in message
    assert "has another shape for 0.weight ([3, 2] for [2, 2]) (1 in all)" in message
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


# --- torchvision -----------------------------------------------------------------------------


def vision(architecture: str = "squeezenet1_1", **options: Any) -> TorchvisionSpec:
    options = {"classes": 7} | options
    return TorchvisionSpec(loader="torchvision", architecture=architecture, **COMMON, **options)


def state_of(spec: TorchvisionSpec, base: Path) -> torch.Tensor:
    return torch.cat([v.flatten().float() for v in loaders.load(spec, base).state_dict().values()])


def test_random_initialisation_depends_on_the_seed_only(tmp_path: Path) -> None:
    torch.manual_seed(1)
    first = state_of(vision(seed=3), tmp_path)
    drawn = torch.rand(4)
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.rand(4))  # loading drew nothing from the global generator
    assert torch.equal(first, state_of(vision(seed=3), tmp_path))
    assert not torch.equal(first, state_of(vision(seed=4), tmp_path))


def test_local_checkpoint(tmp_path: Path) -> None:
    original = loaders.load(vision(seed=5), tmp_path)
    save_file(original.state_dict(), tmp_path / "w.safetensors")
    digest = weights.file_sha256(tmp_path / "w.safetensors")
    again = loaders.load(vision(weights="w.safetensors", sha256=digest), tmp_path)
    x = torch.rand(2, 3, 64, 64)
    assert again(x).shape == (2, 7)
    assert torch.equal(original(x), again(x))
    assert not again.training
    assert not any(p.requires_grad for p in again.parameters())
    refused(
        lambda: loaders.load(vision(weights="w.safetensors", classes=9), tmp_path),
        "has another shape for classifier.1.weight",
    )


def test_unknown_architecture_names_the_nearest(tmp_path: Path) -> None:
    refused(lambda: loaders.load(vision("resnet19", seed=0), tmp_path), "'resnet19'", "resnet18")


@pytest.mark.parametrize("architecture", ["lraspp_mobilenet_v3_large", "googlenet"])
def test_no_download_and_no_warning(
    tmp_path: Path, architecture: str, monkeypatch: pytest.MonkeyPatch, recwarn: Any
) -> None:
    # Both would by default fetch a backbone or warn; an empty cache and no sockets show neither.
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def no_network(*_: Any, **__: Any) -> None:
        raise AssertionError("tried to reach the network")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    model = loaders.load(vision(architecture, seed=0), tmp_path)
    assert sum(p.numel() for p in model.parameters()) > 1_000_000
    assert not list(recwarn)
    assert not list(tmp_path.iterdir())


# --- exported --------------------------------------------------------------------------------


class Net(nn.Module):
    """Small, with what exported vision models contain: batch norm, in-place ops, a size."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True)),
            *(nn.Dropout(0.5), nn.AdaptiveAvgPool2d(2)),
        )
        self.head = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right = self.features(x).split([2, 2], dim=1)
        joined = torch.cat((left, right * right.shape[0]), dim=1)
        return self.head(joined.reshape(x.shape[0], -1))


def export(model: nn.Module, *, dynamic: bool = True, size: int = 16) -> bytes:
    shapes = ({0: torch.export.Dim("batch")},) if dynamic else None
    program = torch.export.export(model, (torch.rand(2, 3, size, size),), dynamic_shapes=shapes)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    model = Net().eval()
    model.features[1].running_mean.uniform_()
    return model


@pytest.fixture(scope="module")
def archive(net: nn.Module) -> bytes:
    return export(net)


def rewritten(archive: bytes, changes: dict[str, Any]) -> bytes:
    """The archive with members replaced, added, or removed (None); a dict is written as JSON."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(buffer, "w") as new:
        members = {name: old.read(name) for name in old.namelist()}
        for name, value in changes.items():
            members[f"archive/{name}"] = json.dumps(value) if isinstance(value, dict) else value
        for name, value in members.items():
            if value is not None:
                new.writestr(name, value)
    return buffer.getvalue()


def member(archive: bytes, name: str) -> Any:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return json.loads(opened.read(f"archive/{name}"))


def load(content: bytes, folder: Path, **options: Any) -> nn.Module:
    (folder / "m.pt2").write_bytes(content)
    spec = ExportedSpec(loader="exported", weights="m.pt2", **(COMMON | options))
    return loaders.load(spec, folder)


def test_exported_equals_eager(net: nn.Module, archive: bytes, tmp_path: Path) -> None:
    loaded = load(archive, tmp_path)
    assert {name for name, _ in net.named_modules()} <= {n for n, _ in loaded.named_modules()}
    assert loaded.state_dict().keys() == net.state_dict().keys()
    seen: dict[str, list[torch.Tensor]] = {"eager": [], "exported": []}
    inputs = []
    for kind, model in (("eager", net), ("exported", loaded)):
        for layer in ("features.0", "features.4", "head"):
            model.get_submodule(layer).register_forward_hook(
                lambda _m, _i, output, kind=kind: seen[kind].append(output)
            )
        torch.manual_seed(7)
        x = torch.rand(5, 3, 16, 16, requires_grad=True)  # exported with a batch of 2
        seen[kind].append(model(x))
        seen[kind][1].square().sum().backward()  # from an embedding inside, not the output
        assert x.grad is not None
        inputs.append(x.grad)
    assert len(seen["eager"]) == len(seen["exported"]) == 4
    for eager, exported in zip(seen["eager"], seen["exported"], strict=True):
        torch.testing.assert_close(eager, exported)
    assert inputs[0].abs().sum() > 0
    torch.testing.assert_close(inputs[0], inputs[1])


class Converted(nn.Module):
    """Named as converters from ONNX name modules, parameters and constants."""

    def __init__(self) -> None:
        super().__init__()
        self.add_module("/features/Conv", nn.Conv2d(3, 4, 3))
        self.add_module("/Relu:0", nn.ReLU())
        self.add_module("Global Pool", nn.AdaptiveAvgPool2d(1))
        self.initializers = nn.Module()
        self.initializers.register_buffer("onnx::MatMul_1", torch.randn(4, 5))
        self.register_parameter("w/x", nn.Parameter(torch.randn(5)))
        self.add_module("layer(1)", nn.Sequential(nn.Linear(5, 5)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        own = dict(self.named_children())
        x = own["Global Pool"](own["/Relu:0"](own["/features/Conv"](x))).flatten(1)
        x = x @ getattr(self.initializers, "onnx::MatMul_1") + getattr(self, "w/x")
        return own["layer(1)"](x)


def traced(model: nn.Module) -> torch.fx.GraphModule:
    """As a graph whose nodes are its modules, which converters make."""

    class Tracer(torch.fx.Tracer):
        def is_leaf_module(self, *_: Any) -> bool:
            return True

    graph = torch.fx.Graph()
    value = graph.placeholder("x")
    for name in ("/features/Conv", "/Relu:0", "Global Pool"):
        value = graph.call_module(name, (value,))
    value = graph.call_function(torch.flatten, (value, 1))
    weight = graph.get_attr("initializers.onnx::MatMul_1")
    value = graph.call_function(torch.matmul, (value, weight))
    graph.output(graph.call_module("layer(1)", (value,)))
    return torch.fx.GraphModule(model, graph)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("as_graph", [False, True])
@pytest.mark.parametrize("strict", [False, True])
def test_names_that_are_no_identifiers(tmp_path: Path, as_graph: bool, strict: bool) -> None:
    model: nn.Module = Converted().eval()
    model = traced(model).eval() if as_graph else model
    x = torch.rand(2, 3, 16, 16)
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(model, (x,), dynamic_shapes=shapes, strict=strict)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    loaded = load(buffer.getvalue(), tmp_path)
    torch.testing.assert_close(loaded(x), model(x))
    seen: list[torch.Tensor] = []
    module = dict(loaded.named_modules())["/features/Conv"]
    module.register_forward_hook(lambda _m, _i, output: seen.append(output))
    loaded(x)
    assert torch.equal(seen[0], dict(model.named_modules())["/features/Conv"](x))


@pytest.mark.parametrize(
    "name",
    [
        *(
            'a"b',
            "a\\b",
            "a\nb",
            "a;b",
            '" + open("x") + "',
            "{a}",
            "__class__",
            "a.__dict__",
            "é",
            "a'b",
        ),
        *("a\x00b", "x" * 2000, "getattr(L['self'], '__class__')", "a..b", "getattr(a, 'b'"),
    ],
)
def test_names_that_could_be_more_than_names(archive: bytes, tmp_path: Path, name: str) -> None:
    program = member(archive, "models/model.json")
    node = program["graph_module"]["graph"]["nodes"][0]
    node["metadata"]["nn_module_stack"] = f"L__self__,,A;L__self__features,{name},A"
    content = rewritten(archive, {"models/model.json": program})
    refused(lambda: load(content, tmp_path), "no module")
    program = member(archive, "models/model.json")
    program["graph_module"]["module_call_graph"][1]["fqn"] = name
    if name not in ("x" * 2000, "getattr(a, 'b'"):
        content = rewritten(archive, {"models/model.json": program})
        refused(lambda: load(content, tmp_path), "no dotted name")


class Cast(nn.Module):
    """Computes in another precision than its input and output."""

    def __init__(self, body: nn.Module, kind: torch.dtype) -> None:
        super().__init__()
        self.body, self.kind = body.to(kind), kind

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.body(x.to(self.kind))
        return y.softmax(1, dtype=torch.float32) + torch.ones(1, dtype=self.kind)


@pytest.mark.parametrize("cast", [False, True])
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_programs_of_other_precisions_are_computed_in_float32(
    kind: torch.dtype, cast: bool, tmp_path: Path
) -> None:
    body, x = Net().eval(), torch.rand(2, 3, 16, 16)
    model = Cast(body, kind).eval() if cast else body.to(kind)
    given = x if cast else x.to(kind)
    shapes = ({0: torch.export.Dim("batch")},)
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(model, (given,), dynamic_shapes=shapes), buffer)
    found = load(buffer.getvalue(), tmp_path)(x)
    expected = body.float()(x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected.softmax(1) + 1 if cast else expected)


def test_torchs_remarks_on_an_archive_are_not_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    class Counts(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            n = x.sum().int().item()
            torch._check(n >= 0)
            return x.mean((1, 2, 3))[:, None]

    content = export(Counts().eval())
    recwarn.clear()
    caplog.clear()
    assert load(content, tmp_path)(torch.rand(3, 3, 16, 16)).shape == (3, 1)
    assert not caplog.records and not list(recwarn)


def test_hash_is_compared(archive: bytes, tmp_path: Path) -> None:
    refused(lambda: load(archive, tmp_path, sha256="0" * 64), "SHA-256")
    load(archive, tmp_path, sha256=hashlib.sha256(archive).hexdigest())


def test_unfit_exports_are_refused_with_the_fix(net: nn.Module, tmp_path: Path) -> None:
    fixed = export(net, dynamic=False)
    refused(lambda: load(fixed, tmp_path), "fixed batch of 2", "dynamic batch dimension")
    other = export(net, size=8)
    refused(lambda: load(other, tmp_path), "3x8x8", "3x16x16", "input.size")
    training = export(Net().train())
    refused(lambda: load(training, tmp_path), "training mode", "model.eval()")


def test_pickled_weights_of_torch_2_8_are_read(
    net: nn.Module, archive: bytes, tmp_path: Path
) -> None:
    buffer = io.BytesIO()
    torch.save(dict(net.state_dict(keep_vars=True)), buffer)
    changes = {"data/weights/model_weights_config.json": None}
    changes["data/weights/model.pt"] = buffer.getvalue()  # type: ignore[assignment]
    x = torch.rand(3, 3, 16, 16)
    torch.testing.assert_close(load(rewritten(archive, changes), tmp_path)(x), net(x))


# Each takes the archive and a marker and gives an archive that makes torch create the marker.


def _torch_pickle(marker: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save(((Touch(marker),), {}), buffer)
    return buffer.getvalue()


def evil_sample_inputs(archive: bytes, marker: Path) -> bytes:
    return rewritten(archive, {"data/sample_inputs/model.pt": _torch_pickle(marker)})


def evil_pickled_weights(archive: bytes, marker: Path) -> bytes:
    config = member(archive, "data/weights/model_weights_config.json")
    config["config"]["head.bias"] |= {"use_pickle": True, "path_name": "weight_99"}
    changes = {"data/weights/model_weights_config.json": config}
    return rewritten(archive, changes | {"data/weights/weight_99": _torch_pickle(marker)})


def evil_old_weights(archive: bytes, marker: Path) -> bytes:
    return rewritten(archive, {"data/weights/model.pt": _torch_pickle(marker)})


def evil_opaque_constant(archive: bytes, marker: Path) -> bytes:
    meta = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
    changes: dict[str, Any] = {
        "data/constants/model_constants_config.json": {"config": {"c": meta}}
    }
    return rewritten(
        archive, changes | {"data/constants/opaque_obj_0": pickle.dumps(Touch(marker))}
    )


def in_program(archive: bytes, old: str, new: str) -> bytes:
    text = json.dumps(member(archive, "models/model.json"))
    assert old in text
    return rewritten(archive, {"models/model.json": text.replace(old, new)})


def evil_expression(archive: bytes, marker: Path) -> bytes:
    symbol = next(iter(member(archive, "models/model.json")["range_constraints"]))
    code = f"__import__('pathlib').Path('{marker}').touch() or 2"
    return in_program(archive, f"Symbol('{symbol}', positive=True, integer=True)", code)


def evil_name(archive: bytes, marker: Path) -> bytes:
    code = f"x=__import__('pathlib').Path('{marker}').touch()"
    changed = in_program(archive, '"name": "x"', f'"name": "{code}"')
    return in_program(changed, '"x": {', f'"{code}": {{')


def evil_tree_spec(archive: bytes, marker: Path) -> bytes:
    # Tree specs import the module of an enum; this one stands for any that is importable.
    (marker.parent / "evil_enum.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    program = member(archive, "models/model.json")
    signature = program["graph_module"]["module_call_graph"][0]["signature"]
    context = json.dumps([{"__enum__": True, "fqn": "evil_enum:A", "name": "B"}])
    leaf = {"type": None, "context": None, "children_spec": []}
    spec = {"type": "builtins.dict", "context": context, "children_spec": [leaf]}
    signature["out_spec"] = json.dumps([1, spec])
    return rewritten(archive, {"models/model.json": program})


EVIL = [
    (evil_sample_inputs, "pickled sample inputs"),
    (evil_pickled_weights, "pickled weights"),
    (evil_old_weights, "pickled weights"),
    (evil_opaque_constant, "opaque_obj_0"),
    (evil_expression, "__import__"),
    (evil_name, "__import__"),
    (evil_tree_spec, "tree spec"),
]


@pytest.mark.parametrize(("make", "found"), EVIL, ids=[make.__name__ for make, _ in EVIL])
def test_hostile_archives_are_not_run(
    archive: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[bytes, Path], bytes],
    found: str,
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "evil_enum", raising=False)
    marker = tmp_path / "ran"
    content = make(archive, marker)
    refused(lambda: load(content, tmp_path), "m.pt2", found)
    assert not marker.exists()
    with suppress(Exception):  # The control: torch alone does run it; the refusal was needed.
        torch.export.load(io.BytesIO(content))
    if not marker.exists():
        pytest.skip("this version of torch does not run it")


@pytest.mark.parametrize(
    "target",
    [
        *(
            "torch.load",
            "torch.ops.load_library",
            "torch.hub.load",
            "torch.ops.aten.from_file.default",
        ),
        *("torch.ops.aten.save.default", "_operator.methodcaller", "math.__loader__", "#x:y"),
        *("torch.ops.aten.relu_.__class__", "torch.ops.higher_order.cond", "builtins.eval"),
        *("torch.ops.aten.no_such_thing.default", "torch.ops.mkldnn._linear_pointwise.default"),
    ],
)
def test_operators_outside_the_list_are_refused(
    archive: bytes, tmp_path: Path, target: str
) -> None:
    content = in_program(archive, "torch.ops.aten.relu_.default", target)
    refused(lambda: load(content, tmp_path), repr(target), "operator", "m.pt2")


@pytest.mark.parametrize(
    "expression",
    [
        *("9**9**9", "Pow(Integer(9), Integer(999999999))", "s0.__class__", "Symbol('__x__')"),
        *("Symbol('s0', real=open('x'))", "lambda: 1", "[s0]", "eval('1')", "f's0'", "s0.real"),
        *("exec", "LShift(1, 10**9)", "Symbol(*[1])", "Integer(2, **{})", "(" * 3000),
    ],
)
def test_expressions_outside_the_grammar(archive: bytes, tmp_path: Path, expression: str) -> None:
    symbol = next(iter(member(archive, "models/model.json")["range_constraints"]))
    old = f"Symbol('{symbol}', positive=True, integer=True)"
    refused(lambda: load(in_program(archive, old, expression), tmp_path), "expression of sizes")


def test_unknown_members_are_refused(archive: bytes, tmp_path: Path) -> None:
    compiled = rewritten(archive, {"data/aotinductor/model/x.so": b"\x7fELF"})
    refused(lambda: load(compiled, tmp_path), "compiled code", "aotinductor")
    for name in ("data/constants/custom_obj_0", "models/other.json", "data/x/../../y", "code.py"):
        refused(lambda n=name: load(rewritten(archive, {n: b"x"}), tmp_path), "unknown member")
    extra = rewritten(archive, {"extra/note.txt": b"harmless"})
    assert isinstance(load(extra, tmp_path), nn.Module)


def test_sizes_are_bounded(archive: bytes, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("archive/models/model.json", b" " * 50_000_000)
    refused(lambda: load(buffer.getvalue(), tmp_path), "compressed members")

    config = member(archive, "data/weights/model_weights_config.json")
    meta = config["config"]["head.bias"]
    meta["tensor_meta"]["sizes"] = [{"as_int": 10**15}]
    changes = {"data/weights/model_weights_config.json": config}
    empty = rewritten(archive, changes | {f"data/weights/{meta['path_name']}": b""})
    refused(lambda: load(empty, tmp_path), "1000000000000000 elements", "head.bias")
    refused(lambda: load(rewritten(archive, changes), tmp_path), "m.pt2")  # outside its bytes


@pytest.mark.parametrize("keep", [0, 4, 1000, -1, -200])
def test_truncated_archives(archive: bytes, tmp_path: Path, keep: int) -> None:
    refused(lambda: load(archive[:keep], tmp_path), "m.pt2")


def test_a_flipped_byte_is_noticed(archive: bytes, tmp_path: Path) -> None:
    at = archive.index(b"torch.ops.aten.relu_")
    changed = archive[:at] + b"T" + archive[at + 1 :]
    refused(lambda: load(changed, tmp_path), "damaged", "CRC")


def test_other_files_than_archives(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(1)}, buffer)
    refused(lambda: load(buffer.getvalue(), tmp_path), "m.pt2")
    old = io.BytesIO()
    with zipfile.ZipFile(old, "w") as opened:
        for name in ("version", "serialized_exported_program.json", "serialized_state_dict.pt"):
            opened.writestr(name, b"8.1")
    refused(lambda: load(old.getvalue(), tmp_path), "torch < 2.8", "torch >= 2.8")


# --- python ----------------------------------------------------------------------------------

FACTORY = """
from pathlib import Path
from torch import nn
Path(__file__).with_name("ran").touch()
def build(): return nn.Linear(3, 2)
def wrong(): return 5
def fails(): raise ValueError("first\\nsecond")
"""


def python_load(folder: Path, factory: str, allow: bool = True, **options: Any) -> nn.Module:
    spec = PythonSpec(loader="python", factory=factory, **COMMON, **options)
    return loaders.load(spec, folder, allow_code=allow)


@pytest.fixture
def module(tmp_path: Path) -> Iterator[str]:
    name = "zoo_code_under_test"
    (tmp_path / f"{name}.py").write_text(FACTORY)
    yield name
    sys.modules.pop(name, None)


def test_python_needs_the_flag(tmp_path: Path, module: str) -> None:
    refused(lambda: python_load(tmp_path, f"{module}:build", allow=False), "--allow-code")
    assert not (tmp_path / "ran").exists()
    before = list(sys.path)
    assert isinstance(python_load(tmp_path, f"{module}:build"), nn.Linear)
    assert (tmp_path / "ran").exists()
    assert sys.path == before


def test_python_weights_fill_strictly(tmp_path: Path, module: str) -> None:
    source = nn.Linear(3, 2)
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    loaded = python_load(tmp_path, f"{module}:build", weights="w.safetensors")
    assert torch.equal(loaded.weight, source.weight)
    save_file({"weight": source.weight.detach()}, tmp_path / "w.safetensors")
    refused(lambda: python_load(tmp_path, f"{module}:build", weights="w.safetensors"), "lacks bias")


def test_python_mistakes_are_one_line(tmp_path: Path, module: str) -> None:
    refused(lambda: python_load(tmp_path, f"{module}:none"), "no function 'none'")
    refused(lambda: python_load(tmp_path, f"{module}:wrong"), "returned int", "torch.nn.Module")
    refused(lambda: python_load(tmp_path, f"{module}:fails"), "ValueError: first second")
    refused(lambda: python_load(tmp_path, "no_such_module:f"), "ModuleNotFoundError")
    (tmp_path / "zoo_broken_code.py").write_text("def f(:\n")
    refused(lambda: python_load(tmp_path, "zoo_broken_code:f"), "SyntaxError")


def test_python_code_of_another_zoo_is_not_taken(tmp_path: Path, module: str) -> None:
    python_load(tmp_path, f"{module}:build")
    other = tmp_path / "other"
    other.mkdir()
    (other / f"{module}.py").write_text(FACTORY)
    refused(lambda: python_load(other, f"{module}:build"), "already loaded", "rename")
