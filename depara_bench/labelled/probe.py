"""Linear probe: ridge regression from features to the target, judged on images it did not see.

The errors on held-out images follow exactly from one decomposition of all features: with H the
matrix that maps targets to fitted values, those of a fold f are (I - H_ff)^-1 (y - H y)_f, the same
as if the model and its intercept had been fitted anew without f.
"""

from __future__ import annotations

import numpy as np

from depara_bench.labelled.labels import accuracy, indexed, one_hot, r_squared, varying
from depara_bench.labelled.score import Score
from depara_bench.labelled.spectrum import spectrum
from depara_bench.similarity.method import State

_FOLDS = 5
_STRENGTHS = 10.0 ** np.arange(-4, 5)


def prepare(features: np.ndarray) -> State:
    """`spectrum` of features (N, F), penalties (9,), and holdout (9, 5, n, n).

    Image i is in fold i mod 5 (of N folds where N < 5), of at most n images. The penalties on the
    squared weights are 1e-4 to 1e4 of the mean squared singular value. holdout: (I - H_ff)^-1 of
    each penalty and fold, filled up with zeros.
    """
    found = spectrum(features)
    left, squares = found["left"], found["values"] ** 2
    penalties = _STRENGTHS * (squares.mean() if len(squares) else 1.0)
    folds = _folds(len(left))
    holdout = np.zeros((len(penalties), len(folds), len(folds[0]), len(folds[0])))
    for p, penalty in enumerate(penalties):
        weighted = left * (squares / (squares + penalty))
        for f, fold in enumerate(folds):
            size = len(fold)
            fitted = np.dot(weighted[fold], left[fold].T) + 1.0 / len(left)
            holdout[p, f, :size, :size] = np.linalg.inv(np.eye(size) - fitted)
    return {**found, "penalties": penalties, "holdout": holdout}


def classes(state: State, labels: np.ndarray) -> float:
    """Held-out accuracy, in [0, 1], of the class with the largest of C regressions on 0 and 1.

    The penalty is that of the least held-out squared error. m classes that tie count 1/m each.
    Features that do not vary predict the classes' shares. A class of one image is never found.
    """
    index, _ = indexed(labels, len(state["left"]))
    return accuracy(_predictions(state, one_hot(index)), index)


def regression(state: State, targets: np.ndarray) -> float:
    """Held-out R2, at most 1, mean over columns of targets (N, K) float.

    The penalty, one for all columns, is that of the largest. Columns that do not vary are left out.
    """
    values = varying(targets, len(state["left"]))
    values = (values - values.mean(axis=0)) / values.std(axis=0)
    return r_squared(values, _predictions(state, values))


def _folds(count: int) -> list[np.ndarray]:
    number = min(_FOLDS, count)
    return [np.arange(first, count, number) for first in range(number)]


def _predictions(state: State, targets: np.ndarray) -> np.ndarray:
    """Held-out predictions (N, K) of the penalty of the least squared error of all columns."""
    left, squares = state["left"], state["values"] ** 2
    mean = targets.mean(axis=0)
    weights = np.dot(left.T, targets)
    best, least = targets, np.inf
    for penalty, holdout in zip(state["penalties"], state["holdout"], strict=True):
        kept = (squares / (squares + penalty))[:, None]
        errors = targets - mean - np.dot(left, kept * weights)
        for fold, inverse in zip(_folds(len(left)), holdout, strict=True):
            errors[fold] = np.dot(inverse[: len(fold), : len(fold)], errors[fold])
        total = float((errors**2).sum())
        if total < least:
            best, least = targets - errors, total
    return best


SCORE = Score(
    "linear-probe",
    "held-out accuracy or R2 of ridge regression, 5 folds, penalty by held-out error",
    ("labels",),
    prepare,
    classes,
    regression,
)
