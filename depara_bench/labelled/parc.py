"""PARC: Spearman correlation of image distances in feature space and in label space, a distance
being 1 - Pearson (Bolya et al., NeurIPS 2021).
"""

from __future__ import annotations

import numpy as np

from depara_bench.labelled.labels import indexed
from depara_bench.labelled.score import Score
from depara_bench.labelled.spectrum import checked, components, spectrum
from depara_bench.similarity.edges import unit_ranks
from depara_bench.similarity.gram import gram, pearsons
from depara_bench.similarity.method import State

_COMPONENTS = 32


def prepare(features: np.ndarray) -> State:
    """Ranked Pearson similarities of z-scored features (N, F): unit (N(N-1)/2,), images ()."""
    return _ranked(checked(features))


def prepare_reduced(features: np.ndarray) -> State:
    """`prepare` of the first 32 principal components, or of all where fewer vary.

    The sign of a component, which the similarities depend on, is that of `spectrum`; so a rotation
    of the features may change this score.
    """
    return _ranked(components(spectrum(features), _COMPONENTS))


def classes(state: State, labels: np.ndarray) -> float:
    """Spearman correlation with average ranks, in [-1, 1] (published tables print 100 times it).

    Distances of one-hot labels have two values, one for images of a class and one for the rest.
    0 where all distances tie: features that do not vary, a single feature or component, or labels
    of which no two are equal.
    """
    index, _ = indexed(labels, int(state["images"]))
    same = (index[:, None] == index)[np.triu_indices(len(index), 1)]
    # Correlating similarities is correlating distances: the ranks of both are turned round.
    return float(np.clip(np.dot(state["unit"], unit_ranks(same.astype(np.float64))), -1.0, 1.0))


def _ranked(rows: np.ndarray) -> State:
    images = np.array(len(rows))
    if not rows.shape[1]:
        return {"unit": np.zeros(len(rows) * (len(rows) - 1) // 2), "images": images}
    similarities, _ = pearsons(gram(_standard(rows), center=False))
    return {"unit": unit_ranks(similarities), "images": images}


def _standard(rows: np.ndarray) -> np.ndarray:
    """Rows (N, F) with each column of mean 0 and variance 1; a constant column is 0."""
    centred = rows - rows.mean(axis=0)
    deviation = np.sqrt((centred**2).mean(axis=0))
    constant = deviation <= 1e-13 * np.abs(rows).max(axis=0)
    return np.where(constant, 0.0, centred) / np.where(constant, 1.0, deviation)


SCORE = Score(
    "parc",
    "Spearman of distances of features (PCA-32) and labels (Bolya et al., NeurIPS 2021)",
    ("labels",),
    prepare_reduced,
    classes,
)
RAW = Score(
    "parc-raw",
    "PARC without PCA (Bolya et al., NeurIPS 2021)",
    ("labels",),
    prepare,
    classes,
)
