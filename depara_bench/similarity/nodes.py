"""Node similarity of DEPARA: mean over images of the cosine between two models' attribution maps
(Song et al., CVPR 2020, eq. 5; the affinity of Song et al., NeurIPS 2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

# Values of each model that are converted to float64 at a time: small enough that the buffer of a
# few dozen models stays in the processor's cache, large enough that calls cost nothing.
_CHUNK = 8192


@dataclass(frozen=True)
class CosineSum:
    """total (a, b) float64: sum over n images of the cosines of a left and b right models.
    zeros (a,) int64: how many of the left models' maps are all zero.
    """

    total: np.ndarray
    zeros: np.ndarray

    def __add__(self, other: CosineSum) -> CosineSum:
        return CosineSum(self.total + other.total, self.zeros + other.zeros)


def image_cosines(
    left: Sequence[np.ndarray], right: Sequence[np.ndarray] | None, image: int
) -> tuple[np.ndarray, np.ndarray]:
    """Cosines (a, b) float64 of one image's maps, and which left maps are all zero (a,) bool.

    left, right: one (n, D) float32 array per model; right None: the left ones again. The cosine
    with a vector of zeros is 0 by definition. Products and sums are float64; squares of float32
    neither over- nor underflow there, so nothing is scaled first.
    """
    width = left[0].shape[1]
    rows = np.empty((len(left), min(_CHUNK, width)))
    columns = rows if right is None else np.empty((len(right), min(_CHUNK, width)))
    others = left if right is None else right
    products = np.zeros((len(left), len(others)))
    left_squares = np.zeros(len(left))
    right_squares = left_squares if right is None else np.zeros(len(others))
    for start in range(0, width, _CHUNK):
        stop = min(start + _CHUNK, width)
        part = _fill(rows, left, image, start, stop)
        other = part if right is None else _fill(columns, others, image, start, stop)
        products += part @ other.T
        if right is not None:
            left_squares += np.einsum("ij,ij->i", part, part)
            right_squares += np.einsum("ij,ij->i", other, other)
    if right is None:
        left_squares = right_squares = products.diagonal()
    zero = left_squares == 0.0
    lengths = np.sqrt(np.outer(left_squares, right_squares))
    cosines = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0.0)
    return np.clip(cosines, -1.0, 1.0), zero


def _fill(
    buffer: np.ndarray, maps: Sequence[np.ndarray], image: int, start: int, stop: int
) -> np.ndarray:
    part = buffer[:, : stop - start]
    for model, values in enumerate(maps):
        part[model] = values[image, start:stop]
    return part


def cosine_sum(
    left: Sequence[np.ndarray], right: Sequence[np.ndarray] | None, pool: Executor
) -> CosineSum:
    """Sum of `image_cosines` over the n images of the arrays, in the order of the images."""
    images = range(left[0].shape[0])
    total = np.zeros((len(left), len(left if right is None else right)))
    zeros = np.zeros(len(left), dtype=np.int64)
    for cosines, zero in pool.map(lambda image: image_cosines(left, right, image), images):
        total += cosines
        zeros += zero
    return CosineSum(total, zeros)
