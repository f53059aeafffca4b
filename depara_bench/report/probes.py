"""The page on several probe sets: which images they are, and every method's score on each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from markupsafe import Markup

from depara_bench import record as records
from depara_bench.report.markdown import Raw
from depara_bench.report.render import both, moment, render
from depara_bench.report.sections.evaluation import with_interval

_NAMES = {("p@k", 1): "P@1", ("p@k", 5): "P@5", ("spearman", 0): "Spearman"}


def probes_report(
    title: str, table: pd.DataFrame, thumbnails: Mapping[str, Sequence[str]], finished: str
) -> tuple[str, str]:
    """HTML and Markdown from the table of `probes_table` and pictures (data URIs) by probe set."""
    probes = list(thumbnails)
    table = table.assign(k=table["k"].fillna(0).astype(int))
    grids = [
        (name, *_grid(table[(table["metric"] == metric) & (table["k"] == k)], probes))
        for (metric, k), name in _NAMES.items()
    ]
    html, markdown = both("probes", grids=grids, probes=probes, thumbnails=thumbnails)
    context = {
        "title": title,
        "status": "done",
        "started": "",
        "finished": moment(finished),
        "version": records.versions().get("depara-bench", ""),
    }
    name = "Does it matter which images are the probe?"
    section = [("probes", name, Markup(html))]  # noqa: S704 - made and escaped by a template
    page = render("page.html.j2", sections=section, **context)
    return page + "\n", render("page.md.j2", sections=[(name, Raw(markdown))], **context)


def _grid(rows: pd.DataFrame, probes: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Headers and rows: a method, its score on each probe set, and what differs from the first."""
    found = {(row["method"], row["probe"]): row for _, row in rows.iterrows()}
    cells = []
    for method in dict.fromkeys(rows["method"]):
        here = [found.get((method, probe)) for probe in probes]
        differs = [str(row["sentence"]) for row in here[1:] if row is not None and row["sentence"]]
        told = [sentence for sentence in differs if "ranks better" in sentence]
        cells.append([method, *(with_interval(row) for row in here), "; ".join(told)])
    return ["method", *probes, "told apart"], cells
