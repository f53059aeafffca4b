"""The affinities of all pairs, as heat maps."""

from __future__ import annotations

import re

from depara_bench.report.data import ReportData
from depara_bench.report.figures.canvas import inline
from depara_bench.report.figures.heat import dense_heat_map, heat_map
from depara_bench.report.render import both
from depara_bench.report.section import Section
from depara_bench.report.tree import Tree

_WHAT = {
    "depara": "nodes + λ · edges",
    "depara-nodes": "likeness of attribution maps",
    "depara-edges": "likeness of how images relate",
}


def affinity(data: ReportData) -> Section:
    """One heat map for each main method, in one order of rows and columns."""
    draw = dense_heat_map if data.large else heat_map
    rows, columns = data.drawn_order
    figures, captions = {}, []
    for method in data.main_methods:
        matrix = data.matrix(method).take(rows, columns)
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", f"affinity-{method}")
        title = f"Affinity under {method}: {len(rows)} targets by {len(columns)} sources"
        figures[name] = draw(matrix, name, title)
        captions.append((name, method, _WHAT.get(method, ""), *matrix.limits))
    html, markdown = both(
        "affinity",
        inline={name: inline(svg) for name, svg in figures.items()},
        captions=captions,
        large=data.large,
        ordered=isinstance(data.tree, Tree),
        others=[m for m in data.methods if m not in data.main_methods],
    )
    return Section("affinity", "Affinity", html, markdown, figures)
