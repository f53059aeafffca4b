"""Shards: one Parquet file per (model, image block), the only large data of a run.

Columns (contract C2): `index` int32, `image` string, `feature` and one column per attribution
method, fixed-size lists of float32; no nulls, no compression, no dictionary. The footer carries
the fingerprint of what the shard was computed from and a checksum of the values, so that a shard
can be trusted or thrown away without asking anything else.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from depara_bench.errors import RunError
from depara_bench.storage import Folder, StoreError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

SCHEMA_VERSION = 1

# Rows of a row group are chosen so that a group holds about this much of an attribution column: the
# reducer reads one row group of all models at a time. Maps are of one size in all models, and so
# are, therefore, the groups; features are not, and are read one model at a time.
_GROUP_BYTES = 4 << 20


def shard_path(model: str, block: int) -> str:
    """Path of a shard in its run folder."""
    return f"shards/model={model}/block={block:05d}.parquet"


def parse_shard_path(path: str) -> tuple[str, int] | None:
    """(model, block) of a path that `shard_path` made, else None."""
    match = re.fullmatch(r"shards/model=([^/]+)/block=(\d{5,})\.parquet", path)
    return (match[1], int(match[2])) if match else None


def fingerprint(**what: Any) -> str:
    """SHA-256 of everything that decides a shard's content (JSON values), schema included."""
    text = json.dumps({"schema": SCHEMA_VERSION, **what}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Digest:
    """tensors: SHA-256 of a model's tensors by name (parameters, buffers and others that its parts
    hold) and, for a factory, of its code. settings: of the numbers and words that the parts of a
    factory's model hold besides; "" for others.
    """

    tensors: str
    settings: str


UNKNOWN = Digest("", "")


@dataclass(frozen=True)
class Origin:
    """What a shard was made from. key: fingerprint of all that can be told before the model is
    loaded (manifest entry, probe, settings); loaded: what then was.
    """

    key: str
    loaded: Digest

    @property
    def fingerprint(self) -> str:
        """One value for all of it."""
        return fingerprint(key=self.key, loaded=[self.loaded.tensors, self.loaded.settings])


@dataclass(frozen=True)
class Shard:
    """index (n,) int32; images: n ids; columns: "feature" and attribution methods by name, each
    (n, width) float32.
    """

    index: np.ndarray
    images: Sequence[str]
    columns: Mapping[str, np.ndarray]

    def checksum(self) -> int:
        """CRC-32 over index, ids and values, column by column in the order of their names."""
        crc = zlib.crc32(np.ascontiguousarray(self.index, dtype="<i4").data)
        crc = zlib.crc32("\n".join(self.images).encode(), crc)
        for name in sorted(self.columns):
            crc = zlib.crc32(name.encode(), crc)
            crc = zlib.crc32(np.ascontiguousarray(self.columns[name], dtype="<f4").data, crc)
        return crc


def encode_shard(shard: Shard, key: str, loaded: Digest = UNKNOWN) -> memoryview:
    """The shard as the bytes of a Parquet file; in its footer the fingerprint `key` of its origin,
    and what of that was `loaded`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    fields = [
        pa.field("index", pa.int32(), nullable=False),
        pa.field("image", pa.string(), nullable=False),
    ]
    arrays: list[pa.Array] = [
        pa.array(shard.index, pa.int32()),
        pa.array(list(shard.images), pa.string()),
    ]
    for name, values in shard.columns.items():
        kind = pa.list_(pa.field("element", pa.float32(), nullable=False), values.shape[1])
        flat = pa.array(np.ascontiguousarray(values, dtype=np.float32).reshape(-1))
        fields.append(pa.field(name, kind, nullable=False))
        arrays.append(pa.FixedSizeListArray.from_arrays(flat, type=kind))
    metadata = {
        "depara.schema": str(SCHEMA_VERSION),
        "depara.fingerprint": key,
        "depara.tensors": loaded.tensors,
        "depara.settings": loaded.settings,
        "depara.crc32": f"{shard.checksum():08x}",
    }
    table = pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=metadata))
    maps = [values for name, values in shard.columns.items() if name != "feature"]
    widest = max(values.shape[1] for values in maps or shard.columns.values()) * 4
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        row_group_size=max(1, _GROUP_BYTES // widest),
        compression="none",
        use_dictionary=False,
        write_statistics=False,
        write_page_checksum=True,
    )
    return memoryview(sink.getvalue())


def read_origin(
    folder: Folder, path: str, key: str, block: range, images: Sequence[str]
) -> Origin | None:
    """What the shard was made from; None unless it is there, made from what `key` says, of that
    block of the images (ids of the whole probe set), and every value is as written.
    """
    import pyarrow as pa

    try:
        content = folder.read(path)
        if content is None:
            return None
        with _open(pa.BufferReader(content)) as file:
            metadata = _metadata(file)
            loaded = Digest(metadata["depara.tensors"], metadata["depara.settings"])
            origin = Origin(key, loaded)
            if metadata.get("depara.fingerprint") != origin.fingerprint:
                return None
            shard = _to_shard(file.read())
    except StoreError:
        raise
    except Exception:  # what is read from a damaged footer can be wrong in any way
        return None
    whole = (
        shard.index.tolist() == list(block)
        and shard.images == [images[position] for position in block]
        and f"{shard.checksum():08x}" == metadata.get("depara.crc32")
    )
    return origin if whole else None


def check_origin(folder: Folder, model: str, block: int, key: str, images: range) -> None:
    """Raise RunError unless the shard was made from what `key` says and is of those images: a look
    at its footer and its index, where `read_origin` reads it all.
    """
    path = shard_path(model, block)
    with _reading(folder, path) as file:
        index = file.read(["index"], use_threads=False)["index"].to_numpy()
        same = len(index) == len(images) and index[0] == images[0] and index[-1] == images[-1]
        if _metadata(file).get("depara.fingerprint") != key or not same:
            raise RunError(
                f"{folder.uri}/{path}: belongs to another model, block or job; run again and it is"
                f" computed anew"
            )


def read_column(folder: Folder, model: str, blocks: int, column: str) -> np.ndarray:
    """A column of one model over all its blocks: (N, width) float32.

    Raises RunError naming a shard that is missing or damaged.
    """
    return np.concatenate(
        [rows for block in range(blocks) for rows in _groups(folder, model, block, column)]
    )


def read_groups(
    folder: Folder, models: Sequence[str], blocks: int, column: str, pool: Executor
) -> Iterator[list[np.ndarray]]:
    """Step through the images, a few at a time, with all models side by side.

    Yields lists with one (n, width) float32 array per model, for the same n images. The models are
    decoded by the threads of `pool`, as that takes longer than the arithmetic that follows.
    Nothing larger than one row group of each model is in memory.
    Raises RunError naming a shard that is missing, damaged, or of another width than the others.
    """
    for block in range(blocks):
        streams = [_groups(folder, model, block, column) for model in models]
        while True:
            rows = list(pool.map(lambda stream: next(stream, None), streams))
            shapes = [None if row is None else row.shape for row in rows]
            for model, shape in zip(models, shapes, strict=True):
                if shape != shapes[0]:
                    raise RunError(
                        f"{folder.uri}/{shard_path(model, block)}: '{column}' has (images, values)"
                        f" {shape}, that of '{models[0]}' {shapes[0]}; run again with --fresh"
                    )
            group = [row for row in rows if row is not None]
            if not group:
                break
            yield group


def _groups(folder: Folder, model: str, block: int, column: str) -> Iterator[np.ndarray]:
    path = shard_path(model, block)
    with _reading(folder, path) as file:
        for group in range(file.num_row_groups):
            values = _values(file.read_row_group(group, [column], use_threads=False)[column])
            if not np.isfinite(values).all():
                row = int(np.argwhere(~np.isfinite(values).all(axis=1))[0, 0])
                image = file.read_row_group(group, ["image"])["image"][row].as_py()
                raise RunError(
                    f"{folder.uri}/{path}: '{column}' of image '{image}' is not finite; run again"
                    f" and it is computed anew"
                )
            yield values


@contextmanager
def _reading(folder: Folder, path: str) -> Iterator[pq.ParquetFile]:
    filesystem, root = folder.open()
    place = f"{root}/{path}"
    try:
        with folder.answers(), filesystem.open_input_file(place) as source, _open(source) as file:
            yield file
    except (RunError, StoreError):
        raise
    except FileNotFoundError as error:
        raise RunError(f"{folder.uri}/{path}: is missing; run 'depara-bench extract'") from error
    except Exception as error:  # what is read from a damaged footer can be wrong in any way
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise RunError(
            f"{folder.uri}/{path}: is damaged ({reason}); run again and it is computed anew"
        ) from error


def _open(source: Any) -> pq.ParquetFile:
    import pyarrow.parquet as pq

    return pq.ParquetFile(source, page_checksum_verification=True)


def _metadata(file: pq.ParquetFile) -> dict[str, str]:
    raw = file.schema_arrow.metadata or {}
    return {key.decode(): value.decode() for key, value in raw.items()}


def _values(column: pa.ChunkedArray) -> np.ndarray:
    """(n, width) float32 of a fixed-size list column, without a copy where it is one chunk."""
    import pyarrow as pa

    width = column.type.list_size
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # an empty column has no chunk
        return np.empty((0, width), dtype=np.float32)
    values: np.ndarray = array.flatten().to_numpy(zero_copy_only=False)
    return values.reshape(-1, width)


def _to_shard(table: pa.Table) -> Shard:
    names = [name for name in table.column_names if name not in ("index", "image")]
    return Shard(
        index=table.column("index").to_numpy(),
        images=table.column("image").to_pylist(),
        columns={name: _values(table.column(name)) for name in names},
    )
