"""An `InputSpec` that does to pictures what a library's own pipeline does; found by trying."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from PIL import Image
from pydantic import ValidationError

from depara_bench.preprocess import fit, to_input
from depara_bench.zoo import InputSpec

Pipeline = Callable[[Image.Image], np.ndarray]
"""A picture in RGB to a model's input (C, h, w)."""

Fields = dict[str, Any]
"""Fields of an `InputSpec`, as a manifest writes them; those at their defaults are left out."""

# Mean difference that is put down to another implementation of the same filter: one of 255 levels.
_LEVEL = 1.0
# What float32 leaves of two computations of the same thing.
_SAME = 1e-3

# Of odd sides, so that rules of rounding show: wide, high, and smaller than most crops.
_SIZES = ((281, 391), (253, 162), (61, 83))


@cache
def pictures() -> tuple[Image.Image, ...]:
    """Pictures of noise whose details are a few pixels wide: a shift by one pixel shows."""
    random = np.random.default_rng(0)
    found = []
    for rows, columns in _SIZES:
        coarse = random.integers(0, 256, (rows // 3, columns // 3, 3), dtype=np.uint8)
        found.append(Image.fromarray(coarse).resize((columns, rows), Image.Resampling.BICUBIC))
    return tuple(found)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread inside the block: for one picture, several only wait."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def agreeing(candidates: Iterable[Fields], made: Sequence[np.ndarray]) -> Fields | None:
    """The first of the candidates that gives exactly what the library made of the `pictures()`;
    else the one that comes nearest, if it differs by less than a level on average; else None.
    """
    best, least = None, _LEVEL
    for fields in candidates:
        try:
            spec = InputSpec(**fields)
        except ValidationError:  # what no manifest can say
            continue
        difference = _difference(spec, made, least)
        if difference <= _SAME:
            return fields
        if difference < least:
            best, least = fields, difference
    return best


def _difference(spec: InputSpec, made: Sequence[np.ndarray], enough: float) -> float:
    """Mean absolute difference, in levels of 255, for the picture where it is greatest; it is not
    looked further once it is more than `enough`.
    """
    ends = to_input([np.full((1, 1, 3), v, np.uint8) for v in (0, 255)], spec).numpy()
    level = (ends[1] - ends[0]) / 255.0
    worst = 0.0
    for picture, theirs in zip(pictures(), made, strict=True):
        if theirs.shape != spec.shape:
            return np.inf
        ours = to_input([fit(np.asarray(picture), spec)], spec)[0].numpy()
        worst = max(worst, float((np.abs(ours - theirs) / level).mean()))
        if not worst <= enough:
            return np.inf
    return worst


def fields_of(
    size: tuple[int, int],
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    **others: Any,
) -> Fields:
    """Fields as a manifest writes them: one number for a square, nothing that is the default."""
    height, width = size
    fields: Fields = {"size": height if height == width else [height, width]}
    defaults = {name: field.default for name, field in InputSpec.model_fields.items()}
    for key, value in others.items():
        if value != defaults[key]:
            fields[key] = list(value) if isinstance(value, tuple) else value
    if mean is not None and std is not None:
        fields |= {"mean": [float(v) for v in mean], "std": [float(v) for v in std]}
    return fields
