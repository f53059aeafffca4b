"""From decoded images to a model's input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from depara_bench.zoo import InputSpec

if TYPE_CHECKING:
    from torch import Tensor


def fit(image: np.ndarray, spec: InputSpec) -> np.ndarray:
    """(H, W, 3) uint8 RGB image brought to the model's size: (h, w, 3) uint8, still RGB."""
    return _centre(resized(image, spec), spec)


def resized(image: np.ndarray, spec: InputSpec) -> np.ndarray:
    """(H, W, 3) uint8 image of the size that the centre is cropped from.

    By Pillow, whose filters are antialiased, as the common training pipelines do.
    """
    height, width = resized_size(image.shape[0], image.shape[1], spec)
    if image.shape[:2] == (height, width):
        return image
    from PIL import Image

    method = Image.Resampling[spec.interpolation.upper()]
    return np.asarray(Image.fromarray(image).resize((width, height), method), dtype=np.uint8)


def resized_size(rows: int, columns: int, spec: InputSpec) -> tuple[int, int]:
    """Height and width that an image of `rows` x `columns` is resized to before its centre is cut.

    A longer side is rounded down, as torchvision and transformers do; what covers or contains is
    rounded to the nearest, as timm does.
    """
    if spec.fit == "keep":
        return rows, columns
    goal = spec.height_width if spec.resize is None else spec.resize
    if spec.fit is not None:
        height, width = (goal, goal) if isinstance(goal, int) else goal
        scales = rows / height, columns / width
        scale = max(scales) if spec.fit == "contain" else min(scales)
        return max(1, round(rows / scale)), max(1, round(columns / scale))
    if not isinstance(goal, int):
        return goal
    if rows <= columns:
        return goal, int(goal * columns / rows)
    return int(goal * rows / columns), goal


def _centre(image: np.ndarray, spec: InputSpec) -> np.ndarray:
    """The centre, of the model's size; what lies outside of the image in the border's colour."""
    height, width = spec.height_width
    top, left = (
        _begin(have, want, spec.crop)
        for have, want in zip(image.shape[:2], (height, width), strict=True)
    )
    inside = image[max(top, 0) : max(top, 0) + height, max(left, 0) : max(left, 0) + width]
    if inside.shape[:2] == (height, width):
        return inside
    canvas = np.empty((height, width, 3), np.uint8)
    canvas[:] = spec.border or 0
    rows, columns = inside.shape[:2]
    top, left = max(-top, 0), max(-left, 0)
    canvas[top : top + rows, left : left + columns] = inside
    return canvas


def _begin(have: int, want: int, rule: str) -> int:
    """Where the `want` pixels in the middle of `have` begin; below 0: so many are missing."""
    margin = (have - want) / 2
    if rule == "floor":
        return math.floor(margin)  # of what is missing, the larger half comes before the image
    return round(margin) if margin >= 0 else math.ceil(margin)


def to_input(images: Sequence[np.ndarray], spec: InputSpec) -> Tensor:
    """Images, each (h, w, 3) uint8 RGB of the model's size, as a batch (B, C, h, w) float32.

    In the model's channels (C = 1 for grey); always channels first, see `loaders.load`.
    """
    import torch

    levels = _in_channels(np.stack(images), spec.channels)
    batch = torch.from_numpy(levels).permute(0, 3, 1, 2).to(torch.float32)
    if spec.clip is not None:
        batch = batch.clamp(spec.clip[0] * 255.0, spec.clip[1] * 255.0)
    low, high = spec.range
    batch = batch * ((high - low) / 255.0) + low
    if spec.mean is not None and spec.std is not None:
        mean = torch.tensor(spec.mean).view(1, -1, 1, 1)
        std = torch.tensor(spec.std).view(1, -1, 1, 1)
        batch = (batch - mean) / std
    return batch.contiguous()


def _in_channels(images: np.ndarray, channels: str) -> np.ndarray:
    """RGB images (B, h, w, 3) uint8 in other channels: (B, h, w, C) uint8.

    Grey is Pillow's: the luma of ITU-R 601-2, in its integers.
    """
    if channels == "bgr":
        return np.ascontiguousarray(images[..., ::-1])
    if channels == "grey":
        luma = images.astype(np.uint32) @ np.array([19595, 38470, 7471], np.uint32)
        return ((luma + 0x8000) >> 16).astype(np.uint8)[..., None]
    return images
