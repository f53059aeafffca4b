"""SmoothGrad: the mean gradient of noisy copies of an image (Smilkov et al., 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from depara_bench.attribution.batch import Batch
from depara_bench.attribution.method import MOST_PASSES, Attribution

if TYPE_CHECKING:
    from torch import Tensor


class SmoothGrad(Attribution):
    """Mean over `samples` copies of ds/dx at x + noise, signed.

    The noise is normal, its deviation `sigma` times the range from black to white, channel by
    channel. It is drawn for each image by itself, from `seed` and the image's pixels, so that it
    does not depend on what else is in the batch, and is common to models that see the same pixels.
    """

    samples: int = Field(default=25, ge=1, le=MOST_PASSES)
    sigma: float = Field(default=0.15, ge=0)
    seed: int = Field(default=0, ge=0, lt=2**63)

    def __call__(self, batch: Batch) -> Tensor:
        """(B, C, H, W), signed; `samples` forward and backward passes."""
        import torch

        inputs = batch.inputs
        # On the CPU, whose numbers every device gets: each draws its own otherwise.
        generators = [torch.Generator().manual_seed(seed) for seed in batch.seeds(self.seed)]
        deviation = self.sigma * (batch.white - batch.black)
        total = inputs.double() * 0.0
        for _ in range(self.samples):
            noise = torch.stack([torch.randn(inputs.shape[1:], generator=g) for g in generators])
            total += batch.gradient_at(inputs + deviation * noise.to(inputs))
        return (total / self.samples).to(inputs.dtype)
