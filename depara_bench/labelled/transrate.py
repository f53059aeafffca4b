"""TransRate: coding rate of all features minus the mean coding rate of each class's
(Huang et al., ICML 2022).
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import svdvals

from depara_bench.labelled.labels import indexed
from depara_bench.labelled.score import Score
from depara_bench.labelled.spectrum import components, spectrum
from depara_bench.similarity.method import State

_EPSILON = 1e-4


def classes(state: State, labels: np.ndarray) -> float:
    """R(f) - mean over classes of R(f_c), R(f) = 1/2 log det(I + f'f / (n 1e-4)), n rows of f.

    Features are centred once, over all images; each class counts alike, whatever its size. The
    scale of the features matters, as published. 0 for features that do not vary.
    """
    rows = components(state)
    index, sizes = indexed(labels, len(rows))
    if not rows.shape[1]:
        return 0.0
    each = [_rate(svdvals(rows[index == c]), int(size)) for c, size in enumerate(sizes)]
    return _rate(state["values"], len(rows)) - float(np.mean(each))


def _rate(values: np.ndarray, count: int) -> float:
    """Coding rate of `count` rows of these singular values."""
    return 0.5 * float(np.log1p(values**2 / (count * _EPSILON)).sum())


SCORE = Score(
    "transrate",
    "coding rate gained by knowing the class (Huang et al., ICML 2022)",
    ("labels",),
    spectrum,
    classes,
)
