"""A run beside a truth, in memory: scores, differences, lambda, number of images, as tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from depara_bench import evaluate as ev
from depara_bench import fusion
from depara_bench import sweep as sw
from depara_bench.intervals import Interval, Limits, mean_intervals
from depara_bench.similarity.resample import subset_counts
from depara_bench.truth.table import Truth

DRAWS = 50
"""Subsets of the probe images that are tried of each size."""

KNOWN = ("oracle", "random")
"""Baselines that are what they are by definition: no interval says how far they can be trusted."""

KEYS: dict[str, tuple[str, int | None]] = {
    "spearman": ("spearman", None),
    "p@5": ("p@k", 5),
    "p@1": ("p@k", 1),
    "weighted_tau": ("weighted_tau", None),
    "regret": ("regret", None),
}
"""(metric, K) by the name that tables of one metric have for it."""

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Case:
    """What is judged. matrices: (T, S) by method; a row of NaN where a method says nothing of a
    target. value, loss: the truth, (T, S) each, NaN for pairs that it lacks. own: (T, S) bool, self
    pairs. seed: of the bootstrap over targets.
    """

    targets: tuple[str, ...]
    sources: tuple[str, ...]
    matrices: Mapping[str, np.ndarray]
    methods: tuple[str, ...]
    truth: Truth
    value: np.ndarray
    loss: np.ndarray | None
    own: np.ndarray
    seed: int

    def only(self, targets: np.ndarray, sources: np.ndarray) -> Case:
        """The case of some targets (T,) and sources (S,), bool."""
        part = np.ix_(targets, sources)
        names = tuple(np.array(self.targets, dtype=object)[targets])
        others = tuple(np.array(self.sources, dtype=object)[sources])
        return replace(
            self,
            targets=names,
            sources=others,
            matrices={method: matrix[part] for method, matrix in self.matrices.items()},
            truth=self.truth.restrict(names, others),
            value=self.value[part],
            loss=None if self.loss is None else self.loss[part],
            own=self.own[part],
        )

    def covered(self, method: str) -> np.ndarray:
        """Targets (T,) bool that a method, or a baseline, says something of."""
        matrix = self.matrices.get(method)
        if matrix is None:
            return np.ones(len(self.targets), dtype=bool)
        known: np.ndarray = (np.isfinite(matrix) | self.own).all(axis=1)
        return known

    @cached_property
    def complete(self) -> tuple[str, ...]:
        """The judged methods that say something of every target."""
        return tuple(name for name in self.methods if self.covered(name).all())

    @cached_property
    def limits(self) -> dict[tuple[str, int | None], Limits]:
        """The least and the largest value of each metric, by (metric, K)."""
        return ev.metric_limits(self.value, self.loss, self.own)

    def intervals(self, columns: ev.Columns) -> list[Interval]:
        """Mean of each column, one value a target, with its interval over the targets."""
        values = np.stack(list(columns.values()), axis=1)
        ends = mean_intervals(values, [self.limits[key] for key in columns], self.seed)
        return [
            Interval(*map(float, numbers))
            for numbers in zip(values.mean(axis=0), *ends, strict=True)
        ]


def overall(evaluation: pd.DataFrame, metric: str, k: int | None = None) -> pd.DataFrame:
    """Rows over all targets of one metric, by method."""
    rows = evaluation[evaluation["target"].isna() & (evaluation["metric"] == metric)]
    return rows[rows["k"].isna() if k is None else rows["k"] == k].set_index("method")


def score(case: Case) -> tuple[pd.DataFrame, dict[str, ev.Columns], dict[str, int]]:
    """Contract C5, with the baselines; scores by method; ties by method, where there are any."""
    ranks = ev.average_ranks(case.value, case.own)
    matrices = {name: case.matrices[name] for name in case.methods} | {
        "oracle": case.value,
        "popularity": ev.popularity(ranks),
        "symmetric-ceiling": ev.symmetric_ceiling(ranks, case.targets, case.sources),
    }
    scored = {}
    for name, matrix in matrices.items():
        rows = case.covered(name)
        loss = None if case.loss is None else case.loss[rows]
        scored[name] = ev.score_all(matrix[rows], case.value[rows], loss, case.own[rows])
    ties = {name: sum(one.ties for one in found) for name, found in scored.items()}
    scored["random"] = [
        ev.random_score(value[~own], None if case.loss is None else case.loss[t, ~own])
        for t, (value, own) in enumerate(zip(case.value, case.own, strict=True))
    ]
    columns = {name: ev.metric_columns(found) for name, found in scored.items()}
    if case.truth.seeds is not None:
        columns["self-agreement"] = ev.self_agreement(case.truth.seeds, case.own)
    frames = [_rows(case, name, found) for name, found in columns.items()]
    table = pd.concat(frames, ignore_index=True)
    return table, columns, {name: count for name, count in ties.items() if count}


def _rows(case: Case, method: str, columns: ev.Columns) -> pd.DataFrame:
    """One method's part of contract C5: over all targets (that it says something of) first, then
    target by target.
    """
    means = case.intervals(columns)
    if method in KNOWN:
        means = [Interval(mean.value, np.nan, np.nan) for mean in means]
    names = [t for t, known in zip(case.targets, case.covered(method), strict=True) if known]
    count, targets = len(columns), len(names)
    metrics, ks = [metric for metric, _ in columns], [k for _, k in columns]
    nothing = np.full(targets * count, np.nan)
    return pd.DataFrame(
        {
            "method": np.array([method] * (count * (1 + targets)), dtype=object),
            "truth": np.array([case.truth.name] * (count * (1 + targets)), dtype=object),
            "metric": np.array(metrics * (1 + targets), dtype=object),
            "k": pd.array(ks * (1 + targets), dtype="Int32"),
            "target": np.array([None] * count + list(np.repeat(names, count)), dtype=object),
            "value": np.concatenate(
                [[mean.value for mean in means], np.stack(list(columns.values()), axis=1).ravel()]
            ),
            "low": np.concatenate([[mean.low for mean in means], nothing]),
            "high": np.concatenate([[mean.high for mean in means], nothing]),
        }
    )


def with_fusion(case: Case, judge: sw.Judge) -> tuple[Case, pd.DataFrame]:
    """The case with the method `fusion`, and for each target which methods it is of. The case as it
    is, and an empty table, where fewer than 4 of the candidates were computed for all targets, or
    there is one target only.
    """
    names = [name for name in fusion.CANDIDATES if name in case.complete]
    table = pd.DataFrame({"target": [], "methods": []}, dtype=object)
    if len(names) < 4 or len(case.targets) < 2:
        return case, table
    found = fusion.leave_out_fusion({n: case.matrices[n] for n in names}, case.own, judge)
    table = pd.DataFrame({"target": case.targets, "methods": map(" + ".join, found.chosen)})
    return replace(
        case,
        matrices={**case.matrices, fusion.NAME: found.scores},
        methods=(*case.methods, fusion.NAME),
    ), table


def lambda_table(case: Case, judge: sw.Judge, job: float) -> pd.DataFrame:
    """Scores of nodes + lambda * edges. `choice` says where a lambda comes from: `sweep`; `job`;
    `published` (DEPARA's three, tuned on the truth); `tuned` (best on these very targets, so its
    score is too good); `left-out` (best on all other targets: a row for each target, and their mean
    with target and lambda null). Lambdas are chosen by Spearman.
    """
    rows: list[tuple[Any, ...]] = []
    for method in case.methods:
        family, _, suffix = method.partition(":")
        nodes = case.matrices.get(f"depara-nodes{':' * bool(suffix)}{suffix}")
        edges = case.matrices.get("depara-edges")
        if family != "depara" or nodes is None or edges is None:
            continue
        fixed = [*((x, "sweep") for x in sw.LAMBDAS), (job, "job")]
        fixed += [(x, "published") for x in sw.PUBLISHED]
        found = sw.lambda_scores(nodes, edges, [x for x, _ in fixed], judge)
        swept = found[: len(sw.LAMBDAS)]
        best = int(swept[:, -1].mean(axis=1).argmax())
        fixed.append((sw.LAMBDAS[best], "tuned"))
        found = np.concatenate([found, swept[best : best + 1]])
        for (weight, choice), values in zip(fixed, found, strict=True):
            rows += _lambda_rows(case, judge, method, weight, choice, values)
        if len(case.targets) > 1:
            chosen = sw.leave_out_choice(swept[:, -1])
            values = np.stack([swept[x, :, t] for t, x in enumerate(chosen)], axis=1)
            rows += _lambda_rows(case, judge, method, np.nan, "left-out", values)
            rows += [
                (method, sw.LAMBDAS[chosen[t]], metric, values[m, t], np.nan, np.nan, "left-out",
                 target)
                for t, target in enumerate(case.targets)
                for m, metric in enumerate(judge.metrics)
            ]  # fmt: skip
    names = ["method", "lambda", "metric", "value", "low", "high", "choice", "target"]
    return pd.DataFrame(rows, columns=names).astype({"choice": object, "target": object})


def _lambda_rows(
    case: Case, judge: sw.Judge, method: str, weight: float, choice: str, values: np.ndarray
) -> list[tuple[Any, ...]]:
    """One row a metric, over all targets, of values (metrics, T)."""
    found = case.intervals({KEYS[m]: row for m, row in zip(judge.metrics, values, strict=True)})
    return [
        (method, weight, metric, one.value, one.low, one.high, choice, None)
        for metric, one in zip(judge.metrics, found, strict=True)
    ]


@dataclass(frozen=True)
class Place:
    """Where targets (T,) and sources (S,) stand among the models of the shards, and the job's
    lambda.
    """

    rows: np.ndarray
    columns: np.ndarray
    weight: float

    def cut(self, matrices: np.ndarray) -> np.ndarray:
        """(..., M, M) to (..., T, S)."""
        found: np.ndarray = matrices[..., self.rows[:, None], self.columns]
        return found


def with_bars(
    affinity: pd.DataFrame,
    data: sw.ProbeData,
    place: Place,
    case: Case,
    counts: np.ndarray,
    pool: Executor,
    advance: Advance = lambda _: None,
) -> pd.DataFrame:
    """The affinity table with low and high: the 95 % bootstrap interval over probe images, of
    resamples counts (B, N). Methods that are not made of nodes and edges get none.
    """
    drawn = data.affinities(counts, place.weight, pool, advance)
    low, high = (np.full(len(affinity), np.nan) for _ in range(2))
    targets = pd.Index(case.targets).get_indexer(pd.Index(affinity["target"]))
    sources = pd.Index(case.sources).get_indexer(pd.Index(affinity["source"]))
    for method, matrices in drawn.items():
        rows = (affinity["method"] == method).to_numpy()
        if rows.any():
            ends = sw.percentiles(place.cut(matrices), case.matrices[method])
            low[rows], high[rows] = (end[targets[rows], sources[rows]] for end in ends)
    return affinity.assign(low=low, high=high)


def probe_counts(
    data: sw.ProbeData,
    place: Place,
    case: Case,
    judge: sw.Judge,
    seed: int,
    pool: Executor,
    advance: Advance = lambda _: None,
) -> pd.DataFrame:
    """Mean scores against the number of probe images, drawn without replacement: mean over `DRAWS`
    draws, and the band that holds 95 % of them. With all images there is one draw: the run itself.
    """
    images = len(data.grams[0])
    methods = [method for method in case.methods if method in data.names]
    rows: list[tuple[Any, ...]] = []
    *sizes, full = sw.probe_sizes(images)
    for size in sizes:
        counts = subset_counts(images, size, DRAWS, seed)
        drawn = data.affinities(counts, place.weight, pool, advance)
        for method in methods:
            scores = np.stack([judge(m).mean(axis=1) for m in place.cut(drawn[method])])
            ends = np.percentile(scores, [2.5, 97.5], axis=0)
            for metric, *numbers in zip(judge.metrics, scores.mean(axis=0), *ends, strict=True):
                rows.append((method, size, metric, *numbers))
    for method in methods:
        means = judge(case.matrices[method]).mean(axis=1)
        rows += [
            (method, full, metric, mean, mean, mean)
            for metric, mean in zip(judge.metrics, means, strict=True)
        ]
    return probe_frame(rows)


def probe_frame(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    """The table of `probe_counts` from its rows."""
    table = pd.DataFrame(rows, columns=["method", "images", "metric", "value", "low", "high"])
    numbers = dict.fromkeys(("value", "low", "high"), np.float64)
    return table.astype({"images": np.int32, **numbers})
