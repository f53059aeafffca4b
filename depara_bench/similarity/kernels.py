"""Similarity matrices of a model's images read off its Gram matrix, and how they are centred.

Matrices are symmetric; those of which only pairs of different images count are kept as their upper
triangle (E,), E = N(N-1)/2, in the order of `numpy.triu_indices(N, 1)`.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import squareform

from depara_bench.similarity.gram import Gram

# What centring leaves of a matrix that has nothing but a mean is rounding, this much of it or less.
_NOTHING = 1e-12


def inner(matrix: Gram) -> np.ndarray:
    """Inner products (N, N) float64 of the vectors; 0 for those that count as zero."""
    zero = matrix.products.diagonal() <= matrix.smallest**2
    found = matrix.products.copy()
    found[zero] = 0.0
    found[:, zero] = 0.0
    return found


def squared_distances(products: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances (N, N) float64 from inner products (N, N).

    Distances below 1e-7 of the vectors' length, which float32 does not resolve, are 0.
    """
    squares = products.diagonal()
    sums = squares[:, None] + squares
    found: np.ndarray = sums - 2.0 * products
    found[found <= 1e-14 * sums] = 0.0
    np.fill_diagonal(found, 0.0)
    return found


def rbf(squares: np.ndarray, fraction: float) -> np.ndarray:
    """Gaussian kernel exp(-d^2 / 2 w^2) (N, N) of squared distances d^2 (N, N).

    The width w is `fraction` of the median distance: w^2 = fraction^2 * the median of all N x N
    squared distances, those of an image to itself included (Kornblith et al., ICML 2019, and
    their code). Where the median is 0 this is its limit: 1 at distance 0, else 0.
    """
    width = 2.0 * fraction**2 * float(np.median(squares))
    if width == 0.0:
        same: np.ndarray = (squares == 0.0).astype(np.float64)
        return same
    found: np.ndarray = np.exp(squares / -width)
    return found


def upper(matrix: np.ndarray) -> np.ndarray:
    """Upper triangle (E,) of matrix (N, N)."""
    found: np.ndarray = squareform(matrix, checks=False)
    return found


def u_centred(values: np.ndarray) -> np.ndarray:
    """U-centred upper triangle (E,) of `values` (E,), scaled to length 1; the diagonal is 0.

    Products of two such vectors are unbiased HSIC over its scale (Szekely and Rizzo, 2014; the
    estimate is that of Song et al., 2012). Adding a_i + a_j to the values of each pair changes
    nothing. Zeros throughout where nothing is left: equal values, or N < 4.
    """
    matrix = squareform(values)
    count = len(matrix)
    if count < 4:
        return np.zeros_like(values)
    means = matrix.sum(axis=0) / (count - 2)
    means -= means.sum() / (2 * (count - 1))
    matrix -= means[:, None]
    matrix -= means
    return _unit(upper(matrix), float(np.linalg.norm(values)))


def centred(matrix: np.ndarray) -> np.ndarray:
    """Double-centred matrix (N, N), scaled to length 1, as a vector (N(N+1)/2,) whose products are
    those of the matrices: the upper triangle times the root of 2, and the diagonal.

    Products of two such vectors are biased HSIC over its scale (Gretton et al., 2005). Zeros
    throughout where nothing is left.
    """
    means = matrix.mean(axis=0)
    means -= means.mean() / 2
    found = matrix - means[:, None] - means
    packed = np.concatenate([np.sqrt(2.0) * upper(found), found.diagonal()])
    return _unit(packed, float(np.linalg.norm(matrix)))


def _unit(vector: np.ndarray, whole: float) -> np.ndarray:
    """Vector at length 1; zeros if it is only what rounding left of something `whole` long."""
    length = float(np.linalg.norm(vector))
    return vector / length if length > _NOTHING * whole else np.zeros_like(vector)
