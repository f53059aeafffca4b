"""Canonical correlations of two models' features, averaged: SVCCA (Raghu et al., NeurIPS 2017) and
PWCCA (Morcos et al., NeurIPS 2018).

Both first reduce each model to its leading principal components with 99 % of the variance over the
images: an orthonormal basis (N, k), made once. The canonical correlations of two models are the
singular values of the product of their bases. They say little when k is near N: two bases of
k >= N - 1 span everything that N centred images can span, and every correlation is 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.linalg import svd, svdvals

from depara_bench.similarity.gram import gram
from depara_bench.similarity.kernels import inner
from depara_bench.similarity.method import Method, State

_KEPT = 0.99
_COMMON = 1 - 1e-10  # a correlation above is 1 but for rounding


def basis(features: np.ndarray) -> np.ndarray:
    """Orthonormal basis (N, k) float64 of the fewest principal components of features (N, F),
    centred over the N images, with 99 % of their variance; k = 0 where all images are alike.
    """
    values, vectors = np.linalg.eigh(inner(gram(features)))
    kept = np.cumsum(values[::-1].clip(0.0))
    if kept[-1] == 0.0:
        return np.zeros((len(vectors), 0))
    # A share that is 99 % on paper is enough, whatever its rounding.
    count = int(np.searchsorted(kept, _KEPT * (1 - 1e-12) * kept[-1])) + 1
    found: np.ndarray = np.ascontiguousarray(vectors[:, : -count - 1 : -1])
    return found


def svcca_state(features: np.ndarray) -> State:
    """State of features (N, F): "basis" (N, k) float64, see `basis`."""
    return {"basis": basis(features)}


def svcca_pairs(targets: Sequence[State], sources: Sequence[State]) -> np.ndarray:
    """Mean canonical correlation (T, S) float64, over min(k_t, k_s); 0 if either k is 0."""
    found = np.zeros((len(targets), len(sources)))
    for row, target in enumerate(targets):
        for column, source in enumerate(sources):
            product = np.dot(target["basis"].T, source["basis"])
            if product.size:
                found[row, column] = svdvals(product).mean()
    return found.clip(0.0, 1.0)


def pwcca_state(features: np.ndarray) -> State:
    """State of features (N, F): "basis" (N, k) float64, and "loadings" (k, F), the products of its
    vectors and the features centred over the images.
    """
    rows = np.asarray(features, dtype=np.float64)
    vectors = basis(features)
    return {"basis": vectors, "loadings": np.dot(vectors.T, rows - rows.mean(axis=0))}


def pwcca_pairs(targets: Sequence[State], sources: Sequence[State]) -> np.ndarray:
    """Weighted mean (T, S) float64 of the canonical correlations; 0 if either k is 0.

    The weights are the source's, so that the score has a direction: of canonical variate h_i, in
    the span of the source's basis, sum_j |<h_i, x_j>| over the F centred features x_j of the
    source (Morcos et al., sec. 3). Any rotation of variates of equal correlation will do as well,
    with other weights. Where bases have directions in common, as they must if k_t + k_s >= N,
    their variates are the principal directions of the source's features among these.
    """
    found = np.zeros((len(targets), len(sources)))
    for row, target in enumerate(targets):
        for column, source in enumerate(sources):
            product = np.dot(source["basis"].T, target["basis"])
            if product.size:
                variates, correlations, _ = svd(product, full_matrices=False)
                loadings = np.dot(variates.T, source["loadings"])
                common = correlations > _COMMON
                _, turn = np.linalg.eigh(np.dot(loadings[common], loadings[common].T))
                loadings[common] = np.dot(turn.T, loadings[common])
                weights = np.abs(loadings).sum(axis=1)
                found[row, column] = weights @ correlations / weights.sum()
    return found.clip(0.0, 1.0)


SVCCA = Method(
    "svcca",
    "mean canonical correlation of components with 99 % of variance (Raghu et al., NeurIPS 2017)",
    svcca_state,
    svcca_pairs,
)
PWCCA = Method(
    "pwcca",
    "canonical correlations weighted by the source's features (Morcos et al., NeurIPS 2018)",
    pwcca_state,
    pwcca_pairs,
    symmetric=False,
)
