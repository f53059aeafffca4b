"""The rankings against a truth: scores with intervals, curves, differences, target by target."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from depara_bench.intervals import FEWEST, NO_INTERVAL
from depara_bench.report.data import ReportData
from depara_bench.report.figures.canvas import inline
from depara_bench.report.figures.curves import COLOURS, PAPER_GREY, Curve, Scale, curves
from depara_bench.report.render import both, number
from depara_bench.report.section import Section

BASELINES = ("random", "popularity", "symmetric-ceiling", "self-agreement", "oracle")
DRAWN = 6
"""Most methods that are drawn; all are in the tables."""
BANDS = 3
"""Most methods that are drawn with their bands."""
_DASHES = {
    "random": (0, (1, 2)),
    "popularity": (0, (4, 2)),
    "symmetric-ceiling": (0, (6, 2, 1, 2)),
    "self-agreement": (0, (2, 1)),
    "oracle": (0, (8, 2)),
}
_METRICS = {
    "spearman": "Spearman", "kendall": "Kendall τ", "weighted_tau": "weighted τ",
    "pearson": "Pearson", "regret": "top-1 regret", "relative_top1": "relative top-1",
}  # fmt: skip
_PAPER = "depara-2020"


def evaluation(data: ReportData) -> Section | None:
    """None without an evaluation; a line in its place when it is of other affinities."""
    if data.evaluation is None or data.evaluation.empty:
        return None
    title = "Judged against a truth"
    if data.stale:
        html, markdown = both("evaluation_stale")
        return Section("evaluation", title, html, markdown)
    table = data.evaluation
    everywhere = table[table["target"].isna()]
    names = [str(name) for name in table["method"].unique()]
    methods = [name for name in names if name not in BASELINES]
    ks = sorted(int(k) for k in everywhere["k"].dropna().unique())
    drawn = colours_of(data, methods)
    curved = [name for name in names if name in drawn or name in BASELINES]
    figures = _figures(data, everywhere, methods, ks)
    ties = data.about.get("ties") or {}
    html, markdown = both(
        "evaluation",
        inline={name: inline(svg) for name, svg in figures.items()},
        captions=_CAPTIONS,
        truth=str(table["truth"].iloc[0]),
        origin=str(data.about.get("origin") or ""),
        replicates=data.about.get("replicates"),
        resamples=data.about.get("resamples"),
        few=bool(ks) and ks[-1] <= 5,
        published=data.published is not None,
        headers=score_headers(everywhere, ks),
        scores=[score_row(everywhere, name, ks) for name in names],
        curve_headers=["K", *(f"{what} {name}" for name in curved for what in ("P@K", "R@K"))],
        curve_rows=curve_rows(everywhere, curved, ks),
        paper=paper_rows(data.published, ks),
        target_headers=target_headers(methods[:3], ks),
        targets=target_rows(data, methods[:3], ks),
        hidden=len(data.targets) - len(data.shown_targets),
        differences=difference_rows(data.comparison.get("differences")),
        ties=", ".join(f"{name} {count}" for name, count in ties.items()),
        few_targets=few_targets(data),
        gaps=_capital(str(data.about.get("gaps") or "")),
    )
    return Section("evaluation", title, html, markdown, figures)


def few_targets(data: ReportData) -> str:
    """That there are no intervals, and why; "" where there are."""
    return _capital(NO_INTERVAL) if data.judged < FEWEST else ""


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


_CAPTIONS = {
    "evaluation-precision": "P@K: of the K sources a method puts first, the share that is relevant",
    "evaluation-recall": "R@K: of the relevant sources, the share among the first K",
    "evaluation-pr": "P@K against R@K, K from left to right",
}


def _figures(
    data: ReportData, everywhere: pd.DataFrame, methods: Sequence[str], ks: Sequence[int]
) -> dict[str, str]:
    lines: dict[str, list[Curve]] = {name: [] for name in _CAPTIONS}

    def add(name: str, precision: pd.DataFrame, recall: pd.DataFrame, **style: object) -> None:
        p, r = (part["value"].to_numpy(np.float64) for part in (precision, recall))
        x = np.array(ks, dtype=np.float64)
        for figure, part, y in zip(_CAPTIONS, (precision, recall), (p, r), strict=False):
            band = {}
            if "low" in part.columns and part["low"].notna().all():
                band = {end: part[end].to_numpy(np.float64) for end in ("low", "high")}
            lines[figure].append(Curve(name, x, y, **band, **style))  # type: ignore[arg-type]
        lines["evaluation-pr"].append(Curve(name, r, p, **style))  # type: ignore[arg-type]

    if data.published is not None:
        for method, hits in _published(data.published, ks):
            add(
                f"paper: {method} (Taskonomy zoo)",
                pd.DataFrame({"value": hits / (18.0 * np.array(ks))}),
                pd.DataFrame({"value": hits / 90.0}),
                colour=PAPER_GREY,
                width=0.7,
            )
    for name in BASELINES:
        if (everywhere["method"] == name).any():
            p, r = (_by_k(everywhere, name, m).drop(columns=["low", "high"]) for m in _PR)
            add(name, p, r, colour="#6d6a64", width=1.0, dash=_DASHES[name])
    for place, (name, colour) in reversed(list(enumerate(colours_of(data, methods).items()))):
        p, r = (_by_k(everywhere, name, m) for m in _PR)
        if place >= BANDS:
            p, r = (part.drop(columns=["low", "high"]) for part in (p, r))
        add(name, p, r, colour=colour)
    marked = [k for k in ks if k in (1, ks[-1]) or (k % 5 == 0 and k + 2 < ks[-1])]
    across = Scale("K", 0.0 if len(ks) == 1 else ks[0], ks[-1], at=tuple(marked))
    share = Scale("P@K", 0.0, 1.0)
    axes = ((across, share), (across, Scale("R@K", 0.0, 1.0)), (Scale("R@K", 0.0, 1.0), share))
    return {
        name: curves(lines[name], *pair, name, caption)
        for (name, caption), pair in zip(_CAPTIONS.items(), axes, strict=True)
    }


_PR = ("p@k", "r@k")


def colours_of(data: ReportData, methods: Sequence[str]) -> dict[str, str]:
    """The methods that are drawn, main ones first, each in the colour it has in every figure."""
    main = [m for m in data.main_methods if m in methods]
    order = [*main, *(m for m in methods if m not in main)]
    return dict(zip(order[:DRAWN], COLOURS, strict=False))


def _by_k(rows: pd.DataFrame, method: str, metric: str) -> pd.DataFrame:
    found = rows[(rows["method"] == method) & (rows["metric"] == metric)]
    return found.sort_values("k")[["value", "low", "high"]]


def _published(table: pd.DataFrame, ks: Sequence[int]) -> list[tuple[str, np.ndarray]]:
    """DEPARA's own curves on the Taskonomy probe: hit counts at these K, while they go."""
    rows = table[(table["paper"] == _PAPER) & (table["probe"] == "taskonomy")]
    found = []
    for method, part in rows.groupby("method", sort=False):
        hits = part.set_index("k")["hits"]
        if set(ks) <= set(hits.index):
            found.append((str(method), hits.loc[list(ks)].to_numpy(np.float64)))
    return found


def with_interval(row: pd.Series | None) -> str:
    """As in "0.812 [0.700, 0.911]"; a dash where there is none."""
    if row is None or not np.isfinite(row["value"]):
        return "–"
    bracket = ends(row["low"], row["high"])
    return number(float(row["value"])) + (f" {bracket}" if bracket else "")


def ends(low: float, high: float) -> str:
    """As in "[0.700, 0.911]"; "" where there is no interval."""
    if not (np.isfinite(low) and np.isfinite(high)):
        return ""
    # A line may break before the bracket, not within.
    return f"[{number(float(low))},\u00a0{number(float(high))}]"


def _keys(ks: Sequence[int]) -> list[tuple[str, int | None]]:
    return [("p@k", k) for k in (1, 5) if k in ks] + [(metric, None) for metric in _METRICS]


def score_headers(everywhere: pd.DataFrame, ks: Sequence[int]) -> list[str]:
    """Of the table of scores: metrics that any method has."""
    there = set(everywhere["metric"])
    return ["method", *(_title(m, k) for m, k in _keys(ks) if m in there)]


def _title(metric: str, k: int | None) -> str:
    return f"P@{k}" if metric == "p@k" else _METRICS[metric]


def score_row(everywhere: pd.DataFrame, method: str, ks: Sequence[int]) -> list[str]:
    """One method's scores over all targets, with their intervals."""
    there, own = set(everywhere["metric"]), everywhere[everywhere["method"] == method]
    found = [_one(own, *key) for key in _keys(ks) if key[0] in there]
    return [method, *(with_interval(row) for row in found)]


def _one(rows: pd.DataFrame, metric: str, k: int | None) -> pd.Series | None:
    found = rows[(rows["metric"] == metric) & (rows["k"].isna() if k is None else rows["k"] == k)]
    return None if found.empty else found.iloc[0]


def curve_rows(
    everywhere: pd.DataFrame, methods: Sequence[str], ks: Sequence[int]
) -> list[list[str]]:
    """K, then P@K and R@K of each method."""
    table = everywhere[everywhere["k"].notna()].set_index(["method", "metric", "k"])["value"]
    values = table.to_dict()
    return [
        [str(k)]
        + [
            number(values[m, metric, k]) if (m, metric, k) in values else "–"
            for m in methods
            for metric in _PR
        ]
        for k in ks
    ]


def paper_rows(published: pd.DataFrame | None, ks: Sequence[int]) -> list[tuple[str, ...]]:
    """P@1 and P@5 of every published curve, from its hit counts over 18 targets."""
    if published is None or not ks:
        return []
    return [
        (str(paper), str(probe), str(method), *(number(hits[k] / (18 * k)) for k in (1, 5)))
        for (paper, probe, method), part in published.groupby(
            ["paper", "probe", "method"], sort=False
        )
        for hits in [part.set_index("k")["hits"]]
    ]


def target_headers(methods: Sequence[str], ks: Sequence[int]) -> list[str]:
    """Of the per-target table."""
    return ["target", *(f"{_title(m, k)} {name}" for name in methods for m, k in _small(ks))]


def _small(ks: Sequence[int]) -> list[tuple[str, int | None]]:
    return [key for key in _keys(ks) if key[0] in ("p@k", "spearman", "relative_top1")]


def target_rows(data: ReportData, methods: Sequence[str], ks: Sequence[int]) -> list[list[str]]:
    """Each target's P@1, P@5, Spearman and relative top-1 under some methods."""
    if data.evaluation is None:
        return []
    table = data.evaluation[data.evaluation["target"].isin(data.shown_targets)]
    table = table[table["method"].isin(methods)].assign(k=lambda t: t["k"].fillna(0).astype(int))
    keys = ["method", "target", "metric", "k"]
    values = table.set_index(keys)["value"].to_dict()
    return [
        [target]
        + [
            number(values[name, target, m, k or 0]) if (name, target, m, k or 0) in values else "–"
            for name in methods
            for m, k in _small(ks)
        ]
        for target in data.shown_targets
    ]


def difference_rows(table: pd.DataFrame | None) -> list[tuple[str, ...]]:
    """(metric, the two, difference with its own interval, that of all at once, sentence); of many
    methods those of the first few alone: the league says which of the others can be told apart
    from the best.
    """
    if table is None:
        return []
    methods = list(dict.fromkeys([*table["method"], *table["other"]]))[:DRAWN]
    shown = table["method"].isin(methods) & table["other"].isin(methods)
    table = table[shown & table["metric"].isin(("spearman", "p@5", "p@1"))]
    return [
        (
            str(row["metric"]).replace("p@", "P@").replace("spearman", _METRICS["spearman"]),
            f"{row['method']} − {row['other']}",
            with_interval(row),
            ends(row["joint_low"], row["joint_high"]) or "–",
            str(row["sentence"]),
        )
        for _, row in table.iterrows()
    ]
