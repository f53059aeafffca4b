"""Random numbers as a function of (seed, index, counter): one independent stream per scene.

Own integer hash (splitmix64) rather than a generator object, so that draws are vectorised over
scenes, do not depend on who else is in the batch, and are the same in every numpy version.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Finaliser of splitmix64; a bijection on 64-bit integers."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def scene_keys(seed: int, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.uint64]:
    """Keys (N,) uint64 of the streams of scenes `indices` of `seed`."""
    index = np.asarray(indices, dtype=np.int64).astype(np.uint64)
    root = _mix(np.asarray([seed], dtype=np.int64).astype(np.uint64) + _GOLDEN)
    return _mix(_mix(index + _GOLDEN) ^ root)


class Draws:
    """Consecutive draws from the streams of N scenes; the order of calls fixes the numbers."""

    def __init__(self, keys: NDArray[np.uint64]) -> None:
        self.keys = keys
        self._used = 0

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> NDArray[np.float64]:
        """Uniform numbers in [low, high), (N, *shape) float64."""
        count = int(np.prod(shape)) if shape else 1
        counter = np.arange(self._used + 1, self._used + 1 + count, dtype=np.uint64)
        self._used += count
        bits = _mix(self.keys[:, None] + counter[None, :] * _GOLDEN)
        unit = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return (low + (high - low) * unit).reshape(len(self.keys), *shape)

    def choice(self, weights: NDArray[np.float64], *shape: int) -> NDArray[np.int64]:
        """Indices (N, *shape) drawn with `weights` (K,) or (N, K), which need not sum to 1."""
        table = np.broadcast_to(np.atleast_2d(weights), (len(self.keys), weights.shape[-1]))
        steps = np.cumsum(table, axis=1)
        steps = steps / steps[:, -1:]
        at = self.uniform(*shape).reshape(len(self.keys), -1)
        drawn = (at[:, :, None] >= steps[:, None, :-1]).sum(axis=2)
        return np.asarray(drawn.reshape(len(self.keys), *shape), dtype=np.int64)


def pixel_noise(keys: NDArray[np.uint64], channels: int, size: int, salt: int) -> torch.Tensor:
    """Nearly normal noise (N, channels, size, size) float32, mean 0, variance 1.

    A hash of (scene, channel, pixel): sum of the four bytes of a 32-bit word (Irwin-Hall of order
    4), cheap, bounded to +-3.45 and independent of the batch.
    """
    mixed = _mix(keys ^ np.uint64(salt * 0x632BE59BD9B4E019 & 0xFFFFFFFFFFFFFFFF))
    key = torch.from_numpy((mixed >> np.uint64(32)).astype(np.uint32).view(np.int32).copy())
    pixel = np.arange(1, channels * size * size + 1, dtype=np.uint64)
    words = (_mix(pixel * _GOLDEN) >> np.uint64(32)).astype(np.uint32).view(np.int32).copy()
    word = torch.from_numpy(words)[None, :] ^ key[:, None]
    word = word * 0x7FEB352D  # int32 products wrap
    word = word ^ ((word >> 15) & 0x1FFFF)
    word = word * -0x7B935975
    word = word ^ ((word >> 16) & 0xFFFF)
    pairs = (word & 0x00FF00FF) + ((word >> 8) & 0x00FF00FF)
    total = (pairs & 0xFFFF) + (pairs >> 16)
    return ((total.float() - 510.0) / 147.8).view(len(keys), channels, size, size)
