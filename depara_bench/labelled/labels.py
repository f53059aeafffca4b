"""The target's side of all scores: labels and targets, checked; sums over classes; votes."""

from __future__ import annotations

import numpy as np

from depara_bench.errors import InputError

_TIE = 1e-9  # votes closer than this are equal: rounding must not pick the winner


def indexed(labels: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels (N,) int as positions (N,) among the C classes that occur, and their sizes (C,).

    Raises InputError unless there are `count` whole-number labels of two classes or more.
    """
    if labels.shape != (count,) or labels.dtype.kind not in "iub":
        raise InputError(
            f"labels are {labels.dtype} of shape {labels.shape}; give one whole number for each of "
            f"the {count} images"
        )
    _, index, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        raise InputError("all images have the same label; give labels of two classes or more")
    return index, sizes


def one_hot(index: np.ndarray) -> np.ndarray:
    """Positions (N,) of C classes as (N, C) float64 zeros and ones."""
    rows: np.ndarray = np.eye(int(index.max()) + 1)[index]
    return rows


def class_sums(values: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Sum of the rows of values (N, r) of each of C classes: (C, r) float64."""
    sums: np.ndarray = np.dot(one_hot(index).T, values)
    return sums


def class_means(values: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Mean of the rows of values (N, r) of each of C classes: (C, r) float64."""
    return class_sums(values, index) / np.bincount(index)[:, None]


def varying(targets: np.ndarray, count: int) -> np.ndarray:
    """Those columns of targets (N, K) that vary, float64: a constant asks nothing of a source.

    Raises InputError for another shape, values that are not finite, or when no column varies.
    """
    if targets.ndim != 2 or len(targets) != count:
        raise InputError(
            f"targets have shape {targets.shape}; give one row for each of the {count} images"
        )
    values = targets.astype(np.float64)
    if not np.isfinite(values).all():
        raise InputError("targets hold values that are not finite; leave those images out")
    columns = np.ptp(values, axis=0) > 1e-12 * np.abs(values).max(axis=0, initial=0.0)
    if not columns.any():
        raise InputError("all targets are constant over the images; give targets that vary")
    return values[:, columns]


def accuracy(votes: np.ndarray, index: np.ndarray) -> float:
    """Share of images whose class has the most of votes (N, C).

    m classes that tie for the most count 1/m each, as a fair draw would have it.
    """
    top = votes >= votes.max(axis=1, keepdims=True) - _TIE
    return float((top[np.arange(len(index)), index] / top.sum(axis=1)).mean())


def r_squared(targets: np.ndarray, predictions: np.ndarray) -> float:
    """1 - squared error / squared deviation from the mean, mean of the columns of (N, K)."""
    errors = ((targets - predictions) ** 2).sum(axis=0)
    spread = ((targets - targets.mean(axis=0)) ** 2).sum(axis=0)
    return float((1.0 - errors / spread).mean())
