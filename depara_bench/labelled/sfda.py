"""SFDA: log probability of the labels under a regularised Fisher discriminant, after the features
were mixed with those of other classes where it was unsure (Shao et al., ECCV 2022).
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh

from depara_bench.labelled.labels import class_means, indexed
from depara_bench.labelled.score import Score
from depara_bench.labelled.spectrum import components, spectrum
from depara_bench.similarity.method import State

_RATE = 5.0
_MOST = 10.0 * np.log(10.0)  # a is at least 1e-10
_LEAST_VARIANCE = 1e-12


def classes(state: State, labels: np.ndarray) -> float:
    """Mean log probability of the label of each image, at most 0.

    1. A linear discriminant with within-class covariance (1 - a) S + a tr(S)/F I and the classes'
       shares as priors; a = exp(-5 s), but at least 1e-10, with s the largest eigenvalue of S
       (exact here, three power iterations in the released code).
    2. Each image becomes p x + (1 - p) m: m the mean of the other classes' means, p the softmax
       over classes of its probabilities, for its own class.
    3. The discriminant anew, with the same a, on these. (The released code averages probabilities
       in place of their logarithms.)

    The scale of the features matters through a, as published. Variances count as at least 1e-12 of
    the mean variance of a feature, so that classes without any spread have a value. Features that
    do not vary give minus the entropy of the labels.
    """
    rows = components(state)
    index, sizes = indexed(labels, len(rows))
    count, width = len(rows), float(state["width"])
    least = _LEAST_VARIANCE * float((state["values"] ** 2).sum()) / count / width
    within, directions = _within(rows, index)
    strength = float(np.exp(-min(_RATE * within.max(initial=0.0), _MOST)))
    logs = _log_posteriors(rows, index, (within, directions), strength, width, least)
    with np.errstate(under="ignore"):
        soft = np.exp(_log_softmax(np.exp(logs)))
    sure = soft[np.arange(count), index][:, None]
    means = class_means(rows, index)
    others = (means.sum(axis=0) - means) / (len(sizes) - 1)
    mixed = sure * rows + (1.0 - sure) * others[index]
    logs = _log_posteriors(mixed, index, _within(mixed, index), strength, width, least)
    return float(logs[np.arange(count), index].mean())


def _within(rows: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues (r,) and eigenvectors (r, r) of the within-class covariance of rows (N, r)."""
    if not rows.shape[1]:
        return np.zeros(0), np.zeros((0, 0))
    residuals = rows - class_means(rows, index)[index]
    values, vectors = eigh(np.dot(residuals.T, residuals) / len(rows))
    return np.maximum(values, 0.0), vectors


def _log_posteriors(
    rows: np.ndarray,
    index: np.ndarray,
    within: tuple[np.ndarray, np.ndarray],
    strength: float,
    width: float,
    least: float,
) -> np.ndarray:
    """Log probabilities (N, C) of the classes of rows (N, r) under the linear discriminant."""
    values, directions = within
    variance = (1.0 - strength) * values + strength * values.sum() / width
    white = np.dot(rows, directions) / np.sqrt(np.maximum(variance, least))
    means = class_means(white, index)
    priors = np.log(np.bincount(index) / len(index))
    return _log_softmax(np.dot(white, means.T) - 0.5 * (means**2).sum(axis=1) + priors)


def _log_softmax(scores: np.ndarray) -> np.ndarray:
    top = scores.argmax(axis=1)[:, None]
    shifted = scores - np.take_along_axis(scores, top, axis=1)
    with np.errstate(under="ignore"):
        others = np.exp(shifted)
        # Without the 1 of the top class, what is left of a probability near 1 does not round away.
        np.put_along_axis(others, top, 0.0, axis=1)
        logs: np.ndarray = shifted - np.log1p(others.sum(axis=1, keepdims=True))
    return logs


SCORE = Score(
    "sfda",
    "self-challenging Fisher discriminant (Shao et al., ECCV 2022)",
    ("labels",),
    spectrum,
    classes,
)
