"""Names of modules and tensors in a `.pt2` archive: which are harmless.

Converters (onnx2torch) make them of more than letters, "/layer1/Conv". In the code that torch makes
of a graph and runs, a name that is no identifier stands in double quotes: getattr(self, "a/b"). So
what could end that text, or begin an escape in it, is not allowed: quotes, backslashes, the ends of
lines. Nor are commas and semicolons, which separate names elsewhere, and braces; and none begins
with two underscores, as Python's own attributes do.
"""

from __future__ import annotations

import re

_ODD = r"@/:+~#=|<>()\[\] -"
_PART = rf"(?!__)[\w{_ODD}]+"

PATH = rf"({_PART}(\.{_PART})*)?"
"""Pattern of a dotted name."""

_LONGEST = 1000
_STACK_ENTRY = re.compile(
    rf"(?P<key>[\w.,'{_ODD}]*),(?P<path>[\w.{_ODD}]*|(getattr\(|L\[)[\w.,'{_ODD}]*)"
    r",(?P<type>[\w.<>]*(@[0-9]+)?)",
    re.ASCII,
)


def stack_entry(text: str) -> str | None:
    """An entry "key,path,type" of the modules that a node lies in, the path as a dotted name; None
    where it is none.
    """
    found = _STACK_ENTRY.fullmatch(text) if len(text) <= _LONGEST else None
    path = _written_out(found["path"]) if found else ""
    if not found or not re.fullmatch(PATH, path, re.ASCII):
        return None
    return f"{found['key']},{path},{found['type']}"


def _written_out(path: str) -> str:
    """A module's path as strict export writes it, getattr(L['self'].a, 'b/c'), as a.b/c."""
    path = path.replace("L['self']", "")
    while path != (shorter := re.sub(r"getattr\(([^,']*), '([^']*)'\)", r"\1.\2", path)):
        path = shorter
    return path.removeprefix(".")
