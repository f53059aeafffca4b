"""LogME: log marginal evidence of a Bayesian linear model of the targets given the features
(You et al., ICML 2021; JMLR 2022), per image, mean over the columns of the targets.

Weights w ~ N(0, I/alpha), targets y ~ N(features w, I/beta); alpha and beta are those of the
largest evidence. The paper's fixed point may end at a lower peak; here all ratios are tried.
"""

from __future__ import annotations

import numpy as np

from depara_bench.labelled.labels import indexed, one_hot, varying
from depara_bench.labelled.score import Score
from depara_bench.labelled.spectrum import uncentred
from depara_bench.similarity.method import State

_UNEXPLAINED = 1e-12
_GRID = np.arange(np.log(1e-15), np.log(1e12), 0.1)
"""Logarithms of alpha / beta that are tried, over the largest squared singular value."""
_GOLDEN = (np.sqrt(5.0) - 1.0) / 2.0
_HALVINGS = 48
_RIPPLE = 1e-12
_CUT = 1e-3


def classes(state: State, labels: np.ndarray) -> float:
    """LogME of labels (N,) int: the columns are the C one-hot columns. See `evidences`."""
    index, _ = indexed(labels, len(state["left"]))
    return float(evidences(state, one_hot(index)).mean())


def regression(state: State, targets: np.ndarray) -> float:
    """LogME of targets (N, K) float; columns that do not vary are left out. See `evidences`."""
    return float(evidences(state, varying(targets, len(state["left"]))).mean())


def evidences(state: State, targets: np.ndarray) -> np.ndarray:
    """Largest log evidence over N of each column of targets (N, K), none all zero: (K,) float64.

    state: of `uncentred` features. The paper's model has no intercept. Beta follows from the ratio
    alpha / beta, so the evidence is searched along that alone: on a grid from 1e-15 to 1e12 of the
    largest squared singular value, and then around each peak of it, by golden section. (Each
    singular value takes part over a range of ratios far wider than the grid's step, so that no
    peak lies between.) Where features explain nothing, the evidence rises to that of noise alone;
    where they explain all, it has no bound: at least 1e-12 of each squared column counts as
    unexplained.
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
    ratios = squares[0] * np.exp(_GRID)
    kept = ratios / (squares[:, None] + ratios)
    noise = (np.dot(explained.T, kept) + rest[:, None]) / count
    logs = np.log(kept).sum(axis=0) / count
    return _refined(_profile(logs, noise), squares, explained, rest, count)


def _refined(
    coarse: np.ndarray,
    squares: np.ndarray,
    explained: np.ndarray,
    rest: np.ndarray,
    count: int,
) -> np.ndarray:
    """The largest evidence (K,) around the highest peaks of the coarse one (K, grid): those that
    the grid may have cut by what they lack. Ripples of rounding are none.
    """
    padded = np.pad(coarse, ((0, 0), (1, 1)), constant_values=-np.inf)
    above = coarse - np.maximum(padded[:, :-2], padded[:, 2:]) > _RIPPLE
    above[np.arange(len(coarse)), coarse.argmax(axis=1)] = True
    column, place = np.nonzero(above & (coarse >= coarse.max(axis=1, keepdims=True) - _CUT))

    def at(logarithm: np.ndarray) -> np.ndarray:
        ratio = squares[0] * np.exp(logarithm)
        return _evidence(ratio, squares, explained[:, column], rest[column], count)

    low = _GRID[np.maximum(place - 1, 0)]
    high = _GRID[np.minimum(place + 1, len(_GRID) - 1)]
    for _ in range(_HALVINGS):
        span = _GOLDEN * (high - low)
        rising = at(high - span) < at(low + span)
        low, high = np.where(rising, high - span, low), np.where(rising, high, low + span)
    best: np.ndarray = coarse.max(axis=1)
    np.maximum.at(best, column, at((low + high) / 2.0))
    return best


def _evidence(
    ratio: np.ndarray, squares: np.ndarray, explained: np.ndarray, rest: np.ndarray, count: int
) -> np.ndarray:
    """Log evidence over N (K,) at alpha / beta = ratio and the best beta for it."""
    kept = ratio / (squares[:, None] + ratio)
    noise = ((kept * explained).sum(axis=0) + rest) / count
    return _profile(np.log(kept).sum(axis=0) / count, noise)


def _profile(logs: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Log evidence over N from the mean log of what is kept, and the variance of the noise."""
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
