"""How much of a target model's features a ridge regression from a source's explains on held-out
images: a score with a direction, without labels.

Regression in the dual form is a smoother of the images that the source alone decides: its held-out
residuals of any target Y are E Y, for an E (N, N) of the source. The sum of their squares is that
of the products of E^T E and Y Y^T, so that all pairs of models are one matrix product.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from depara_bench.similarity.gram import gram
from depara_bench.similarity.kernels import inner
from depara_bench.similarity.method import Method, State

_FOLDS = 5
# Of the mean squared length of an image's centred features. It decides how much is explained, and
# little of the order: of 0.001 to 1, 0.3 is best or next to it for synthetic models with few, many
# and unequal latent factors.
_PENALTY = 0.3


def ridge_state(features: np.ndarray) -> State:
    """What a model is as a target and as a source, from features (N, F), N >= 2.

    "gram" (N*N,) float64: inner products of the centred features, divided by the squared held-out
    error of their mean, so that the product with a source's "loss" is the share not explained.
    Zeros where all images are alike.
    "loss" (N*N,): E^T E of the held-out residuals E.
    """
    products = inner(gram(features))
    count = len(products)
    mean = np.full((count, count), 1.0 / count)
    constant = _loss(mean)
    total = float(np.vdot(products, constant))
    if total == 0.0:
        return {"gram": np.zeros(count**2), "loss": constant.ravel()}
    penalty = _PENALTY * np.trace(products) / count
    smoother = np.linalg.solve(products + penalty * np.eye(count), products)
    return {"gram": products.ravel() / total, "loss": _loss(mean + smoother).ravel()}


def ridge_pairs(targets: Sequence[State], sources: Sequence[State]) -> np.ndarray:
    """Held-out R^2 (T, S) float64 of all of the target's features, weighted by their variance.

    1 - (squared error of the regression) / (squared error of the mean of the other images). It
    may be negative, and a model need not explain itself best. 0 for a target whose images are all
    alike, which leaves nothing to explain, and for such a source.
    """
    grams, losses = (
        np.stack([state[name] for state in side])
        for name, side in (("gram", targets), ("loss", sources))
    )
    left: np.ndarray = np.dot(grams, losses.T)
    return np.where(np.any(grams, axis=1, keepdims=True), 1.0 - left, 0.0)


def _loss(smoother: np.ndarray) -> np.ndarray:
    """E^T E (N, N) of the residuals E Y when each fold is predicted from the others.

    smoother (N, N): of the fit to all images, by least squares with an intercept and a fixed
    penalty. The residuals of a fold that is left out follow from it without another fit: they are
    (1 - H_ff)^-1 times those of the fit to all.
    """
    count = len(smoother)
    residual = np.eye(count) - smoother
    for fold in np.array_split(np.random.default_rng(0).permutation(count), min(_FOLDS, count)):
        residual[fold] = np.linalg.solve(residual[np.ix_(fold, fold)], residual[fold])
    found: np.ndarray = np.dot(residual.T, residual)
    return found


RIDGE = Method(
    "ridge-r2",
    "held-out R^2 of the target's features by ridge regression from the source's, 5 folds",
    ridge_state,
    ridge_pairs,
    symmetric=False,
)
