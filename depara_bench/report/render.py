"""Templates: HTML escapes by itself, and so does Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from depara_bench.report import markdown


def number(value: float) -> str:
    """A value to three decimals, or three digits where those would hide it."""
    return f"{value:.3f}" if value == 0 or 5e-4 <= abs(value) < 1e4 else f"{value:.3g}"


def percent(share: float) -> str:
    """A share of 0..1 as a CSS length."""
    return f"{100 * share:.1f}%"


def duration(seconds: float) -> str:
    """Seconds in words: "25.8 s", "4 min 10 s", "20 h 3 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def moment(stamp: object) -> str:
    """An ISO time for reading, "2026-11-23 23:00:00 UTC"; empty where there is none."""
    text = str(stamp or "")
    if text.endswith("+00:00") and len(text) >= 19:
        return f"{text[:10]} {text[11:19]} UTC"
    return text


def render(template: str, **context: Any) -> str:
    """A template of `templates/`, by its name with the ending .html.j2 or .md.j2, filled in."""
    html = template.endswith(".html.j2")
    return _environment(html).get_template(template).render(**context)


def both(template: str, inline: Mapping[str, str] | None = None, **context: Any) -> tuple[str, str]:
    """A section's HTML and Markdown. inline: figures by name, as markup for the HTML."""
    figures = {name: Markup(svg) for name, svg in (inline or {}).items()}  # noqa: S704 - made here
    return (
        render(f"{template}.html.j2", figures=figures, **context),
        render(f"{template}.md.j2", **context),
    )


def _visible(value: Any) -> Any:
    """Text without characters that cannot be seen, or that turn the direction of what follows."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return markdown.BIDI.sub("", re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]+", " ", value))


@cache
def _environment(html: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("depara_bench.report"),
        autoescape=html,  # noqa: S701 - Markdown is escaped by `finalize`
        finalize=_visible if html else markdown.finalize,
        undefined=StrictUndefined,
        trim_blocks=not html,  # in Markdown every line break says something
        lstrip_blocks=not html,
    )
    environment.filters.update(
        number=number,
        percent=percent,
        duration=duration,
        code=markdown.code,
        markup=markdown.markup,
        raw=markdown.Raw,
    )
    environment.globals["table"] = markdown.table
    return environment
