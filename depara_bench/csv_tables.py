"""CSV text -> cells of text, each row with its line: of any of the dialects that spreadsheets,
pandas and people write. Nothing is guessed about what a cell means.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

from depara_bench.errors import InputError
from depara_bench.memory import available

_SEPARATORS = (",", ";", "\t")


_MOST_CELLS = 30_000_000
_BYTES_A_CELL = 150  # of the texts that a table is held as


def check_cells(count: int, where: str) -> None:
    """Raise InputError for a table of more cells than are read, or than fit into memory."""
    most = min(_MOST_CELLS, available() // _BYTES_A_CELL)
    if count > most:
        raise InputError(
            f"{where}: has about {count:,} cells, and at most {most:,} are read here; split it, or"
            f" keep the columns and rows that are needed"
        )


@dataclass(frozen=True)
class CsvTable:
    """columns: names of the C columns, "" of one without. rows: R of C cells, blanks around them
    taken off. lines: of the R rows, counted from 1. comments: the lines at the top that begin with
    '#', without it.
    """

    columns: tuple[str, ...]
    rows: list[list[str]]
    lines: list[int]
    comments: tuple[str, ...]


def parse(text: str, where: str) -> CsvTable:
    """The table of a CSV file's text: separated by commas, semicolons or tabs, cells perhaps in
    quotes, comments above the heading, blank lines anywhere.

    where: the file, for messages. Raises InputError naming a line that does not fit the heading.
    """
    check_cells(sum(map(text.count, ("\n", "\r", *_SEPARATORS))), where)
    lines = list(io.StringIO(text, newline=""))
    first, comments, separator = _top(lines)
    heading = lines[first] if first < len(lines) else ""
    candidates = [separator] if separator else [s for s in _SEPARATORS if s in heading] or [","]
    best = max((_records(lines, first, s) for s in candidates), key=_fit)
    return _table(best, comments, where)


@dataclass(frozen=True)
class _Records:
    cells: list[list[str]]
    lines: list[int]
    error: str | None


def _top(lines: Sequence[str]) -> tuple[int, tuple[str, ...], str | None]:
    """Position of the heading's line; the comments before it; the separator, where the file says it
    as spreadsheets do ("sep=;").
    """
    comments, separator = [], None
    for position, line in enumerate(lines):
        bare = line.strip().strip('"').strip()
        if said := re.fullmatch(r"sep=(.?)", line.strip('\r\n"')):
            separator = said[1] or None
        elif bare.startswith("#"):
            comments.append(bare.lstrip("#").strip(" ,;\t"))
        elif bare:
            return position, tuple(comments), separator
    return len(lines), tuple(comments), separator


def _records(lines: Sequence[str], first: int, separator: str) -> _Records:
    """All rows from the heading on that are not blank, read with this separator."""
    reader = csv.reader(lines[first:], delimiter=separator, skipinitialspace=separator != "\t")
    cells, numbers, error = [], [], None
    begins = first
    try:
        for row in reader:
            stripped = [cell.strip() for cell in row]
            if any(stripped):
                cells.append(stripped)
                numbers.append(begins + 1)
            begins = first + reader.line_num
    except csv.Error as problem:
        error = f"line {begins + 1} cannot be read ({problem}); mend it"
    return _Records(cells, numbers, error)


def _fit(records: _Records) -> tuple[bool, int]:
    """How well a separator suits: first of all, every row is as wide as the heading."""
    widths = {len(row) for row in records.cells}
    heading = len(records.cells[0]) if records.cells else 0
    return len(widths) == 1 and heading > 1, heading


def _table(found: _Records, comments: tuple[str, ...], where: str) -> CsvTable:
    if found.error is not None:
        raise InputError(f"{where}, {found.error}")
    if not found.cells:
        raise InputError(f"{where}: holds no rows, not even a heading")
    heading, *rows = found.cells
    for line, row in zip(found.lines, found.cells, strict=True):
        if broken := next((cell for cell in row if "\n" in cell or "\r" in cell), None):
            raise InputError(
                f"{where}, line {line}: a cell goes on behind the end of the line"
                f" ({broken[:40]!r}); close its quotes"
            )
    width = len(heading)
    while width > 1 and not heading[width - 1] and not any(any(r[width - 1 :]) for r in rows):
        width -= 1  # a separator at the end of each line
    for line, row in zip(found.lines[1:], rows, strict=True):
        if len(row) < width or any(row[width:]):
            more = "put a cell that holds the separator, or a decimal comma, in quotes"
            raise InputError(
                f"{where}, line {line}: has {len(row)} cells, the heading has {width};"
                f" {more if len(row) > width else 'separators stand for empty cells too'}"
            )
    names = [_name(position, heading[position]) for position in range(width)]
    # A column without a name and without a cell is a gap that a spreadsheet had.
    kept = [c for c in range(width) if heading[c] or c == 0 or any(row[c] for row in rows)]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"{where}, line {found.lines[0]}: two columns are named '{twice}'")
    return CsvTable(
        columns=tuple(names[c] for c in kept),
        rows=[[row[c] for c in kept] for row in rows],
        lines=found.lines[1:],
        comments=comments,
    )


def _name(position: int, heading: str) -> str:
    if position == 0:
        return "" if heading == "Unnamed: 0" else heading  # an index that pandas wrote twice
    return heading or f"(column {position + 1})"
