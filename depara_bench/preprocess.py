"""From decoded images to a model's input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from depara_bench.zoo import InputSpec

if TYPE_CHECKING:
    from torch import Tensor


def fit(image: np.ndarray, spec: InputSpec) -> np.ndarray:
    """(H, W, 3) uint8 image brought to the model's size: (h, w, 3) uint8.

    Bilinear with antialiasing (Pillow), as the common training pipelines do. Without `resize` the
    image is stretched; with it, the shorter side is resized and the centre cropped.
    """
    height, width = spec.height_width
    if spec.resize is None:
        return _resized(image, height, width)
    rows, columns = image.shape[:2]
    if rows <= columns:
        image = _resized(image, spec.resize, max(width, int(spec.resize * columns / rows)))
    else:
        image = _resized(image, max(height, int(spec.resize * rows / columns)), spec.resize)
    top = round((image.shape[0] - height) / 2)
    left = round((image.shape[1] - width) / 2)
    return image[top : top + height, left : left + width]


def _resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    if image.shape[:2] == (height, width):
        return image
    from PIL import Image

    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized, dtype=np.uint8)


def to_input(images: Sequence[np.ndarray], spec: InputSpec) -> Tensor:
    """Images, each (h, w, 3) uint8 of the model's size, as a batch (B, 3, h, w) float32."""
    import torch

    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).to(torch.float32)
    if spec.clip is not None:
        batch = batch.clamp(spec.clip[0] * 255.0, spec.clip[1] * 255.0)
    low, high = spec.range
    batch = batch * ((high - low) / 255.0) + low
    if spec.mean is not None and spec.std is not None:
        mean = torch.tensor(spec.mean).view(1, 3, 1, 1)
        std = torch.tensor(spec.std).view(1, 3, 1, 1)
        batch = (batch - mean) / std
    return batch.contiguous()
