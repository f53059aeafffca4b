"""What an image processor of transformers does to a picture, as an `InputSpec`.

Its settings name a few ways to do it, and each processor has rules of its own for some; what it
makes of pictures decides among them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from depara_bench.loaders.agreement import Fields, Pipeline, agreeing, fields_of, pictures
from depara_bench.loaders.libraries import need, offline
from depara_bench.loaders.transformers import quiet

FILES = ("preprocessor_config.json", "processor_config.json")
"""Where a model's folder keeps the settings; the second is of processors that hold another too."""

_LONGEST = 2048  # pixels of a side that is still tried
_FLAT = 64  # pixels of a side of the pictures of one colour

Values = dict[str, Any]
"""The fields of an `InputSpec` that say what becomes of a pixel."""


def processor_of(folder: Path, where: str) -> Any:
    """The processor that the library takes for the model in a folder: its implementation by
    Pillow, the reference, or the one by torchvision where there is no other.

    Raises whatever the library does with what it does not know.
    """
    auto = need("transformers", where).AutoImageProcessor
    with offline(), quiet():
        return auto.from_pretrained(
            str(folder), use_fast=False, trust_remote_code=False, local_files_only=True
        )


def processor_fields(processor: Any) -> Fields | None:
    """Fields of an `InputSpec` that gives the processor's values; None where none does."""
    return _settled(_Settings(processor))


class _Settings:
    """A processor; two of the same class and settings are equal."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        self.key = (type(processor), processor.to_json_string())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Settings) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@lru_cache(maxsize=1024)
def _settled(settings: _Settings) -> Fields | None:
    processor = settings.processor

    def pipeline(picture: Image.Image) -> np.ndarray:
        with quiet():
            batch = processor(picture, return_tensors="np")["pixel_values"]
        found: np.ndarray = np.asarray(batch, dtype=np.float32)[0]
        return found

    made: list[np.ndarray] = []
    try:
        if _is_vast(processor):
            return None
        values = _values(pipeline, processor)
        for picture in pictures() if values is not None else ():
            made.append(pipeline(picture))
            if made[-1].ndim != 3 or made[-1].shape != made[0].shape:
                return None  # several crops of a picture, or a size that follows the picture's
    except Exception:  # foreign code: it takes no picture alone, or none like these
        return None
    if values is None:
        return None
    size = made[0].shape[1], made[0].shape[2]
    return agreeing((fields_of(size, **g, **values) for g in _geometries(processor, size)), made)


def _values(pipeline: Pipeline, processor: Any) -> Values | None:
    """Order of the channels, and range or mean and std, from what becomes of black and of the
    three primary colours. None where that is not one straight line a channel.
    """
    black, *primaries = (_flat(pipeline, colour) for colour in ((0, 0, 0), *_PRIMARIES))
    if len(black) != 3:
        return None
    changes = np.stack(primaries) - black  # (colour, channel)
    order = "bgr" if changes[0, 2] != 0 else "rgb"
    slopes = changes[::-1].diagonal() if order == "bgr" else changes.diagonal()
    if not np.count_nonzero(changes) == 3 == np.count_nonzero(slopes > 0):
        return None
    white = black + slopes
    for mean, std in _declared(processor):
        if np.allclose((-mean / std, (1 - mean) / std), (black, white), rtol=1e-5, atol=1e-5):
            return {"channels": order, "mean": mean.tolist(), "std": std.tolist()}
    if np.ptp(black) < 1e-5 * slopes[0] and np.ptp(white) < 1e-5 * slopes[0]:
        return {"channels": order, "range": (_short(black[0]), _short(white[0]))}
    mean, std = -black / slopes, 1 / slopes
    return {"channels": order, "mean": list(map(_short, mean)), "std": list(map(_short, std))}


_PRIMARIES = ((255, 0, 0), (0, 255, 0), (0, 0, 255))


def _flat(pipeline: Pipeline, colour: tuple[int, int, int]) -> np.ndarray:
    """What the pixel in the middle of a picture of one colour becomes: (C,) float64."""
    made = pipeline(Image.new("RGB", (_FLAT, _FLAT), colour))
    pixel: np.ndarray = made[:, made.shape[1] // 2, made.shape[2] // 2].astype(np.float64)
    return pixel


def _short(value: float) -> float:
    """To the digits that float32 has."""
    return float(f"{value:.7g}")


def _declared(processor: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    mean, std = getattr(processor, "image_mean", None), getattr(processor, "image_std", None)
    if mean is not None and std is not None:
        yield np.ones(3) * mean, np.ones(3) * std


def _geometries(processor: Any, size: tuple[int, int]) -> Iterator[Fields]:
    """Ways to bring a picture to `size` that the processor's settings may mean."""
    resample = getattr(processor, "resample", None)
    method = {} if resample is None else {"interpolation": _interpolation(resample)}
    # Of two settings that give the same for all pictures, the library's own rule is written.
    for way in ({}, *_resizes(processor, size)):
        if not way:
            yield method
        else:
            yield {**way, "crop": "floor", **method}
            yield {**way, **method}


def _interpolation(resample: Any) -> str:
    name: str = getattr(resample, "name", None) or Image.Resampling(int(resample)).name
    return name.lower()


def _resizes(processor: Any, size: tuple[int, int]) -> Iterator[Fields]:
    stated = getattr(processor, "size", None) or {}
    shorter, longer = _side(stated, "shortest_edge"), _side(stated, "longest_edge")
    height, width = _side(stated, "height"), _side(stated, "width")
    share = getattr(processor, "crop_pct", None) or 1.0
    edges = [edge for edge in (shorter, height, getattr(processor, "resize_short", None)) if edge]
    for edge in edges:
        # As it stands; divided by crop_pct (ConvNeXT, PoolFormer); and as LeViT has it.
        for resize in dict.fromkeys((edge, int(edge / share), int(256 / 224 * edge))):
            yield {"resize": resize, **_border((resize, resize), size)}
        yield {"resize": edge, "fit": "cover", **_border((edge, edge), size)}
    if height and width and (height, width) != size:
        yield {"resize": [height, width], **_border((height, width), size)}
    if longer:
        yield {"resize": longer, "fit": "contain", "border": 0}
    yield {"fit": "keep", "border": 0}


def _side(stated: Any, name: str) -> int | None:
    found = stated.get(name) if hasattr(stated, "get") else getattr(stated, name, None)
    return int(found) if found else None


def _is_vast(processor: Any) -> bool:
    """Whether its pictures could be larger than can be tried: its settings are a file's, and some
    processors have areas where others have sides.
    """
    stated = (getattr(processor, name, None) for name in ("size", "crop_size", "pad_size"))
    sides = [side for one in stated if one for side in dict(one).values() if side]
    share = getattr(processor, "crop_pct", None) or 1.0
    return max(sides, default=0) / min(share, 1.0) > _LONGEST


def _border(resized: Sequence[int], size: tuple[int, int]) -> Fields:
    short = resized[0] < size[0] or resized[1] < size[1]
    return {"border": 0} if short else {}
