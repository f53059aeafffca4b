"""Saliency: the magnitude of the gradient (Simonyan et al., 2014)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def saliency(inputs: Tensor, gradient: Tensor) -> Tensor:
    """|ds/dx| per channel and pixel: (B, C, H, W) from inputs and gradient of that shape."""
    return gradient.abs()
