"""The task similarity tree."""

from __future__ import annotations

from depara_bench.report.data import FIRST, LARGE, ReportData
from depara_bench.report.figures.canvas import inline
from depara_bench.report.figures.dendrogram import dendrogram
from depara_bench.report.render import both
from depara_bench.report.section import Section
from depara_bench.report.tree import ORDERED, NoTree

TITLE = "Task similarity tree"


def tasks(data: ReportData) -> Section:
    """The tree and its joins, or why there is none."""
    tree = data.tree
    if isinstance(tree, NoTree):
        html, markdown = both("tree", reason=tree.reason)
        return Section("tree", TITLE, html, markdown)
    svg = dendrogram(tree, "tree", f"{TITLE} of {len(tree.targets)} targets")
    sides = tree.members()
    joins = [
        (step, float(height), _named(left), _named(right))
        for step, (height, (left, right)) in enumerate(zip(tree.heights, sides, strict=True), 1)
    ]
    limited = len(tree.targets) > LARGE
    html, markdown = both(
        "tree",
        inline={"tree": inline(svg)},
        reason=None,
        method=data.primary,
        joins=joins[:FIRST] if limited else joins,
        hidden=len(joins) - FIRST if limited else 0,
        ordered=len(tree.targets) <= ORDERED,
        top=float(data.matrix(data.primary).values.max()),
    )
    return Section("tree", TITLE, html, markdown, {"tree": svg})


def _named(names: tuple[str, ...]) -> str:
    return ", ".join(names) if len(names) <= 6 else f"{', '.join(names[:6])} + {len(names) - 6}"
