"""The edge of the report: files of a run folder in, files of a run folder out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from depara_bench import tables
from depara_bench.embedded import embedded
from depara_bench.errors import InputError, begun
from depara_bench.owned import is_own
from depara_bench.record import Part, Record, none_there, read_json, read_record
from depara_bench.report.data import ReportData
from depara_bench.report.page import Report, build
from depara_bench.storage import Folder

_ABOUT = "comparison/about.json"
_RUN = ("affinity", "rankings")
_COMPARISON = ("differences", "lambda", "probe_count", "fusion")


class _About(Part):
    """What is shown of comparison/about.json."""

    affinity: dict[str, list[float]]
    targets: int
    gaps: str
    origin: str
    replicates: int
    resamples: int
    ties: dict[str, int]


def write_report(folder: Folder) -> None:
    """Write report.html, report.md and figures/*.svg of a run folder.

    Each file appears whole or not at all, the HTML last; figures of an earlier report that are no
    longer part of it are deleted. The same tables and run.json give the same bytes.
    Raises InputError when run.json or a table is missing or damaged.
    """
    write_pages(folder, files(_build(folder)))


def write_pages(folder: Folder, pages: Mapping[str, str]) -> None:
    """Write pages and figures, content by path; delete the figures of an earlier report."""
    with begun():
        for path, content in pages.items():
            folder.write(path, content.encode("utf-8", errors="replace"))
        folder.delete([p for p in folder.files("figures") if p not in pages and is_own(p)])


def _build(folder: Folder) -> Report:
    data = read(folder)
    try:
        return build(data)
    except (ArithmeticError, LookupError, RecursionError, ValueError) as error:
        # Each table is as it should be by itself: some lack rows that others have.
        command = "reduce" if data.evaluation is None else "compare"
        raise InputError(
            f"{folder.uri}: its tables are damaged and do not fit together ({error}); run"
            f" 'depara-bench {command}' again"
        ) from error


def read(folder: Folder) -> ReportData:
    """What a report is made of. Raises InputError for what is missing or damaged."""
    record = _record(folder)
    affinity, rankings = (tables.read(folder, f"{name}.parquet", record) for name in _RUN)
    if affinity is None or rankings is None:
        raise InputError(f"{folder.uri}: has no affinity yet; run 'depara-bench reduce' first")
    evaluation = tables.read(folder, "evaluation.parquet", record)
    if evaluation is None:
        return ReportData(record, affinity, rankings)
    comparison = {
        name: table
        for name in _COMPARISON
        if (table := tables.read(folder, f"comparison/{name}.parquet", record)) is not None
    }
    about = _about(folder, record)
    return ReportData(record, affinity, rankings, evaluation, comparison, about, _published())


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


def _record(folder: Folder) -> Record:
    record = read_record(folder, part=Part)
    if record is None:
        raise InputError(none_there(folder))
    return record


def _about(folder: Folder, record: Record) -> Mapping[str, Any]:
    damaged = "is damaged; run 'depara-bench compare' again"
    return read_json(folder, _ABOUT, _About, damaged, record) or {}
