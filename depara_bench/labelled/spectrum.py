"""Principal components of a source's features, the start of most scores.

With F features and N images all that scores know of the features, up to a rotation, is in the
r <= min(N, F) components that vary; they are found once per source.
"""

from __future__ import annotations

from typing import Any

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
    return _decomposed(rows - rows.mean(axis=0), _smallest(rows, features.dtype))


def uncentred(features: np.ndarray) -> State:
    """`spectrum` without centring: what models without an intercept see."""
    rows = checked(features)
    return _decomposed(rows, _smallest(rows, features.dtype))


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


def _smallest(rows: np.ndarray, given: np.dtype[Any]) -> float:
    """The singular value below which a component is rounding, not feature.

    Independent errors of a few units in the last place of the `given` type, in every value, have a
    largest singular value of that times sqrt(N) + sqrt(F), in the size of a value; the work in
    float64 adds its own. Measured before centring: what rounding leaves of a constant is none.
    """
    units = 4 * np.finfo(given if given.kind == "f" else np.float64).eps
    errors = units * (1 / np.sqrt(rows.shape)).sum()
    return float(max(errors, max(rows.shape) * np.finfo(np.float64).eps) * np.linalg.norm(rows))


def _decomposed(rows: np.ndarray, smallest: float) -> State:
    left, values, right = svd(rows, full_matrices=False)
    rank = int((values > smallest).sum())
    left, values, right = left[:, :rank], values[:rank], right[:rank]
    largest = np.abs(right).argmax(axis=1)
    left = left * np.sign(right[np.arange(rank), largest])
    return {"left": left, "values": values, "width": np.array(rows.shape[1])}
