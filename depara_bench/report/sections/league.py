"""The league: every method side by side, what it needs, how well it ranks, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from depara_bench.report.data import ReportData
from depara_bench.report.render import both, number
from depara_bench.report.section import Section
from depara_bench.report.sections.evaluation import BASELINES, few_targets, with_interval

METRICS: dict[tuple[str, int | None], str] = {
    ("p@k", 1): "P@1",
    ("p@k", 5): "P@5",
    ("spearman", None): "Spearman",
    ("weighted_tau", None): "weighted τ",
    ("regret", None): "regret",
}
_LOWER_IS_BETTER = ("regret",)
_FUSION_NEEDS = "features, maps; truth of other targets"


@dataclass(frozen=True)
class Cell:
    """A score in words; best: of the complete methods; tied: cannot be told apart from the best."""

    text: str
    best: bool = False
    tied: bool = False


@dataclass(frozen=True)
class Row:
    """One method. targets: how many it says something of."""

    method: str
    needs: str
    targets: int
    cells: tuple[Cell, ...]
    seconds: str
    memory: str


def league(data: ReportData) -> Section | None:
    """None without an evaluation of these affinities."""
    if data.evaluation is None or data.evaluation.empty or data.stale:
        return None
    table = data.evaluation
    everywhere = table[table["target"].isna()]
    shown = [key for key in METRICS if not _metric(everywhere, *key).empty]
    if not shown:
        return None
    methods = [str(m) for m in table["method"].unique() if m not in BASELINES]
    counts = table[table["target"].notna()].groupby("method")["target"].nunique()
    whole = [m for m in methods if counts.get(m, 0) == data.judged]
    columns = [_cells(data, _metric(everywhere, *key), key, methods, whole) for key in shown]
    rows = [
        Row(
            method,
            _needs(data, method),
            int(counts.get(method, 0)),
            tuple(column[method] for column in columns),
            *_cost(data.get("methods", method, default={})),
        )
        for method in _order(everywhere, methods, whole)
    ]
    baselines = [
        (name, *(_text(_metric(everywhere, *key), name) for key in shown))
        for name in BASELINES
        if (everywhere["method"] == name).any()
    ]
    html, markdown = both(
        "league",
        rows=[row for row in rows if not _folded(row.method)],
        folded=[row for row in rows if _folded(row.method)],
        names=[METRICS[key] for key in shown],
        baselines=baselines,
        targets=data.judged,
        few_targets=few_targets(data),
        truth=str(table["truth"].iloc[0]),
        partial=len(whole) < len(methods),
        fusion=_fusion(data.comparison.get("fusion")),
        abouts=_abouts(data, [row.method for row in rows]),
    )
    return Section("league", "League", html, markdown)


def _folded(method: str) -> bool:
    """Whether it is one of many forms of one method, other than the published best: those of DDS
    that do not z-score.
    """
    return method.startswith("dds-") and not method.endswith("-znorm")


def _metric(everywhere: pd.DataFrame, metric: str, k: int | None) -> pd.DataFrame:
    rows = everywhere[everywhere["metric"] == metric]
    return rows[rows["k"].isna() if k is None else rows["k"] == k].set_index("method")


def _order(everywhere: pd.DataFrame, methods: Sequence[str], whole: Sequence[str]) -> list[str]:
    """Methods that say something of all targets first, each part by falling Spearman."""
    values = _metric(everywhere, "spearman", None)["value"].to_dict()
    return sorted(methods, key=lambda m: (m not in whole, -values.get(m, -np.inf)))


def _cells(
    data: ReportData,
    rows: pd.DataFrame,
    key: tuple[str, int | None],
    methods: Sequence[str],
    whole: Sequence[str],
) -> dict[str, Cell]:
    metric, k = key
    sign = -1.0 if metric in _LOWER_IS_BETTER else 1.0
    values = rows["value"].to_dict()
    known = [m for m in whole if m in values]
    best = max((sign * values[m] for m in known), default=np.nan)
    firsts = [m for m in known if sign * values[m] == best]
    tied = _tied(data.comparison.get("differences"), metric if k is None else f"p@{k}", firsts)
    return {m: Cell(_text(rows, m), m in firsts, m not in firsts and m in tied) for m in methods}


def _tied(table: pd.DataFrame | None, metric: str, firsts: Sequence[str]) -> set[str]:
    """Methods whose difference to (one of) the best has an interval, of all pairs at once, with 0
    in it.
    """
    if table is None or table.empty:
        return set()
    rows = table[table["metric"] == metric]
    rows = rows[rows["sentence"].str.contains("cannot be told apart")]
    one, other = rows["method"].isin(firsts), rows["other"].isin(firsts)
    return {*rows.loc[one, "other"], *rows.loc[other, "method"]}


def _text(rows: pd.DataFrame, method: str) -> str:
    found = rows[rows.index == method]
    return with_interval(None if found.empty else found.iloc[0])


def _needs(data: ReportData, method: str) -> str:
    needs = data.get("methods", method, "needs", default=())
    if needs:
        return ", ".join(str(need) for need in needs)
    return _FUSION_NEEDS if method == "fusion" else "–"


def _cost(found: Any) -> tuple[str, str]:
    """Seconds, and MB of memory, in words."""
    if not isinstance(found, Mapping):
        return "–", "–"
    seconds, peak = found.get("seconds"), found.get("peak_mb")
    return (
        "–" if seconds is None else number(float(seconds)),
        "–" if peak is None else f"{float(peak):,.0f}",
    )


def _fusion(table: pd.DataFrame | None) -> list[tuple[str, str]]:
    """Which methods were fused, and for how many targets."""
    if table is None or table.empty:
        return []
    return [(str(name), str(count)) for name, count in table["methods"].value_counts().items()]


def _abouts(data: ReportData, methods: Sequence[str]) -> list[tuple[str, str]]:
    told = [(m, str(data.get("methods", m, "about", default=""))) for m in methods]
    return [(method, about) for method, about in told if about]
