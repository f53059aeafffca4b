"""Principal components of a source's features, the start of most scores.

With F features and N images all that scores know of the features, up to a rotation, is in the
r <= min(N, F) components that vary; they are found once per source.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import svd

from depara_bench.errors import InputError
from depara_bench.similarity.method import State


def spectrum(features: np.ndarray) -> State:
    """Singular value decomposition of the centred features (N, F).

    left (N, r) float64: orthonormal columns. values (r,) float64: singular values, falling.
    width (): F. r is 0 for features that do not vary. Signs: the largest loading of each component
    is positive.
    """
    rows = checked(features)
    return _decomposed(rows - rows.mean(axis=0), float(np.linalg.norm(rows)))


def uncentred(features: np.ndarray) -> State:
    """`spectrum` without centring: what models without an intercept see."""
    rows = checked(features)
    return _decomposed(rows, float(np.linalg.norm(rows)))


def checked(features: np.ndarray) -> np.ndarray:
    """Features (N, F) as float64. InputError for another shape, N < 3, or values not finite."""
    if features.ndim != 2 or len(features) < 3 or features.shape[1] < 1:
        raise InputError(
            f"features have shape {features.shape}; give at least three images, one row each"
        )
    rows = features.astype(np.float64)
    if not np.isfinite(rows).all():
        raise InputError("features hold values that are not finite; mend the model or its input")
    return rows


def components(state: State, most: int | None = None) -> np.ndarray:
    """The first `most` principal components (N, <= most) of a `spectrum`; all by default."""
    scores: np.ndarray = state["left"][:, :most] * state["values"][:most]
    return scores


def _decomposed(rows: np.ndarray, size: float) -> State:
    left, values, right = svd(rows, full_matrices=False)
    # Measured against the rows before centring: what rounding leaves of a constant is no component.
    rank = int((values > max(rows.shape) * np.finfo(np.float64).eps * size).sum())
    left, values, right = left[:, :rank], values[:rank], right[:rank]
    largest = np.abs(right).argmax(axis=1)
    left = left * np.sign(right[np.arange(rank), largest])
    return {"left": left, "values": values, "width": np.array(rows.shape[1])}
