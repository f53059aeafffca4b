"""run.json: what a run was, is and has done. Written whole, read with suspicion."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib import metadata
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field

from depara_bench.config import Strict, validate
from depara_bench.errors import InputError
from depara_bench.storage import Folder
from depara_bench.zoo import Name, Role

PATH = "run.json"
SCHEMA = 1
DAMAGED = "is damaged, or no record of 'depara-bench run'; start over with --fresh"
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


class _Run(Part):
    """Fields that a run gets only later, or did not always have, need not be there."""

    schema_: int = Field(alias="schema", ge=SCHEMA, le=SCHEMA)
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


def write_record(folder: Folder, record: Mapping[str, Any]) -> None:
    """Write run.json, whole or not at all."""
    text = json.dumps(record, indent=1, ensure_ascii=False)
    # A file name that is not UTF-8 holds characters that only a \u of JSON can carry.
    folder.write(PATH, text.encode(errors="backslashreplace") + b"\n")


def read_json(folder: Folder, path: str, kind: type[Part], damaged: str) -> Record | None:
    """The JSON object in a file of a run folder, checked as a `kind`; None where there is no file.
    Raises InputError, beginning with `damaged`.
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
    return dict(found)


def read_record(folder: Folder) -> Record | None:
    """The record of a run folder; None when there is none. Raises InputError when it is damaged."""
    return read_json(folder, PATH, _Run, DAMAGED)


def need_record(folder: Folder) -> Record:
    """The record of a run folder. Raises InputError when there is none."""
    record = read_record(folder)
    if record is None:
        raise InputError(
            f"{folder.uri}: holds no run (there is no {PATH}); make one with 'depara-bench run'"
        )
    return record
