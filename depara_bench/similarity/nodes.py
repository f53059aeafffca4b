"""Node similarity of DEPARA: mean over images of the cosine between two models' attribution maps
(Song et al., CVPR 2020, eq. 5; the affinity of Song et al., NeurIPS 2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from depara_bench.similarity.products import inner_products

# Images that one thread takes at a time.
_RUN = 4


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
    with a vector of zeros is 0 by definition. Products and sums are float64.
    """
    ((cosines, zero),) = _run_cosines(left, right, range(image, image + 1))
    return cosines, zero


def _run_cosines(
    left: Sequence[np.ndarray], right: Sequence[np.ndarray] | None, images: range
) -> list[tuple[np.ndarray, np.ndarray]]:
    """`image_cosines` of several images."""
    return [
        (_scaled(products, left_squares, right_squares), left_squares == 0.0)
        for products, left_squares, right_squares in inner_products(left, right, images)
    ]


def _scaled(products: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Cosines (a, b) from inner products (a, b) and squared lengths (a,) and (b,)."""
    lengths = np.sqrt(np.outer(left, right))
    cosines: np.ndarray = np.divide(
        products, lengths, out=np.zeros_like(products), where=lengths > 0.0
    )
    return cosines.clip(-1.0, 1.0)


def cosine_sum(
    left: Sequence[np.ndarray], right: Sequence[np.ndarray] | None, pool: Executor
) -> CosineSum:
    """Sum of `image_cosines` over the n images of the arrays, in the order of the images."""
    images = range(left[0].shape[0])
    runs = [images[i : i + _RUN] for i in range(0, len(images), _RUN)]
    total = np.zeros((len(left), len(left if right is None else right)))
    zeros = np.zeros(len(left), dtype=np.int64)
    for run in pool.map(lambda run: _run_cosines(left, right, run), runs):
        for cosines, zero in run:
            total += cosines
            zeros += zero
    return CosineSum(total, zeros)
