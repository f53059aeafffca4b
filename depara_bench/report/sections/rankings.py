"""The full ranking of every target."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from depara_bench.report.data import FIRST, ReportData
from depara_bench.report.render import both
from depara_bench.report.section import Section

COLUMNS = 6
"""Most methods that stand beside the primary one in a table."""


@dataclass(frozen=True)
class Row:
    """A source of a target. interval: (low, high) where bootstrapped; beside: value and rank under
    each of the other methods, None where that has no such pair.
    """

    rank: int
    source: str
    value: float
    share: float
    interval: tuple[float, float] | None
    beside: list[tuple[float, int] | None]


def rankings(data: ReportData) -> Section:
    """A table per target; of a large run only the first targets and ranks."""
    others = [m for m in data.methods if m != data.primary]
    tables = ranking_tables(data, others[:COLUMNS])
    html, markdown = both(
        "rankings",
        primary=data.primary,
        others=others[:COLUMNS],
        left_out=others[COLUMNS:],
        tables=tables,
        hidden=len(data.targets) - len(data.shown_targets),
        limited=FIRST if data.large and len(data.sources) > FIRST else None,
        intervals=any(row.interval for _, rows in tables for row in rows),
    )
    return Section("rankings", "Full rankings", html, markdown)


def ranking_tables(data: ReportData, others: list[str]) -> list[tuple[str, list[Row]]]:
    """By target, in the order of the zoo, its ranking under the primary method."""
    matrix, ranking = data.matrix(data.primary), data.ranking(data.primary)
    intervals = _intervals(data)
    beside = {method: _by_source(data.ranking(method), data.shown_targets) for method in others}
    tables = []
    for target in data.shown_targets:
        found = ranking.get(target, data.rankings.head(0))
        rows: list[Row] = []
        for rank, source, value in zip(found["rank"], found["source"], found["value"], strict=True):
            if data.large and len(rows) == FIRST:
                break
            key = (target, str(source))
            extra = [beside[method].get(key) for method in others]
            share = matrix.share(float(value))
            rows.append(Row(int(rank), key[1], float(value), share, intervals.get(key), extra))
        tables.append((target, rows))
    return tables


def _by_source(
    ranking: dict[str, pd.DataFrame], targets: tuple[str, ...]
) -> dict[tuple[str, str], tuple[float, int]]:
    return {
        (target, str(source)): (float(value), int(rank))
        for target in targets
        if (table := ranking.get(target)) is not None
        for source, value, rank in zip(table["source"], table["value"], table["rank"], strict=True)
    }


def _intervals(data: ReportData) -> dict[tuple[str, str], tuple[float, float]]:
    table = data.affinity[data.affinity["method"] == data.primary]
    if not {"low", "high"} <= set(table.columns):
        return {}
    table = table[table["target"].isin(data.shown_targets)].dropna(subset=["low", "high"])
    columns = (table[name] for name in ("target", "source", "low", "high"))
    return {(str(t), str(s)): (float(a), float(b)) for t, s, a, b in zip(*columns, strict=True)}
