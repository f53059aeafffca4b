"""run.json: what a run was, is and has done. Written whole, read with suspicion.

It holds a checksum of itself, and those of the files that are read again; so a bit that tipped over
on the disk is one line and no other number.
"""

from __future__ import annotations

import json
import platform
import zlib
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib import metadata
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, ConfigDict, Field

from depara_bench.config import Strict, validate
from depara_bench.errors import InputError
from depara_bench.storage import Folder
from depara_bench.zoo import Name, Role

PATH = "run.json"
SCHEMA = 1
CHECKSUM = "checksum"
TABLES = "tables"

Kind = Literal["run", "layers", "probes"]
RUN: Kind = "run"

_MEND = {
    "run": "is damaged, or no record of 'depara-bench run'; start over with --fresh",
    "layers": "is damaged; run 'depara-bench layers' again",
    "probes": "is damaged; run 'depara-bench probes' again",
}
_HELD = {
    "run": "a run (kind 'run'): 'depara-bench run', 'extract', 'reduce', 'compare' and 'report'",
    "layers": "a layer selection (kind 'layers'): 'depara-bench layers' and 'report'",
    "probes": "a run on several probe sets (kind 'probes'): 'depara-bench probes' and 'report'",
}
_PACKAGES = (
    "depara-bench", "torch", "torchvision", "numpy", "pandas", "pyarrow", "scipy", "ray",
    "scikit-learn", "zennit", "captum",
)  # fmt: skip

Record = dict[str, Any]


class Part(Strict):
    """What is read again of a file that a run wrote, in the types it was written in; whatever else
    stands there is let through.
    """

    model_config = ConfigDict(extra="ignore", strict=True, populate_by_name=False)


class _Attribution(Part):
    methods: list[Name] = Field(min_length=1)
    arguments: dict[str, Any] = Field(default={})


class _Edges(Part):
    center: bool
    ties: Literal["average", "ordinal"] = "average"


class _Resources(Part):
    cpus: int = Field(ge=1)


class _Job(Part):
    attribution: _Attribution
    block_size: int = Field(ge=1)
    edges: _Edges
    lambda_: float = Field(alias="lambda")
    methods: list[str] = Field(default=[])
    probe: dict[str, Any] = Field(default={})
    resources: _Resources


class _Model(Part):
    name: Name
    roles: list[Role]
    fingerprint: str


def _once(models: list[_Model]) -> list[_Model]:
    for name, count in Counter(model.name for model in models).items():
        if count > 1:
            raise ValueError(f"'{name}' is there {count} times")
    return models


class _Zoo(Part):
    name: Name
    models: Annotated[list[_Model], AfterValidator(_once)]


class _Probe(Part):
    count: int = Field(ge=1, le=10_000_000)


class _Failure(Part):
    model: str
    error: str


class _Cost(Part):
    needs: list[str] = Field(default=[])
    seconds: float | None = None
    peak_mb: float | None = None


class Base(Part):
    """What the records of all kinds of runs hold; earlier versions wrote no kind and no tables."""

    schema_: int = Field(alias="schema", ge=SCHEMA, le=SCHEMA)
    kind: Kind = RUN
    tables: dict[str, list[str]] = Field(default={})


class _Run(Base):
    """Fields that a run gets only later, or did not always have, need not be there."""

    job: _Job
    zoo: _Zoo
    probe: _Probe
    seconds: dict[str, float]
    failures: list[_Failure]
    attribution_notes: dict[str, dict[str, list[str]]] = Field(default={})
    engine: dict[str, Any] = Field(default={})
    methods: dict[str, _Cost] = Field(default={})
    shards: dict[str, Any] = Field(default={})
    versions: dict[str, str] = Field(default={})
    zeros: dict[str, dict[str, int]] = Field(default={})


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that the numbers pass through."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def completed(record: Mapping[str, Any]) -> list[Record]:
    """The models of a run that came through: what its record says of each."""
    failed = {failure["model"] for failure in record["failures"]}
    return [model for model in record["zoo"]["models"] if model["name"] not in failed]


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def checksum(content: bytes | memoryview) -> str:
    """CRC-32 of a file's bytes, in hexadecimal."""
    return f"{zlib.crc32(content):08x}"


def write_record(folder: Folder, record: Mapping[str, Any]) -> None:
    """Write run.json, whole or not at all, with a checksum of itself."""
    rest = {key: value for key, value in record.items() if key != CHECKSUM}
    text = json.dumps(rest | {CHECKSUM: _own_checksum(rest)}, indent=1, ensure_ascii=False)
    # A file name that is not UTF-8 holds characters that only a \u of JSON can carry.
    folder.write(PATH, text.encode(errors="backslashreplace") + b"\n")


def _own_checksum(record: Mapping[str, Any]) -> str:
    """Of the values, however they are laid out and escaped, as they come back from JSON."""
    read = json.loads(json.dumps(record))
    return checksum(json.dumps(read, sort_keys=True, separators=(",", ":")).encode())


def keep(folder: Folder, record: Record, contents: Mapping[str, bytes]) -> None:
    """Write files that are read again, in this order, and note their checksums in run.json.

    Until all are written, run.json allows for what was there and for what comes: whenever a process
    is killed, each file fits it.
    """
    noted: dict[str, list[str]] = record.setdefault(TABLES, {})
    coming = {path: checksum(content) for path, content in contents.items()}
    before = {path: [*noted[path], coming[path]] for path in coming if path in noted}
    if before:
        write_record(folder, record | {TABLES: noted | before})
    for path, content in contents.items():
        folder.write(path, content)
    noted.update({path: [one] for path, one in coming.items()})
    write_record(folder, record)


def verify(record: Mapping[str, Any] | None, path: str, content: bytes) -> None:
    """Raise ValueError when a file is not as run.json notes it. Without a record, or a note in it
    (an earlier version wrote none), there is nothing to go by.
    """
    noted = (record or {}).get(TABLES, {}).get(path)
    if noted is not None and checksum(content) not in noted:
        raise ValueError("its checksum is not the one in run.json")


def read_json(
    folder: Folder,
    path: str,
    kind: type[Part],
    damaged: str,
    record: Mapping[str, Any] | None = None,
) -> Record | None:
    """The JSON object in a file of a run folder, checked as a `kind`, and by what the record of the
    run notes of it; None where there is no file. Raises InputError, beginning with `damaged`.
    """
    content = folder.read(path)
    if content is None:
        return None
    where = f"{folder.uri}/{path}: {damaged}"
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: {error}") from error
    validate(kind, found, where)
    try:
        verify(record, path, content)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error
    return dict(found)


class OtherKindError(InputError):
    """The folder holds a run of another kind than the one that is asked for."""


def read_kind(folder: Folder) -> Kind | None:
    """Which kind of run a folder holds; None where there is no run.json. Raises InputError when it
    is damaged.
    """
    record = read_json(folder, PATH, Part, _MEND[RUN])
    return None if record is None else _kind(record)


def read_record(folder: Folder, kind: Kind = RUN, part: type[Part] = _Run) -> Record | None:
    """The record of a run folder, checked as a `part`; None when there is none.

    Raises InputError when it is damaged, OtherKindError when the folder holds another kind of run.
    """
    record = read_json(folder, PATH, Part, _MEND[kind])
    if record is None:
        return None
    held = _kind(record)
    if held != kind:
        raise OtherKindError(f"{folder.uri}: holds {_HELD[held]} work on it, and no other command")
    where = f"{folder.uri}/{PATH}: {_MEND[kind]}"
    validate(part, record, where)
    noted = record.pop(CHECKSUM, None)  # earlier versions wrote none
    if noted is not None and noted != _own_checksum(record):
        raise InputError(f"{where}: its values are not those that were written (checksum)")
    return record


def read_earlier(folder: Folder, kind: Kind, table: str) -> Record:
    """The record of the run that is made anew in this folder; empty where there is none, or a
    damaged one beside `table`, by which the folder is known to be of that kind.

    Raises InputError for a folder that holds something else.
    """
    try:
        return read_record(folder, kind, Base) or {}
    except OtherKindError as error:
        raise InputError(f"{error}; choose another --out") from error
    except InputError as error:
        if folder.read(table) is None:
            raise InputError(f"{error}; or choose another --out") from error
        return {}


def _kind(record: Mapping[str, Any]) -> Kind:
    """The kind of a record; of an earlier version, which did not say it, by what is in it. Of one
    that says nonsense, a run's: which is then found to be damaged.
    """
    told = record.get("kind", "layers" if "target_layer" in record else RUN)
    return next((kind for kind in get_args(Kind) if kind == told), RUN)


def need_record(folder: Folder) -> Record:
    """The record of a run folder. Raises InputError when there is none."""
    record = read_record(folder)
    if record is None:
        raise InputError(none_there(folder))
    return record


def none_there(folder: Folder) -> str:
    """What is said of a folder without run.json."""
    return f"{folder.uri}: holds no run (there is no {PATH}); make one with 'depara-bench run'"
