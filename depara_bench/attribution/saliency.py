"""Saliency: the magnitude of the gradient (Simonyan et al., 2014)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from depara_bench.attribution.batch import Batch
from depara_bench.attribution.method import Attribution

if TYPE_CHECKING:
    from torch import Tensor


class Saliency(Attribution):
    """|ds/dx| per channel and pixel."""

    def __call__(self, batch: Batch) -> Tensor:
        """(B, C, H, W), not negative."""
        return batch.gradient.abs()
