"""Input x gradient: the first-order contribution of each input value (Shrikumar et al., 2016;
DEPARA eq. 3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def input_x_gradient(inputs: Tensor, gradient: Tensor) -> Tensor:
    """x * ds/dx per channel and pixel: (B, C, H, W) from inputs and gradient of that shape."""
    return inputs * gradient
