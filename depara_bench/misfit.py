"""Images that a model cannot take: which ones it does take, and what to set for that."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

Shape = tuple[int, int, int]

# Sides that networks are made for; the first that runs is named.
_SIDES = (224, 32, 28, 64, 96, 128, 160, 192, 256, 299, 384, 448, 512)

# What the errors of torch and of the libraries say when a tensor has another shape than expected.
_ABOUT_SHAPES = re.compile(r"shape|size|channel|dimension|elements|height|width", re.IGNORECASE)


def misfit(
    model: nn.Module, runs: Callable[[Shape], bool], given: Shape, error: Exception
) -> str | None:
    """What to set when a model fails with `error` on images (C, H, W), found by trying others.
    None where the images are not the cause.

    runs: whether the model can take one image of a shape.
    """
    if runs(given):
        return None
    for shape, advice in _others(model, given):
        if runs(shape):
            return f"{advice} (it runs with {' x '.join(map(str, shape))})"
    if not _ABOUT_SHAPES.search(str(error)):
        return None
    return "set 'input.size' (or 'channels', 'layout') to what it was made for"


def _others(model: nn.Module, given: Shape) -> Iterator[tuple[Shape, str]]:
    """Shapes to try, with what to set for each; the least change first."""
    channels, height, width = given
    first = (getattr(module, "in_channels", None) for module in model.modules())
    own = next((count for count in first if isinstance(count, int)), channels)
    for count in dict.fromkeys((channels, own, 1, 3, 4)):
        for size in ((height, width), *((side, side) for side in _SIDES)):
            wanted = [] if count == channels else [_channels(count)]
            if size != (height, width):
                wanted.append(f"set 'size: {size[0]}' in 'input'")
            yield (count, *size), " and ".join(wanted)
    yield (height, width, channels), "set 'layout: nhwc' in 'input'"
    yield (width, channels, height), "leave 'layout: nhwc' out of 'input'"


def _channels(count: int) -> str:
    named = {1: "set 'channels: grey' in 'input'", 3: "set 'channels: rgb' in 'input'"}
    return named.get(
        count,
        f"images have 3 channels, or 1 with 'channels: grey': set 'loader: python' and have the"
        f" factory wrap the model into one that makes its {count} of them",
    )
