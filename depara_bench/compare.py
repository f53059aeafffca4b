"""Judge a run: affinities against a truth, with error bars, lambda left open, fewer images.

Reads affinity.parquet and, where they are there, the shards; writes evaluation.parquet (contract
C5), the error bars of affinity.parquet, and the tables of comparison/.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from depara_bench import record as records
from depara_bench.config import nearest
from depara_bench.differences import differences
from depara_bench.embedded import embedded
from depara_bench.errors import InputError, begun
from depara_bench.intervals import FEWEST, NO_INTERVAL, RESAMPLES
from depara_bench.judge import (
    DRAWS,
    Case,
    Place,
    lambda_table,
    overall,
    probe_counts,
    probe_frame,
    score,
    with_bars,
    with_fusion,
)
from depara_bench.pipeline import stage
from depara_bench.probe_data import check_same, read_probe_data
from depara_bench.record import Record
from depara_bench.report.sketch import sketch
from depara_bench.similarity.resample import bootstrap_counts
from depara_bench.storage import Folder
from depara_bench.sweep import Judge, probe_sizes
from depara_bench.tables import encode, read_table
from depara_bench.terminal import Terminal
from depara_bench.truth.gaps import find_gaps
from depara_bench.truth.table import Truth, read_truth

AFFINITY = "affinity.parquet"
ABOUT = "comparison/about.json"
DIFFERENCES = "comparison/differences.parquet"
LAMBDA = "comparison/lambda.parquet"
PROBE_COUNT = "comparison/probe_count.parquet"
FUSION = "comparison/fusion.parquet"
EVALUATION = "evaluation.parquet"


@dataclass(frozen=True)
class Comparison:
    """The tables that were written, and what is noted in run.json."""

    evaluation: pd.DataFrame
    differences: pd.DataFrame
    sweep: pd.DataFrame
    probe_count: pd.DataFrame
    fusion: pd.DataFrame
    about: dict[str, Any]

    def summary(self) -> list[tuple[str, ...]]:
        """Method, P@1, P@5 and Spearman of every method and baseline: "0.81 [0.70, 0.91]"."""
        wanted: list[tuple[str, int | None]] = [("p@k", 1), ("p@k", 5), ("spearman", None)]
        rows = [overall(self.evaluation, *key) for key in wanted]
        names = [str(name) for name in self.evaluation["method"].unique()]
        return [(name, *(_cell(table, name) for table in rows)) for name in names]

    def remark(self) -> str | None:
        """What is to be said of the intervals; None where there are any."""
        return NO_INTERVAL if self.about["targets"] < FEWEST else None

    def best_two(self) -> str | None:
        """The sentence on the two methods with the highest Spearman; None with fewer than two."""
        table = self.differences[self.differences["metric"] == "spearman"]
        means = overall(self.evaluation, "spearman").loc[list(self.about["methods"])]
        order = means["value"].sort_values(ascending=False, kind="stable").index[:2]
        both = table[table["method"].isin(order) & table["other"].isin(order)]
        return None if both.empty else str(both["sentence"].iloc[0])


def _cell(table: pd.DataFrame, method: str) -> str:
    if method not in table.index:
        return ""
    value, low, high = (float(table[name][method]) for name in ("value", "low", "high"))
    return f"{value:.2f}" + (f" [{low:.2f}, {high:.2f}]" if np.isfinite(low) else "")


def find_default(record: Mapping[str, Any]) -> str:
    """The embedded truth of the run's zoo. Raises InputError where there is none."""
    name = str(record["zoo"]["name"])
    try:
        embedded("zoo", name, "truth", "default.yaml")
    except InputError as error:
        raise InputError(
            f"no truth comes with zoo '{name}'; give --truth a .csv or .parquet file with source,"
            f" target and value, or an embedded one such as 'taskonomy'"
        ) from error
    return name


def compare_run(
    folder: Folder,
    record: Record,
    reference: str | None,
    terminal: Terminal,
    *,
    replicates: int = 200,
    methods: Sequence[str] | None = None,
) -> Comparison:
    """`compare` with the truth of a name or path (None: the zoo's own); notes it in run.json."""
    truth = read_truth(reference or find_default(record), Path())
    with stage(record, "compare", terminal):
        found = compare(folder, record, truth, terminal, replicates=replicates, methods=methods)
    record["compare"] = found.about
    records.write_record(folder, record)
    return found


def compare(
    folder: Folder,
    record: Record,
    truth: Truth,
    terminal: Terminal,
    *,
    replicates: int = 200,
    seed: int = 0,
    methods: Sequence[str] | None = None,
) -> Comparison:
    """Judge the methods (None: all) of a run against a truth, and write what was found; run.json
    notes the tables.

    replicates: of the bootstrap over probe images, 0 for none. The same run, truth and seed give
    the same tables, however many cores there are.
    Raises InputError when run and truth do not fit, before anything is written.
    """
    start = time.perf_counter()
    affinity = read_table(folder, AFFINITY, record)
    run = make_case(folder, affinity, truth, methods, seed)
    case, gaps = judged(run, terminal)
    judge = Judge(case.value, case.own)
    case, fused = with_fusion(case, judge)
    evaluation, scores, ties = score(case)
    probe_count = probe_frame([])
    drawn = 0
    with _pool() as pool:
        data = read_probe_data(folder, record, run, pool, terminal)
        if data is not None:
            place = _place(record, run)
            # Resampled edges have average ranks; with others they need not give the same.
            ordinal = record["job"]["edges"].get("ties") == "ordinal"
            if ordinal:
                terminal.say("error bars of edges are of average ranks, the run has ordinal ones")
            check_same(folder, data, place, run, pool, nodes_only=ordinal)
            images = len(data.grams[0])
            if replicates:
                counts = bootstrap_counts(images, replicates, seed)
                with terminal.progress("bootstrap", replicates, "replicates") as advance:
                    affinity = with_bars(affinity, data, place, run, counts, pool, advance)
                drawn = replicates
            draws = DRAWS * (len(probe_sizes(images)) - 1)
            with terminal.progress("subsets", draws, "subsets") as advance:
                place = _place(record, case)
                probe_count = probe_counts(data, place, case, judge, seed, pool, advance)
    found = Comparison(
        evaluation,
        differences(case, scores),
        lambda_table(case, judge, float(record["job"]["lambda"])),
        probe_count,
        fused,
        {
            "truth": truth.name,
            "origin": truth.origin,
            "methods": list(case.methods),
            "replicates": drawn,
            "resamples": RESAMPLES,
            "seed": seed,
            "targets": len(case.targets),
            "gaps": gaps,
            "seconds": round(time.perf_counter() - start, 3),
            "ties": ties,
            "affinity": sketch(affinity),
        },
    )
    _write(folder, record, affinity, found)
    return found


def judged(run: Case, terminal: Terminal) -> tuple[Case, str]:
    """The part of a run that a truth has all pairs of, and what was left out, in words ("" where
    nothing is). Raises InputError where nothing remains.
    """
    gaps = find_gaps(np.isfinite(run.value), run.own, run.targets, run.sources)
    if gaps is None:
        t, s = np.argwhere(~np.isfinite(run.value) & ~run.own)[0]
        raise InputError(
            f"truth '{run.truth.name}': lacks the pair {run.sources[s]} -> {run.targets[t]} and"
            f" others, so that no target is complete and no two sources are there for all; measure"
            f" them, or leave models out of the run"
        )
    said, case = "", run
    if gaps.rule is not None:
        said = gaps.sentence(run.truth.name, run.targets, run.sources)
        terminal.say(said)
        case = run.only(gaps.targets, gaps.sources)
    if case.loss is not None and not (case.loss[~case.own] > 0.0).all():
        terminal.say(f"truth '{run.truth.name}': a loss is not positive; regret is left out")
        case = replace(case, loss=None)
    poor = case.value.max(axis=1, where=~case.own, initial=-np.inf) <= 0.0
    for t in np.flatnonzero(poor)[:1]:
        terminal.say(
            f"truth '{run.truth.name}': no source of '{case.targets[t]}' has a positive value;"
            f" relative_top1 is left out"
        )
    return case, said


def _write(folder: Folder, record: Record, affinity: pd.DataFrame, found: Comparison) -> None:
    made = {
        DIFFERENCES: found.differences,
        LAMBDA: found.sweep,
        PROBE_COUNT: found.probe_count,
        FUSION: found.fusion,
        EVALUATION: found.evaluation,
    }
    if found.about["replicates"]:
        made = {AFFINITY: affinity, **made}
    contents = {path: encode(table) for path, table in made.items()}
    about = json.dumps(found.about, indent=1, ensure_ascii=False).encode() + b"\n"
    with begun():
        # What says that the tables belong together goes first and comes back last.
        folder.delete([ABOUT])
        records.keep(folder, record, {**contents, ABOUT: about})


def make_case(
    folder: Folder,
    affinity: pd.DataFrame,
    truth: Truth,
    methods: Sequence[str] | None,
    seed: int,
) -> Case:
    """Run and truth side by side. Raises InputError naming what is missing from either. What the
    truth has of it is for `judged` to say.
    """
    known = tuple(str(name) for name in affinity["method"].unique())
    chosen = tuple(dict.fromkeys(methods)) if methods else known
    for method in chosen:
        if method not in known:
            raise InputError(
                f"{folder.uri}: has no method '{method}'; nearest: {nearest(method, known)}"
            )
    targets = tuple(str(name) for name in affinity["target"].unique())
    sources = tuple(str(name) for name in affinity["source"].unique())
    fitting = truth.restrict(targets, sources)
    own = np.array([[source == target for source in sources] for target in targets])
    for t in np.flatnonzero((~own).sum(axis=1) < 2)[:1]:
        raise InputError(
            f"{folder.uri}: target '{targets[t]}' has fewer than two sources beside itself; there"
            f" is nothing to rank"
        )
    return Case(
        targets,
        sources,
        {method: _matrix(folder, affinity, method, targets, sources) for method in known},
        chosen,
        fitting,
        fitting.value,
        fitting.loss,
        own,
        seed,
    )


def _matrix(
    folder: Folder,
    affinity: pd.DataFrame,
    method: str,
    targets: Sequence[str],
    sources: Sequence[str],
) -> np.ndarray:
    rows = affinity[affinity["method"] == method]
    matrix = np.full((len(targets), len(sources)), np.nan)
    matrix[
        pd.Index(targets).get_indexer(pd.Index(rows["target"])),
        pd.Index(sources).get_indexer(pd.Index(rows["source"])),
    ] = rows["value"].to_numpy(np.float64)
    # A score of labels says nothing of targets without labels: whole rows are absent.
    some = np.isfinite(matrix).any(axis=1, keepdims=True)
    bad = np.argwhere(~np.isfinite(matrix) & (some | ~some.any()))
    for t, s in bad[:1]:
        raise InputError(
            f"{folder.uri}/affinity.parquet: {method} of {sources[s]} -> {targets[t]} is no finite"
            f" number; run 'depara-bench reduce' again"
        )
    return matrix


def _place(record: Mapping[str, Any], case: Case) -> Place:
    models = [model["name"] for model in records.completed(record)]
    rows, columns = (
        np.array([models.index(name) for name in names]) for names in (case.targets, case.sources)
    )
    return Place(rows, columns, float(record["job"]["lambda"]))


@contextmanager
def _pool() -> Iterator[ThreadPoolExecutor]:
    """As many threads as cores, one BLAS thread each: results do not depend on their number."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(cores or 1) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # Ctrl-C waits for no queue
            raise
