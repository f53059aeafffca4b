"""One method's affinities as a matrix."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Matrix:
    """values (T, S) float64, row = target, column = source, self pairs included; NaN where the
    table has no such pair.
    """

    targets: tuple[str, ...]
    sources: tuple[str, ...]
    values: np.ndarray

    @cached_property
    def self_cells(self) -> np.ndarray:
        """(T, S) bool: where source and target are one model."""
        targets = np.array(self.targets, dtype=object)[:, None]
        return np.asarray(targets == np.array(self.sources, dtype=object)[None, :])

    @cached_property
    def others(self) -> np.ndarray:
        """(T, S) float64: the values, NaN in self cells."""
        return np.where(self.self_cells, np.nan, self.values)

    @cached_property
    def limits(self) -> tuple[float, float]:
        """Lowest and highest value of all pairs that are not self; (0, 1) when there is none."""
        found = self.others[np.isfinite(self.others)]
        return (float(found.min()), float(found.max())) if len(found) else (0.0, 1.0)

    def share(self, value: float) -> float:
        """Where a value lies between the limits: 0 = lowest, 1 = highest; 1 when all are equal."""
        low, high = self.limits
        return min(max((value - low) / (high - low), 0.0), 1.0) if high > low else 1.0

    def take(self, rows: np.ndarray, columns: np.ndarray) -> Matrix:
        """Some targets (by index) against some sources, in the order given."""
        return Matrix(
            tuple(self.targets[i] for i in rows),
            tuple(self.sources[i] for i in columns),
            self.values[np.ix_(rows, columns)],
        )


def to_matrix(
    affinity: pd.DataFrame, method: str, targets: tuple[str, ...], sources: tuple[str, ...]
) -> Matrix:
    """Long form (contract C3) to the matrix of one method, with the given rows and columns."""
    table = affinity[affinity["method"] == method]
    rows = pd.Index(targets).get_indexer(pd.Index(table["target"]))
    columns = pd.Index(sources).get_indexer(pd.Index(table["source"]))
    values = np.full((len(targets), len(sources)), np.nan)
    known = (rows >= 0) & (columns >= 0)
    values[rows[known], columns[known]] = table["value"].to_numpy(np.float64)[known]
    return Matrix(targets, sources, values)
