"""The encoded images of a Parquet file, read as they are taken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from depara_bench.errors import InputError
from depara_bench.files import TEXT
from depara_bench.memory import available
from depara_bench.parquet_files import length, opened, told_size
from depara_bench.probe_sources import MOST_IMAGES, Gap, Source, Sources

_MEND = "check 'probe.path'"
_BATCH = 1024  # names that are read at a time


def from_parquet(path: Path, column: str, id_column: str | None, count: int | None) -> Sources:
    """The encoded images of a column, binary or the {bytes, path} of Hugging Face: the first
    `count`; None: all. They are read while they are taken, one row group after the other.
    """
    where = f"probe: {path}"
    with opened(path, where, _MEND, once=True) as file:
        for name in (column,) if id_column is None else (column, id_column):
            if name not in file.schema_arrow.names:
                raise InputError(
                    f"{where} has no column '{name}'; it has {', '.join(file.schema_arrow.names)}"
                )
        leaf = _images_in(file.schema_arrow.field(column).type, column, where)
        rows = min(file.metadata.num_rows, count or file.metadata.num_rows)
        if rows > MOST_IMAGES:
            raise InputError(
                f"{where} has {rows:,} rows, and a probe at most {MOST_IMAGES:,} images; set"
                f" 'probe.count'"
            )
        _, size, most = told_size(file, [leaf], rows)
        if (need := size + 2 * most) > (free := available()):
            raise InputError(
                f"{where} unfolds to {size / 1e9:,.1f} GB, of which {need / 1e9:,.1f} GB of memory"
                f" are needed and {free / 1e9:,.1f} GB are free; lower 'probe.count', or write it"
                f" in smaller row groups"
            )
        if id_column is None:
            ids = [f"{row:06d}" for row in range(rows)]
        else:
            ids = _ids(file, id_column, rows, where)
    return Sources(ids, _cells(path, leaf, rows))


def _images_in(kind: Any, column: str, where: str) -> str:
    """The path of the column of bytes in a column of a type."""
    import pyarrow as pa

    leaf = column
    if pa.types.is_struct(kind) and "bytes" in [field.name for field in kind]:
        leaf, kind = f"{column}.bytes", kind.field("bytes").type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise InputError(f"{where}: column '{column}' holds {kind}, not encoded images")
    return leaf


def _ids(file: Any, column: str, rows: int, where: str) -> list[str]:
    """The names of the first images."""
    import pyarrow as pa

    kind = file.schema_arrow.field(column).type
    if pa.types.is_nested(kind):
        raise InputError(f"{where}: column '{column}' holds {kind}, not names; choose another")
    ids: list[str] = []
    characters = 0
    for batch in file.iter_batches(_BATCH, columns=[column]):
        cells = batch.column(0)[: rows - len(ids)]
        characters += length(cells)
        if characters > TEXT:
            raise InputError(
                f"{where}: column '{column}' holds names of more than {TEXT:,} bytes; choose"
                f" another 'probe.id_column'"
            )
        ids += [
            "" if value is None or value != value else str(value) for value in cells.to_pylist()
        ]
        if len(ids) >= rows:
            break
    return ids


def _cells(path: Path, leaf: str, rows: int) -> Iterator[Source]:
    """The images of the first rows, each when it is asked for."""
    import pyarrow.compute as pc

    column, _, inner = leaf.rpartition(".")
    column = column if inner == "bytes" and column else leaf
    with opened(path, f"probe: {path}", _MEND) as file:
        # One by one: of a value that a file has once for many rows, each is made anew.
        for row, batch in zip(range(rows), file.iter_batches(1, columns=[leaf]), strict=False):
            cells = batch.column(0)
            cell = (pc.struct_field(cells, "bytes") if leaf != column else cells)[0].as_py()
            empty = f"the cell of column '{column}' is empty, row {row} counted from 0"
            yield cell or Gap(empty)
