"""The stages of a run that do the work: check, extract, reduce; and the record they fill."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import pandas as pd

from depara_bench import labels as labelling
from depara_bench import record as records
from depara_bench.check import Checked, check_models
from depara_bench.check import Shared as CheckShared
from depara_bench.engine import Engine, Resources, Task
from depara_bench.engine.local import LocalEngine
from depara_bench.errors import InputError, RunError, StopError, begun, without_model
from depara_bench.loaders.weights import file_sha256
from depara_bench.methods import compute, resolve, task_count
from depara_bench.plan import (
    Found,
    Plan,
    check_sizes,
    check_space,
    find_shards,
    missing_blocks,
    small_images,
)
from depara_bench.probe import RoomsProbe
from depara_bench.record import Record
from depara_bench.reduce import (
    EDGES,
    TILE,
    Similarity,
    affinity_table,
    rank_sources,
    reduce,
    reduce_tasks,
)
from depara_bench.shards import Origin, check_origin, fingerprint, shard_path
from depara_bench.storage import Folder
from depara_bench.tables import encode
from depara_bench.terminal import Terminal
from depara_bench.worker import UNSEEN, Extractor, ModelBlock, Shared, file_hash
from depara_bench.zoo import RUNS_CODE, AnySpec

# More models than this are checked by the engine's workers; fewer are done before an engine starts.
_CHECK_HERE = 64


@contextmanager
def stage(record: Record, name: str, terminal: Terminal) -> Iterator[None]:
    """Note the seconds a stage took."""
    terminal.detail(f"{name} ...")
    start = time.perf_counter()
    yield
    record["seconds"][name] = round(time.perf_counter() - start, 3)
    terminal.detail(f"{name}: {record['seconds'][name]} s")


def new_record(plan: Plan, engine: Engine) -> Record:
    """The record of a run that starts now. What an earlier one noted of its tables stays, for as
    long as they do.
    """
    models = [
        {
            **model.model_dump(mode="json", exclude_none=True),
            "fingerprint": plan.keys[model.name],
        }
        for model in plan.zoo.models
    ]
    return {
        "schema": records.SCHEMA,
        "kind": records.RUN,
        "status": "running",
        "started": records.now(),
        "job": plan.job.model_dump(mode="json", by_alias=True),
        "zoo": {
            "name": plan.zoo.name,
            "manifest_sha256": file_sha256(plan.manifest),
            "models": models,
        },
        "probe": {
            "kind": plan.job.probe.kind,
            "count": len(plan.probe),
            "sha256": plan.probe.sha256,
            "skipped": [{"image": image, "reason": why} for image, why in plan.probe.skipped],
        },
        "versions": records.versions(),
        "engine": {"name": engine.name},
        "seconds": {},
        "shards": {"computed": 0, "reused": 0},
        "failures": [],
        "zeros": {},
        "attribution_notes": {},
        records.TABLES: dict((records.read_record(plan.folder) or {}).get(records.TABLES, {})),
    }


def check_stage(
    plan: Plan, specs: list[AnySpec], engine: Engine, terminal: Terminal
) -> list[Checked]:
    """Load and try the models that will be run. Raises InputError: the first that cannot be used.

    Models that load but fail in their computation are left to the extraction, which reports them.
    """
    shared = CheckShared(
        plan.manifest.parent.resolve(), plan.allow_code, plan.job.attribution, plan.resources.cpus
    )
    here = len(specs) <= _CHECK_HERE
    with terminal.progress("check", len(specs), "models") as advance:
        checked = check_models(
            specs, shared, LocalEngine() if here else engine, plan.resources, advance
        )
    mistakes = [result for result in checked if result.mistake and result.error]
    if mistakes:
        more = f" (and {len(mistakes) - 1} more models)" if len(mistakes) > 1 else ""
        raise InputError(f"{plan.manifest}: {mistakes[0].error}{more}")
    return checked


def extract_stage(
    plan: Plan, missing: list[ModelBlock], engine: Engine, record: Record, terminal: Terminal
) -> None:
    """Compute the missing shards. Models that fail are noted in the record; the others go on."""
    shared = Shared(
        probe=plan.probe,
        attribution=plan.job.attribution,
        batch_size=plan.job.batch_size,
        block_size=plan.job.block_size,
        manifest_folder=plan.manifest.parent.resolve(),
        allow_code=plan.allow_code,
        folder=plan.folder,
        threads=plan.resources.cpus,
        record=file_hash(plan.folder.read(records.PATH)),
    )
    blocks = plan.probe.blocks(plan.job.block_size)
    tasks = [Task(shard_path(w.spec.name, w.block), w.spec.name, w) for w in missing]
    failures: dict[str, str] = {}
    total = sum(len(blocks[work.block]) for work in missing)
    left = Counter(task.group for task in tasks)

    def models() -> str:
        return f"{sum(not blocks for blocks in left.values())} of {len(left)} models"

    with terminal.progress("extract", total, "images", models) as advance, _stopped(record):
        for outcome in engine.run(Extractor, shared, tasks, plan.resources):
            left[outcome.task.group] -= 1
            advance(len(blocks[outcome.task.payload.block]))
            if outcome.error is None:
                record["shards"]["computed"] += 1
            else:
                failures.setdefault(outcome.task.group, outcome.error)
    record["failures"] += [{"model": name, "error": error} for name, error in failures.items()]


@contextmanager
def _stopped(record: Record) -> Iterator[None]:
    """What a worker found that the user has to mend is an error of the run, as its work has begun;
    but where no machine could begin, as it does not see the files, nothing has.
    """
    try:
        yield
    except StopError as error:
        if UNSEEN in str(error) and not record["shards"]["computed"]:
            raise InputError(str(error)) from error
        raise RunError(str(error)) from error


def check_shards(folder: Folder, record: Mapping[str, Any], terminal: Terminal) -> None:
    """Look whether the shards are those that run.json speaks of, before they are read again.

    Raises RunError naming one that is missing, or belongs to something else.
    """
    size, count = record["job"]["block_size"], record["probe"]["count"]
    there = set(folder.files("shards"))
    shards = []
    # However many run.json speaks of, the first that is missing ends it.
    for model in records.completed(record):
        for block, first in enumerate(range(0, count, size)):
            if (path := shard_path(model["name"], block)) not in there:
                raise RunError(f"{folder.uri}/{path}: is missing; run 'depara-bench extract'")
            images = range(first, min(first + size, count))
            shards.append((model["name"], block, model["fingerprint"], images))
    progress = terminal.progress("verify", len(shards), "shards")
    with progress as advance, ThreadPoolExecutor() as pool:
        for _ in pool.map(lambda shard: check_origin(folder, *shard), shards):
            advance(1)


def reduce_stage(folder: Folder, record: Record, engine: Engine, terminal: Terminal) -> None:
    """affinity.parquet and rankings.parquet from the shards of a run, by what run.json says.

    Raises RunError when fewer than two models, or no source or target, have come through.
    """
    job, alive = record["job"], records.completed(record)
    models = [model["name"] for model in alive]
    targets = [model["name"] for model in alive if "target" in model["roles"]]
    sources = [model["name"] for model in alive if "source" in model["roles"]]
    if len(models) < 2 or not targets or not sources:
        raise RunError(
            f"{folder.uri}: {len(models)} models came through; nothing to compare{_reasons(record)}"
        )
    methods, images = job["attribution"]["methods"], record["probe"]["count"]
    if len(models) <= TILE:
        # One tile is one task a method: sending it to a worker costs more than doing it.
        engine = LocalEngine()
    similar, scores = resolve(job.get("methods", ()))
    labels = labelling.read(folder, images, record) if scores else {}
    if scores and not labels:
        raise InputError(f"{folder.uri}/{labelling.PATH}: is missing; run 'depara-bench run' again")
    blocks, resources = (
        -(-images // job["block_size"]),
        Resources(gpus=0, cpus=job["resources"]["cpus"]),
    )
    tasks = len(reduce_tasks(models, methods)) + -(-len(models) // 8)
    tasks += task_count(len(models), similar, scores)
    with terminal.progress("reduce", tasks, "tasks") as advance, begun(StopError):
        similarities = reduce(
            folder,
            models,
            images=images,
            blocks=blocks,
            methods=methods,
            center=job["edges"]["center"],
            ties=job["edges"].get("ties", "average"),  # of a run before there was a choice
            engine=engine,
            resources=resources,
            advance=advance,
        )
        others = compute(
            folder,
            models,
            similar,
            scores,
            blocks=blocks,
            attribution=methods[0],
            labels=labels,
            engine=engine,
            resources=resources,
            advance=advance,
        )
    record["zeros"] = {
        _column_name(what, methods): dict(found.zeros) for what, found in similarities.items()
    }
    record["methods"] = {
        **_own_costs(similarities, methods),
        **{name: _cost(f.needs, f.about, f.seconds, f.peak) for name, f in others.items()},
    }
    affinity = affinity_table(
        similarities,
        {name: found.matrix for name, found in others.items()},
        models=models,
        targets=targets,
        sources=sources,
        methods=methods,
        weight=job["lambda"],
    )
    made = {"affinity.parquet": affinity, "rankings.parquet": rank_sources(affinity)}
    with begun():
        records.keep(folder, record, {path: encode(table) for path, table in made.items()})


def _reasons(record: Record) -> str:
    """Why the first three of the models that failed did."""
    failures = record["failures"]
    told = [
        f"'{one['model']}': {without_model(one['error'], one['model'])}" for one in failures[:3]
    ]
    if len(failures) > len(told):
        told.append(f"and {len(failures) - len(told)} more in {records.PATH}")
    return f" ({'; '.join(told)})" if told else ""


def _own_costs(similarities: Mapping[str, Similarity], methods: list[str]) -> Record:
    """What DEPARA's own methods need and took, by their names in the tables."""
    edges = similarities[EDGES]
    found = {"depara-edges": _cost(("features",), _EDGES, edges.seconds, edges.peak)}
    for position, method in enumerate(methods):
        nodes, suffix = similarities[method], "" if position == 0 else f":{method}"
        peaks = [peak for peak in (nodes.peak, edges.peak) if peak is not None]
        found[f"depara{suffix}"] = _cost(
            ("features", "attribution maps"),
            _BOTH,
            nodes.seconds + edges.seconds,
            max(peaks, default=None),
        )
        found[f"depara-nodes{suffix}"] = _cost(
            ("attribution maps",), _NODES, nodes.seconds, nodes.peak
        )
    return found


_NODES = "mean cosine of two models' attribution maps of an image (Song et al., NeurIPS 2019)"
_EDGES = "Spearman correlation of the image graphs, cosine edges (DEPARA, Song et al., CVPR 2020)"
_BOTH = "nodes + lambda * edges (DEPARA, Song et al., CVPR 2020)"


def _cost(needs: tuple[str, ...], about: str, seconds: float, peak: int | None) -> Record:
    megabytes = None if peak is None else round(peak / 1e6, 1)
    return {
        "needs": list(needs), "about": about, "seconds": round(seconds, 4), "peak_mb": megabytes,
    }  # fmt: skip


def _column_name(what: str, methods: list[str]) -> str:
    if what == "edges":
        return "depara-edges"
    return "depara-nodes" if what == methods[0] else f"depara-nodes:{what}"


def run_extraction(plan: Plan, engine: Engine, terminal: Terminal) -> Record:
    """Plan to shards. The engine is started only when something has to be computed."""
    record: Record = new_record(plan, engine)
    with stage(record, "verify", terminal):
        found = find_shards(plan, terminal)
    for line in _kept(found):
        terminal.say(line)
    specs = [model for model in plan.zoo.models if _needs_check(plan, found, model)]
    checked: list[Checked] = []
    if specs:
        inputs = {model.name: model.input for model in plan.zoo.models}
        check_sizes(plan.probe, inputs)
        if small := small_images(plan.probe, inputs):
            terminal.say(small)
        with stage(record, "check", terminal):
            checked = check_stage(plan, specs, engine, terminal)
    missing = _settle(plan, found, checked, record)
    check_space(plan, checked, missing)
    record["attribution_notes"] = _notes(plan, checked)
    for line in _told(record["attribution_notes"]):
        terminal.say(line)
    if plan.job.labels is not None:
        with stage(record, "labels", terminal):
            keep_labels(plan, record)
    records.write_record(plan.folder, record)
    # An engine that cannot start is input; a worker that calls for a stop (a full disk) has begun.
    with stage(record, "extract", terminal):
        extract_stage(plan, missing, engine, record, terminal)
    return record


def _needs_check(plan: Plan, found: Found, model: AnySpec) -> bool:
    """A model that has something to compute; one that code makes, of which only loading it tells
    whether it is still the same; one whose shards are of several states.
    """
    whole = len(found.whole.get(model.name, {}))
    return whole < plan.blocks or len(found.origins(model.name)) > 1 or model.loader in RUNS_CODE


def _settle(plan: Plan, found: Found, checked: list[Checked], record: Record) -> list[ModelBlock]:
    """What is to be computed, now that the models' states are known; the record gets the models'
    fingerprints, what is kept, and those that could not be loaded.
    """
    loaded = {
        model.name: next(iter(found.origins(model.name))).loaded
        for model in plan.zoo.models
        if found.origins(model.name)
    }
    for result in checked:
        loaded.pop(result.model, None)
        if result.loaded is not None:
            loaded[result.model] = result.loaded
        else:
            record["failures"].append({"model": result.model, "error": f"{result.error}"})
    for model in record["zoo"]["models"]:
        if model["name"] in loaded:
            model["fingerprint"] = Origin(model["fingerprint"], loaded[model["name"]]).fingerprint
    missing = missing_blocks(plan, found, loaded)
    record["shards"]["reused"] = plan.blocks * len(loaded) - len(missing)
    if found.left_out:
        record["shards"]["left_out"] = dict(found.left_out)
    return missing


def _kept(found: Found) -> list[str]:
    """What is told of the shards of an earlier run that this one does not use."""
    lines = []
    if found.left_out:
        lines.append(
            f"{sum(found.left_out.values())} shards of models that this job leaves out stay:"
            f" {', '.join(found.left_out)}"
        )
    if found.replaced:
        lines.append(f"{found.replaced} shards are damaged, or of other settings, and are replaced")
    return lines


def _told(notes: Record) -> list[str]:
    """A line for each attribution method that has no rule for something: where, and how often."""
    places: dict[str, list[str]] = {}
    for model, methods in notes.items():
        for method, found in methods.items():
            places.setdefault(method, []).extend(f"{model}: {place}" for place in found)
    return [
        f"{method} has no rule for {len(found)} modules, first {found[0]}; run.json lists them"
        for method, found in places.items()
    ]


def keep_labels(plan: Plan, record: Record) -> None:
    """Write the labels of the probe images into the run folder, and note of what they are (a hash);
    what is there and is of the same is kept.
    """
    targets = list(plan.zoo.with_role("target"))
    given = {name: one.values.tolist() for name, one in (plan.labels or {}).items()}
    key = fingerprint(source=plan.job.labels, probe=plan.probe.sha256, targets=targets, given=given)
    earlier = records.read_record(plan.folder) or {}
    with suppress(InputError):  # damaged: written anew
        if earlier.get("labels") == key and labelling.read(plan.folder, len(plan.probe), earlier):
            record["labels"] = key
            return
    labels = plan.labels
    if labels is None:
        from depara_bench.rooms.probe_labels import scene_labels

        probe = plan.job.probe
        assert isinstance(probe, RoomsProbe)  # the job was checked
        labels = scene_labels(probe.seed, probe.count, probe.style, targets)
    record["labels"] = key
    records.keep(plan.folder, record, {labelling.PATH: labelling.encode(labels)})


def _notes(plan: Plan, checked: list[Checked]) -> dict[str, Any]:
    """By model and attribution method, where the method has no rule; of models that were not
    checked, because their shards are all there, what an earlier run noted.
    """
    earlier = records.read_record(plan.folder) or {}
    notes: dict[str, Any] = dict(earlier.get("attribution_notes", {}))
    for result in checked:
        notes[result.model] = {name: list(places) for name, places in result.uncovered.items()}
    names = [model.name for model in plan.zoo.models]
    return {name: notes[name] for name in names if notes.get(name)}


def summary(record: Mapping[str, Any], rankings: pd.DataFrame, top: int = 3) -> pd.DataFrame:
    """The top of the ranking: per target its best `top` sources under `depara`."""
    best = rankings[(rankings["method"] == "depara") & (rankings["rank"] <= top)]
    table = best.pivot_table(
        index="target", columns="rank", values="source", aggfunc="first", sort=False
    )
    order = [m["name"] for m in record["zoo"]["models"] if m["name"] in table.index]
    return table.loc[order]
