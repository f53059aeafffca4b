"""Random initialisation by a seed, without a trace in the global random states."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Seed torch's CPU generator, numpy's and Python's inside the block (None: 0), and restore them
    afterwards.
    """
    import torch

    state = random.getstate(), np.random.get_state()  # noqa: NPY002 - the global one is meant
    # Only the CPU's generator is seeded and restored: torch.manual_seed would reach the GPUs' too.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed or 0)
        np.random.seed((seed or 0) % 2**32)  # noqa: NPY002
        random.seed(seed or 0)
        try:
            yield
        finally:
            random.setstate(state[0])
            np.random.set_state(state[1])  # noqa: NPY002
