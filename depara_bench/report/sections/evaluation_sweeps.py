"""What the scores depend on: lambda, and how many probe images there are."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from depara_bench.report.data import ReportData
from depara_bench.report.figures.canvas import inline
from depara_bench.report.figures.curves import Curve, Scale, curves, span
from depara_bench.report.render import both
from depara_bench.report.section import Section
from depara_bench.report.sections.evaluation import (
    BASELINES,
    colours_of,
    few_targets,
    with_interval,
)

_NAMES = {"p@1": "P@1", "p@5": "P@5", "spearman": "Spearman"}
_CHOICES = {
    "job": "this run's lambda",
    "left-out": "chosen leaving each target out, scored on it",
    "tuned": "chosen on the truth it is scored on: too good",
    "published": "DEPARA's, tuned by its authors on their truth",
}
_PROBES = {0.25: "Taskonomy", 0.03: "COCO", 0.27: "Indoor"}


def evaluation_sweeps(data: ReportData) -> Section | None:
    """None where there is no evaluation that fits, or nothing was swept."""
    if data.evaluation is None or data.stale:
        return None
    weights, counts = (data.comparison.get(name) for name in ("lambda", "probe_count"))
    if weights is None or counts is None or (weights.empty and counts.empty):
        return None
    judged = [str(m) for m in data.evaluation["method"].unique() if m not in BASELINES]
    colours = colours_of(data, judged)
    figures = {**lambda_figures(weights, colours), **count_figures(counts, colours)}
    html, markdown = both(
        "evaluation_sweeps",
        inline={name: inline(svg) for name, svg in figures.items()},
        lambda_figures=[name for name in figures if "lambda" in name],
        count_figures=[name for name in figures if "lambda" not in name],
        few_targets=few_targets(data),
        choices=choice_rows(weights),
        chosen=chosen_rows(weights, data),
        sweep=sweep_rows(weights),
        counts=count_rows(counts),
        names=[_NAMES[m] for m in _NAMES if m in set(weights["metric"]) | set(counts["metric"])],
    )
    return Section("sweeps", "λ, and how many images are enough", html, markdown, figures)


def _shown(table: pd.DataFrame, metrics: tuple[str, ...]) -> list[str]:
    return [metric for metric in metrics if (table["metric"] == metric).any()]


def lambda_figures(table: pd.DataFrame, colours: Mapping[str, str]) -> dict[str, str]:
    """A figure for Spearman and one for P@5: the sweep of each method, chosen lambdas marked."""
    found = {}
    for metric in _shown(table, ("spearman", "p@5")):
        rows = table[(table["metric"] == metric) & table["target"].isna()]
        drawn: list[Curve] = []
        methods = [str(m) for m in rows["method"].unique() if m in colours]
        # Zero has no place on a logarithmic scale: it stands at its left end.
        positive = rows.loc[(rows["choice"] == "sweep") & (rows["lambda"] > 0), "lambda"]
        across = Scale("λ (left end: 0)", float(positive.min()) / 2, float(positive.max()), True)
        for method in reversed(methods):
            colour = colours[method]
            own = rows[rows["method"] == method]
            left_out = own[own["choice"] == "left-out"]
            if len(left_out):
                level = np.full(2, left_out["value"].iloc[0])
                ends = np.array([across.low, across.high])
                drawn.append(Curve(f"{method}, λ by the other targets", ends, level,
                                   colour=colour, width=0.9, dash=(0, (3, 2))))  # fmt: skip
            swept = own[own["choice"] == "sweep"].sort_values("lambda")
            x, y, low, high = (
                swept[c].to_numpy(np.float64) for c in ("lambda", "value", "low", "high")
            )
            drawn.append(Curve(method, x, y, *_band(low, high), colour=colour))
            job = own[own["choice"] == "job"]
            x, y = job["lambda"].to_numpy(np.float64), job["value"].to_numpy(np.float64)
            drawn.append(Curve(f"{method}, this run's λ", x, y, colour=colour, marks=True))
        if drawn:
            name = f"lambda-{metric.replace('@', '')}"
            title = f"{_NAMES[metric]} against lambda"
            found[name] = curves(drawn, across, span(_NAMES[metric], drawn), name, title)
    return found


def count_figures(table: pd.DataFrame, colours: Mapping[str, str]) -> dict[str, str]:
    """A figure for Spearman and one for P@5, with the bands of the draws."""
    found = {}
    for metric in _shown(table, ("spearman", "p@5")):
        rows = table[table["metric"] == metric]
        drawn = []
        for method in [str(m) for m in rows["method"].unique() if m in colours]:
            own = rows[rows["method"] == method].sort_values("images")
            columns = ("images", "value", "low", "high")
            x, y, low, high = (own[column].to_numpy(np.float64) for column in columns)
            drawn.append(Curve(method, x, y, low, high, colour=colours[method], marks=True))
        if not drawn:
            continue
        sizes = tuple(float(size) for size in sorted(rows["images"].unique()))
        low_end = sizes[0] if len(sizes) > 1 else sizes[0] / 2
        across = Scale("probe images", low_end, sizes[-1], log=True, at=_apart(sizes))
        name = f"probe-count-{metric.replace('@', '')}"
        title = f"{_NAMES[metric]} against the number of probe images"
        found[name] = curves(drawn[::-1], across, span(_NAMES[metric], drawn), name, title)
    return found


def _band(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
    """No band where there are too few targets for one."""
    return (low, high) if np.isfinite(low).all() else (None, None)


def _apart(sizes: tuple[float, ...]) -> tuple[float, ...]:
    """Sizes without those whose numbers would touch that of the last."""
    return (*(size for size in sizes[:-1] if size * 1.12 < sizes[-1]), sizes[-1])


def _wide(rows: pd.DataFrame, index: list[str]) -> list[tuple[str, ...]]:
    """A row for each value of the index columns, in their order, and a cell a metric."""
    metrics = _shown(rows, tuple(_NAMES))
    found = []
    for key, part in rows.groupby(index, sort=False, dropna=False):
        cells = {row["metric"]: with_interval(row) for _, row in part.iterrows()}
        found.append((*(_text(k) for k in key), *(cells.get(m, "–") for m in metrics)))
    return found


def _text(value: object) -> str:
    if isinstance(value, float):
        return "–" if np.isnan(value) else f"{value:g}"
    return str(value)


def choice_rows(table: pd.DataFrame) -> list[tuple[str, ...]]:
    """Where a lambda comes from, and what it scores over all targets."""
    rows = table[table["target"].isna() & table["choice"].isin(list(_CHOICES))].copy()
    order = {choice: place for place, choice in enumerate(_CHOICES)}
    names = list(dict.fromkeys(rows["method"]))
    rows["order"] = [
        (names.index(m), order[c]) for m, c in zip(rows["method"], rows["choice"], strict=True)
    ]
    rows = rows.sort_values("order", kind="stable").drop(columns="order")
    found = []
    for method, choice, weight, *cells in _wide(rows, ["method", "choice", "lambda"]):
        source = _CHOICES[choice]
        if choice == "published":
            probe = next((p for w, p in _PROBES.items() if f"{w:g}" == weight), "")
            source = f"{source} ({probe} probe)"
        found.append((method, "one a target" if choice == "left-out" else weight, source, *cells))
    return found


def chosen_rows(table: pd.DataFrame, data: ReportData) -> list[tuple[str, ...]]:
    """By method and target: lambda chosen without it, and its scores with that lambda."""
    rows = table[(table["choice"] == "left-out") & table["target"].isin(data.shown_targets)]
    return _wide(rows, ["method", "target", "lambda"])


def sweep_rows(table: pd.DataFrame) -> list[tuple[str, ...]]:
    """The curve of lambda as a table."""
    return _wide(table[table["choice"] == "sweep"], ["method", "lambda"])


def count_rows(table: pd.DataFrame) -> list[tuple[str, ...]]:
    """The curves of the number of images as a table."""
    rows = table.copy()
    names = list(dict.fromkeys(rows["method"]))
    rows["order"] = [names.index(m) for m in rows["method"]]
    rows = rows.sort_values(["order", "images"], kind="stable").drop(columns="order")
    return _wide(rows, ["method", "images"])
