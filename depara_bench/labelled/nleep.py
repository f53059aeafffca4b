"""N-LEEP: LEEP with the posteriors of a Gaussian mixture of the features in place of the source's
class probabilities (Li et al., CVPR 2021).
"""

from __future__ import annotations

import warnings
from functools import partial

import numpy as np

from depara_bench.errors import InputError
from depara_bench.labelled.labels import indexed
from depara_bench.labelled.leep import likelihood
from depara_bench.labelled.score import Score
from depara_bench.labelled.spectrum import components, spectrum
from depara_bench.similarity.method import State

_ENERGY = 0.8
_PER_CLASS = 5


def classes(state: State, labels: np.ndarray, *, seed: int) -> float:
    """LEEP of mixture posteriors, at most 0.

    The first principal components that hold 80 % of the variance; a mixture of 5 Gaussians per
    class with full covariances, but never more than there are different images; features are scaled
    to a total variance of 1 first, so that their scale is immaterial to the mixture's least
    variance (1e-6). Features that do
    not vary give one Gaussian, and minus the entropy of the labels. The mixture starts from k-means
    with this seed, which draws images by position: another order of images gives another mixture.
    Raises InputError where scikit-learn is missing.
    """
    _, sizes = indexed(labels, len(state["left"]))
    return likelihood(_posteriors(state, _PER_CLASS * len(sizes), seed), labels)


def _posteriors(state: State, gaussians: int, seed: int) -> np.ndarray:
    """Probabilities (N, <= gaussians) float64 of each image to come from each Gaussian."""
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture
    except ImportError as error:
        raise InputError(
            "nleep needs scikit-learn, which is not installed; pip install 'depara-bench[labels]'"
        ) from error
    energy = state["values"] ** 2
    if not len(energy):
        return np.ones((len(state["left"]), 1))
    kept = int(np.searchsorted(np.cumsum(energy), _ENERGY * energy.sum() * (1 - 1e-12))) + 1
    rows = components(state, kept) / np.sqrt(energy.sum() / len(state["left"]))
    rows = rows.round(9)  # the last bits would choose between clusterings
    different = len(np.unique(rows, axis=0))
    mixture = GaussianMixture(min(gaussians, different), random_state=seed)
    with warnings.catch_warnings(), np.errstate(under="ignore"):
        # Posteriors that still move a little after 100 rounds are as good as any.
        warnings.simplefilter("ignore", ConvergenceWarning)
        found: np.ndarray = mixture.fit(rows).predict_proba(rows)
    return found


SCORE = Score(
    "nleep",
    "LEEP of Gaussian mixture posteriors of the features (Li et al., CVPR 2021)",
    ("labels",),
    spectrum,
    partial(classes, seed=0),
)
