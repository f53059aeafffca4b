"""What attribution methods share of one batch: one forward and one backward pass, done once, and
the means to do more of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from depara_bench.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Batch:
    """inputs (B, C, H, W), detached; embedding (B, F), detached, and gradient (B, C, H, W) of the
    scalar at these inputs. model: in eval mode; `embed` runs it up to the embedding. scalar:
    embedding (B, F) to one number per image (B,). black, white (C, 1, 1): what the darkest and the
    brightest pixel are in the units of the inputs. name: of the model, for messages.
    """

    inputs: Tensor
    embedding: Tensor
    gradient: Tensor
    model: nn.Module
    embed: Callable[[Tensor], Tensor]
    scalar: Callable[[Tensor], Tensor]
    black: Tensor
    white: Tensor
    name: str

    def score(self, inputs: Tensor) -> Tensor:
        """The scalar of each of the inputs (B', C, H, W), differentiable: (B',)."""
        return self.scalar(self.embed(inputs))

    def gradient_at(self, inputs: Tensor) -> Tensor:
        """Gradient of the scalar at other inputs (B', C, H, W), of that shape."""
        return forward_backward(self.embed, self.scalar, inputs, self.name)[1]

    def image(self, row: int) -> Batch:
        """The batch that holds one of the images alone."""
        one = slice(row, row + 1)
        return Batch(
            self.inputs[one], self.embedding[one], self.gradient[one], self.model, self.embed,
            self.scalar, self.black, self.white, self.name,
        )  # fmt: skip

    def seeds(self, seed: int) -> list[int]:
        """A seed in [0, 2**63) of each image, by `seed` and the image's pixels as 8-bit levels:
        models that see the same pixels, whatever their units, draw the same.
        """
        levels = 255.0 * (self.inputs - self.black) / (self.white - self.black)
        pixels = levels.round().clamp(0, 255).cpu().numpy().astype(np.uint8)
        keys = [hashlib.sha256(f"{seed}:".encode() + image.tobytes()) for image in pixels]
        return [int.from_bytes(key.digest()[:8], "little") >> 1 for key in keys]


def forward_backward(
    embed: Callable[[Tensor], Tensor],
    scalar: Callable[[Tensor], Tensor],
    inputs: Tensor,
    name: str,
) -> tuple[Tensor, Tensor]:
    """Embedding (B, F) of inputs (B, C, H, W) and gradient (B, C, H, W) of the scalar, detached.

    The gradient belongs to each image alone: the scalars of a batch are summed, and in eval mode
    no image influences another's. Nothing accumulates anywhere.
    Raises InputError when the embedding does not depend on the input in a differentiable way.
    """
    import torch

    with torch.enable_grad():
        leaf = inputs.detach().requires_grad_(True)
        embedding = embed(leaf)
        if not embedding.requires_grad:
            raise InputError(
                f"model '{name}': the embedding cannot be differentiated with respect to the image"
            )
        (gradient,) = torch.autograd.grad(scalar(embedding).sum(), leaf, allow_unused=True)
    if gradient is None:
        raise InputError(f"model '{name}': the embedding does not depend on the image")
    return embedding.detach(), gradient
