"""Inner products of a model's features: the one matrix that similarities of images come from.

It is made once per model, N x N for N images, whatever the number of features; cosine and Pearson
similarities of all pairs of images are read off it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Gram:
    """products (N, N) float64: inner products of the feature vectors (around the mean vector, where
    they were centred). means (N,): the mean of each vector's F features, `width` of them. smallest:
    vectors that are not longer count as zero.
    """

    products: np.ndarray
    means: np.ndarray
    width: int
    smallest: float


def gram(features: np.ndarray, *, center: bool = True) -> Gram:
    """`Gram` of features (N, F).

    center: subtract the mean row first. What rounding leaves of a row that equals the mean is not
    a direction: a row below 1e-12 of the longest uncentred one counts as zero.
    """
    rows = np.array(features, dtype=np.float64)
    smallest = 0.0
    if center:
        smallest = 1e-12 * float(np.sqrt(np.einsum("ij,ij->i", rows, rows).max()))
        rows -= rows.mean(axis=0)
    products: np.ndarray = np.dot(rows, rows.T)  # not @: it lets the other threads run meanwhile
    return Gram(products, rows.mean(axis=1), rows.shape[1], smallest)


def cosines(matrix: Gram) -> tuple[np.ndarray, int]:
    """Cosine similarity of all pairs of vectors, (N(N-1)/2,) float64 in the order of
    `numpy.triu_indices(N, 1)`, and the number of zero vectors, whose cosine is 0 by definition.
    """
    squares = matrix.products.diagonal()
    return _scaled(matrix.products, squares, squares <= matrix.smallest**2)


def pearsons(matrix: Gram) -> tuple[np.ndarray, int]:
    """Pearson correlation of all pairs of vectors over their F features, as `cosines` gives them.

    A vector whose F values are equal has none to vary and counts as zero: one whose spread is
    below 1e-7 of its size, which float32 does not resolve.
    """
    products = matrix.products - matrix.width * np.outer(matrix.means, matrix.means)
    squares = products.diagonal()
    whole = matrix.products.diagonal()
    zero = (whole <= matrix.smallest**2) | (squares <= 1e-14 * whole)
    return _scaled(products, squares, zero)


def _scaled(products: np.ndarray, squares: np.ndarray, zero: np.ndarray) -> tuple[np.ndarray, int]:
    """Upper triangle of products (N, N) over the lengths of both vectors, 0 where one is `zero`."""
    lengths = np.sqrt(np.where(zero, 1.0, squares))
    # Scaling the products is cheaper than scaling the rows: there are fewer images than features.
    scale = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=~zero)
    scaled = products * scale[:, None]
    scaled *= scale
    return scaled[_upper(len(products))], int(zero.sum())


def _upper(count: int) -> np.ndarray:
    return np.triu(np.ones((count, count), dtype=bool), 1)
