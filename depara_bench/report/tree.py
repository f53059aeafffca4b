"""The task similarity tree (DEPARA, fig. 4 and S2): which targets want the same sources."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
from scipy.spatial.distance import pdist

from depara_bench.report.matrix import Matrix

ORDERED = 1000
"""Most leaves that are put in optimal order; its cost grows faster than their number squared."""


@dataclass(frozen=True)
class Tree:
    """targets: names of the T rows. joins (T-1, 4) float64: scipy's linkage matrix, rows in
    leaf-ordered orientation. leaves (T,) int: rows in the order they are drawn.
    """

    targets: tuple[str, ...]
    joins: np.ndarray
    leaves: np.ndarray

    @property
    def heights(self) -> np.ndarray:
        """(T-1,) float64: distance at which each join is made, rising."""
        return np.asarray(self.joins[:, 2])

    def members(self) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
        """For each join the targets of its two sides."""
        sets: list[tuple[str, ...]] = [(name,) for name in self.targets]
        sides = []
        for left, right in self.joins[:, :2].astype(int):
            sides.append((sets[left], sets[right]))
            sets.append(sets[left] + sets[right])
        return sides


@dataclass(frozen=True)
class NoTree:
    """Why there is no tree."""

    reason: str


def grow(matrix: Matrix) -> Tree | NoTree:
    """Single linkage on the Euclidean distances between the rows of M / max(M), self included: the
    recipe of the published figures, `linkage(M / M.max(), 'single', 'euclidean')`.
    """
    targets, values = matrix.targets, matrix.values
    if len(targets) < 2:
        return NoTree("There is one target only: nothing to join.")
    if not np.isfinite(values).all():
        missing = int((~np.isfinite(values)).sum())
        return NoTree(f"{missing} of the {values.size} affinities are missing: no distances.")
    top = values.max()
    if top <= 0:
        return NoTree(
            f"The largest affinity, {top:.3g}, is not above zero: the recipe divides by it, and"
            f" would turn the order round."
        )
    rows = values / top
    joins = linkage(rows, "single", "euclidean")
    if len(targets) <= ORDERED:
        joins = optimal_leaf_ordering(joins, pdist(rows, "euclidean"))
    return Tree(targets, joins, leaves_list(joins))
