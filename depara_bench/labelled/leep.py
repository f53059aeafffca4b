"""LEEP: log likelihood of the labels under the source's own class probabilities and the empirical
probability of a label given a source class (Nguyen et al., ICML 2020).
"""

from __future__ import annotations

import numpy as np

from depara_bench.errors import InputError
from depara_bench.labelled.labels import class_sums, indexed
from depara_bench.labelled.score import Score
from depara_bench.similarity.method import State


def prepare(probabilities: np.ndarray) -> State:
    """probabilities (N, Z) of the source's classes, float64.

    Raises InputError unless rows are finite, not negative, and sum to 1 (within 1e-3).
    """
    values = probabilities.astype(np.float64)
    if values.ndim != 2 or len(values) < 3 or values.shape[1] < 1:
        raise InputError(
            f"source probabilities have shape {values.shape}; give at least three images, one row "
            "of class probabilities each"
        )
    if not (np.isfinite(values).all() and (values >= 0.0).all()) or (
        np.abs(values.sum(axis=1) - 1.0).max() > 1e-3
    ):
        raise InputError(
            "source probabilities are not finite, are negative or do not sum to 1 for each image; "
            "give the softmax of the source's outputs"
        )
    return {"probabilities": values}


def classes(state: State, labels: np.ndarray) -> float:
    """Mean over images of log sum_z P(y|z) theta_z, at most 0; finite for all valid probabilities.

    P(y, z) is the mean of theta_z over all images, counted for the images of label y. A source
    class of probability 0 for all images plays no part.
    """
    return likelihood(state["probabilities"], labels)


def likelihood(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """LEEP of probabilities (N, Z) float64 and labels (N,) int."""
    index, _ = indexed(labels, len(probabilities))
    with np.errstate(under="ignore"):  # a probability too small to write down is 0
        joint = class_sums(probabilities, index)
        marginal = joint.sum(axis=0)
        used = marginal > 0.0
        conditional = joint[:, used] / marginal[used]
        found = (conditional[index] * probabilities[:, used]).sum(axis=1)
    return float(np.log(found).mean())


SCORE = Score(
    "leep",
    "log expected empirical prediction (Nguyen et al., ICML 2020)",
    ("labels", "source probabilities"),
    prepare,
    classes,
)
