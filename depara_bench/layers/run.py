"""`depara-bench layers`: similarities, their judgement and a report, written into a folder."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from depara_bench import record as records
from depara_bench.engine import Engine
from depara_bench.layers import select as sel
from depara_bench.layers.job import LayersFile
from depara_bench.layers.judge import evaluate, sweep
from depara_bench.layers.report import LayersReport, layers_report
from depara_bench.layers.truth import by_layer, from_scratch, read_accuracies
from depara_bench.loaders.weights import file_sha256
from depara_bench.plan import check_sizes, small_images
from depara_bench.probe import load_probe
from depara_bench.run import locked
from depara_bench.storage import Folder
from depara_bench.tables import write_table
from depara_bench.terminal import Terminal

LAYERS = "layers.parquet"
EVALUATION = "evaluation.parquet"
SWEEP = "lambda.parquet"


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
        begin = time.perf_counter()
        with terminal.progress("layers", 1 + 2 * len(plan.layers), "networks") as advance:
            found = sel.select(plan, engine, advance)
        seconds["similarity"] = round(time.perf_counter() - begin, 3)
        begin = time.perf_counter()
        similarities = sel.table(found, file.job.lambda_)
        evaluation = evaluate(found.layers, truth.accuracies, file.job.lambda_) if truth else None
        swept = sweep(found.layers, truth.accuracies) if truth else None
        record = _record(plan, engine, started, found.zeros)
        record["seconds"] = {**seconds, "judge": round(time.perf_counter() - begin, 3)}
        record["finished"] = records.now()
        pages = layers_report(
            LayersReport(
                record=record,
                layers=found.layers,
                weights=file.job.lambda_,
                fractions=file.job.measure.fractions,
                accuracies=truth.accuracies if truth else {},
                scratch=truth.scratch if truth else {},
                evaluation=evaluation,
                sweep=swept,
            )
        )
        write_table(folder, LAYERS, similarities)
        if evaluation is not None and swept is not None:
            write_table(folder, EVALUATION, evaluation)
            write_table(folder, SWEEP, swept)
        else:
            folder.delete([EVALUATION, SWEEP])  # of an earlier run
        records.write_record(folder, record)
        for path, content in pages.items():
            folder.write(path, content.encode("utf-8", errors="replace"))
        folder.delete([path for path in folder.files("figures") if path not in pages])
    return pd.DataFrame() if evaluation is None else evaluation


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
