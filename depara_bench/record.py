"""run.json: what a run was, is and has done. Written whole, read with suspicion."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib import metadata
from typing import Any

from depara_bench.errors import InputError
from depara_bench.storage import Folder

PATH = "run.json"
SCHEMA = 1
_PACKAGES = (
    "depara-bench", "torch", "torchvision", "numpy", "pandas", "pyarrow", "scipy", "ray",
    "scikit-learn", "zennit", "captum",
)  # fmt: skip

Record = dict[str, Any]


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that the numbers pass through."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def write_record(folder: Folder, record: Mapping[str, Any]) -> None:
    """Write run.json, whole or not at all."""
    folder.write(PATH, json.dumps(record, indent=1, ensure_ascii=False).encode() + b"\n")


def read_record(folder: Folder) -> Record | None:
    """The record of a run folder; None when there is none. Raises InputError when it is damaged."""
    content = folder.read(PATH)
    if content is None:
        return None
    try:
        record = json.loads(content)
        if record["schema"] != SCHEMA or not isinstance(record["job"], dict):
            raise ValueError("written by another version")
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder.uri}/{PATH}: is damaged ({error}); start over with --fresh"
        ) from error
    return dict(record)


def need_record(folder: Folder) -> Record:
    """The record of a run folder. Raises InputError when there is none."""
    record = read_record(folder)
    if record is None:
        raise InputError(
            f"{folder.uri}: holds no run (there is no {PATH}); make one with 'depara-bench run'"
        )
    return record
