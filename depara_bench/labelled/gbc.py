"""GBC: minus the summed Bhattacharyya coefficients of Gaussians fitted to the classes
(Pandy et al., CVPR 2022), after reduction to 64 principal components.
"""

from __future__ import annotations

import numpy as np

from depara_bench.labelled.labels import class_means, indexed
from depara_bench.labelled.score import Score
from depara_bench.labelled.spectrum import components, spectrum
from depara_bench.similarity.method import State

_COMPONENTS = 64
_FLOOR = 1e-4  # of a variance, as published; it also serves classes of one image


def spherical(state: State, labels: np.ndarray) -> float:
    """GBC with one variance per class, the mean of its variances over the d components.

    Between -C(C - 1), where all classes coincide (as do those of features that do not vary), and 0.
    Each pair of classes is counted in both orders. The distance is the true one of spherical
    Gaussians: the released code leaves out the factor d of its logarithm. Variances are at least
    1e-4, so the scale of the features matters, as published.
    """
    return _coefficients(*_gaussians(state, labels, one_variance=True))


def diagonal(state: State, labels: np.ndarray) -> float:
    """GBC with a variance per class and component; otherwise as `spherical`."""
    return _coefficients(*_gaussians(state, labels, one_variance=False))


def _gaussians(
    state: State, labels: np.ndarray, *, one_variance: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Means and variances (C, d) of the classes."""
    rows = components(state, _COMPONENTS)
    index, _ = indexed(labels, len(rows))
    means = class_means(rows, index)
    variances = np.maximum(class_means((rows - means[index]) ** 2, index), _FLOOR)
    if one_variance and rows.shape[1]:
        variances = np.repeat(variances.mean(axis=1, keepdims=True), rows.shape[1], axis=1)
    return means, variances


def _coefficients(means: np.ndarray, variances: np.ndarray) -> float:
    """Minus the sum over ordered pairs of classes of exp(-Bhattacharyya distance)."""
    total = 0.0
    logs = np.log(variances).sum(axis=1)
    for c in range(len(means) - 1):
        middle = (variances[c] + variances[c + 1 :]) / 2
        apart = ((means[c] - means[c + 1 :]) ** 2 / middle).sum(axis=1) / 8
        wider = np.log(middle).sum(axis=1) - (logs[c] + logs[c + 1 :]) / 2
        with np.errstate(under="ignore"):  # classes far apart share nothing
            total += float(np.exp(-apart - wider / 2).sum())
    return -2.0 * total


SPHERICAL = Score(
    "gbc",
    "Bhattacharyya overlap of spherical class Gaussians, PCA-64 (Pandy et al., CVPR 2022)",
    ("labels",),
    spectrum,
    spherical,
)
DIAGONAL = Score(
    "gbc-diagonal",
    "Bhattacharyya overlap of diagonal class Gaussians, PCA-64 (Pandy et al., CVPR 2022)",
    ("labels",),
    spectrum,
    diagonal,
)
