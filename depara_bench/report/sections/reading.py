"""How to read the report: what nodes, edges and depara are."""

from __future__ import annotations

from depara_bench.report.data import ReportData
from depara_bench.report.render import both
from depara_bench.report.section import Section


def reading(data: ReportData) -> Section:
    """The definitions, with the settings of this run put in."""
    methods = data.get("job", "attribution", "methods")
    weight = data.get("job", "lambda")
    html, markdown = both(
        "reading",
        weight=weight if isinstance(weight, (int, float)) else None,
        attribution=methods[0] if isinstance(methods, list) and methods else None,
        scalar=data.get("job", "attribution", "scalar"),
    )
    return Section("reading", "How to read this", html, markdown)
