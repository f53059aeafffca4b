"""Random initialisation by a seed, without a trace in the global random state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Seed torch's CPU generator inside the block (None: 0), and restore it afterwards."""
    import torch

    # Only the CPU's generator is seeded and restored: torch.manual_seed would reach the GPUs' too.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed or 0)
        yield
