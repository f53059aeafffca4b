"""Tables that users give, CSV or Parquet: cells are text until a column is asked for as numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from depara_bench.csv_tables import check_cells, parse
from depara_bench.errors import InputError
from depara_bench.files import TEXT
from depara_bench.parquet_files import length, opened, told_size
from depara_bench.textfile import read_text

ENDINGS = (".csv", ".tsv", ".txt", ".parquet")

_BATCH = 1 << 16

_POINT = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
_COMMA = re.compile(r"[-+]?([0-9]+,[0-9]*|,[0-9]+)([eE][-+]?[0-9]+)?")
_THOUSANDS = re.compile(r"[-+]?[1-9][0-9]{0,2},[0-9]{3}")


@dataclass(frozen=True)
class Rows:
    """where: the file, for messages. cells: by column, R texts, "" where empty. places: of the R
    rows, in words ("line 14"). comments: the lines above the heading.
    """

    where: str
    cells: dict[str, list[str]]
    places: list[str]
    comments: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.places)

    def need(self, columns: Sequence[str], what: str) -> None:
        """Raise InputError where a column is missing. what: the table has, in words."""
        for column in columns:
            if column not in self.cells:
                raise InputError(
                    f"{self.where}: has no column '{column}', it has"
                    f" {', '.join(name or '(unnamed)' for name in self.cells)}; {what}"
                )

    def groups(self, column: str) -> dict[str, Rows]:
        """The rows by what they have in a column, in the order of the file."""
        positions: dict[str, list[int]] = {}
        for row, cell in enumerate(self.cells[column]):
            positions.setdefault(cell, []).append(row)
        return {cell: self._take(rows) for cell, rows in positions.items()}

    def _take(self, rows: Sequence[int]) -> Rows:
        cells = {name: [column[row] for row in rows] for name, column in self.cells.items()}
        return Rows(self.where, cells, [self.places[row] for row in rows], self.comments)

    def once(self, columns: Sequence[str], told: Callable[[int], str]) -> None:
        """Raise InputError where two rows have the same cells in these columns; told: what a row
        says, in words.
        """
        first: dict[tuple[str, ...], int] = {}
        for row, key in enumerate(zip(*(self.cells[name] for name in columns), strict=True)):
            if (before := first.setdefault(key, row)) != row:
                places = f"{self.places[before]} and {self.places[row]}"
                raise InputError(f"{self.where}: {told(row)} ({places}); keep one")

    def filled(self, column: str) -> list[str]:
        """A column of names. Raises InputError for an empty cell."""
        for row, cell in enumerate(self.cells[column]):
            if not cell:
                raise self.wrong(row, column, "is empty; give a name")
        return self.cells[column]

    def numbers(
        self,
        column: str,
        *,
        gaps: bool = False,
        told: Callable[[int], str] = lambda _: "",
    ) -> np.ndarray:
        """A column (R,) float64, with a decimal point or, where no cell can be meant otherwise, a
        decimal comma. gaps: NaN for empty cells, which are refused otherwise. told: what a row is
        about, in words.

        Raises InputError naming line, column and cell of what is not a finite number.
        """
        cells = [cell.replace("\N{MINUS SIGN}", "-") for cell in self.cells[column]]
        commas = _has_decimal_commas(cells)
        found = np.full(len(cells), np.nan)
        for row, cell in enumerate(cells):
            if cell and (_POINT.fullmatch(cell) or (commas and _COMMA.fullmatch(cell))):
                found[row] = float(cell.replace(",", "."))
            if math.isfinite(found[row]) or (gaps and not cell):
                continue
            why = f"{cell[:40]!r} is not a finite number" if cell else "is empty, no finite number"
            if _THOUSANDS.fullmatch(cell):
                two = f"{cell.replace(',', '')} or {cell.replace(',', '.')}"
                why = f"'{cell}' may be {two}; write a decimal point, and nothing between thousands"
            elif cell and gaps:
                why += "; leave the cell empty where nothing was measured"
            raise self.wrong(row, column, why, told(row))
        return found

    def are_numbers(self, column: str) -> bool:
        """Whether a column has numbers, or gaps, in every row."""
        try:
            self.numbers(column, gaps=True)
        except InputError:
            return False
        return True

    def wrong(self, row: int, column: str, what: str, about: str = "") -> InputError:
        """An error about one cell."""
        of = f" of {about}" if about else ""
        return InputError(f"{self.where}, {self.places[row]}, column '{column}'{of}: {what}")


def _has_decimal_commas(cells: Sequence[str]) -> bool:
    """Whether the commas in a column are decimal ones: one of them cannot stand between thousands,
    and no number has a point.
    """
    if any("." in cell and _POINT.fullmatch(cell) for cell in cells):
        return False
    return any(_COMMA.fullmatch(cell) and not _THOUSANDS.fullmatch(cell) for cell in cells)


def read_rows(path: Path, where: str, mend: str) -> Rows:
    """The table in a file: Parquet by its ending, CSV otherwise.

    where, mend: for messages. Raises InputError naming the line that cannot be read.
    """
    if path.suffix.lower() == ".parquet":
        return _parquet(path, where, mend)
    table = parse(read_text(path, mend), where)
    cells = {name: [row[i] for row in table.rows] for i, name in enumerate(table.columns)}
    places = [f"line {line}" for line in table.lines]
    return Rows(where, cells, places, table.comments)


def of_frame(frame: pd.DataFrame, where: str) -> Rows:
    """The rows of a data frame."""
    cells = {str(name): list(map(_text, frame[name])) for name in frame.columns}
    return Rows(where, cells, [f"row {row}" for row in range(len(frame))])


def _parquet(path: Path, where: str, mend: str) -> Rows:
    with opened(path, where, mend, once=True) as file:
        schema, count = file.schema_arrow, file.metadata.num_rows
        # What is no cell (a list, a picture) is no column of a table.
        flat = [field.name for field in schema if not _is_no_cell(field.type)]
        values, size, _ = told_size(file, flat, count)
        check_cells(max(values, count), where)
        _check_text(size, where, mend)
        # An index that pandas has put behind the columns stands before them, as in a CSV file.
        index = [
            name
            for name in (schema.pandas_metadata or {}).get("index_columns", [])
            if isinstance(name, str) and name in flat
        ]
        names = [*index, *(name for name in flat if name not in index)]
        columns: dict[str, list[str]] = {name: [] for name in names}
        read = 0
        for batch in file.iter_batches(_BATCH, columns=names):
            for name in names:
                cells = batch.column(name)
                read += length(cells)
                _check_text(read, where, mend)
                columns[name] += map(_text, cells.to_pylist())
    return Rows(
        where,
        {"" if n.startswith("__index_level_") else n: cells for n, cells in columns.items()},
        [f"row {row}, counted from 0," for row in range(count)],
    )


def _is_no_cell(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return any(
        is_kind(kind)
        for is_kind in (pa.types.is_nested, pa.types.is_binary, pa.types.is_large_binary)
    )


def _check_text(size: int, where: str, mend: str) -> None:
    if size > TEXT:
        raise InputError(f"{where}: holds more than {TEXT:,} bytes of cells; {mend}")


def _text(value: Any) -> str:
    """A value as the text that a CSV file would have for it."""
    if value is None or value is pd.NA:
        return ""
    return str(value).strip()
