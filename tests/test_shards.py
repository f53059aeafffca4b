"""Shards are contract C2, whole or refused; files appear whole or not at all."""

from __future__ import annotations

import random
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from depara_bench.errors import InputError, RunError
from depara_bench.shards import (
    UNKNOWN,
    Origin,
    Shard,
    encode_shard,
    fingerprint,
    parse_shard_path,
    read_column,
    read_groups,
    read_origin,
    shard_path,
)
from depara_bench.storage import Folder, storage_errors

PATH = shard_path("m", 0)


def example(seed: int = 0, rows: int = 6, features: int = 5, pixels: int = 8) -> Shard:
    rng = np.random.default_rng(seed)
    return Shard(
        index=np.arange(10, 10 + rows, dtype=np.int32),
        images=[f"folder/ä {i}.png" for i in range(rows)],
        columns={
            "feature": rng.normal(size=(rows, features)).astype(np.float32),
            "saliency": rng.random((rows, pixels)).astype(np.float32),
            "input_x_gradient": rng.normal(size=(rows, pixels)).astype(np.float32),
        },
    )


def read_plain(path: Path) -> Shard:
    """The shard as plain pyarrow reads it."""
    table = pq.read_table(path, partitioning=None)
    names = [n for n in table.column_names if n not in ("index", "image")]
    return Shard(
        table["index"].to_numpy(),
        table["image"].to_pylist(),
        {n: np.array(table[n].to_pylist(), np.float32) for n in names},
    )


def groups_of(
    folder: Folder, models: list[str], blocks: int, column: str
) -> list[list[np.ndarray]]:
    with ThreadPoolExecutor(2) as pool:
        return list(read_groups(folder, models, blocks, column, pool))


def complete(folder: Folder, key: str, block: range = range(10, 16)) -> bool:
    """Whether the shard is `example()`, made from `key`, of images 10 to 15 of the probe."""
    ids = [f"another {i}" for i in range(10)] + list(example().images)
    return read_origin(folder, PATH, key, block, ids) == Origin(key, UNKNOWN)


def same(a: Shard, b: Shard) -> bool:
    return (
        np.array_equal(a.index, b.index)
        and list(a.images) == list(b.images)
        and list(a.columns) == list(b.columns)
        and all(a.columns[n].tobytes() == b.columns[n].tobytes() for n in a.columns)
    )


# --- contents -----------------------------------------------------------------------------------


def test_round_trip_bit_by_bit(tmp_path: Path) -> None:
    """What is read is what was written, negative zero and the ends of float32 included."""
    shard = example()
    shard.columns["feature"][0] = [-0.0, 1e-45, -3.4e38, 1e-38, 0.1]
    folder = Folder(str(tmp_path))
    folder.write(PATH, encode_shard(shard, Origin("key", UNKNOWN).fingerprint))
    assert complete(folder, "key")
    assert same(read_plain(tmp_path / PATH), shard)
    for name, values in shard.columns.items():
        assert read_column(folder, "m", 1, name).tobytes() == values.tobytes()


def test_schema_is_contract_c2(tmp_path: Path) -> None:
    """Types, order, no nulls, no compression, no dictionary; opened without this package."""
    shard = example()
    Folder(str(tmp_path)).write(PATH, encode_shard(shard, Origin("key", UNKNOWN).fingerprint))
    file = pq.ParquetFile(tmp_path / PATH)
    floats = pa.field("element", pa.float32(), nullable=False)
    expected = [
        pa.field("index", pa.int32(), nullable=False),
        pa.field("image", pa.string(), nullable=False),
        pa.field("feature", pa.list_(floats, 5), nullable=False),
        pa.field("saliency", pa.list_(floats, 8), nullable=False),
        pa.field("input_x_gradient", pa.list_(floats, 8), nullable=False),
    ]
    assert file.schema_arrow.equals(pa.schema(expected))
    for position in range(5):
        column = file.schema.column(position)
        assert column.max_definition_level == column.max_repetition_level == int(position > 1)
        chunk = file.metadata.row_group(0).column(position)
        assert chunk.compression == "UNCOMPRESSED"
        assert not chunk.has_dictionary_page
        assert not any("DICTIONARY" in encoding for encoding in chunk.encodings)
    metadata = file.schema_arrow.metadata
    assert metadata[b"depara.fingerprint"].decode() == Origin("key", UNKNOWN).fingerprint
    assert metadata[b"depara.schema"] == b"1"
    assert int(metadata[b"depara.crc32"], 16) == shard.checksum()
    frame = pd.read_parquet(tmp_path / PATH, partitioning=None)
    assert frame["index"].tolist() == list(range(10, 16))
    assert frame["image"].tolist() == list(shard.images)
    assert np.array_equal(np.stack(frame["saliency"].to_list()), shard.columns["saliency"])


def test_row_groups_depend_on_maps_alone(tmp_path: Path) -> None:
    """Models of one image size have row groups of the same images, whatever their features."""
    folder = Folder(str(tmp_path))
    rng = np.random.default_rng(0)
    maps = rng.random((5, 600_000)).astype(np.float32)
    index = np.arange(5, dtype=np.int32)
    for model, width in (("a", 2), ("b", 700_000)):
        columns = {"feature": np.ones((5, width), np.float32), "saliency": maps}
        shard = Shard(index, ["x"] * 5, columns)
        folder.write(shard_path(model, 0), encode_shard(shard, "k"))
    groups = groups_of(folder, ["a", "b"], 1, "saliency")
    assert [len(a) for a, _ in groups] == [1] * 5
    for a, b in groups:
        assert np.array_equal(a, b)
    assert np.array_equal(np.concatenate([a for a, _ in groups]), maps)


def test_blocks_follow_one_another(tmp_path: Path) -> None:
    """Blocks are read in order and models side by side."""
    folder = Folder(str(tmp_path))
    shards = {(m, b): example(seed=hash((m, b)) % 1000, rows=3 + b) for m in "ab" for b in (0, 1)}
    for (model, block), shard in shards.items():
        folder.write(shard_path(model, block), encode_shard(shard, "k"))
    groups = groups_of(folder, ["b", "a"], 2, "feature")
    for block, (b, a) in enumerate(groups):
        assert np.array_equal(a, shards["a", block].columns["feature"])
        assert np.array_equal(b, shards["b", block].columns["feature"])
    whole = read_column(folder, "a", 2, "feature")
    assert np.array_equal(whole, np.concatenate([g[1] for g in groups]))


def test_paths() -> None:
    """A shard's path tells its model and block again; other paths are not shards."""
    for model, block in (("a.b-c_d", 0), ("m", 123456)):
        assert parse_shard_path(shard_path(model, block)) == (model, block)
    for path in ("shards/model=m/block=1.parquet", "run.json", f"{PATH}.tmp", f"x/{PATH}"):
        assert parse_shard_path(path) is None


def test_fingerprint_changes_with_each_ingredient() -> None:
    """Another model, probe, setting or schema is another fingerprint; another order is not."""
    base = {"model": {"sha256": "a", "embedding": None}, "probe": "p", "block_size": 64}
    keys = {
        fingerprint(**base),
        fingerprint(**{**base, "model": {"sha256": "b", "embedding": None}}),
        fingerprint(**{**base, "model": {"sha256": "a", "embedding": "x"}}),
        fingerprint(**{**base, "probe": "q"}),
        fingerprint(**{**base, "block_size": 65}),
        fingerprint(**base, more=1),
        fingerprint(**{**base, "schema": 0}),
    }
    assert len(keys) == 7
    assert fingerprint(**dict(reversed(base.items()))) == fingerprint(**base)


# --- damage -------------------------------------------------------------------------------------


def test_incomplete_when_missing_or_of_another_key(tmp_path: Path) -> None:
    """No file, another fingerprint, and text that is no Parquet are all incomplete."""
    folder = Folder(str(tmp_path))
    assert not complete(folder, "key")
    folder.write(PATH, encode_shard(example(), Origin("key", UNKNOWN).fingerprint))
    assert complete(folder, "key")
    assert not complete(folder, "another")
    assert not complete(folder, "key", range(9, 15))
    assert not complete(folder, "key", range(10, 15))
    for content in (b"", b"PAR1", b"PAR1" * 5, b"not a shard at all"):
        folder.write(PATH, content)
        assert not complete(folder, "key")


@pytest.mark.parametrize(
    "columns",
    [
        {"index": [1], "image": ["a"]},
        {"index": [1], "image": ["a"], "feature": [1.0]},
        {"index": ["x"], "image": [3], "feature": [[1.0]]},
        {"feature": [[1.0]]},
    ],
)
def test_incomplete_when_written_by_another_schema(
    tmp_path: Path, columns: dict[str, list[object]]
) -> None:
    """Other columns or types under the right fingerprint are incomplete, not a crash."""
    table = pa.table(columns)
    footer = {
        "depara.fingerprint": Origin("key", UNKNOWN).fingerprint,
        "depara.tensors": "",
        "depara.settings": "",
        "depara.crc32": "00000000",
    }
    table = table.replace_schema_metadata(footer)
    (tmp_path / PATH).parent.mkdir(parents=True)
    pq.write_table(table, tmp_path / PATH)
    assert not complete(Folder(str(tmp_path)), "key")


def test_truncated_anywhere_is_incomplete(tmp_path: Path) -> None:
    """A file cut at any of many lengths is incomplete, and reading it names it."""
    folder = Folder(str(tmp_path))
    content = bytes(encode_shard(example(), Origin("key", UNKNOWN).fingerprint))
    for length in [*range(0, len(content), 97), len(content) - 8, len(content) - 1]:
        folder.write(PATH, content[:length])
        assert not complete(folder, "key")
        with pytest.raises(RunError, match=r"block=00000\.parquet: is damaged"):
            read_column(folder, "m", 1, "feature")


def test_every_flipped_byte_is_found_or_harmless(tmp_path: Path) -> None:
    """With any one byte changed a shard is incomplete, or reads exactly as it was written."""
    shard = example()
    folder = Folder(str(tmp_path))
    content = bytes(encode_shard(shard, Origin("key", UNKNOWN).fingerprint))
    rng = random.Random(0)
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    positions = {*rng.sample(range(footer), 150), *rng.sample(range(footer, len(content)), 200)}
    found = 0
    for position in sorted(positions):
        damaged = bytearray(content)
        damaged[position] ^= rng.choice([1, 0x80, 0xFF, 0x20])
        folder.write(PATH, bytes(damaged))
        if not complete(folder, "key"):
            found += 1
            try:
                groups_of(folder, ["m"], 1, "saliency")
            except RunError as error:
                assert str(tmp_path / PATH) in str(error)
                assert "\n" not in str(error)
        else:
            assert same(read_plain(tmp_path / PATH), shard), position
            metadata = pq.read_schema(tmp_path / PATH).metadata
            assert metadata[b"depara.fingerprint"].decode() == Origin("key", UNKNOWN).fingerprint
    assert found > 100


def test_every_changed_value_is_found(tmp_path: Path) -> None:
    """A value changed by one bit, in any column, changes the checksum; so do names and order."""
    shard = example()
    sums = {shard.checksum()}
    for name in shard.columns:
        other = example()
        other.columns[name].view(np.uint32)[3, 2] ^= 1
        sums.add(other.checksum())
    other = example()
    other.index[0] += 1
    sums.add(other.checksum())
    sums.add(Shard(shard.index, [*shard.images[1:], "x"], shard.columns).checksum())
    sums.add(Shard(shard.index, shard.images[::-1], shard.columns).checksum())
    renamed = {("other" if n == "saliency" else n): v for n, v in shard.columns.items()}
    sums.add(Shard(shard.index, shard.images, renamed).checksum())
    assert len(sums) == 8


def test_errors_name_the_file(tmp_path: Path) -> None:
    """A missing shard and a missing column: one line with the file's path."""
    folder = Folder(str(tmp_path))
    folder.write(PATH, encode_shard(example(), Origin("key", UNKNOWN).fingerprint))
    with pytest.raises(RunError, match=r"model=m/block=00001\.parquet: is missing; run"):
        read_column(folder, "m", 2, "feature")
    with pytest.raises(RunError, match=r"block=00000\.parquet: is damaged .*lrp.* does not exist"):
        read_column(folder, "m", 1, "lrp")
    folder.write(
        shard_path("n", 0), encode_shard(example(rows=5), Origin("key", UNKNOWN).fingerprint)
    )
    with pytest.raises(RunError, match=r"model=n/block=00000\.parquet"):
        groups_of(folder, ["m", "n"], 1, "feature")


# --- the folder ---------------------------------------------------------------------------------


def hidden(path: Path) -> list[str]:
    return sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_folder_by_path_and_by_uri(tmp_path: Path, scheme: str) -> None:
    """Written, listed, read, overwritten, deleted; a file:// URI is the local folder."""
    place = tmp_path / "with space" / "run"
    uri = place.as_uri() if scheme else str(place)
    folder = Folder(uri)
    assert folder.files() == []
    assert folder.read("a/b.bin") is None
    folder.write("a/b.bin", b"one")
    folder.write("a/b.bin", b"second")
    folder.write("z.txt", memoryview(b"z"))
    assert folder.read("a/b.bin") == b"second"
    assert folder.files() == ["a/b.bin", "z.txt"]
    assert folder.files("a") == ["a/b.bin"]
    assert folder.local == place
    assert (place / "a" / "b.bin").read_bytes() == b"second"
    folder.delete(["a/b.bin", "not/there"])
    assert folder.files() == ["z.txt"]
    assert hidden(place) == ["z.txt"]


def test_interrupted_write_leaves_what_was_there(tmp_path: Path) -> None:
    """A write broken off leaves the old file, or none, and nothing temporary."""
    folder = Folder(str(tmp_path))
    folder.write("old", b"old")
    gone = memoryview(b"new")
    gone.release()
    for path in ("old", "new"):
        with pytest.raises(ValueError, match="released"):
            folder.write(path, gone)
    assert hidden(tmp_path) == ["old"]
    assert folder.read("old") == b"old"


FILL = """
import resource, signal, sys
from depara_bench.errors import InputError
from depara_bench.storage import Folder
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    Folder(sys.argv[1]).write("old", bytes(5000))
except InputError as error:
    print(error)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limits on this system")
def test_write_cut_short_leaves_what_was_there(tmp_path: Path) -> None:
    """A file that reaches its largest size: one line, the old content, nothing temporary."""
    Folder(str(tmp_path)).write("old", b"old")
    run = subprocess.run(
        [sys.executable, "-c", FILL, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert (
        run.stdout == f"{tmp_path}/old: cannot be written (File too large); choose another --out\n"
    )
    assert hidden(tmp_path) == ["old"]
    assert Folder(str(tmp_path)).read("old") == b"old"


def test_full_disk_is_named(tmp_path: Path) -> None:
    """What a full device answers becomes one line that says so and what to do."""
    full = Path("/dev/full")
    if not full.is_char_device():
        pytest.skip("no /dev/full here")
    with pytest.raises(
        InputError, match=r"^x/y: no space left on the disk; free some and run"
    ) as e:
        with storage_errors("x/y"), full.open("wb", buffering=0) as stream:
            stream.write(b"x")
    assert "\n" not in str(e.value)


def test_full_file_system(tmp_path: Path) -> None:
    """On a full file system: the same line, the old content, nothing temporary."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a small file system is not allowed here")
    try:
        folder = Folder(str(tmp_path))
        folder.write("old", b"old")
        with pytest.raises(InputError, match="no space left on the disk"):
            folder.write("old", bytes(1 << 20))
        assert hidden(tmp_path) == ["old"]
        assert folder.read("old") == b"old"
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    """A file where the folder should be, and an unknown kind of store: one line with the place."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match=r"file/x/y: cannot be written"):
        Folder(str(tmp_path / "file")).write("x/y", b"1")
    with pytest.raises(InputError, match="is a file, not a folder"):
        Folder(str(tmp_path / "file")).files()
    with pytest.raises(InputError, match=r"^nowhere://x: is no address that can be opened"):
        Folder("nowhere://x").files()
