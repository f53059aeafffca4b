"""The report of a run: `write_report(folder)` makes report.html, report.md and figures/*.svg.

A section is one file of `sections/`: a function from `ReportData` to a `Section`, or to None where
it has nothing to say, listed in `sections.SECTIONS`, with an .html.j2 and an .md.j2 template.
"""

from __future__ import annotations

from depara_bench.report.write import write_report

__all__ = ["write_report"]
