"""Inner products of every image's maps over all pairs of models: the kernel of node similarity.

A BLAS library copies its inputs twice, to widen and to rearrange them, and for the twenty rows of a
small zoo that costs more than the products do. Where numba is installed long maps are multiplied by
`compiled.py`, which copies nothing; everywhere else by BLAS. Both agree to rounding in float64.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec

import numpy as np

# Bytes of one side's values that are converted to float64 at a time: few enough to stay in the
# processor's cache, enough that the calls themselves cost nothing.
_CHUNK_BYTES = 4 << 20

# Values of a map from which numba is loaded, 128 x 128. Loading takes two seconds; shorter maps
# seldom take more than that.
_LONG = 1 << 14


def inner_products(
    left: Sequence[np.ndarray], right: Sequence[np.ndarray] | None, images: range
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Products (a, b), and squared lengths (a,) and (b,), float64, of each of the images.

    left, right: one (n, D) float32 array per model; right None: the left ones again. Squares of
    float32 neither over- nor underflow in float64, so nothing is scaled first.
    """
    if left[0].shape[1] >= _LONG and _has_numba():
        from depara_bench.similarity import compiled

        return compiled.inner_products(left, right, images)
    return blas_products(left, right, images)


@cache
def _has_numba() -> bool:
    return find_spec("numba") is not None


def blas_products(
    left: Sequence[np.ndarray], right: Sequence[np.ndarray] | None, images: range
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """`inner_products` by BLAS, some columns at a time."""
    width = left[0].shape[1]
    most = max(len(left), len(right or ()))
    step = min(width, max(1, _CHUNK_BYTES // (8 * most)))
    left_buffer = np.empty(len(left) * step)
    right_buffer = None if right is None else np.empty(len(right) * step)
    for image in images:
        products = np.zeros((len(left), len(left if right is None else right)))
        left_squares, right_squares = np.zeros(len(left)), np.zeros(products.shape[1])
        for start in range(0, width, step):
            columns = slice(start, min(start + step, width))
            part = _gather(left_buffer, left, image, columns)
            # np.dot, not @: it lets the other threads run meanwhile.
            if right is None or right_buffer is None:
                products += np.dot(part, part.T)
                continue
            other = _gather(right_buffer, right, image, columns)
            products += np.dot(part, other.T)
            left_squares += np.einsum("ij,ij->i", part, part)
            right_squares += np.einsum("ij,ij->i", other, other)
        if right is None:
            left_squares = right_squares = products.diagonal()
        yield products, left_squares, right_squares


def _gather(
    buffer: np.ndarray, maps: Sequence[np.ndarray], image: int, columns: slice
) -> np.ndarray:
    """Some columns of one image's maps as (models, columns) float64, in the buffer."""
    part = buffer[: len(maps) * (columns.stop - columns.start)]
    np.concatenate([values[image, columns] for values in maps], out=part)
    return part.reshape(len(maps), -1)
