"""The methods of a run besides DEPARA's own: which are asked for, and computing them.

Label-free methods: a per-model stage (`Family.models`) whose states lie in the run's scratch folder
for as long as they are needed, and a pair stage. Label-based scores: one task a source and
preparation, in which all scores and targets share what is computed of the source.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from itertools import groupby

import numpy as np
from threadpoolctl import threadpool_limits

from depara_bench.config import nearest
from depara_bench.engine import Engine, Resources, Slot, Task
from depara_bench.engine.cost import Cost, Costed, highest
from depara_bench.errors import InputError, RunError, begun, without_model
from depara_bench.labelled.registry import SCORES
from depara_bench.labels import Labels
from depara_bench.shards import read_column
from depara_bench.similarity import registry
from depara_bench.similarity.method import Family, Method, State
from depara_bench.storage import Folder

TILE = 64
"""Models of a tile of the pair stage: the states of two tiles are in memory."""

_AT_ONCE = 6  # methods of a family whose states lie in the scratch folder at a time
_PER_TASK = 4  # models of a task of the per-model stage


@dataclass(frozen=True)
class Found:
    """What came of a method. matrix (M, M) float64, rows are targets; for scores of labels NaN in
    rows of models without labels. seconds: on all workers together, a family's shared equally among
    its methods. peak: most bytes by which a worker grew, None where that is not known.
    """

    matrix: np.ndarray
    needs: tuple[str, ...]
    about: str
    seconds: float
    peak: int | None


def resolve(patterns: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names of label-free methods and of label-based scores, in their registries' order.

    A pattern is a name, or has "*" for any part of one. Raises InputError for one that fits none.
    """
    similarities = registry.known()
    # A run keeps features, not the outputs of the sources' own heads.
    scores = [name for name, score in SCORES.items() if "source probabilities" not in score.needs]
    for pattern in patterns:
        if pattern in SCORES and pattern not in scores:
            raise InputError(
                f"methods: '{pattern}' needs class probabilities of the sources, which a run does"
                f" not keep; call depara_bench.labelled.registry.SCORES['{pattern}'] with yours"
            )
        if not any(fnmatchcase(name, pattern) for name in (*similarities, *scores)):
            close = nearest(pattern, [*similarities, *scores])
            raise InputError(f"methods: no method '{pattern}'; nearest: {close}")

    def chosen(names: Sequence[str]) -> list[str]:
        return [n for n in names if any(fnmatchcase(n, pattern) for pattern in patterns)]

    return chosen(similarities), chosen(scores)


@dataclass(frozen=True)
class Shared:
    """What every worker needs. map: the attribution method whose maps are `column="map"`."""

    folder: Folder
    blocks: int
    map: str
    labels: Mapping[str, Labels]


@dataclass(frozen=True)
class Prepare:
    """Per-model stage: states of some models for some methods of one family."""

    names: tuple[str, ...]
    models: tuple[str, ...]


@dataclass(frozen=True)
class Compare:
    """Pair stage of one method: one tile of targets against one of sources."""

    name: str
    targets: tuple[str, ...]
    sources: tuple[str, ...]


@dataclass(frozen=True)
class ScoreSource:
    """Scores that share their preparation, of one source for all targets with labels."""

    names: tuple[str, ...]
    source: str


class Comparer:
    """A worker; see `Shared` for what it knows and the payloads it takes."""

    def __init__(self, shared: Shared, slot: Slot) -> None:
        self.shared = shared
        self.threads = slot.threads

    def __call__(self, payload: Prepare | Compare | ScoreSource) -> object:
        """None; a matrix (T, S); or scores by name and target."""
        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(self.threads) as pool:
            if isinstance(payload, Prepare):
                for _ in pool.map(partial(self._prepare, payload.names), payload.models):
                    pass
                return None
            if isinstance(payload, Compare):
                return self._compare(payload, pool)
            return self._score(payload)

    def _prepare(self, names: Sequence[str], model: str) -> None:
        method = registry.lookup(names[0])
        column = "feature" if method.column == "feature" else self.shared.map
        values = read_column(self.shared.folder, model, self.shared.blocks, column)
        try:
            for name, state in method.models(values, names):
                buffer = io.BytesIO()
                np.savez(buffer, allow_pickle=False, **state)
                self.shared.folder.write(_scratch(name, model), buffer.getbuffer())
        except InputError as error:
            raise RunError(
                f"model '{model}', method '{names[0]}': {without_model(error, model)}"
            ) from error

    def _compare(self, pair: Compare, pool: ThreadPoolExecutor) -> np.ndarray:
        method = registry.lookup(pair.name)
        models = tuple(dict.fromkeys(pair.targets + pair.sources))
        states = dict(zip(models, pool.map(partial(self._load, pair.name), models), strict=True))
        rows = [states[model] for model in pair.targets]
        columns = [states[model] for model in pair.sources]
        parts = pool.map(lambda row: method.pairs([row], columns), rows)
        found = np.concatenate(list(parts))
        bad = np.argwhere(~np.isfinite(found))
        if len(bad):
            target, source = pair.targets[bad[0][0]], pair.sources[bad[0][1]]
            raise RunError(f"method '{pair.name}' gives no finite number for {source} -> {target}")
        return found

    def _load(self, name: str, model: str) -> State:
        content = self.shared.folder.read(_scratch(name, model))
        if content is None:
            raise RunError(f"{_scratch(name, model)}: is missing; run 'depara-bench reduce' again")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return dict(arrays)

    def _score(self, task: ScoreSource) -> dict[tuple[str, str], float]:
        features = read_column(self.shared.folder, task.source, self.shared.blocks, "feature")
        try:
            state = SCORES[task.names[0]].prepare(features)
        except InputError as error:
            raise RunError(f"model '{task.source}', method '{task.names[0]}': {error}") from error
        pairs = [(name, target) for name in task.names for target in self.shared.labels]

        def one(pair: tuple[str, str]) -> float | None:
            name, target = pair
            labels = self.shared.labels[target]
            call = SCORES[name].classes if labels.classes else SCORES[name].regression
            if call is None:
                return None
            try:
                return call(state, labels.values)
            except InputError as error:
                raise RunError(
                    f"model '{task.source}', method '{name}', target '{target}': {error}"
                ) from error

        # In one thread: what some of them silence (warnings) is of the whole process.
        values = [one(pair) for pair in pairs]
        return {p: _rounded(v) for p, v in zip(pairs, values, strict=True) if v is not None}


def _rounded(value: float) -> float:
    """A score to 10 digits: sources that are equal on paper tie, whatever rounding left between
    them (h-score gives all sources one value where there are more features than images).
    """
    return float(f"{value:.10g}")


def _scratch(name: str, model: str) -> str:
    return f"scratch/methods/{name}/model={model}.npz"


def _tiles(models: Sequence[str], tile: int) -> list[tuple[str, ...]]:
    return [tuple(models[i : i + tile]) for i in range(0, len(models), tile)]


def groups(similarities: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Names that are prepared together: of one family, a few at a time."""
    for _, names in groupby(similarities, key=registry.lookup):
        yield from _tiles(list(names), _AT_ONCE)


def task_count(models: int, similarities: Sequence[str], scores: Sequence[str]) -> int:
    """How many tasks `compute` has."""
    tiles = -(-models // TILE)
    prepared = sum(1 for _ in groups(similarities)) * -(-models // _PER_TASK)
    compared = sum(
        tiles * (tiles + 1) // 2 if registry.lookup(name).symmetric else tiles**2
        for name in similarities
    )
    return prepared + compared + models * len(_preparations(scores))


def compute(
    folder: Folder,
    models: Sequence[str],
    similarities: Sequence[str],
    scores: Sequence[str],
    *,
    blocks: int,
    attribution: str,
    labels: Mapping[str, Labels],
    engine: Engine,
    resources: Resources,
    advance: Callable[[int], None] = lambda _: None,
    tile: int = TILE,
) -> dict[str, Found]:
    """All methods asked for, by name, over the shards of `models`.

    Raises RunError naming model and method where a shard is missing, or a method has no value.
    """
    shared = Shared(folder, blocks, attribution, labels)
    run = partial(_run, engine, shared, resources, advance)
    index = {model: i for i, model in enumerate(models)}
    found: dict[str, Found] = {}
    with engine.kept():
        for names in groups(similarities):
            try:
                found.update(_similarities(names, models, index, run, tile))
            finally:
                with begun():
                    folder.delete_folder("scratch")
        for names in _preparations(scores):
            found.update(_scores(names, models, index, labels, run))
    return found


Run = Callable[[Sequence[Task]], dict[str, Cost]]


def _run(
    engine: Engine,
    shared: Shared,
    resources: Resources,
    advance: Callable[[int], None],
    tasks: Sequence[Task],
) -> dict[str, Cost]:
    costs: dict[str, Cost] = {}
    for outcome in engine.run(partial(Costed, Comparer), shared, tasks, resources):
        if outcome.error is not None:
            raise RunError(f"reduce: {outcome.error}")
        costs[outcome.task.key] = outcome.value
        advance(1)
    return costs


def _similarities(
    names: tuple[str, ...], models: Sequence[str], index: Mapping[str, int], run: Run, tile: int
) -> dict[str, Found]:
    method = registry.lookup(names[0])
    prepare = [
        Task(f"{names[0]}/{t[0]}", f"{names[0]}/{t[0]}", Prepare(names, t))
        for t in _tiles(models, _PER_TASK)
    ]
    first = list(run(prepare).values())
    found = {}
    for name in names:
        tiles = _tiles(models, tile)
        pairs = [
            Compare(name, tiles[i], tiles[j])
            for i in range(len(tiles))
            for j in range(i if method.symmetric else 0, len(tiles))
        ]
        tasks = [Task(f"{name}/{i}", f"{name}/{i}", pair) for i, pair in enumerate(pairs)]
        second = run(tasks)
        matrix = np.zeros((len(models), len(models)))
        for task in tasks:
            pair: Compare = task.payload
            rows, columns = ([index[m] for m in side] for side in (pair.targets, pair.sources))
            matrix[np.ix_(rows, columns)] = second[task.key].value
            if method.symmetric:
                matrix[np.ix_(columns, rows)] = second[task.key].value.T
        alone = sum(cost.seconds for cost in second.values())
        shared = sum(cost.seconds for cost in first) / len(names)
        found[name] = Found(
            matrix,
            _needs(method),
            method.about,
            alone + shared,
            highest([*first, *second.values()]),
        )
    return found


def _needs(method: Method | Family) -> tuple[str, ...]:
    return ("attribution maps",) if method.column == "map" else ("features",)


def _preparations(scores: Sequence[str]) -> list[tuple[str, ...]]:
    """Scores that share their preparation, together."""
    together: dict[int, list[str]] = {}
    for name in scores:
        together.setdefault(id(SCORES[name].prepare), []).append(name)
    return [tuple(names) for names in together.values()]


def _scores(
    names: tuple[str, ...],
    models: Sequence[str],
    index: Mapping[str, int],
    labels: Mapping[str, Labels],
    run: Run,
) -> dict[str, Found]:
    tasks = [Task(f"{names[0]}/{m}", f"{names[0]}/{m}", ScoreSource(names, m)) for m in models]
    costs = run(tasks)
    matrices = {name: np.full((len(models), len(models)), np.nan) for name in names}
    for task in tasks:
        for (name, target), value in costs[task.key].value.items():
            if target in index:
                matrices[name][index[target], index[task.payload.source]] = value
    seconds = sum(cost.seconds for cost in costs.values()) / len(names)
    peak = highest(list(costs.values()))
    return {
        name: Found(matrices[name], SCORES[name].needs, SCORES[name].about, seconds, peak)
        for name in names
    }
