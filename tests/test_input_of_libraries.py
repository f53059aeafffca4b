"""Every kind of input that torchvision, timm and transformers register for images: what is taken
from them gives what their own pipelines give, or it is refused. None is guessed.

The pictures here are other ones than those that the choice is made with.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from depara_bench.errors import InputError
from depara_bench.loaders.agreement import one_thread
from depara_bench.loaders.metadata import library_input
from depara_bench.loaders.processors import processor_fields
from depara_bench.preprocess import fit, to_input
from depara_bench.zoo import InputSpec, load_zoo


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("tried to reach the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def photo(seed: int, rows: int, columns: int) -> Image.Image:
    """Smooth shapes with fine grain, in colours of unequal means."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 200, (5, 6, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((columns, rows), Image.Resampling.BICUBIC), np.int64)
    grain = random.integers(-40, 40, (rows, columns, 1)) + np.array([50, 10, -20])
    return Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8))


PHOTOS = [photo(1, 333, 250), photo(2, 199, 341), photo(3, 90, 75)]


def given(spec: InputSpec, picture: Image.Image) -> np.ndarray:
    with one_thread():
        return to_input([fit(np.asarray(picture), spec)], spec)[0].numpy()


def levels_off(
    fields: dict[str, Any],
    pipeline: Callable[[Image.Image], np.ndarray],
    photos: Sequence[Image.Image] = PHOTOS,
) -> float:
    """Mean absolute difference in levels of 255, for the photo where it is greatest."""
    spec = InputSpec(**fields)
    flat = spec.model_copy(update={"size": 1, "resize": None, "fit": None})
    ends = [given(flat, Image.new("RGB", (1, 1), (v, v, v))) for v in (0, 255)]
    level = (ends[1] - ends[0]) / 255
    worst = 0.0
    for picture in photos:
        ours, theirs = given(spec, picture), pipeline(picture)
        assert ours.shape == theirs.shape
        worst = max(worst, float(np.abs((ours - theirs) / level).mean()))
    return worst


def test_every_classifier_of_torchvision(tmp_path: Path) -> None:
    from torchvision.models import get_model_weights, list_models
    from torchvision.transforms._presets import ImageClassification

    seen: dict[str, str] = {}
    for architecture in list_models():
        for entry in get_model_weights(architecture):
            preset = entry.transforms()
            file = entry.url.rpartition("/")[2]
            read = lambda a=architecture, f=file: library_input(  # noqa: E731
                "torchvision", a, tmp_path, "here", f
            )
            if not isinstance(preset, ImageClassification):
                with pytest.raises(InputError, match=r"^here: .*give 'input'$"):
                    read()
            elif repr(preset) not in seen:
                seen[repr(preset)] = architecture
                assert levels_off(read(), lambda p, t=preset: t(p).numpy()) < 1e-3, architecture
    assert len(seen) > 25


def test_every_kind_of_input_in_timm(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    seen: dict[str, str] = {}
    for name in timm.list_models(pretrained=True):
        config = timm.data.resolve_data_config(
            pretrained_cfg=timm.get_pretrained_cfg(name).to_dict()
        )
        key = repr(sorted(config.items()))
        if key in seen:
            continue
        seen[key] = name
        fields = library_input("timm", name, tmp_path, "here")
        transform = timm.data.create_transform(**config)
        photos = [PHOTOS[len(seen) % len(PHOTOS)]]
        assert levels_off(fields, lambda p, t=transform: t(p).numpy(), photos) < 1e-3, name
    assert len(seen) > 100


COMMON = (
    "Beit Bit Blip CLIP ConvNext DINOv3ViT DPT DeiT EfficientNet Flava Gemma3 Levit Llava"
    " MobileNetV1 MobileNetV2 MobileViT OwlViT PPLCNet PoolFormer Pvt SegGpt Segformer Siglip ViT"
).split()


def processor_classes() -> dict[str, type]:
    """All that transformers registers, by name: the one by Pillow where there are two."""
    pytest.importorskip("transformers")
    from transformers.models.auto import image_processing_auto as auto

    found = {}
    for kinds in auto.IMAGE_PROCESSOR_MAPPING_NAMES.values():
        kinds = kinds if isinstance(kinds, dict) else {"pil": kinds[0]}
        name = kinds.get("pil") or next(filter(None, kinds.values()))
        found[name.removesuffix("Pil")] = auto.get_image_processor_class_from_name(name)
    return found


def made_by(processor: Any) -> Callable[[Image.Image], np.ndarray]:
    return lambda picture: np.asarray(processor(picture, return_tensors="np")["pixel_values"])[0]


def test_every_image_processor_of_transformers() -> None:
    agree, refused = set(), set()
    with one_thread():
        for name, cls in processor_classes().items():
            short = name.removesuffix("ImageProcessor")
            try:
                processor = cls()
            except TypeError:  # it needs to be told what a timm model says
                continue
            fields = processor_fields(processor)
            if fields is None:
                refused.add(short)
            else:
                assert levels_off(fields, made_by(processor)) < 1, (name, fields)
                agree.add(short)
    assert not set(COMMON) & refused
    assert set(COMMON) <= agree
    # Of the others: several crops of a picture, videos, sizes that follow the picture, clusters.
    assert {"LlavaNext", "VideoMAE", "Detr", "Qwen2VL", "ImageGPT", "Perceiver"} <= refused


# Settings as published checkpoints have them, other than their class's own: name, settings, and a
# part of what must come out.
SETTINGS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("ViT", {"do_normalize": False, "resample": 3}, {"size": 224, "interpolation": "bicubic"}),
    ("ViT", {"do_rescale": False, "do_normalize": False}, {"range": [0.0, 255.0]}),
    ("ViT", {"do_rescale": False}, {}),
    ("ViT", {"rescale_factor": 1 / 127.5, "do_normalize": False}, {"range": [0.0, 2.0]}),
    ("ViT", {"size": {"height": 48, "width": 65}}, {"size": [48, 65]}),
    ("ViT", {"resample": 0}, {"interpolation": "nearest"}),
    ("ViT", {"resample": 1}, {"interpolation": "lanczos"}),
    ("Beit", {"do_center_crop": True, "size": 256, "crop_size": 224}, {"resize": [256, 256]}),
    ("DeiT", {"size": {"height": 248, "width": 248}}, {"resize": [248, 248], "size": 224}),
    ("ConvNext", {"size": {"shortest_edge": 224}}, {"size": 224, "resize": 256}),
    ("ConvNext", {"size": {"shortest_edge": 288}, "crop_pct": 0.95}, {"size": 288, "resize": 303}),
    ("ConvNext", {"size": {"shortest_edge": 384}}, {"size": 384}),
    ("ConvNext", {"size": {"shortest_edge": 512}}, {"size": 512}),
    ("Levit", {"size": {"shortest_edge": 192}, "crop_size": 192}, {"resize": 219, "size": 192}),
    ("PoolFormer", {"crop_pct": 0.95}, {"resize": 235, "size": 224}),
    ("MobileViT", {"size": {"shortest_edge": 288}}, {"resize": 288, "size": 256}),
    ("MobileViT", {"do_flip_channel_order": False}, {"border": 0, "resize": 224}),
    ("EfficientNet", {"include_top": False}, {"size": 346}),
    (
        "EfficientNet",
        {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]},
        {"mean": [0.485, 0.456, 0.406]},
    ),
    ("EfficientNet", {"rescale_factor": 1 / 127.5, "rescale_offset": True}, {"size": 346}),
    ("EfficientNet", {"do_center_crop": True}, {"resize": [346, 346], "size": 289}),
    ("CLIP", {"size": {"shortest_edge": 336}, "crop_size": 336}, {"size": 336}),
    ("CLIP", {"size": {"shortest_edge": 61}, "crop_size": 48}, {"size": 48, "crop": "floor"}),
    ("CLIP", {"size": {"shortest_edge": 40}, "crop_size": 53}, {"border": 0}),
    ("CLIP", {"do_resize": False}, {"fit": "keep", "size": 224}),
    ("Bit", {"size": {"shortest_edge": 256}, "crop_size": 224}, {"resize": 256, "size": 224}),
    ("Siglip", {"size": {"height": 384, "width": 384}}, {"size": 384}),
    ("MobileNetV2", {"size": {"shortest_edge": 224}, "crop_size": 192}, {"resize": 224}),
]


@pytest.mark.parametrize(("name", "settings", "part"), SETTINGS)
def test_settings_of_a_processor(
    name: str, settings: dict[str, Any], part: dict[str, Any], tmp_path: Path
) -> None:
    """From the folder that the library saves, as a manifest's model names it."""
    processor = processor_classes()[f"{name}ImageProcessor"](**settings)
    processor.save_pretrained(tmp_path)
    fields = library_input("transformers", str(tmp_path), tmp_path, "here")
    assert fields.items() >= part.items()
    assert levels_off(fields, made_by(processor)) < 1e-3, fields


def test_the_processor_by_torchvision_differs_by_less_than_a_level(tmp_path: Path) -> None:
    """The library takes it where it can; the one by Pillow is what the models were trained with."""
    transformers = pytest.importorskip("transformers")
    for name in ("ViT", "CLIP", "ConvNext"):
        processor_classes()[f"{name}ImageProcessor"]().save_pretrained(tmp_path)
        fields = library_input("transformers", str(tmp_path), tmp_path, "here")
        fast = transformers.AutoImageProcessor.from_pretrained(tmp_path)
        assert levels_off(fields, made_by(fast)) < 1


def test_a_picture_left_at_its_own_size_is_told(tmp_path: Path) -> None:
    processor_classes()["ViTImageProcessor"](do_resize=False).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"^here: what the ViTImageProcessor\w* of .* expressed"):
        library_input("transformers", str(tmp_path), tmp_path, "here")


def test_where_a_folder_keeps_its_settings(tmp_path: Path) -> None:
    """In a file of their own, of old or new form, or inside of those of a larger processor; a file
    that says nothing known, or what only its own code could do, is told.
    """
    (tmp_path / "m").mkdir()

    def read(file: str, content: Any) -> dict[str, Any]:
        for old in (tmp_path / "m").iterdir():
            old.unlink()
        (tmp_path / "m" / "config.json").write_text(json.dumps({"model_type": "vit"}))
        (tmp_path / "m" / file).write_text(json.dumps(content))
        entry = "name: a, loader: transformers, architecture: m, seed: 0, roles: [source]"
        (tmp_path / "zoo.yaml").write_text(f"name: z\nmodels: [{{{entry}}}]\n")
        (model,) = load_zoo(tmp_path / "zoo.yaml").models
        return model.input.model_dump()

    sized = {"size": {"height": 40, "width": 40}, "resample": 3}
    expected = read(
        "preprocessor_config.json", {"image_processor_type": "ViTImageProcessor", **sized}
    )
    assert (expected["size"], expected["interpolation"]) == (40, "bicubic")
    old = {"feature_extractor_type": "ViTFeatureExtractor", "size": 40, "resample": 3}
    assert read("preprocessor_config.json", old) == expected
    assert read("preprocessor_config.json", sized) == expected  # by the model's type
    fast = {"image_processor_type": "ViTImageProcessorFast", **sized}
    assert read("preprocessor_config.json", fast) == expected
    nested = {"image_processor": {"image_processor_type": "ViTImageProcessor", **sized}}
    assert read("processor_config.json", nested) == expected
    for wrong in ({"image_processor_type": "NoSuch", "size": -1}, ["a"], {**sized, "size": "big"}):
        with pytest.raises(InputError, match=r"zoo.yaml: model 'a': .*give 'input'"):
            read("preprocessor_config.json", wrong)
