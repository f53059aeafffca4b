"""H-score: how much of the features' variance lies between classes, each direction counted alike
(Bao et al., ICIP 2019), and its shrunk form (Ibrahim et al., 2021).
"""

from __future__ import annotations

import numpy as np

from depara_bench.labelled.labels import class_sums, indexed
from depara_bench.labelled.score import Score
from depara_bench.labelled.spectrum import components, spectrum
from depara_bench.similarity.method import State


def plain(state: State, labels: np.ndarray) -> float:
    """tr(cov(f)^+ cov(E[f|y])), in [0, C - 1]; 0 for features that do not vary.

    With as many features as images or more it is C - 1, whatever the labels: use the shrunk form.
    """
    return _between(state["left"], labels)


def shrunk(state: State, labels: np.ndarray) -> float:
    """(1 - a) tr(cov_a(f)^-1 cov(E[f|y])), cov_a the Ledoit-Wolf covariance with shrinkage a.

    Covariances divide by N, as Ledoit and Wolf's does. 0 for features that do not vary.
    """
    count, squares = len(state["left"]), state["values"] ** 2
    if not len(squares):
        indexed(labels, count)
        return 0.0
    intensity = shrinkage(state)
    variance = squares / count
    mean = squares.sum() / count / float(state["width"])
    weight = (1.0 - intensity) * variance / ((1.0 - intensity) * variance + intensity * mean)
    return _between(state["left"] * np.sqrt(weight), labels)


def shrinkage(state: State) -> float:
    """Shrinkage of Ledoit and Wolf (2004) towards a multiple of the identity, in [0, 1].

    0 where the covariance is that multiple already, since nothing is left to shrink.
    """
    count, squares, width = len(state["left"]), state["values"] ** 2, float(state["width"])
    variance = squares / count
    size = (variance**2).sum()
    distance = size - variance.sum() ** 2 / width
    if distance <= 1e-14 * size:
        return 0.0
    lengths = (components(state) ** 2).sum(axis=1)
    spread = ((lengths**2).mean() - size) / count
    return float(np.clip(spread / distance, 0.0, 1.0))


def _between(rows: np.ndarray, labels: np.ndarray) -> float:
    """Sum over classes of their size times the squared length of their mean of rows (N, r)."""
    index, sizes = indexed(labels, len(rows))
    return float(((class_sums(rows, index) ** 2).sum(axis=1) / sizes).sum())


PLAIN = Score(
    "h-score",
    "between-class variance of whitened features (Bao et al., ICIP 2019)",
    ("labels",),
    spectrum,
    plain,
)
SHRUNK = Score(
    "h-score-shrunk",
    "H-score with Ledoit-Wolf covariance (Ibrahim et al., 2021)",
    ("labels",),
    spectrum,
    shrunk,
)
