"""The tables of a run folder. What is read again is checked, since anything may have changed it
since it was written.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from depara_bench import record as records
from depara_bench.errors import InputError
from depara_bench.storage import Folder

_TEXT, _NUMBER, _COUNT = pa.string(), pa.float64(), pa.int32()


def _full(kind: pa.DataType, *names: str) -> list[pa.Field]:
    """Columns with a value in every row."""
    return [pa.field(name, kind, nullable=False) for name in names]


def _gaps(kind: pa.DataType, *names: str) -> list[pa.Field]:
    """Columns in which values may be missing."""
    return [pa.field(name, kind) for name in names]


_BARS = _gaps(_NUMBER, "low", "high")
_PAIRS = _full(_TEXT, "method", "target", "source") + _gaps(_NUMBER, "value")

_OF_REDUCE = {"affinity.parquet": _PAIRS, "rankings.parquet": [*_PAIRS, *_full(_COUNT, "rank")]}
_OF_COMPARE = {
    "evaluation.parquet": [
        *_full(_TEXT, "method", "truth", "metric"), *_gaps(_COUNT, "k"), *_gaps(_TEXT, "target"),
        *_full(_NUMBER, "value"), *_BARS,
    ],
    "comparison/differences.parquet": [
        *_full(_TEXT, "method", "other", "metric", "sentence"), *_full(_NUMBER, "value"), *_BARS,
        *_gaps(_NUMBER, "joint_low", "joint_high"),
    ],
    "comparison/lambda.parquet": [
        *_full(_TEXT, "method", "metric", "choice"), *_gaps(_TEXT, "target"),
        *_gaps(_NUMBER, "lambda"), *_full(_NUMBER, "value"), *_BARS,
    ],
    "comparison/probe_count.parquet": [
        *_full(_TEXT, "method", "metric"), *_full(_COUNT, "images"),
        *_full(_NUMBER, "value", "low", "high"),
    ],
    "comparison/fusion.parquet": _full(_TEXT, "target", "methods"),
}  # fmt: skip
_PROBES = {
    "probes.parquet": [
        *_full(_TEXT, "method", "probe", "metric", "sentence"), *_gaps(_COUNT, "k"),
        *_full(_NUMBER, "value"), *_BARS, *_gaps(_NUMBER, "difference", "difference_low"),
        *_gaps(_NUMBER, "difference_high", "joint_low", "joint_high"),
    ],
}  # fmt: skip
_LAYERS = {
    "layers.parquet": [
        *_full(_TEXT, "method", "source", "layer"), *_full(_COUNT, "depth"),
        *_gaps(_TEXT, "fraction"), *_gaps(_NUMBER, "lambda"), *_full(_NUMBER, "value"), *_BARS,
    ],
    "evaluation.parquet": [
        *_full(_TEXT, "source", "fraction", "method", "metric"), *_gaps(_NUMBER, "lambda"),
        *_full(_NUMBER, "value"), *_BARS, *_full(_NUMBER, "seed_low", "seed_high"),
        *_gaps(_TEXT, "layer"),
    ],
    "lambda.parquet": _full(_TEXT, "source", "fraction", "metric")
    + _full(_NUMBER, "lambda", "value"),
    "accuracies.parquet": _full(_TEXT, "source", "layer", "fraction")
    + _full(_COUNT, "measurement") + _full(_NUMBER, "accuracy"),
}  # fmt: skip
_COLUMNS: Mapping[records.Kind, Mapping[str, list[pa.Field]]] = {
    "run": _OF_REDUCE | _OF_COMPARE, "layers": _LAYERS, "probes": _PROBES,
}  # fmt: skip


def write_table(folder: Folder, path: str, table: pd.DataFrame) -> None:
    """A small table as Parquet, whole or not at all. One that is read again is kept (`records.keep`
    of what `encode` makes), so that it can be checked.
    """
    folder.write(path, encode(table))


def encode(table: pd.DataFrame) -> bytes:
    """A small table as the bytes of a Parquet file, whose pages have checksums."""
    sink = io.BytesIO()
    strings = {name: pa.string() for name in ("method", "target", "source", "truth", "metric")}
    found = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None)
    schema = pa.schema([pa.field(f.name, strings.get(f.name, f.type)) for f in found.schema])
    pq.write_table(found.cast(schema), sink, write_page_checksum=True)
    return sink.getvalue()


def read_table(
    folder: Folder,
    path: str,
    record: Mapping[str, Any] | None = None,
    kind: records.Kind = records.RUN,
) -> pd.DataFrame:
    """A table that has to be there. Raises InputError when it is missing or damaged."""
    table = read(folder, path, record, kind)
    if table is None:
        command = _maker(path, kind)
        raise InputError(f"{folder.uri}/{path}: is missing; run 'depara-bench {command}' first")
    return table


def read(
    folder: Folder,
    path: str,
    record: Mapping[str, Any] | None = None,
    kind: records.Kind = records.RUN,
) -> pd.DataFrame | None:
    """A table of a run; None where there is none. Raises InputError when it is damaged: by itself,
    or, where the record of the run is given, by what that notes of it.
    """
    content = folder.read(path)
    if content is None:
        return None
    try:
        table = _checked(content, path, kind)
        records.verify(record, path, content)
    except Exception as error:  # what is read from a damaged footer can be wrong in any way
        told = " ".join(str(error).split())
        raise InputError(
            f"{folder.uri}/{path}: is damaged ({told}); run 'depara-bench {_maker(path, kind)}'"
            f" again"
        ) from error
    return table


def _maker(path: str, kind: records.Kind) -> str:
    """The command that writes a table."""
    if kind != records.RUN:
        return kind
    return "reduce" if path in _OF_REDUCE else "compare"


def _checked(content: bytes, path: str, kind: records.Kind) -> pd.DataFrame:
    with pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True) as file:
        table = file.read()
    fields = list(_COLUMNS[kind][path])
    if path == "affinity.parquet":
        if not table.num_rows:
            raise ValueError("holds no pair")
        fields += [bar for bar in _BARS if bar.name in table.column_names]  # `compare` adds them
    columns = [_column(table, field) for field in fields]
    found = pa.table(columns, schema=pa.schema(fields))
    found.validate(full=True)
    frame: pd.DataFrame = found.to_pandas()
    return frame


def _column(table: pa.Table, field: pa.Field) -> pa.ChunkedArray:
    """A column in the type it was written in. Raises ValueError where it holds anything else."""
    if field.name not in table.column_names:
        raise ValueError(f"has no column '{field.name}'")
    try:
        column = table.column(field.name).cast(field.type)
    except pa.ArrowException as error:
        raise ValueError(f"column '{field.name}': {error}") from error
    values = column.drop_null().to_numpy()
    missing = len(values) < len(column)
    if field.type == _NUMBER:
        missing |= bool(np.isnan(values).any())
        if np.isinf(values).any():
            raise ValueError(f"column '{field.name}' holds a number that is not finite")
    if field.type == _COUNT and (values < 1).any():
        raise ValueError(f"column '{field.name}' holds a number below 1")
    if missing and not field.nullable:
        raise ValueError(f"column '{field.name}' has a row without a value")
    return column
