"""What is done to an image before a network sees it; a function of (seed, index) alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from depara_bench.errors import InputError
from depara_bench.rooms.draws import Draws, pixel_noise, scene_keys

NOISE = 0.3  # standard deviation, of a range of 2
HOLES = 3
_NOISE_SALT = 11
_HOLE_SALT = np.uint64(0x5851F42D4C957F2D)


def as_input(images: NDArray[np.uint8]) -> Tensor:
    """Images (N, S, S, 3) uint8 as (N, 3, S, S) float32 in [-1, 1]."""
    planes = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    return planes.float() / 127.5 - 1.0


def hole_masks(keys: NDArray[np.uint64], size: int) -> Tensor:
    """Three rectangles per image, about 30 % of it in all: (N, 1, S, S) bool, True is missing."""
    draws = Draws(keys ^ _HOLE_SALT)
    extent = draws.uniform(HOLES, 2, low=0.25, high=0.45)
    start = draws.uniform(HOLES, 2) * (1 - extent)
    at = (np.arange(size) + 0.5) / size
    after = np.greater_equal(at, start[..., None])  # (N, H, 2, S)
    inside = np.asarray(np.logical_and(after, at < (start + extent)[..., None]))
    mask = (inside[:, :, 0, :, None] & inside[:, :, 1, None, :]).any(axis=1)
    return torch.from_numpy(mask[:, None])


def corrupt(kind: str, images: NDArray[np.uint8], indices: Sequence[int], seed: int) -> Tensor:
    """Images (N, S, S, 3) uint8 to input (N, 3, S, S) float32 in [-1, 1], corrupted by `kind`."""
    if len(images) != len(indices):
        raise InputError(f"rooms: {len(images)} images but {len(indices)} indices; give one each")
    values = as_input(images)
    keys = scene_keys(seed, indices)
    if kind == "none":
        return values
    if kind == "noise":
        noise = pixel_noise(keys, 3, values.shape[-1], salt=_NOISE_SALT)
        return (values + NOISE * noise).clamp(-1, 1)
    if kind == "grey":
        r, g, b = values[:, 0:1], values[:, 1:2], values[:, 2:3]
        return (0.299 * r + 0.587 * g + 0.114 * b).repeat(1, 3, 1, 1)
    if kind == "holes":
        return values.masked_fill(hole_masks(keys, values.shape[-1]), 0.0)
    raise InputError(f"rooms: corruption '{kind}' is not one of none, noise, grey, holes")
