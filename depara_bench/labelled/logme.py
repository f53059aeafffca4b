"""LogME: log marginal evidence of a Bayesian linear model of the targets given the features
(You et al., ICML 2021; JMLR 2022), per image, mean over the columns of the targets.

Weights w ~ N(0, I/alpha), targets y ~ N(features w, I/beta); alpha and beta are those of the
largest evidence, or at least of a peak of it, found by the fixed point of the paper, here run
until it stands still.
"""

from __future__ import annotations

import numpy as np

from depara_bench.labelled.labels import indexed, one_hot, varying
from depara_bench.labelled.score import Score
from depara_bench.labelled.spectrum import uncentred
from depara_bench.similarity.method import State

_UNEXPLAINED = 1e-12
_ITERATIONS = 1000


def classes(state: State, labels: np.ndarray) -> float:
    """LogME of labels (N,) int: the columns are the C one-hot columns. See `evidences`."""
    index, _ = indexed(labels, len(state["left"]))
    return float(evidences(state, one_hot(index)).mean())


def regression(state: State, targets: np.ndarray) -> float:
    """LogME of targets (N, K) float; columns that do not vary are left out. See `evidences`."""
    return float(evidences(state, varying(targets, len(state["left"]))).mean())


def evidences(state: State, targets: np.ndarray) -> np.ndarray:
    """Largest log evidence over N of each column of targets (N, K), none all zero: (K,) float64.

    state: of `uncentred` features. The paper's model has no intercept. Only the ratio alpha / beta
    is iterated on (beta follows from it), starting from the mean squared singular value, so that
    the scale of the features is immaterial. Where features explain nothing, the ratio grows without
    bound and is held at 1e12 of the largest squared singular value: the evidence is that of noise
    alone. Where they explain all, the evidence has no bound: at least 1e-12 of each squared column
    counts as unexplained.
    """
    left, squares = state["left"], state["values"] ** 2
    count = len(left)
    length = (targets**2).sum(axis=0)
    weights = np.dot(left.T, targets)
    rest = ((targets - np.dot(left, weights)) ** 2).sum(axis=0)
    rest = np.maximum(rest, _UNEXPLAINED * length)
    if not len(squares):
        return _evidence(np.ones_like(length), squares, weights**2, rest, count)
    explained = weights**2
    ratio = np.full(len(length), squares.mean())
    moving = np.arange(len(length))
    for _ in range(_ITERATIONS):
        new = _step(ratio[moving], squares, explained[:, moving], rest[moving], count)
        new = np.clip(new, 1e-15 * squares[0], 1e12 * squares[0])
        still = np.abs(new - ratio[moving]) <= 1e-10 * new
        ratio[moving] = new
        moving = moving[~still]
        if not len(moving):
            break
    return _evidence(ratio, squares, explained, rest, count)


def _step(
    ratio: np.ndarray, squares: np.ndarray, explained: np.ndarray, rest: np.ndarray, count: int
) -> np.ndarray:
    """The next alpha / beta (K,): alpha = gamma / |m|^2, beta = (N - gamma) / |y - F m|^2."""
    kept = ratio / (squares[:, None] + ratio)
    shrink = squares[:, None] / (squares[:, None] + ratio)
    gamma = shrink.sum(axis=0)
    # |m|^2 is not 0 but for targets orthogonal to all features, whose ratio grows to its limit.
    weight = np.maximum((shrink**2 / squares[:, None] * explained).sum(axis=0), 1e-250)
    error = (kept**2 * explained).sum(axis=0) + rest
    freedom = kept.sum(axis=0) + (count - len(squares))
    new: np.ndarray = gamma / weight * (error / freedom)
    return new


def _evidence(
    ratio: np.ndarray, squares: np.ndarray, explained: np.ndarray, rest: np.ndarray, count: int
) -> np.ndarray:
    """Log evidence over N (K,) at alpha / beta = ratio and the best beta for it."""
    kept = ratio / (squares[:, None] + ratio)
    noise = ((kept * explained).sum(axis=0) + rest) / count
    logs = np.log(kept).sum(axis=0) / count
    found: np.ndarray = 0.5 * (logs - np.log(noise) - 1.0 - np.log(2.0 * np.pi))
    return found


SCORE = Score(
    "logme",
    "log evidence of a Bayesian linear model (You et al., ICML 2021)",
    ("labels",),
    uncentred,
    classes,
    regression,
)
