"""Text that says what it says in Markdown, whatever characters it has."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from typing import Any

_SPECIAL = re.compile(r"[\\`*\[\]|~#!]")
_UNDERSCORE = re.compile(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
BIDI = re.compile(r"[\u200e\u200f\u202a-\u202e\u2066-\u2069]")
# Renderers make links and mentions out of bare text.
_LINKS = (("://", ":&#8203;//"), ("www.", "www&#46;"), ("@", "&#64;"))


class Raw(str):
    """Markdown, as opposed to text: not to be escaped (again)."""

    __slots__ = ()


def escape(text: object) -> Raw:
    """Text as Markdown that shows it, on one line, also within a table."""
    line = clean(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = _UNDERSCORE.sub(r"\\_", _SPECIAL.sub(r"\\\g<0>", line))
    for found, replacement in _LINKS:
        line = line.replace(found, replacement)
    return Raw(line)


def clean(text: object) -> str:
    """Text on one line, without control characters or ones that turn the direction of writing."""
    return BIDI.sub("", _CONTROL.sub(" ", str(text))).strip()


def code(text: object) -> Raw:
    """Text as a code span, in which nothing can be escaped: what would end it is replaced."""
    return Raw(f"`{clean(text).replace('`', chr(39)).replace('|', '/')}`")


def markup(text: object) -> Raw:
    """Text within HTML that stands in Markdown, where backslashes escape nothing."""
    return Raw(html.escape(clean(text)).replace("@", "&#64;"))


def finalize(value: Any) -> str:
    """What a Markdown template puts in for an expression: escaped unless it is `Raw`."""
    return value if isinstance(value, Raw) else escape(value)


def table(headers: Sequence[object], rows: Iterable[Sequence[object]]) -> Raw:
    """A pipe table; cells are escaped unless `Raw`. A column with numbers only goes right."""
    body = [[str(finalize(cell)) for cell in row] for row in rows]
    numeric = [
        bool(body) and all(re.fullmatch(r"[-+]?[\d.,e+-]+", row[i]) for row in body)
        for i in range(len(headers))
    ]
    lines = [
        [str(finalize(header)) for header in headers],
        ["---:" if right else "---" for right in numeric],
        *body,
    ]
    return Raw("\n".join("| " + " | ".join(line) + " |" for line in lines))
