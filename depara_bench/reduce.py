"""Shards -> affinity and rankings.

Two stages. Per model: features are turned into a rank vector, once, kept in the run's scratch
folder. Per pair of *tiles* of models: node cosines are summed over the images, streamed from the
shards a row group at a time, and rank vectors are multiplied. With up to `TILE` models there is
one tile; with 10,000 there are a few hundred pairs of tiles for a cluster to share. All arithmetic
runs on one BLAS thread per call, in parallel over images and models, so that the numbers do not
depend on how many threads, workers or machines there are.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from depara_bench.engine import Engine, Resources, Slot, Task
from depara_bench.engine.cost import Cost, Costed, highest
from depara_bench.errors import RunError, begun
from depara_bench.shards import read_column, read_groups
from depara_bench.similarity.edges import correlations, edge_ranks
from depara_bench.similarity.nodes import CosineSum, cosine_sum
from depara_bench.storage import Folder

TILE = 128
"""Models of a tile. A pair of tiles is one task, and two tiles of one row group are in memory."""

EDGES = "edges"

DIGITS = 13
"""Decimals of an affinity. Rounding errors are smaller, so sources that are equal on paper tie."""


@dataclass(frozen=True)
class Shared:
    """What every reducing worker needs: where the shards are, and how edges are made."""

    folder: Folder
    blocks: int
    center: bool
    ties: str = "average"


@dataclass(frozen=True)
class RankModels:
    """Per-model stage of the edges, for some models."""

    models: tuple[str, ...]


@dataclass(frozen=True)
class ComparePair:
    """Pair stage of one tile against another: `what` is EDGES or an attribution method."""

    what: str
    left: tuple[str, ...]
    right: tuple[str, ...]


@dataclass(frozen=True)
class Similarity:
    """matrix (M, M) float64, symmetric, models in the order given. zeros: by model, how many of its
    vectors (maps or features) are all zero, where any are. seconds: on all workers together. peak:
    most bytes by which a worker grew, None where that is not known.
    """

    matrix: np.ndarray
    zeros: Mapping[str, int]
    seconds: float = 0.0
    peak: int | None = None


class Reducer:
    """A worker of the reduction; see `Shared` for what it knows and the payloads it takes."""

    def __init__(self, shared: Shared, slot: Slot) -> None:
        self.shared = shared
        self.threads = slot.threads

    def __call__(self, payload: RankModels | ComparePair) -> Any:
        """Zero counts of ranked models; a `CosineSum`; or a matrix of correlations."""
        with (
            threadpool_limits(1, user_api="blas"),
            ThreadPoolExecutor(self.threads) as pool,
        ):
            if isinstance(payload, RankModels):
                return list(pool.map(self._rank, payload.models))
            if payload.what == EDGES:
                return self._edges(payload)
            return self._nodes(payload, pool)

    def _rank(self, model: str) -> int:
        shared = self.shared
        features = read_column(shared.folder, model, shared.blocks, "feature")
        ranks = edge_ranks(features, center=shared.center, ties=shared.ties)
        buffer = io.BytesIO()
        np.save(buffer, ranks.unit)
        shared.folder.write(_scratch(model), buffer.getbuffer())
        return ranks.zeros

    def _edges(self, pair: ComparePair) -> np.ndarray:
        left = self._load(pair.left)
        return correlations(left, left if pair.left == pair.right else self._load(pair.right))

    def _load(self, models: Sequence[str]) -> np.ndarray:
        vectors = []
        for model in models:
            content = self.shared.folder.read(_scratch(model))
            if content is None:
                raise RunError(f"{_scratch(model)}: is missing; run 'depara-bench reduce' again")
            vectors.append(np.load(io.BytesIO(content), allow_pickle=False))
        return np.stack(vectors)

    def _nodes(self, pair: ComparePair, pool: ThreadPoolExecutor) -> CosineSum:
        same = pair.left == pair.right
        models = pair.left if same else pair.left + pair.right
        cut = len(pair.left)
        groups = read_groups(self.shared.folder, models, self.shared.blocks, pair.what, pool)
        parts = (cosine_sum(rows[:cut], None if same else rows[cut:], pool) for rows in groups)
        total = next(parts)
        for part in parts:
            total = total + part
        return total


def _scratch(model: str) -> str:
    return f"scratch/edges/model={model}.npy"


def _tiles(models: Sequence[str], tile: int) -> list[tuple[str, ...]]:
    return [tuple(models[i : i + tile]) for i in range(0, len(models), tile)]


def reduce_tasks(models: Sequence[str], methods: Sequence[str], tile: int = TILE) -> list[Task]:
    """The pair stage as tasks: every unordered pair of tiles, for edges and each method."""
    tiles = _tiles(models, tile)
    return [
        Task(f"{what}/{i}x{j}", f"{what}/{i}x{j}", ComparePair(what, tiles[i], tiles[j]))
        for what in (EDGES, *methods)
        for i in range(len(tiles))
        for j in range(i, len(tiles))
    ]


def reduce(
    folder: Folder,
    models: Sequence[str],
    *,
    images: int,
    blocks: int,
    methods: Sequence[str],
    center: bool,
    ties: str = "average",
    engine: Engine,
    resources: Resources,
    advance: Callable[[int], None] = lambda _: None,
    tile: int = TILE,
) -> dict[str, Similarity]:
    """All-pairs similarity of `models`: EDGES and each attribution method, by name.

    `advance` is called with the number of tasks done. The scratch folder is emptied at the end.
    Raises RunError when a shard is missing or damaged.
    """
    run = partial(_run, engine, Shared(folder, blocks, center, ties), resources, advance)
    try:
        # A few models a task: enough to share among workers, few enough to be worth sending.
        ranking = [Task(f"rank/{t[0]}", f"rank/{t[0]}", RankModels(t)) for t in _tiles(models, 8)]
        ranked = run(ranking)
        zeros: dict[str, int] = {}
        for task in ranking:
            zeros.update(zip(task.payload.models, ranked[task.key].value, strict=True))
        results = run(pairs := reduce_tasks(models, methods, tile))
    finally:
        with begun():
            folder.delete_folder("scratch")
    index = {model: i for i, model in enumerate(models)}
    found: dict[str, Similarity] = {}
    for what in (EDGES, *methods):
        tasks = [task for task in pairs if task.payload.what == what]
        costs = [results[task.key] for task in tasks]
        if what == EDGES:
            matrix = np.zeros((len(models), len(models)))
            for task in tasks:
                _place(matrix, task.payload, results[task.key].value, index)
            costs += ranked.values()
        else:
            matrix, zeros = _nodes_matrix(tasks, results, index, images)
        seconds = sum(cost.seconds for cost in costs)
        found[what] = Similarity(matrix, _positive(zeros), seconds, highest(costs))
    return found


def _run(
    engine: Engine,
    shared: Shared,
    resources: Resources,
    advance: Callable[[int], None],
    tasks: Sequence[Task],
) -> dict[str, Cost]:
    values: dict[str, Cost] = {}
    for outcome in engine.run(partial(Costed, Reducer), shared, tasks, resources):
        if outcome.error is not None:
            raise RunError(f"reduce: {outcome.error}")
        values[outcome.task.key] = outcome.value
        advance(1)
    return values


def _nodes_matrix(
    tasks: Sequence[Task], results: Mapping[str, Cost], index: dict[str, int], images: int
) -> tuple[np.ndarray, dict[str, int]]:
    """Mean cosines (M, M) of one method, and the zero maps of each model."""
    matrix = np.zeros((len(index), len(index)))
    zeros: dict[str, int] = {}
    for task in tasks:
        pair: ComparePair = task.payload
        part: CosineSum = results[task.key].value
        _place(matrix, pair, part.total / images, index)
        zeros.update(zip(pair.left, part.zeros.tolist(), strict=True))
    return matrix, zeros


def _place(
    matrix: np.ndarray, pair: ComparePair, values: np.ndarray, index: dict[str, int]
) -> None:
    rows = [index[model] for model in pair.left]
    columns = [index[model] for model in pair.right]
    matrix[np.ix_(rows, columns)] = values
    matrix[np.ix_(columns, rows)] = values.T


def _positive(counts: dict[str, int]) -> dict[str, int]:
    return {model: count for model, count in counts.items() if count}


def affinity_table(
    similarities: Mapping[str, Similarity],
    others: Mapping[str, np.ndarray] | None = None,
    *,
    models: Sequence[str],
    targets: Sequence[str],
    sources: Sequence[str],
    methods: Sequence[str],
    weight: float,
) -> pd.DataFrame:
    """Contract C3: one row per (method, target, source), self pairs included; higher is closer.

    depara = nodes + weight * edges (DEPARA eq. 7). Of the attribution methods the first has the
    plain names, the others are a suffix. others: matrices (M, M) of further methods by name, rows
    are targets; a row of NaN (a target without labels) has no rows in the table. RunError for any
    other number that is not finite.
    Values are rounded to `DIGITS` decimals, depara's summands before they are added.
    """
    edge_values = _rounded(similarities[EDGES].matrix)
    matrices: dict[str, np.ndarray] = {}
    for position, method in enumerate(methods):
        suffix = "" if position == 0 else f":{method}"
        node_values = _rounded(similarities[method].matrix)
        matrices[f"depara{suffix}"] = node_values + weight * edge_values
        matrices[f"depara-nodes{suffix}"] = node_values
        if position == 0:
            matrices["depara-edges"] = edge_values
    matrices.update({name: _rounded(matrix) for name, matrix in (others or {}).items()})
    for name, matrix in matrices.items():
        unlabelled = np.isnan(matrix).all(axis=1) & (name in (others or {}))
        for target, source in np.argwhere(~np.isfinite(matrix) & ~unlabelled[:, None])[:1]:
            raise RunError(
                f"'{name}' of {models[source]} -> {models[target]} is not finite; run again with"
                f" --fresh"
            )
    rows = [models.index(target) for target in targets]
    columns = [models.index(source) for source in sources]
    table = pd.concat(
        [
            pd.DataFrame(
                {
                    "method": name,
                    "target": np.repeat(np.array(targets, dtype=object), len(sources)),
                    "source": np.tile(np.array(sources, dtype=object), len(targets)),
                    "value": matrix[np.ix_(rows, columns)].reshape(-1),
                }
            )
            for name, matrix in matrices.items()
        ],
        ignore_index=True,
    )
    return table.dropna(subset="value", ignore_index=True)


def _rounded(matrix: np.ndarray) -> np.ndarray:
    """To `DIGITS` decimals; a large number, of which float64 does not hold as many, as it is."""
    small = np.abs(matrix) < 100.0
    return np.where(small, np.where(small, matrix, 0.0).round(DIGITS), matrix)


def rank_sources(affinity: pd.DataFrame) -> pd.DataFrame:
    """Contract C4: per method and target the sources by falling value, self excluded by name.

    Sources whose values tie keep the order of the zoo, so that ranks are whole and repeatable.
    """
    others = affinity[affinity["source"] != affinity["target"]]
    groups = others.groupby(["method", "target"], sort=False)["value"]
    ranks = groups.rank(method="first", ascending=False).astype(np.int32)
    table = others.assign(rank=ranks)[["method", "target", "rank", "source", "value"]]
    order = pd.DataFrame({"group": groups.ngroup(), "rank": ranks}).sort_values(["group", "rank"])
    return table.loc[order.index].reset_index(drop=True)
