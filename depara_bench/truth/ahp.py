"""From losses of transfers to affinities, as Taskonomy does it (Zamir et al., CVPR 2018, sec. 3.3).

For one target: how often each source beats each other one over the held-out images, the ratios of
those rates, and the principal eigenvector of the ratio matrix (Saaty's analytic hierarchy process).
A matrix of positive numbers has a real, positive principal eigenvector (Perron and Frobenius), and
it is found here by power iteration, so that no complex number can appear on the way.
"""

from __future__ import annotations

import numpy as np

from depara_bench.errors import InputError

CLIP = 0.001
"""Win rates are kept within [CLIP, 1 - CLIP], so that no ratio is zero or infinite."""


def win_rates(losses: np.ndarray) -> np.ndarray:
    """Share of images on which source i has a lower loss than source j: (S, S) float64.

    losses (S, n): loss of each source on each held-out image, lower is better. A tie is half a win
    for each, so that W + W.T is 1 everywhere; the diagonal is 0.5.
    Raises InputError when a loss is not finite.
    """
    losses = np.asarray(losses, dtype=np.float64)
    if not np.isfinite(losses).all():
        raise InputError("losses hold NaN or inf; a win rate needs every loss of every source")
    count, images = losses.shape
    wins = np.empty((count, count))
    for i in range(count):
        less = (losses[i] < losses).sum(axis=1)
        equal = (losses[i] == losses).sum(axis=1)
        wins[i] = (less + 0.5 * equal) / images
    return wins


def principal_eigenvector(matrix: np.ndarray) -> np.ndarray:
    """The positive eigenvector of a matrix (S, S) of positive numbers, scaled to sum 1.

    Power iteration until no entry changes by more than 1e-14 of itself.
    Raises InputError when the matrix holds something that is not a positive number.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    if not (np.isfinite(matrix).all() and (matrix > 0).all()):
        raise InputError("the ratio matrix must hold positive numbers only; clip the win rates")
    vector = np.full(len(matrix), 1.0 / len(matrix))
    # A positive matrix converges geometrically; ratios of at most 999 do so in a few dozen steps.
    for _ in range(100_000):
        following: np.ndarray = matrix @ vector
        following /= following.sum()
        if np.abs(following - vector).max() <= 1e-14 * following.max():
            return following
        vector = following
    return vector


def affinities(wins: np.ndarray) -> np.ndarray:
    """Affinity of each source to one target, (S,) float64, positive, sum 1, higher is better.

    wins (S, S): win rates as of `win_rates`; clipped to [CLIP, 1 - CLIP], then the principal
    eigenvector of W / W.T. A source whose win rates are all at least another's never gets less.
    """
    clipped = np.clip(wins, CLIP, 1.0 - CLIP)
    return principal_eigenvector(clipped / clipped.T)
