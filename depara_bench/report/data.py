"""What a report is made of, and the orders and matrices that several sections share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from depara_bench.report.matrix import Matrix, to_matrix
from depara_bench.report.sketch import same
from depara_bench.report.tree import NoTree, Tree, grow

LARGE = 60
"""With more models than this, names no longer fit a figure and full tables no longer fit a page."""

FIRST = 20
"""Targets, and sources of each, that the tables of a large run are limited to."""


@dataclass(frozen=True)
class ReportData:
    """record: run.json, of which nothing but name and status is sure to be there. The tables are
    contracts C3, C4 and C5; evaluation is None until there is one. comparison: the other tables
    of an evaluation, by name; about: what `compare` noted of it. published: the papers' hit counts.
    """

    record: Mapping[str, Any]
    affinity: pd.DataFrame
    rankings: pd.DataFrame
    evaluation: pd.DataFrame | None = None
    comparison: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    published: pd.DataFrame | None = None

    def get(self, *keys: str, default: Any = None) -> Any:
        """A field of the record by its path; `default` where any part is absent or null."""
        value: Any = self.record
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return default if value is None else value

    def records(self, *keys: str) -> list[Mapping[str, Any]]:
        """A field that is a list of objects; empty where it is absent."""
        found = self.get(*keys, default=[])
        return [x for x in found if isinstance(x, Mapping)] if isinstance(found, list) else []

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """All methods of the affinity table, in its order."""
        return tuple(str(x) for x in self.affinity["method"].unique())

    @property
    def primary(self) -> str:
        """The method that the report leads with: `depara`, or the first where that is not there."""
        return "depara" if "depara" in self.methods or not self.methods else self.methods[0]

    @property
    def main_methods(self) -> tuple[str, ...]:
        """The methods that are drawn."""
        main = ("depara", "depara-nodes", "depara-edges")
        return tuple(m for m in main if m in self.methods) or (self.primary,)

    @cached_property
    def targets(self) -> tuple[str, ...]:
        """Targets in the order of the zoo."""
        return self._zoo_order(self.affinity["target"].unique())

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """Sources in the order of the zoo."""
        return self._zoo_order(self.affinity["source"].unique())

    @cached_property
    def large(self) -> bool:
        """Whether tables and labels are limited."""
        return len(set(self.targets) | set(self.sources)) > LARGE

    @cached_property
    def stale(self) -> bool:
        """Whether the evaluation is of other affinities than those of the run."""
        return not same(self.about.get("affinity"), self.affinity)

    @property
    def judged(self) -> int:
        """How many targets were judged: those that the truth has."""
        return int(self.about.get("targets") or len(self.targets))

    @property
    def shown_targets(self) -> tuple[str, ...]:
        """Targets that tables show."""
        return self.targets[:FIRST] if self.large else self.targets

    @cached_property
    def tree(self) -> Tree | NoTree:
        """The task similarity tree of the primary method."""
        return grow(self.matrix(self.primary))

    def matrix(self, method: str) -> Matrix:
        """Affinities of one method, in the order of the zoo."""
        return to_matrix(self.affinity, method, self.targets, self.sources)

    @cached_property
    def drawn_order(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows (T,) and columns (S,) of the matrices as they are drawn, by index: targets as in the
        tree, so that like stands by like; then models that are sources only, by falling mean.
        """
        rows = np.arange(len(self.targets)) if isinstance(self.tree, NoTree) else self.tree.leaves
        place = {self.targets[row]: position for position, row in enumerate(rows)}
        means = np.nan_to_num(self.matrix(self.primary).values).sum(axis=0)
        columns = sorted(
            range(len(self.sources)),
            key=lambda c: (place.get(self.sources[c], len(rows)), -means[c], c),
        )
        return rows, np.array(columns, dtype=int)

    def ranking(self, method: str) -> dict[str, pd.DataFrame]:
        """By target, the rows of the rankings table of one method, best first."""
        table = self.rankings[self.rankings["method"] == method].sort_values("rank", kind="stable")
        return {str(target): rows for target, rows in table.groupby("target", sort=False)}

    def _zoo_order(self, names: Iterable[Any]) -> tuple[str, ...]:
        # Names that the record does not know, or all of them where it has no zoo, keep their order.
        models = self.records("zoo", "models")
        place = {model.get("name"): index for index, model in enumerate(models)}
        return tuple(sorted((str(n) for n in names), key=lambda n: place.get(n, len(place))))
