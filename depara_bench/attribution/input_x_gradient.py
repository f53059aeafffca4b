"""Input x gradient: the first-order contribution of each input value (Shrikumar et al., 2016;
DEPARA eq. 3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from depara_bench.attribution.batch import Batch
from depara_bench.attribution.method import Attribution

if TYPE_CHECKING:
    from torch import Tensor


class InputXGradient(Attribution):
    """x * ds/dx per channel and pixel."""

    def __call__(self, batch: Batch) -> Tensor:
        """(B, C, H, W), signed."""
        return batch.inputs * batch.gradient
