"""Sections to pages."""

from __future__ import annotations

import re
from dataclasses import dataclass

from markupsafe import Markup

from depara_bench.report.data import ReportData
from depara_bench.report.markdown import Raw
from depara_bench.report.render import moment, render
from depara_bench.report.sections import SECTIONS


@dataclass(frozen=True)
class Report:
    """The pages, and standalone figures by name."""

    html: str
    markdown: str
    figures: dict[str, str]


def build(data: ReportData) -> Report:
    """A report from its data: no file is read or written."""
    sections = [s for s in (make(data) for make in SECTIONS) if s is not None]
    title = str(data.get("job", "name", default=data.get("name", default="a run")))
    context = {
        "title": title,
        "status": str(data.get("status", default="unknown")),
        "started": moment(data.get("started")),
        "finished": moment(data.get("finished")),
        "version": data.get("versions", "depara-bench", default=""),
    }
    # The bodies are markup that templates have made, and have been escaped there.
    html = render(
        "page.html.j2",
        sections=[(s.key, s.title, Markup(s.html)) for s in sections],  # noqa: S704
        **context,
    )
    markdown = render(
        "page.md.j2", sections=[(s.title, Raw(s.markdown)) for s in sections], **context
    )
    figures = {name: svg for section in sections for name, svg in section.figures.items()}
    markdown = re.sub(r"\n{3,}", "\n\n", markdown).strip()
    return Report(html + "\n", markdown + "\n", figures)
