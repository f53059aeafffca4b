"""Integrated gradients along the straight line from a black image (Sundararajan et al., 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from depara_bench.attribution.batch import Batch
from depara_bench.attribution.method import MOST_PASSES, Attribution

if TYPE_CHECKING:
    from torch import Tensor


class IntegratedGradients(Attribution):
    """(x - b) * mean over the line from b to x of ds/dx, by the midpoint rule in `steps` steps.

    The baseline b is the black image: pixels of value 0, in the units that the model takes. Maps
    sum to s(x) - s(b) as steps grow.
    """

    steps: int = Field(default=50, ge=1, le=MOST_PASSES)

    def __call__(self, batch: Batch) -> Tensor:
        """(B, C, H, W), signed; `steps` forward and backward passes."""
        away = batch.inputs - batch.black
        total = batch.inputs.double() * 0.0
        for step in range(self.steps):
            total += batch.gradient_at(batch.black + away * ((step + 0.5) / self.steps))
        return away * (total / self.steps).to(away.dtype)
