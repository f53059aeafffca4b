"""Text files as people have them: UTF-8, or the UTF-16 that Windows' own programs write."""

from __future__ import annotations

import codecs
from pathlib import Path

from depara_bench.errors import InputError, path_errors
from depara_bench.files import TEXT, read_file

_LINES = 10_000_000

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16's, with which it begins
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def read_text(path: Path, mend: str = "check the path") -> str:
    """The text of a file in UTF-8 or UTF-16, with a byte order mark or without, which is taken off.

    Raises InputError naming the file, which is none or too large, and the line that is of another
    encoding.
    """
    with path_errors(f"{path}", mend):
        content = read_file(path, TEXT)
    if (lines := content.count(b"\n")) > _LINES:
        raise InputError(f"{path}: has {lines:,} lines, and at most {_LINES:,} are read; {mend}")
    encoding = _encoding(content)
    for mark, name in _MARKS:
        if name == encoding:
            content = content.removeprefix(mark)
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        found = content[error.start : error.end].hex(" ")
        raise InputError(
            f"{path}, line {line}: the bytes '{found}' are not text in {encoding.upper()}; save the"
            f" file as UTF-8"
        ) from error


def _encoding(content: bytes) -> str:
    for mark, name in _MARKS:
        if content.startswith(mark):
            return name
    # Without a mark: of mostly Latin text in UTF-16, every other byte is zero.
    start = content[:4000]
    for offset, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        zeros = start[offset::2].count(0)
        if (
            len(content) % 2 == 0
            and zeros
            and zeros * 4 > len(start)
            and not start[1 - offset :: 2].count(0)
        ):
            return name
    return "utf-8"
