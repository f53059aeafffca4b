"""What a section gives to the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Section:
    """A part of the report.

    key: its anchor, [a-z-]. html, markdown: its body, without the title, escaped.
    figures: standalone SVG by file name without its ending; the HTML holds them inline, the
    Markdown links to figures/<name>.svg.
    """

    key: str
    title: str
    html: str
    markdown: str
    figures: Mapping[str, str] = field(default_factory=dict)
