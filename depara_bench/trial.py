"""A loaded model, to be tried on two images before anything is computed with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from depara_bench.extract import Extracted, embed, extract, pixel_ends
from depara_bench.job import AttributionSettings
from depara_bench.zoo import AnySpec

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Trial:
    """A model at its embedding, and how it is attributed, to be tried on two images."""

    spec: AnySpec
    model: nn.Module
    node: nn.Module
    settings: AttributionSettings
    device: str

    def run(self, inputs: Tensor, **changed: Any) -> Extracted:
        """Features and maps of inputs (N, C, H, W), all in one batch."""
        settings = self.settings.model_copy(update=changed)
        return extract(
            self.model,
            self.node,
            inputs,
            methods=settings.made(),
            scalar=settings.scalar,
            channels=settings.channels,
            grid=settings.grid,
            ends=pixel_ends(self.spec.input),
            batch_size=len(inputs),
            device=self.device,
            name=self.spec.name,
        )

    def embed(self, inputs: Tensor) -> Tensor:
        """Embedding (N, F) of inputs on the model's device, in the graph and in its precision."""
        return embed(self.model, self.node, inputs, self.spec.name)


def two_images(height: int, width: int) -> list[np.ndarray]:
    """Two pictures (height, width, 3) uint8 that are always the same: noise, and a few colours that
    run into each other.
    """
    from PIL import Image

    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
    few = Image.fromarray(generator.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    smooth = few.resize((width, height), Image.Resampling.BICUBIC)
    return [noise, np.asarray(smooth, dtype=np.uint8)]


@contextmanager
def watched() -> Iterator[list[str]]:
    """The names of what draws random numbers inside the block, as it does."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    drawn: list[str] = []

    class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if torch.Tag.nondeterministic_seeded in func.tags and not _is_idle(func, args):
                drawn.append(str(func.overloadpacket.__name__))
            return func(*args, **(kwargs or {}))

    with Watch():  # type: ignore[no-untyped-call]
        yield drawn


def _is_idle(func: Any, args: Any) -> bool:
    """Attention and dropout name themselves random also where they drop nothing."""
    name = func.overloadpacket.__name__
    if name == "native_dropout":
        return not args[2] or args[1] == 0
    return "attention" in name or name in ("dropout", "alpha_dropout", "feature_dropout")
