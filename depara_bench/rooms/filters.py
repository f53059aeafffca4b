"""Small image operators on (N, C, S, S) float32 tensors; borders are repeated."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def binomial(images: Tensor) -> Tensor:
    """3x3 binomial blur [1 2 1] x [1 2 1] / 16."""
    p = F.pad(images, (1, 1, 1, 1), mode="replicate")
    rows = p[..., :-2, :] + 2 * p[..., 1:-1, :] + p[..., 2:, :]
    return (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / 16


def gradients(images: Tensor) -> tuple[Tensor, Tensor]:
    """Sobel derivatives along columns and rows, per pixel."""
    p = F.pad(images, (1, 1, 1, 1), mode="replicate")
    down = p[..., :-2, :] + 2 * p[..., 1:-1, :] + p[..., 2:, :]
    across = p[..., :-2] + 2 * p[..., 1:-1] + p[..., 2:]
    return (down[..., 2:] - down[..., :-2]) / 8, (across[..., 2:, :] - across[..., :-2, :]) / 8


def corner_strength(images: Tensor) -> Tensor:
    """Smaller eigenvalue (N, 1, S, S) of the structure tensor, summed over channels and a 5x5
    binomial window (Shi and Tomasi's corner measure).
    """
    dx, dy = gradients(images)
    products = torch.cat(
        [(dx * dx).sum(1, True), (dy * dy).sum(1, True), (dx * dy).sum(1, True)], dim=1
    )
    smooth = binomial(binomial(products))
    xx, yy, xy = smooth[:, 0:1], smooth[:, 1:2], smooth[:, 2:3]
    middle, half = 0.5 * (xx + yy), 0.5 * (xx - yy)
    return (middle - (half * half + xy * xy).sqrt()).clamp(min=0)


def diffuse(values: Tensor, images: Tensor, steps: int = 40, contrast: float = 0.06) -> Tensor:
    """`steps` of averaging `values` over the four neighbours, weighted by how alike the pixels of
    `images` are, exp(-|difference|^2 / contrast^2): what lies within a region of one colour mixes,
    over some 6 pixels, and nothing crosses its border.
    """
    links = []
    for axis in (-2, -1):
        size = images.shape[axis]
        step = images.narrow(axis, 1, size - 1) - images.narrow(axis, 0, size - 1)
        links.append((-(step * step).sum(1, True) / contrast**2).clamp(min=-30.0).exp())
    down, across = links
    total = (
        F.pad(down, (0, 0, 0, 1))
        + F.pad(down, (0, 0, 1, 0))
        + F.pad(across, (0, 1))
        + F.pad(across, (1, 0))
    )
    rate = 0.9 / total.clamp(min=0.9)
    for _ in range(steps):
        flow_down = down * (values[..., 1:, :] - values[..., :-1, :])
        flow_across = across * (values[..., 1:] - values[..., :-1])
        change = F.pad(flow_down, (0, 0, 0, 1)) - F.pad(flow_down, (0, 0, 1, 0))
        change = change + F.pad(flow_across, (0, 1)) - F.pad(flow_across, (1, 0))
        values = values + rate * change
    return values
