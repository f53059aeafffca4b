"""Checkpoints of torchvision, timm and transformers, old and new, through the loaders."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from depara_bench import loaders
from depara_bench.errors import InputError
from depara_bench.loaders.fit_keys import compare
from depara_bench.zoo import TimmSpec, TorchvisionSpec, TransformersSpec

SPECS = {"torchvision": TorchvisionSpec, "timm": TimmSpec, "transformers": TransformersSpec}


def load(base: Path, loader: str, architecture: str, size: int = 32, **fields: Any) -> nn.Module:
    common = {"name": "m", "input": {"size": size}, "roles": ["source"], "loader": loader}
    spec = SPECS[loader].model_validate(common | {"architecture": architecture} | fields)
    return loaders.load(spec, base)


def images(size: int = 32) -> Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def refused(call: Callable[[], object], *expected: str) -> None:
    with pytest.raises(InputError) as caught:
        call()
    for text in ("model 'm'", *expected):
        assert text in str(caught.value), str(caught.value)
    assert "\n" not in str(caught.value)


def at(model: nn.Module, module: str, x: Tensor) -> Tensor:
    seen: list[Tensor] = []
    handle = model.get_submodule(module).register_forward_hook(lambda _m, _i, y: seen.append(y))
    model(x)
    handle.remove()
    return seen[0]


# --- torchvision -----------------------------------------------------------------------------


def test_old_names_of_densenets(tmp_path: Path) -> None:
    own = load(tmp_path, "torchvision", "densenet121", seed=1, classes=3)
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|relu|conv))([12])", r"\1.\2", name): tensor
        for name, tensor in own.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save({"state_dict": {f"module.{name}": t for name, t in old.items()}}, tmp_path / "w.tar")
    found = load(tmp_path, "torchvision", "densenet121", weights="w.tar", classes=3)
    assert torch.equal(found(images()), own(images()))


def test_auxiliary_heads_may_be_missing(tmp_path: Path) -> None:
    own = load(tmp_path, "torchvision", "googlenet", seed=1, classes=3)
    body = {name: t for name, t in own.state_dict().items() if not name.startswith("aux")}
    save_file(body, tmp_path / "w.safetensors")
    x = images(64)
    fields = {"weights": "w.safetensors", "classes": 3, "transform_input": False}
    whole = load(tmp_path, "torchvision", "googlenet", 64, **fields)
    assert torch.equal(whole(x), own(x))


def test_a_vision_transformer_of_torchvision_at_another_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.models import VisionTransformer, _api
    from torchvision.models.vision_transformer import interpolate_embeddings

    def vit_small(
        *, weights: None = None, image_size: int = 224, num_classes: int = 3
    ) -> nn.Module:
        assert weights is None
        return VisionTransformer(image_size, 8, 1, 2, 16, 8, num_classes=num_classes)

    monkeypatch.setitem(_api.BUILTIN_MODELS, "vit_small", vit_small)
    torch.manual_seed(0)
    trained = vit_small(image_size=48).eval()
    torch.save(trained.half().state_dict(), tmp_path / "w.pth")
    found = load(tmp_path, "torchvision", "vit_small", weights="w.pth", classes=3)
    expected = vit_small(image_size=32)
    expected.load_state_dict(interpolate_embeddings(32, 8, trained.float().state_dict()))
    torch.testing.assert_close(found(images()), expected.eval()(images()))
    same = load(tmp_path, "torchvision", "vit_small", 48, weights="w.pth", classes=3)
    assert torch.equal(same(images(48)), trained(images(48)))
    refused(
        lambda: load(tmp_path, "torchvision", "vit_small", weights="w.pth", classes=5),
        "heads.head.weight ([3, 16] for [5, 16])", "give 'classes: 3'",
    )  # fmt: skip
    refused(lambda: load(tmp_path, "torchvision", "vit_small", 33, seed=0), "cannot build")


def test_a_checkpoint_of_self_supervision(tmp_path: Path) -> None:
    """MoCo v2: query and key encoders, a head of two layers, a queue, training's arguments."""
    own = load(tmp_path, "torchvision", "resnet18", seed=1)
    other = load(tmp_path, "torchvision", "resnet18", seed=2)
    state: dict[str, Tensor] = {"module.queue": torch.zeros(3, 3)}
    for part, model in (("q", own), ("k", other)):
        body = {n: t for n, t in model.state_dict().items() if not n.startswith("fc.")}
        head = {"fc.0.weight": torch.zeros(2, 2), "fc.2.weight": torch.zeros(2, 2)}
        state |= {f"module.encoder_{part}.{n}": t for n, t in (body | head).items()}
    torch.save({"epoch": 9, "arch": "resnet18", "state_dict": state}, tmp_path / "w.pth")
    refused(
        lambda: load(tmp_path, "torchvision", "resnet18", weights="w.pth", embedding="avgpool"),
        "strip: module.encoder_q. | key: state_dict, strip: module.encoder_k.",
    )
    asked = {"file": "w.pth", "strip": "module.encoder_q."}
    found = load(tmp_path, "torchvision", "resnet18", weights=asked, embedding="avgpool")
    assert torch.equal(at(found, "avgpool", images()), at(own, "avgpool", images()))
    refused(
        lambda: load(tmp_path, "torchvision", "resnet18", weights=asked),
        "lacks fc.weight, fc.bias", "adds fc.0.weight", "another 'embedding'",
    )  # fmt: skip


# --- timm ------------------------------------------------------------------------------------


@pytest.fixture
def timm() -> Any:
    return pytest.importorskip("timm")


def test_a_vision_transformer_of_timm_at_another_size(timm: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    trained = timm.create_model("test_vit", img_size=64, num_classes=5).eval()
    torch.save({"model": trained.state_dict(), "model_ema": None}, tmp_path / "w.pth")
    found = load(tmp_path, "timm", "test_vit", weights="w.pth", classes=5)
    expected = timm.create_model("test_vit", img_size=32, num_classes=5).eval()
    from timm.models.vision_transformer import checkpoint_filter_fn

    expected.load_state_dict(checkpoint_filter_fn(dict(trained.state_dict()), expected))
    expected.reset_classifier(0)
    torch.testing.assert_close(found(images()), expected(images()))


@pytest.mark.parametrize("headless", [False, True])
def test_names_of_other_origin_that_timm_reads(timm: Any, tmp_path: Path, headless: bool) -> None:
    """A ConvNeXt under the names of its authors' own release, which the library renames."""
    torch.manual_seed(0)
    trained = timm.create_model("convnext_atto", num_classes=5).eval()
    names = {
        name: name.replace("stem.", "downsample_layers.0.")
        .replace("head.norm.", "norm.")
        .replace("head.fc.", "head.")
        .replace("mlp.fc1", "pwconv1")
        .replace("mlp.fc2", "pwconv2")
        .replace("conv_dw", "dwconv")
        for name in trained.state_dict()
    }
    names = {
        own: re.sub(r"stages\.(\d)\.downsample\.(\d)", r"downsample_layers.\1.\2", name)
        for own, name in names.items()
    }
    names = {own: re.sub(r"stages\.(\d)\.blocks\.", r"stages.\1.", n) for own, n in names.items()}
    state = {names[name]: tensor for name, tensor in trained.state_dict().items()}
    if headless:
        state = {name: tensor for name, tensor in state.items() if not name.startswith("head.")}
    torch.save({"model": state}, tmp_path / "w.pth")
    found = load(tmp_path, "timm", "convnext_atto", weights="w.pth", classes=5)
    trained.reset_classifier(0)
    torch.testing.assert_close(found(images()), trained(images()))


def test_another_head_of_timm_names_its_classes(timm: Any, tmp_path: Path) -> None:
    model = timm.create_model("test_resnet", num_classes=5)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    refused(lambda: load(tmp_path, "timm", "test_resnet", weights="w.pth"), "give 'classes: 5'")


def test_loading_leaves_timm_as_it_was(timm: Any, tmp_path: Path) -> None:
    from timm.models import _builder

    before = _builder.load_pretrained
    model = timm.create_model("test_vit", img_size=32, num_classes=5)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    load(tmp_path, "timm", "test_vit", weights="w.pth", classes=5)
    assert _builder.load_pretrained is before


# --- transformers ----------------------------------------------------------------------------

SMALL = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8,
}  # fmt: skip
VISION = SMALL | {"image_size": 32, "patch_size": 8}
TEXT = SMALL | {
    "vocab_size": 50, "max_position_embeddings": 8, "bos_token_id": 0, "eos_token_id": 1,
    "pad_token_id": 2,
}  # fmt: skip


@pytest.fixture
def transformers() -> Any:
    return pytest.importorskip("transformers")


def folder(base: Path, name: str, config: Any) -> Path:
    (base / name).mkdir()
    (base / name / "config.json").write_text(json.dumps(config.to_dict()))
    return base / name


@pytest.mark.parametrize("kind", ["CLIP", "Siglip", "ChineseCLIP"])
@pytest.mark.parametrize("configured", ["whole", "tower"])
def test_the_image_tower_of_a_model_for_images_and_text(
    transformers: Any, tmp_path: Path, kind: str, configured: str
) -> None:
    config = getattr(transformers, f"{kind}Config")(text_config=TEXT, vision_config=VISION)
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}Model")(config).eval()
    model.save_pretrained(tmp_path / "saved")
    if configured == "tower":
        folder(tmp_path, "m", config.vision_config)
        model.vision_model.config.save_pretrained(tmp_path / "m")
    name = "saved" if configured == "whole" else "m"
    found = load(tmp_path, "transformers", name, weights="saved/model.safetensors")
    expected = model.vision_model(images()).pooler_output
    torch.testing.assert_close(found(images()), expected)
    assert torch.equal(found(images()), found(images()))


@pytest.fixture
def classifier(transformers: Any, tmp_path: Path) -> Any:
    config = transformers.ViTConfig(**VISION, num_labels=3, architectures=["ViTModel"])
    folder(tmp_path, "vit", config)
    torch.manual_seed(0)
    return transformers.ViTForImageClassification(config).eval()


def test_a_classifier_for_a_plain_model(classifier: Any, tmp_path: Path) -> None:
    torch.save({"state_dict": classifier.bfloat16().state_dict()}, tmp_path / "w.pth")
    classifier.float()
    found = load(
        tmp_path, "transformers", "vit", weights="w.pth", embedding="layernorm"
    )  # what it lacks, the pooler, is behind that
    assert torch.equal(at(found, "layernorm", images()), at(classifier, "vit.layernorm", images()))
    refused(
        lambda: load(tmp_path, "transformers", "vit", weights="w.pth"),
        "lacks pooler.dense.bias, pooler.dense.weight (2 in all)", "another 'embedding'",
    )  # fmt: skip


@pytest.mark.parametrize("prefix", ["", "model.", "module.student."])
def test_entries_and_prefixes_around_a_model_of_transformers(
    transformers: Any, tmp_path: Path, prefix: str
) -> None:
    config = transformers.ViTConfig(**VISION)
    folder(tmp_path, "m", config)
    torch.manual_seed(0)
    model = transformers.ViTModel(config).eval()
    state = {prefix + name: tensor for name, tensor in model.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 1}, tmp_path / "w.pth")
    found = load(tmp_path, "transformers", "m", weights="w.pth")
    assert torch.equal(found(images()), model(images()).pooler_output)
    torch.save({"ema": model.half().state_dict(), "model": state}, tmp_path / "w.pth")
    refused(lambda: load(tmp_path, "transformers", "m", weights="w.pth"), "key: ema | key: model")
    asked = {"file": "w.pth", "key": "ema"}
    found = load(tmp_path, "transformers", "m", weights=asked)
    torch.testing.assert_close(found(images()), model.float()(images()).pooler_output)


def test_images_of_another_size_than_the_configurations(transformers: Any, tmp_path: Path) -> None:
    config = transformers.ViTConfig(**VISION)
    folder(tmp_path, "m", config)
    torch.manual_seed(0)
    model = transformers.ViTModel(config).eval()
    torch.save(model.state_dict(), tmp_path / "w.pth")
    found = load(tmp_path, "transformers", "m", 48, weights="w.pth")
    expected = model(images(48), interpolate_pos_encoding=True).pooler_output
    torch.testing.assert_close(found(images(48)), expected)


def test_other_sizes_of_a_model_of_transformers_are_told(transformers: Any, tmp_path: Path) -> None:
    folder(tmp_path, "m", transformers.ViTConfig(**VISION))
    other = transformers.ViTModel(transformers.ViTConfig(**VISION | {"image_size": 64}))
    torch.save(other.state_dict(), tmp_path / "w.pth")
    refused(
        lambda: load(tmp_path, "transformers", "m", weights="w.pth"),
        "another shape for embeddings.position_embeddings ([1, 65, 16] for [1, 17, 16])",
        "its positions are of 8 x 8 patches, the model's of 4 x 4",
    )


def test_a_model_without_memory_has_no_shared_tensors() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    assert len(compare(model, {"0.weight": torch.zeros(2, 2)}).missing) == 3
