"""The stages of a run, in order: plan, extract, reduce, report. Each can be called alone."""

from __future__ import annotations

import io
import shutil
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from depara_bench import record as records
from depara_bench.check import Checked, check_models
from depara_bench.check import Shared as CheckShared
from depara_bench.engine import Engine, Resources, Task
from depara_bench.engine.local import LocalEngine
from depara_bench.errors import InputError, RunError
from depara_bench.identity import model_identity
from depara_bench.job import Job, JobFile
from depara_bench.loaders.weights import file_sha256
from depara_bench.probe import Probe, load_probe
from depara_bench.record import Record
from depara_bench.reduce import TILE, affinity_table, rank_sources, reduce, reduce_tasks
from depara_bench.shards import fingerprint, is_complete, parse_shard_path, shard_path
from depara_bench.storage import TEMPORARY, Folder
from depara_bench.terminal import Terminal
from depara_bench.worker import Extractor, ModelBlock, Shared
from depara_bench.zoo import AnySpec, Zoo, find_manifest, load_zoo, select

# More models than this are checked by the engine's workers; fewer are done before an engine starts.
_CHECK_HERE = 64

TABLES = ("run.json", "affinity.parquet", "rankings.parquet", "evaluation.parquet")
"""What a report is made of."""

_OWN = ("shards/", "scratch/", "figures/", ".")
_OWN_FILES = (*TABLES, "report.html", "report.md")


@dataclass(frozen=True)
class Plan:
    """A job, resolved: the models with the fingerprints of their shards, the probe, the folder."""

    job: Job
    zoo: Zoo
    manifest: Path
    probe: Probe
    folder: Folder
    keys: Mapping[str, str]
    allow_code: bool

    @property
    def blocks(self) -> int:
        """How many blocks, and so shards of each model, the probe is cut into."""
        return len(self.probe.blocks(self.job.block_size))

    @property
    def resources(self) -> Resources:
        """What the job says a worker takes."""
        wanted = self.job.resources
        return Resources(gpus=wanted.gpus, cpus=wanted.cpus, workers=wanted.workers)


def make_plan(
    jobfile: JobFile,
    folder: Folder,
    terminal: Terminal,
    *,
    fresh: bool = False,
    allow_code: bool = False,
) -> Plan:
    """Everything the job names, found and checked as far as that needs no model.

    Raises InputError for a mistake in job, manifest, weights' paths, probe or folder.
    """
    job, path = jobfile.job, str(jobfile.path)
    manifest = find_manifest(job.zoo, jobfile.base)
    zoo = select(load_zoo(manifest), job.models, path)
    for role in ("source", "target"):
        if not zoo.with_role(role):
            raise InputError(
                f"{manifest}: no model has the role '{role}'; add it to 'roles' of at least one"
            )
    _one_size(zoo, manifest)
    python = [m.name for m in zoo.models if m.loader == "python"]
    if python and not allow_code:
        raise InputError(
            f"{manifest}: model '{python[0]}' runs Python code from this manifest; if you trust"
            f" it, add --allow-code"
        )
    identities = {m.name: model_identity(m, manifest.parent) for m in zoo.models}
    _check_folder(folder, job, fresh)
    terminal.detail(f"probe: {job.probe.kind}")
    probe = load_probe(job.probe, jobfile.base)
    settings = job.attribution.model_dump(mode="json")
    settings["methods"] = sorted(settings["methods"])
    keys = {
        name: fingerprint(
            model=identity,
            probe=probe.sha256,
            attribution=settings,
            block_size=job.block_size,
        )
        for name, identity in identities.items()
    }
    return Plan(job, zoo, manifest, probe, folder, keys, allow_code)


def _one_size(zoo: Zoo, manifest: Path) -> None:
    """Attribution maps are compared pixel by pixel, so all models must take one size."""
    first = zoo.models[0]
    for model in zoo.models[1:]:
        if model.input.height_width != first.input.height_width:
            raise InputError(
                f"{manifest}: '{first.name}' takes images of {first.input.height_width},"
                f" '{model.name}' of {model.input.height_width}; give them one 'input.size'"
            )


def _check_folder(folder: Folder, job: Job, fresh: bool) -> None:
    """Refuse a folder that holds something else than this job's run (or nothing)."""
    if (own := folder.files()) and records.PATH not in own:
        strangers = [file for file in own if not _is_own(file)]
        if strangers:
            raise InputError(
                f"{folder.uri}: holds '{strangers[0]}' and no run; choose an empty folder as --out"
            )
    if fresh:
        return
    earlier = records.read_record(folder)
    if earlier is None:
        return
    before, now = ((j.get("name"), j.get("zoo")) for j in (earlier["job"], job.model_dump()))
    if before != now:
        raise InputError(
            f"{folder.uri}: holds the run of job '{before[0]}' on zoo '{before[1]}'; choose another"
            f" --out, or --fresh to delete that run"
        )


def _is_own(path: str) -> bool:
    return path.startswith(_OWN) or path in _OWN_FILES


def clear(folder: Folder) -> None:
    """Delete what a run writes, and nothing else, from its folder."""
    folder.delete([file for file in folder.files() if _is_own(file)])


@contextmanager
def stage(record: Record, name: str, terminal: Terminal) -> Iterator[None]:
    """Note the seconds a stage took."""
    terminal.detail(f"{name} ...")
    start = time.perf_counter()
    yield
    record["seconds"][name] = round(time.perf_counter() - start, 3)
    terminal.detail(f"{name}: {record['seconds'][name]} s")


def new_record(plan: Plan, engine: Engine) -> Record:
    """The record of a run that starts now."""
    models = [
        {
            **model.model_dump(mode="json", exclude_none=True),
            "fingerprint": plan.keys[model.name],
        }
        for model in plan.zoo.models
    ]
    return {
        "schema": records.SCHEMA,
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
    }


def missing_blocks(plan: Plan, terminal: Terminal) -> list[ModelBlock]:
    """The units of work whose shard is not there, not whole, or of other settings; in the order
    model by model. What killed processes left half-written, and shards of no use, are deleted.
    """
    wanted = {
        shard_path(model.name, block): ModelBlock(model, block, plan.keys[model.name])
        for model in plan.zoo.models
        for block in range(plan.blocks)
    }
    there = plan.folder.files("shards")
    stale = [p for p in there if p.endswith(TEMPORARY) or (parse_shard_path(p) and p not in wanted)]
    plan.folder.delete(stale)
    present = [path for path in there if path in wanted]
    complete: set[str] = set()
    with (
        terminal.progress("verify", len(present), "shards") as advance,
        ThreadPoolExecutor() as pool,
    ):
        checks = pool.map(lambda p: is_complete(plan.folder, p, wanted[p].key), present)
        for path, good in zip(present, checks, strict=True):
            advance(1)
            if good:
                complete.add(path)
    return [work for path, work in wanted.items() if path not in complete]


def check_stage(
    plan: Plan, specs: list[AnySpec], engine: Engine, terminal: Terminal
) -> list[Checked]:
    """Load and try the models that will be run. Raises InputError: the first that cannot be used.

    Models that load but fail in their computation are left to the extraction, which reports them.
    """
    shared = CheckShared(plan.manifest.parent, plan.allow_code, plan.job.attribution)
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


def check_space(plan: Plan, checked: list[Checked], missing: list[ModelBlock]) -> None:
    """Raise InputError when the shards to come do not fit on the disk."""
    if plan.folder.local is None:
        return
    values = {c.model: c.features + c.pixels * len(plan.job.attribution.methods) for c in checked}
    blocks = plan.probe.blocks(plan.job.block_size)
    need = sum(4 * values.get(w.spec.name, 0) * len(blocks[w.block]) for w in missing)
    place = plan.folder.local.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if need * 1.05 > free:
        raise InputError(
            f"{plan.folder.uri}: no space left for this run: it writes {need / 1e9:.2f} GB,"
            f" {free / 1e9:.2f} GB are free; free some, or choose another --out"
        )


def extract_stage(
    plan: Plan, missing: list[ModelBlock], engine: Engine, record: Record, terminal: Terminal
) -> None:
    """Compute the missing shards. Models that fail are noted in the record; the others go on."""
    record["shards"]["reused"] = plan.blocks * len(plan.zoo.models) - len(missing)
    shared = Shared(
        probe=plan.probe,
        attribution=plan.job.attribution,
        batch_size=plan.job.batch_size,
        block_size=plan.job.block_size,
        manifest_folder=plan.manifest.parent.resolve(),
        allow_code=plan.allow_code,
        folder=plan.folder,
    )
    blocks = plan.probe.blocks(plan.job.block_size)
    tasks = [Task(shard_path(w.spec.name, w.block), w.spec.name, w) for w in missing]
    failures: dict[str, str] = {}
    total = sum(len(blocks[work.block]) for work in missing)
    with terminal.progress("extract", total, "images") as advance:
        for outcome in engine.run(Extractor, shared, tasks, plan.resources):
            advance(len(blocks[outcome.task.payload.block]))
            if outcome.error is None:
                record["shards"]["computed"] += 1
            else:
                failures.setdefault(outcome.task.group, outcome.error)
    record["failures"] = [{"model": name, "error": error} for name, error in failures.items()]


def reduce_stage(folder: Folder, record: Record, engine: Engine, terminal: Terminal) -> None:
    """affinity.parquet and rankings.parquet from the shards of a run, by what run.json says.

    Raises RunError when fewer than two models, or no source or target, have come through.
    """
    job, failed = record["job"], {failure["model"] for failure in record["failures"]}
    alive = [m for m in record["zoo"]["models"] if m["name"] not in failed]
    models = [model["name"] for model in alive]
    targets = [model["name"] for model in alive if "target" in model["roles"]]
    sources = [model["name"] for model in alive if "source" in model["roles"]]
    if len(models) < 2 or not targets or not sources:
        raise RunError(f"{folder.uri}: {len(models)} models came through; nothing to compare")
    methods, images = job["attribution"]["methods"], record["probe"]["count"]
    if len(models) <= TILE:
        # One tile is one task a method: sending it to a worker costs more than doing it.
        engine = LocalEngine()
    with terminal.progress(
        "reduce", len(reduce_tasks(models, methods)) + -(-len(models) // 8), "tasks"
    ) as advance:
        similarities = reduce(
            folder,
            models,
            images=images,
            blocks=-(-images // job["block_size"]),
            methods=methods,
            center=job["edges"]["center"],
            engine=engine,
            resources=Resources(gpus=0, cpus=job["resources"]["cpus"]),
            advance=advance,
        )
    record["zeros"] = {
        _column_name(what, methods): dict(found.zeros) for what, found in similarities.items()
    }
    affinity = affinity_table(
        similarities,
        models=models,
        targets=targets,
        sources=sources,
        methods=methods,
        weight=job["lambda"],
    )
    write_table(folder, "affinity.parquet", affinity)
    write_table(folder, "rankings.parquet", rank_sources(affinity))


def _column_name(what: str, methods: list[str]) -> str:
    if what == "edges":
        return "depara-edges"
    return "depara-nodes" if what == methods[0] else f"depara-nodes:{what}"


def write_table(folder: Folder, path: str, table: pd.DataFrame) -> None:
    """A small table as Parquet, whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    strings = {name: pa.string() for name in ("method", "target", "source", "truth", "metric")}
    found = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None)
    schema = pa.schema([pa.field(f.name, strings.get(f.name, f.type)) for f in found.schema])
    pq.write_table(found.cast(schema), sink)
    folder.write(path, sink.getbuffer())


def read_table(folder: Folder, path: str) -> pd.DataFrame:
    """A table that `write_table` wrote. Raises InputError when it is not there."""
    content = folder.read(path)
    if content is None:
        raise InputError(f"{folder.uri}/{path}: is missing; run 'depara-bench reduce' first")
    return pd.read_parquet(io.BytesIO(content))


def run_extraction(plan: Plan, engine: Engine, terminal: Terminal) -> Record:
    """Plan to shards. The engine is started only when something has to be computed."""
    record: Record = new_record(plan, engine)
    with stage(record, "verify", terminal):
        missing = missing_blocks(plan, terminal)
    if missing:
        todo = {work.spec.name for work in missing}
        with stage(record, "check", terminal):
            specs = [model for model in plan.zoo.models if model.name in todo]
            check_space(plan, check_stage(plan, specs, engine, terminal), missing)
    records.write_record(plan.folder, record)
    with stage(record, "extract", terminal):
        extract_stage(plan, missing, engine, record, terminal)
    return record


def summary(record: Mapping[str, Any], rankings: pd.DataFrame, top: int = 3) -> pd.DataFrame:
    """The top of the ranking: per target its best `top` sources under `depara`."""
    best = rankings[(rankings["method"] == "depara") & (rankings["rank"] <= top)]
    table = best.pivot_table(
        index="target", columns="rank", values="source", aggfunc="first", sort=False
    )
    order = [m["name"] for m in record["zoo"]["models"] if m["name"] in table.index]
    return table.loc[order]
