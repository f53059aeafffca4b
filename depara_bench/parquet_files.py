"""Parquet files that users give: of a small file, what it unfolds to can be any size. Told by its
metadata before anything is read; then read in batches, repeated values once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from depara_bench.errors import InputError, path_errors
from depara_bench.files import check_size, size_of


@contextmanager
def opened(path: Path, where: str, mend: str, *, once: bool = False) -> Iterator[pq.ParquetFile]:
    """A Parquet file, of which nothing but the metadata is read yet.

    once: columns of texts and bytes come as dictionaries, so that a value which a file has once,
    for any number of rows, is there once; for the memory of it, new values take longer and more
    room. Raises InputError, also for what is found out inside the block.
    """
    try:
        with path_errors(where, mend):
            check_size(size_of(path))
        with pq.ParquetFile(path) as file:
            repeated = [name for field in file.schema_arrow for name in _texts(field)]
        # A column is read piece by piece, as it is needed.
        little: Any = {"buffer_size": 1 << 20, "pre_buffer": False}
        with pq.ParquetFile(path, read_dictionary=repeated if once else None, **little) as file:
            yield file
    except (OSError, pa.ArrowException, MemoryError) as error:
        raise InputError(f"{where} is not a readable Parquet file; {mend}") from error


def _texts(field: pa.Field, above: str = "") -> Iterator[str]:
    """Paths of the columns of texts and bytes in a field."""
    name = f"{above}{field.name}"
    if pa.types.is_struct(field.type):
        for inner in field.type:
            yield from _texts(inner, f"{name}.")
    elif pa.types.is_binary(field.type) or pa.types.is_string(field.type):
        yield name


def told_size(file: pq.ParquetFile, columns: Sequence[str], rows: int) -> tuple[int, int, int]:
    """What the metadata says of some columns, as far as the first `rows`: values; bytes when
    nothing is compressed; the most of these in one piece, which is read at once.
    """
    values = size = most = begun = 0
    for number in range(file.metadata.num_row_groups):
        if begun >= rows:
            break
        group = file.metadata.row_group(number)
        begun += group.num_rows
        for position in range(group.num_columns):
            chunk = group.column(position)
            if chunk.path_in_schema in columns or chunk.path_in_schema.split(".")[0] in columns:
                values += chunk.num_values
                size += chunk.total_uncompressed_size
                most = max(most, chunk.total_uncompressed_size)
    return values, size, most


def length(cells: Any) -> int:
    """Bytes of all texts in an array, each as often as it is there."""
    import pyarrow.compute as pc

    if pa.types.is_dictionary(cells.type):
        if not len(cells.dictionary):
            return 0
        lengths = pc.binary_length(cells.dictionary).take(cells.indices)
    elif pa.types.is_large_string(cells.type) or pa.types.is_large_binary(cells.type):
        lengths = pc.binary_length(cells)
    else:
        return 0
    return pc.sum(pc.cast(lengths, pa.int64())).as_py() or 0
