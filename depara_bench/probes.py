"""Does it matter which images are the probe? One job on several probe sets, judged by one truth.

Each probe set is a run of its own, in a folder of its own; what is added here is one table of all.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field, ValidationInfo, field_validator

from depara_bench import record as records
from depara_bench.compare import EVALUATION, compare_run, find_default
from depara_bench.config import Strict, apply_overrides, read_yaml, validate
from depara_bench.engine import Engine
from depara_bench.errors import InputError, begun, path_errors
from depara_bench.evaluate import compare_sentence
from depara_bench.intervals import ROUNDING, Limits
from depara_bench.job import Finite, JobFile, find_job, load_job
from depara_bench.judge import overall
from depara_bench.probe import Probe, ProbeSpec, load_probe
from depara_bench.report.probes import probes_report
from depara_bench.run import locked, report_run, run
from depara_bench.simultaneous import paired
from depara_bench.storage import Folder
from depara_bench.tables import encode, read_table
from depara_bench.terminal import Terminal
from depara_bench.truth.table import read_truth
from depara_bench.zoo import Name, find_manifest, load_zoo

KIND: records.Kind = "probes"
TABLE = "probes.parquet"
METRICS: tuple[tuple[str, int | None], ...] = (("p@k", 1), ("p@k", 5), ("spearman", None))


class ProbesJob(Strict):
    """Which probe sets: jobs/rooms-probes.yaml.

    job: the job that is run on each of them, its own probe left aside. truth: as `compare --truth`
    takes it. probes: at least two, by name; the first is what the others are compared with.
    lambdas: of some of them, by name, in place of the job's.
    """

    name: Name
    job: str
    truth: str | None = None
    probes: dict[Name, ProbeSpec]
    lambdas: dict[Name, Finite] = Field(default={})

    @field_validator("probes")
    @classmethod
    def _sets(cls, probes: dict[str, ProbeSpec]) -> dict[str, ProbeSpec]:
        if len(probes) < 2:
            raise ValueError("name at least two probe sets")
        for name in probes:
            if name in ("figures", "shards"):
                raise ValueError(f"'{name}' is no name of a probe set; choose another")
        return probes

    @field_validator("lambdas")
    @classmethod
    def _of_sets(cls, lambdas: dict[str, float], info: ValidationInfo) -> dict[str, float]:
        for name in lambdas:
            if name not in info.data.get("probes", lambdas):
                raise ValueError(f"'{name}' is none of the probe sets; remove it")
        return lambdas


@dataclass(frozen=True)
class ProbesFile:
    """A job on several probes: its own, the one it is based on, and where its paths start."""

    job: ProbesJob
    base: JobFile
    path: Path


def load_probes_job(reference: str, overrides: Sequence[str] = ()) -> ProbesFile:
    """A checked job with `--set` applied. Raises InputError naming file and field."""
    path = find_job(reference)
    content = apply_overrides(read_yaml(path), overrides, _absolute)
    job = validate(ProbesJob, content, str(path))
    beside = path.parent / job.job
    return ProbesFile(job, load_job(str(beside) if beside.is_file() else job.job), path)


def _absolute(key: str, value: object, text: str) -> object:
    """A path that `--set` gives is meant from where the user stands."""
    parts = key.split(".")
    is_path = len(parts) == 3 and parts[0] == "probes" and parts[2] in ("path", "root")
    with path_errors(f"--set {key}={text}"):
        return str(Path(text.strip()).expanduser().resolve()) if is_path and value else value


def run_probes(
    file: ProbesFile, out: Folder, engine: Engine, terminal: Terminal
) -> tuple[pd.DataFrame, records.Record]:
    """Run, compare and report each probe set in a folder of its name in `out`; write the table of
    all, its pages and its record. Returns the table, see `probes_table`, and the record. What is
    there and fits is not computed again.
    """
    folder, started, truth = out, records.now(), _find_truth(file)
    runs = _runs(file)
    # All probe sets are read before the first run starts: a mistake in the last is known at once.
    thumbnails = {
        name: _thumbnails(load_probe(one.job.probe, one.base)) for name, one in runs.items()
    }
    with locked(folder):
        noted = records.read_earlier(folder, KIND, TABLE).get(records.TABLES, {})
        evaluations: dict[str, pd.DataFrame] = {}
        done: list[records.Record] = []
        for name, one in runs.items():
            terminal.say(f"probe set '{name}'")
            below = folder.below(name)
            with begun() if evaluations else nullcontext():
                record = run(one, below, engine, terminal)
            with begun():
                compare_run(below, record, truth, terminal, replicates=0)
                report_run(below, record, terminal)
                evaluations[name] = read_table(below, EVALUATION, record)
            done.append(record)
        failures = [failure for record in done for failure in record["failures"]]
        table = probes_table(evaluations)
        record = {
            "schema": records.SCHEMA,
            "kind": KIND,
            "status": "partial" if failures else "done",
            "started": started,
            "finished": records.now(),
            "job": file.job.model_dump(mode="json"),
            "versions": records.versions(),
            "engine": {"name": engine.name},
            "failures": failures,
            "thumbnails": thumbnails,
            records.TABLES: dict(noted),
        }
        with begun():
            records.keep(folder, record, {TABLE: encode(table)})
            _write_pages(folder, record, table)
    return table, record


def _find_truth(file: ProbesFile) -> str:
    """The name or path of the truth, which can be read. Raises InputError where it cannot."""
    truth = file.job.truth
    if truth is None:
        zoo = load_zoo(find_manifest(file.base.job.zoo, file.base.base))
        truth = find_default({"zoo": {"name": zoo.name}})
    read_truth(truth, Path())
    return truth


def _runs(file: ProbesFile) -> dict[str, JobFile]:
    """The job of each probe set, by its name."""
    zoo, manifest = file.base.job.zoo, find_manifest(file.base.job.zoo, file.base.base)
    if zoo.endswith((".yaml", ".yml")):  # a path is meant from the base job, not from this one
        zoo = str(manifest)
    runs: dict[str, JobFile] = {}
    for name, probe in file.job.probes.items():
        weight = file.job.lambdas.get(name, file.base.job.lambda_)
        named = f"{file.job.name}-{name}"
        fields = {"name": named, "zoo": zoo, "probe": probe, "lambda_": weight}
        runs[name] = JobFile(file.base.job.model_copy(update=fields), file.path)
    return runs


class _Job(records.Part):
    name: Name


class _Record(records.Base):
    """What of run.json a report is made of."""

    status: str
    finished: str
    job: _Job
    failures: list[dict[str, str]]
    thumbnails: dict[str, list[str]]


def report_probes(folder: Folder) -> records.Record:
    """Write the report on several probe sets once more, from its table; those of the probe sets are
    reports of their own. Returns its record. Raises InputError where something is damaged.
    """
    record = records.read_record(folder, KIND, _Record)
    if record is None:
        raise InputError(records.none_there(folder))
    _write_pages(folder, record, read_table(folder, TABLE, record, KIND))
    return record


def _write_pages(folder: Folder, record: Mapping[str, Any], table: pd.DataFrame) -> None:
    html, markdown = probes_report(
        record["job"]["name"], table, record["thumbnails"], record["finished"]
    )
    with begun():
        folder.write("report.md", markdown.encode())
        folder.write("report.html", html.encode())


def probes_table(evaluations: Mapping[str, pd.DataFrame], seed: int = 0) -> pd.DataFrame:
    """Rows method, probe, metric, k, value, low, high, difference, difference_low, difference_high,
    joint_low, joint_high, sentence: scores over all targets of each probe set (tables of contract
    C5, by name), with the paired difference to the first set over the targets that both have. The
    joint interval holds for all methods and probe sets of the metric at once, and the sentence is
    what it allows.
    """
    first = next(iter(evaluations))
    apart = {key: _apart(evaluations, first, *key) for key in METRICS}
    # What does not look at the images differs by nothing, whatever is measured.
    alike = {
        pair
        for pair in apart["spearman", None]
        if all((f[pair].abs() <= ROUNDING).all() for f in apart.values() if pair in f)
    }
    frames = []
    for key, found in apart.items():
        table = _scores(evaluations, *key)
        differences = _paired(found, alike, key, first, seed)
        frames.append(table.merge(differences, on=["method", "probe"], how="left"))
    table = pd.concat(frames, ignore_index=True)
    table["sentence"] = table["sentence"].fillna("")
    return table.astype({"k": "Int32", "probe": object, "sentence": object})


def _scores(evaluations: Mapping[str, pd.DataFrame], metric: str, k: int | None) -> pd.DataFrame:
    """Rows method, probe, metric, k, value, low, high, probe set by probe set."""
    frames = []
    for probe, evaluation in evaluations.items():
        means = overall(evaluation, metric, k).reset_index()
        frames.append(means.assign(probe=probe, k=k))
    names = ["method", "probe", "metric", "k", "value", "low", "high"]
    return pd.concat(frames, ignore_index=True)[names].astype({"k": object})


def _apart(
    evaluations: Mapping[str, pd.DataFrame], first: str, metric: str, k: int | None
) -> dict[tuple[str, str], pd.Series]:
    """Differences to the first probe set, target by target, by method and probe set."""
    values = {name: _by_target(one, metric, k) for name, one in evaluations.items()}
    there = values.pop(first)
    found = {
        (method, probe): (here[method] - there[method]).dropna()
        for probe, here in values.items()
        for method in here.columns.intersection(there.columns)
    }
    return {pair: differences for pair, differences in found.items() if len(differences)}


def _paired(
    apart: Mapping[tuple[str, str], pd.Series],
    alike: Collection[tuple[str, str]],
    key: tuple[str, int | None],
    first: str,
    seed: int,
) -> pd.DataFrame:
    """Rows method, probe, difference, its ends alone and joint, sentence. alike: pairs that can
    differ by nothing.
    """
    limits = (Limits(0.0, 1.0) if key[0] == "p@k" else Limits(-1.0, 1.0)).difference
    found = paired(
        pd.DataFrame(apart).to_numpy(np.float64),
        [Limits(0.0, 0.0) if pair in alike else limits for pair in apart],
        seed,
    )
    return pd.DataFrame(
        {
            "method": [method for method, _ in apart],
            "probe": [probe for _, probe in apart],
            "difference": found.value,
            "difference_low": found.low,
            "difference_high": found.high,
            "joint_low": found.joint_low,
            "joint_high": found.joint_high,
            "sentence": [
                compare_sentence(probe, first, found.joint(place))
                for place, (_, probe) in enumerate(apart)
            ],
        }
    ).astype({"method": object, "probe": object, "sentence": object})


def _by_target(evaluation: pd.DataFrame, metric: str, k: int | None) -> pd.DataFrame:
    """Values with targets as rows and methods as columns."""
    rows = evaluation[evaluation["target"].notna() & (evaluation["metric"] == metric)]
    rows = rows[rows["k"].isna() if k is None else rows["k"] == k]
    return rows.pivot(index="target", columns="method", values="value")


def _thumbnails(probe: Probe, count: int = 6, side: int = 64) -> list[str]:
    """The first images as data URIs of PNG files, at most `side` pixels."""
    from PIL import Image

    found = []
    for index in range(min(count, len(probe))):
        picture = Image.fromarray(probe.image(index))
        picture.thumbnail((side, side))
        stream = io.BytesIO()
        picture.save(stream, "PNG")
        found.append(f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}")
    return found
