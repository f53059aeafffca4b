"""The edge of the report: files of a run folder in, files of a run folder out."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from depara_bench.embedded import embedded
from depara_bench.errors import InputError
from depara_bench.report.data import ReportData
from depara_bench.report.page import Report, build
from depara_bench.storage import Folder

AFFINITY = ("method", "target", "source", "value")
RANKINGS = ("method", "target", "rank", "source", "value")
_COMPARISON = {
    "differences": "method", "lambda": "method", "probe_count": "method", "fusion": "target",
}  # fmt: skip
EVALUATION = ("method", "truth", "metric", "k", "target", "value", "low", "high")


def write_report(folder: Folder) -> None:
    """Write report.html, report.md and figures/*.svg of a run folder.

    Each file appears whole or not at all, the HTML last; figures of an earlier report that are no
    longer part of it are deleted. The same tables and run.json give the same bytes.
    Raises InputError when run.json or a table is missing or damaged.
    """
    found = files(build(read(folder)))
    for path, content in found.items():
        folder.write(path, content.encode("utf-8", errors="replace"))
    folder.delete([path for path in folder.files("figures") if path not in found])


def read(folder: Folder) -> ReportData:
    """What a report is made of. Raises InputError for what is missing or damaged."""
    affinity = _table(folder, "affinity.parquet", AFFINITY)
    rankings = _table(folder, "rankings.parquet", RANKINGS)
    if affinity is None or rankings is None:
        raise InputError(f"{folder.uri}: has no affinity yet; run 'depara-bench reduce' first")
    if affinity.empty:
        raise InputError(f"{folder.uri}/affinity.parquet: holds no pair")
    evaluation = _table(folder, "evaluation.parquet", EVALUATION)
    if evaluation is None:
        return ReportData(_record(folder), affinity, rankings)
    comparison = {
        name: table
        for name, column in _COMPARISON.items()
        if (table := _table(folder, f"comparison/{name}.parquet", (column,))) is not None
    }
    about = _json(folder, "comparison/about.json") or {}
    return ReportData(
        _record(folder), affinity, rankings, evaluation, comparison, about, _published()
    )


def _published() -> pd.DataFrame | None:
    """The hit counts of the papers' figures; None where this installation has no Taskonomy zoo."""
    try:
        return pd.read_csv(embedded("zoo", "taskonomy", "published", "hits.csv"))
    except InputError:
        return None


def files(report: Report) -> dict[str, str]:
    """Content by path: figures first, so that no page ever links to one that is not there."""
    figures = {f"figures/{name}.svg": svg for name, svg in report.figures.items()}
    return {**figures, "report.md": report.markdown, "report.html": report.html}


def _record(folder: Folder) -> Mapping[str, Any]:
    record = _json(folder, "run.json")
    if record is None:
        raise InputError(f"{folder.uri}: holds no run (there is no run.json)")
    return record


def _json(folder: Folder, path: str) -> Mapping[str, Any] | None:
    content = folder.read(path)
    if content is None:
        return None
    try:
        found = json.loads(content)
    except ValueError as error:
        raise InputError(f"{folder.uri}/{path}: is damaged ({error})") from error
    if not isinstance(found, dict):
        raise InputError(f"{folder.uri}/{path}: is damaged (not an object)")
    return found


def _table(folder: Folder, path: str, columns: tuple[str, ...]) -> pd.DataFrame | None:
    content = folder.read(path)
    if content is None:
        return None
    try:
        table = pd.read_parquet(io.BytesIO(content))
    except (ValueError, OSError) as error:  # pyarrow's errors are among these
        raise InputError(f"{folder.uri}/{path}: is damaged ({error})") from error
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise InputError(f"{folder.uri}/{path}: has no column '{missing[0]}'")
    return table
