"""`depara-bench layers`: similarities, their judgement and a report, written into a folder."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from depara_bench import record as records
from depara_bench.engine import Engine
from depara_bench.errors import InputError, begun
from depara_bench.layers import select as sel
from depara_bench.layers.job import LayersFile
from depara_bench.layers.judge import evaluate, sweep
from depara_bench.layers.report import (
    ACCURACIES,
    EVALUATION,
    LAYERS,
    SWEEP,
    accuracy_table,
    from_tables,
    layers_report,
)
from depara_bench.layers.truth import by_layer, from_scratch, read_accuracies
from depara_bench.loaders.weights import file_sha256
from depara_bench.plan import check_sizes, small_images
from depara_bench.probe import load_probe
from depara_bench.report.write import write_pages
from depara_bench.run import locked
from depara_bench.storage import Folder
from depara_bench.tables import encode, read, read_table
from depara_bench.terminal import Terminal

KIND: records.Kind = "layers"


@dataclass(frozen=True)
class _Truth:
    accuracies: Mapping[tuple[str, str], np.ndarray]
    scratch: Mapping[str, float]


def run_layers(
    file: LayersFile,
    folder: Folder,
    engine: Engine,
    terminal: Terminal,
    *,
    allow_code: bool = False,
) -> pd.DataFrame:
    """Compute, judge and report; returns the evaluation, empty without a truth.

    Everything that can be wrong with the input is found before the work starts, and everything is
    written at its end: a run that is stopped leaves what was there before.
    """
    started, seconds = records.now(), {}
    begin = time.perf_counter()
    probe = load_probe(file.job.probe, file.base)
    for remark in probe.remarks:
        terminal.say(remark)
    plan = sel.make_plan(file, probe, allow_code=allow_code)
    names = (*file.job.sources, file.job.target)
    inputs = {name: file.spec(name).input for name in names}
    check_sizes(probe, inputs)
    if line := small_images(probe, inputs):
        terminal.say(line)
    truth = _truth(plan)
    seconds["check"] = round(time.perf_counter() - begin, 3)
    with locked(folder):
        earlier = records.read_earlier(folder, KIND, LAYERS)
        begin = time.perf_counter()
        with terminal.progress("layers", 1 + 2 * len(plan.layers), "networks") as advance:
            found = sel.select(plan, engine, advance)
        seconds["similarity"] = round(time.perf_counter() - begin, 3)
        begin = time.perf_counter()
        made = _tables(file, found, truth)
        record = _record(plan, engine, started, found.zeros)
        record["seconds"] = {**seconds, "judge": round(time.perf_counter() - begin, 3)}
        record["finished"] = records.now()
        record["scratch"] = dict(truth.scratch) if truth else {}
        with begun():
            _write(folder, record, made, earlier)
    return made.get(EVALUATION, pd.DataFrame())


def _tables(
    file: LayersFile, found: sel.Selection, truth: _Truth | None
) -> dict[str, pd.DataFrame]:
    """The tables by the names of their files."""
    weights = file.job.lambda_
    made = {LAYERS: sel.table(found, weights)}
    if truth is not None:
        made[EVALUATION] = evaluate(found.layers, truth.accuracies, weights)
        made[SWEEP] = sweep(found.layers, truth.accuracies)
        made[ACCURACIES] = accuracy_table(truth.accuracies, found.layers)
    return made


def _write(
    folder: Folder,
    record: records.Record,
    made: Mapping[str, pd.DataFrame],
    earlier: Mapping[str, Any],
) -> None:
    pages = layers_report(from_tables(record, made))
    noted = dict(earlier.get(records.TABLES, {}))
    absent = [path for path in (EVALUATION, SWEEP, ACCURACIES) if path not in made]
    folder.delete(absent)  # of an earlier run
    record[records.TABLES] = {path: sums for path, sums in noted.items() if path not in absent}
    records.keep(folder, record, {path: encode(table) for path, table in made.items()})
    write_pages(folder, pages)


class _Job(records.Part):
    name: str
    target: str
    activation: str
    scalar: str
    channels: str
    edges: dict[str, bool | str]
    lambda_: dict[str, float] = Field(alias="lambda")
    measure: dict[str, Any]


class _Record(records.Base):
    """What of run.json a report is made of."""

    status: str
    started: str
    finished: str
    target_layer: str
    job: _Job
    probe: dict[str, Any]
    versions: dict[str, str]
    zeros: dict[str, int]
    scratch: dict[str, float] = Field(default={})


def report_layers(folder: Folder) -> records.Record:
    """Write the report of a layer selection once more, from its tables. Returns its record.

    Raises InputError where run.json or a table is damaged, or missing.
    """
    record = records.read_record(folder, KIND, _Record)
    if record is None:
        raise InputError(records.none_there(folder))
    found = {LAYERS: read_table(folder, LAYERS, record, KIND)}
    evaluation = read(folder, EVALUATION, record, KIND)
    if evaluation is not None:
        found[EVALUATION] = evaluation
        for path in (SWEEP, ACCURACIES):
            found[path] = read_table(folder, path, record, KIND)
    try:
        pages = layers_report(from_tables(record, found))
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise InputError(
            f"{folder.uri}: run.json and the tables do not fit together ({error!r}); run"
            f" 'depara-bench layers' again"
        ) from error
    write_pages(folder, pages)
    return record


def _truth(plan: sel.Plan) -> _Truth | None:
    job = plan.file.job
    if job.truth is None:
        return None
    path = Path(plan.file.base / job.truth)
    table, shares = read_accuracies(path), job.measure.fractions
    names = {source: [name for name, _ in layers] for source, layers in plan.layers.items()}
    return _Truth(by_layer(table, names, shares, path), from_scratch(table, shares))


def _record(
    plan: sel.Plan, engine: Engine, started: str, zeros: Mapping[str, int]
) -> records.Record:
    job = plan.file.job
    wanted = (*job.sources, job.target)
    return {
        "schema": records.SCHEMA,
        "kind": KIND,
        "status": "done",
        "started": started,
        "job": job.model_dump(mode="json", by_alias=True),
        "zoo": {
            "name": plan.file.zoo.name,
            "manifest_sha256": file_sha256(plan.file.manifest),
            "models": [
                plan.file.spec(name).model_dump(mode="json", exclude_none=True) for name in wanted
            ],
        },
        "target_layer": plan.last,
        "probe": {
            "kind": job.probe.kind,
            "count": len(plan.probe),
            "sha256": plan.probe.sha256,
            "skipped": [{"image": image, "reason": why} for image, why in plan.probe.skipped],
        },
        "versions": records.versions(),
        "engine": {"name": engine.name},
        "failures": [],
        "zeros": dict(zeros),
    }
