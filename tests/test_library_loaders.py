"""Models of timm, transformers and TorchScript: what the file says, or one line; no download."""

from __future__ import annotations

import importlib
import json
import socket
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from depara_bench import loaders
from depara_bench.check import Checked, Checker, Shared
from depara_bench.engine import Slot
from depara_bench.errors import InputError
from depara_bench.identity import model_identity
from depara_bench.job import AttributionSettings
from depara_bench.loaders.metadata import library_input
from depara_bench.preprocess import fit, to_input
from depara_bench.zoo import (
    AnySpec,
    ExportedSpec,
    InputSpec,
    PythonSpec,
    TimmSpec,
    TorchscriptSpec,
    TorchvisionSpec,
    TransformersSpec,
    load_zoo,
)

COMMON: dict[str, Any] = {"name": "m", "input": InputSpec(size=32), "roles": ("source",)}
VIT = {
    "model_type": "vit", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 8, "image_size": 32, "patch_size": 8,
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("tried to reach the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def refused(call: Callable[[], object], *expected: str) -> None:
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for text in (*expected, "model 'm'"):
        assert text in message, message


def timm_spec(architecture: str = "test_resnet", **options: Any) -> TimmSpec:
    return TimmSpec(loader="timm", architecture=architecture, **(COMMON | options))


def hub_spec(architecture: str = "vit", **options: Any) -> TransformersSpec:
    return TransformersSpec(loader="transformers", architecture=architecture, **COMMON, **options)


def state_of(spec: AnySpec, base: Path) -> torch.Tensor:
    return torch.cat([v.flatten().float() for v in loaders.load(spec, base).state_dict().values()])


def check(spec: AnySpec, base: Path) -> Checked:
    """As `zoo check` and every run do before anything starts."""
    shared = Shared(base, True, AttributionSettings())
    return Checker(shared, Slot(device="cpu", threads=1))(spec)


def unequal_gains(model: nn.Module) -> None:
    """As a trained network has them: behind equal ones the sum of an embedding is a constant."""
    for part in model.modules():
        if isinstance(part, nn.LayerNorm):
            nn.init.uniform_(part.weight, 0.5, 1.5)


X = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("library", ["timm", "transformers"])
def test_random_initialisation_depends_on_the_seed_only(library: str, tmp_path: Path) -> None:
    pytest.importorskip(library)
    (tmp_path / "vit").mkdir()
    (tmp_path / "vit" / "config.json").write_text(json.dumps(VIT))
    make = timm_spec if library == "timm" else hub_spec
    torch.manual_seed(1)
    first = state_of(make(seed=3), tmp_path)
    drawn = torch.rand(4)
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.rand(4))
    assert torch.equal(first, state_of(make(seed=3), tmp_path))
    assert not torch.equal(first, state_of(make(seed=4), tmp_path))


# --- timm ------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["test_resnet", "test_vit"])
def test_timm_gives_the_pooled_output_of_a_local_checkpoint(
    architecture: str, tmp_path: Path
) -> None:
    """A convolutional network, and a transformer made for another size than its default."""
    timm = pytest.importorskip("timm")
    sized = {} if architecture == "test_resnet" else {"img_size": 32}
    model = timm.create_model(architecture, num_classes=5, **sized).eval()
    unequal_gains(model)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    found = loaders.load(timm_spec(architecture, weights="w.safetensors", classes=5), tmp_path)
    expected = model.forward_head(model.forward_features(X), pre_logits=True)
    torch.testing.assert_close(found(X), expected)
    module = "norm" if architecture == "test_vit" else "global_pool"
    named = timm_spec(architecture, weights="w.safetensors", classes=5, embedding=module)
    seen: list[torch.Tensor] = []
    model.get_submodule(module).register_forward_hook(lambda _m, _i, output: seen.append(output))
    torch.testing.assert_close(loaders.load(named, tmp_path)(X), model(X))  # the head is kept
    result = check(named, tmp_path)
    assert (result.error, result.features) == (None, seen[0][0].numel())
    refused(
        lambda: loaders.load(timm_spec(architecture, weights="w.safetensors"), tmp_path),
        "has another shape for",
    )


def test_timm_mistakes_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")

    def load(architecture: str, **options: Any) -> Callable[[], object]:
        return lambda: loaders.load(timm_spec(architecture, **options), tmp_path)

    refused(load("resnet19", seed=0), "no architecture 'resnet19'", "resnet18")
    refused(load("resnet18.nothing", seed=0), "no weights 'resnet18.nothing'", "resnet18.tv_in1k")
    refused(load("test_resnet", weights="cache"), "cache")
    refused(load("test_resnet", weights="no.safetensors"), "do not exist; put the file there")

    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr(timm, "create_model", fails)
    refused(load("test_resnet", seed=0), "timm cannot build", "first second", "input.size")


# --- transformers ----------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Any]:
    """A small vision transformer as its library saves it, in half precision."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    model = transformers.ViTModel(transformers.ViTConfig(**VIT)).eval()
    unequal_gains(model)
    model.half().save_pretrained(tmp_path / "saved")
    return tmp_path, model.float()


def test_transformers_gives_the_pooled_output_of_a_folder(saved: tuple[Path, Any]) -> None:
    base, model = saved
    expected = model(X).pooler_output
    beside = loaders.load(hub_spec("saved", weights="cache"), base)
    torch.testing.assert_close(beside(X), expected)
    assert beside(X).dtype == torch.float32
    named = loaders.load(hub_spec("saved", weights="saved/model.safetensors"), base)
    torch.testing.assert_close(named(X), expected)
    layer = check(hub_spec("saved", weights="cache", embedding="layernorm"), base)
    assert (layer.error, layer.features) == (None, 17 * 16)


def test_a_folder_without_the_weights_and_a_checkpoint_that_does_not_fit(
    saved: tuple[Path, Any],
) -> None:
    base, model = saved
    state = model.state_dict()
    lacking = sorted(key for key in state if key.startswith("pooler"))
    few = {key: value for key, value in state.items() if key not in lacking}
    save_file({**few, "extra.weight": torch.zeros(2)}, base / "bad.safetensors")
    refused(
        lambda: loaders.load(hub_spec("saved", weights="bad.safetensors"), base),
        "lacks pooler.dense.bias, pooler.dense.weight (2 in all)",
        "adds extra.weight (1 in all)",
    )
    (base / "saved" / "model.safetensors").unlink()
    refused(
        lambda: loaders.load(hub_spec("saved", weights="cache"), base),
        "model.safetensors or pytorch_model.bin beside its config.json",
    )
    (base / "saved" / "config.json").write_text("{")
    refused(lambda: loaders.load(hub_spec("saved", seed=1), base), "config.json", "fetch it again")


def test_a_model_in_the_hugging_face_cache(
    saved: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    base, model = saved
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(base / "hub"))
    spec = hub_spec("someone/vit", weights="cache")
    refused(lambda: loaders.load(spec, base), "'someone/vit' is no folder", "not in the Hugging")
    snapshot = base / "hub" / "models--someone--vit" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    for file in ("config.json", "model.safetensors"):
        (snapshot / file).write_bytes((base / "saved" / file).read_bytes())
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("0" * 40)
    torch.testing.assert_close(loaders.load(spec, base)(X), model(X).pooler_output)
    # By its content, not by where it lies:
    here = model_identity(hub_spec("saved", weights="cache"), base)
    assert model_identity(spec, base) == here


def test_transformers_mistakes_are_one_line(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    for folder, config in {
        "text": {"model_type": "bert", "vocab_size": 10, "intermediate_size": 8, **small},
        "odd": {"model_type": "vit", "hidden_size": -1},
    }.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text(json.dumps(config))

    def load(architecture: str) -> Callable[[], object]:
        return lambda: loaders.load(hub_spec(architecture, seed=0), tmp_path)

    refused(load("vti"), "no type of model; nearest: vit")
    refused(load("no/such"), "'no/such' is no folder with a config.json")
    refused(load("text"), "BertModel takes input_ids, not images alone")
    refused(load("odd"), "transformers cannot build it", "negative dimension")


# --- TorchScript -----------------------------------------------------------------------------


class Small(nn.Module):
    """What a user may bring; mode: what is wrong with it."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 4, 3)
        self.mode = mode

    def forward(self, x: torch.Tensor) -> Any:
        x = self.body(x).mean(dim=[2, 3])
        if self.mode == "tuple":
            return x, x
        if self.mode == "discrete":
            return x.argmax(dim=1, keepdim=True).float()
        return x


def script_spec(**options: Any) -> TorchscriptSpec:
    return TorchscriptSpec(loader="torchscript", weights="m.pt", **COMMON, **options)


def script(mode: str, base: Path) -> nn.Module:
    model = Small(mode).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that other archives are preferred now
        torch.jit.save(torch.jit.trace(model, X), base / "m.pt")
    return model


def test_torchscript_is_the_model_and_needs_the_flag(tmp_path: Path) -> None:
    model = script("right", tmp_path)
    refused(lambda: loaders.load(script_spec(), tmp_path), "would be run", "--allow-code")
    torch.testing.assert_close(loaders.load(script_spec(), tmp_path, allow_code=True)(X), model(X))
    assert check(script_spec(), tmp_path).features == 4
    with pytest.raises(ValueError, match="cannot be watched"):
        script_spec(embedding="body")
    (tmp_path / "m.pt").write_bytes(b"PK\x03\x04 no archive")
    refused(
        lambda: loaders.load(script_spec(), tmp_path, allow_code=True), "no TorchScript archive"
    )


@pytest.mark.parametrize("kind", [torch.float16, torch.float64])
def test_torchscript_of_another_precision_is_computed_in_float32(
    kind: torch.dtype, tmp_path: Path
) -> None:
    model = Small("right").eval().to(kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that other archives are preferred now
        torch.jit.save(torch.jit.trace(model, X.to(kind)), tmp_path / "m.pt")
    found = loaders.load(script_spec(), tmp_path, allow_code=True)(X)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, model.float()(X))


# --- what every loader's models must do ------------------------------------------------------


def python_spec(mode: str, base: Path) -> AnySpec:
    source = Path(__file__)
    text = f"from {source.stem} import Small\ndef build():\n    return Small({mode!r})\n"
    (base / f"bring_{mode}.py").write_text(text)
    importlib.invalidate_caches()
    return PythonSpec(loader="python", factory=f"bring_{mode}:build", **COMMON)


def exported_spec(mode: str, base: Path) -> AnySpec:
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(Small(mode).eval(), (X,), dynamic_shapes=shapes)
    torch.export.save(program, base / "m.pt2")
    return ExportedSpec(loader="exported", weights="m.pt2", **COMMON)


def scripted_spec(mode: str, base: Path) -> AnySpec:
    script(mode, base)
    return script_spec()


@pytest.mark.parametrize("make", [python_spec, exported_spec, scripted_spec])
@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("tuple", "gives tuple, not a tensor"),
        ("discrete", "cannot be differentiated with respect to the image"),
    ],
)
def test_an_embedding_that_cannot_be_used_is_told_before_any_work(
    make: Callable[[str, Path], AnySpec], mode: str, expected: str, tmp_path: Path
) -> None:
    found = check(make(mode, tmp_path), tmp_path)
    assert found.mistake and found.error is not None
    assert expected in found.error and "\n" not in found.error


def test_a_librarys_model_without_one_tensor_is_told(tmp_path: Path) -> None:
    pair = TorchvisionSpec(
        loader="torchvision", architecture="lraspp_mobilenet_v3_large", seed=0, **COMMON
    )
    assert "gives OrderedDict, not a tensor" in str(check(pair, tmp_path).error)
    pytest.importorskip("transformers")
    config = {
        "model_type": "detr", "use_timm_backbone": False, "d_model": 8, "encoder_layers": 1,
        "decoder_layers": 1, "encoder_attention_heads": 1, "decoder_attention_heads": 1,
        "encoder_ffn_dim": 8, "decoder_ffn_dim": 8, "num_queries": 2,
    }  # fmt: skip
    (tmp_path / "vit").mkdir()
    (tmp_path / "vit" / "config.json").write_text(json.dumps(config))
    found = check(hub_spec("vit", seed=0), tmp_path)
    assert "DetrModelOutput, not a tensor" in str(found.error)


# --- the library's own metadata --------------------------------------------------------------


@pytest.fixture
def picture() -> Image.Image:
    random = np.random.default_rng(0)
    small = Image.fromarray(random.integers(0, 256, (30, 41, 3), dtype=np.uint8))
    return small.resize((391, 281), Image.Resampling.BICUBIC)


def given(spec: InputSpec, picture: Image.Image) -> np.ndarray:
    return to_input([fit(np.asarray(picture), spec)], spec)[0].numpy()


def test_the_input_is_what_the_library_makes_of_a_picture(
    picture: Image.Image, tmp_path: Path
) -> None:
    """Its own pipeline on the same picture gives the same numbers, where it resizes bilinearly."""
    from torchvision.models import get_model_weights

    for architecture in ("resnet18", "inception_v3", "vit_b_16"):
        spec = InputSpec(**library_input("torchvision", architecture, tmp_path, "here"))
        expected = get_model_weights(architecture).DEFAULT.transforms()(picture).numpy()
        np.testing.assert_allclose(given(spec, picture), expected, atol=1e-5)
    timm = pytest.importorskip("timm")
    name = "resnet18.tv_in1k"
    config = timm.data.resolve_data_config({}, timm.get_pretrained_cfg(name).to_dict())
    spec = InputSpec(**library_input("timm", name, tmp_path, "here"))
    expected = timm.data.create_transform(**config)(picture).numpy()
    np.testing.assert_allclose(given(spec, picture), expected, atol=1e-5)


def test_the_input_of_an_image_processor(picture: Image.Image, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    processor = transformers.ViTImageProcessor(size={"height": 48, "width": 64})
    processor.save_pretrained(tmp_path)
    spec = InputSpec(**library_input("transformers", str(tmp_path), tmp_path, "here"))
    assert spec.height_width == (48, 64)
    expected = processor(picture, return_tensors="np")["pixel_values"][0]
    # Resized by two libraries: some values are off by one level, of 255 over [-1, 1].
    np.testing.assert_allclose(given(spec, picture), expected, atol=2 / 255 + 1e-6)
    assert np.abs(given(spec, picture) - expected).mean() < 1e-3

    crop = transformers.CLIPImageProcessor(size={"shortest_edge": 60}, crop_size=50)
    crop.save_pretrained(tmp_path)
    found = library_input("transformers", str(tmp_path), tmp_path, "here")
    assert (found["size"], found["resize"]) == (50, 60)
    with pytest.raises(InputError, match="does not say what images"):
        library_input("transformers", "vit", tmp_path, "here")


def test_a_manifest_may_leave_the_input_out(tmp_path: Path) -> None:
    path = tmp_path / "zoo.yaml"
    fields = "name: a, loader: torchvision, architecture: %s, seed: 0, roles: [source]"
    entry = f"name: z\nmodels: [{{{fields}}}]\n"
    path.write_text(entry % "resnet18")
    (model,) = load_zoo(path).models
    assert (model.input.height_width, model.input.resize) == ((224, 224), 256)
    path.write_text(entry % "resnet19")
    with pytest.raises(InputError, match=r"zoo.yaml: model 'a': torchvision has no architecture"):
        load_zoo(path)
    path.write_text(entry % "fcn_resnet50")
    with pytest.raises(InputError, match="does not say what images 'fcn_resnet50' takes"):
        load_zoo(path)


@pytest.mark.parametrize("library", ["timm", "transformers"])
def test_a_library_that_is_not_there_is_named_with_its_extra(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(importlib.sys.modules, library, None)  # type: ignore[attr-defined]
    spec = timm_spec(seed=0) if library == "timm" else hub_spec(seed=0)
    refused(lambda: loaders.load(spec, tmp_path), f"pip install 'depara-bench[{library}]'")


def test_an_image_smaller_than_the_crop_is_enlarged_first() -> None:
    tiny = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    assert fit(tiny, InputSpec(size=32, resize=40)).shape == (32, 32, 3)
    with pytest.raises(ValueError, match="resize must not be smaller than size"):
        InputSpec(size=32, resize=30)
