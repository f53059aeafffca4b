"""Attribution methods: what each pixel of the input contributes to a scalar of the embedding.

A method here is a function of the input and of the gradient of the scalar with respect to it, so
that all methods asked for share one forward and one backward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from depara_bench.attribution.input_x_gradient import input_x_gradient
from depara_bench.attribution.saliency import saliency

if TYPE_CHECKING:
    from torch import Tensor

Attribute = Callable[["Tensor", "Tensor"], "Tensor"]

METHODS: dict[str, Attribute] = {
    "saliency": saliency,
    "input_x_gradient": input_x_gradient,
}
