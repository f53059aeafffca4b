"""Orthogonal Procrustes similarity: how well one model's features lie on another's after the best
rotation (Schonemann, 1966; Ding et al., NeurIPS 2021).

With both centred and scaled to Frobenius norm 1, the squared distance after the best rotation is
d^2 = 2 - 2 |A^T B|_*, and the similarity is 1 - d^2 / 2: the nuclear norm of A^T B, from 0 to 1.
Rotating A changes nothing, so that the factor U sqrt(L) of its Gram matrix stands for it, and
nothing of a pair grows with the number of features.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.linalg import svdvals

from depara_bench.similarity.gram import gram
from depara_bench.similarity.kernels import inner
from depara_bench.similarity.method import Method, State

# Eigenvalues below this share of the largest are what rounding makes of 0.
_ROUNDING = 1e-13


def procrustes_state(features: np.ndarray) -> State:
    """State of features (N, F): "factor" (N, r) float64, r their rank after centring. Its products
    are the Gram matrix at trace 1. r = 0 where all images are alike.
    """
    values, vectors = np.linalg.eigh(inner(gram(features)))
    kept = values > _ROUNDING * values[-1]
    return {"factor": vectors[:, kept] * np.sqrt(values[kept] / values[kept].sum())}


def procrustes_pairs(targets: Sequence[State], sources: Sequence[State]) -> np.ndarray:
    """1 - d^2 / 2 (T, S) float64 for the Procrustes distance d; 0 where all images are alike."""
    found = np.zeros((len(targets), len(sources)))
    for row, target in enumerate(targets):
        for column, source in enumerate(sources):
            product = np.dot(target["factor"].T, source["factor"])
            if product.size:
                found[row, column] = svdvals(product).sum()
    return found.clip(0.0, 1.0)


PROCRUSTES = Method(
    "procrustes",
    "1 - d^2/2 of the orthogonal Procrustes distance (Ding et al., NeurIPS 2021)",
    procrustes_state,
    procrustes_pairs,
)
