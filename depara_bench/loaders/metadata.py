"""The input that a model was trained with, as its own library describes it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from depara_bench.errors import InputError
from depara_bench.loaders.locate import config_file


def library_input(loader: str, architecture: str, base: Path, where: str) -> dict[str, Any]:
    """Fields of an `InputSpec` for a model of torchvision, timm or transformers.

    base: the manifest's folder. Raises InputError, beginning with `where`, when the library does
    not say, or the model is unknown. The size, the crop and the normalisation are taken over;
    images are always resized bilinearly.
    """
    if loader == "torchvision":
        found = _torchvision(architecture, where)
    elif loader == "timm":
        found = _timm(architecture, where)
    else:
        found = _transformers(architecture, base, where)
    if found is None:
        raise InputError(
            f"{where}: {loader} does not say what images '{architecture}' takes; give 'input'"
        )
    return found


def _torchvision(architecture: str, where: str) -> dict[str, Any] | None:
    from depara_bench.loaders.torchvision import published

    entry = published(architecture, where)
    preset: Any = entry.transforms() if entry is not None else None
    if type(preset).__name__ != "ImageClassification":
        return None
    return _fields(preset.crop_size[0], preset.resize_size[0], preset.mean, preset.std)


def _timm(architecture: str, where: str) -> dict[str, Any] | None:
    from depara_bench.loaders.timm import published

    entry = published(architecture, where)
    channels, height, width = entry.input_size
    if channels != 3:
        return None
    resize = None
    if entry.crop_mode == "center" and height == width:
        resize = math.floor(height / entry.crop_pct)
    return _fields([height, width] if height != width else height, resize, entry.mean, entry.std)


def _transformers(architecture: str, base: Path, where: str) -> dict[str, Any] | None:
    path = config_file(architecture, base, "preprocessor_config.json")
    if path is None:
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return _processor(content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{where}: {path} is not understood; give 'input'") from error


def _processor(content: dict[str, Any]) -> dict[str, Any] | None:
    """Of the settings of an image processor; None where they are none that can be followed here."""
    scaled = content.get("do_rescale", True) and math.isclose(
        content.get("rescale_factor", 1 / 255), 1 / 255, rel_tol=1e-3
    )
    if not scaled:
        return None
    size: Any = content.get("size")
    crop: Any = content.get("crop_size")
    edge = size if isinstance(size, int) else (size or {}).get("shortest_edge")
    mean = std = None
    if content.get("do_normalize", True):
        mean, std = content["image_mean"], content["image_std"]
    if crop is not None and content.get("do_center_crop", True):
        pixels = crop if isinstance(crop, int) else crop["height"]
        return _fields(pixels, edge if edge is not None else size["height"], mean, std)
    if isinstance(size, dict) and "height" in size:
        return _fields([size["height"], size["width"]], None, mean, std)
    if edge is None:
        return None
    share = content.get("crop_pct")  # of processors that crop to the edge itself
    return _fields(edge, math.floor(edge / share) if share else None, mean, std)


def _fields(size: int | list[int], resize: int | None, mean: Any, std: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {"size": size}
    if resize is not None:
        fields["resize"] = resize
    if mean is not None:
        fields |= {"mean": [float(v) for v in mean], "std": [float(v) for v in std]}
    return fields
