"""What a job will do, found out before anything is done: models, probe, folder, missing work."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from depara_bench import record as records
from depara_bench.check import Checked
from depara_bench.engine import Resources
from depara_bench.errors import InputError
from depara_bench.identity import model_identity
from depara_bench.job import AttributionSettings, Job, JobFile
from depara_bench.labels import Labels, read_labels
from depara_bench.probe import Probe, load_probe
from depara_bench.shards import fingerprint, is_complete, parse_shard_path, shard_path
from depara_bench.storage import TEMPORARY, Folder
from depara_bench.terminal import Terminal
from depara_bench.worker import ModelBlock
from depara_bench.zoo import Zoo, find_manifest, load_zoo, select

TABLES = ("run.json", "affinity.parquet", "rankings.parquet", "evaluation.parquet")
"""What a report is made of."""

_OWN = ("shards/", "scratch/", "figures/", "comparison/", ".")
_OWN_FILES = (*TABLES, "labels.parquet", "report.html", "report.md")


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
    labels: Mapping[str, Labels] | None
    """Of the probe images, by target; None where there are none, or scenes are to be labelled."""

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
    settings = _attribution_identity(job.attribution)
    keys = {
        name: fingerprint(
            model=identity,
            probe=probe.sha256,
            attribution=settings,
            block_size=job.block_size,
        )
        for name, identity in identities.items()
    }
    labels = None
    if job.labels is not None and job.labels != "rooms":
        targets = zoo.with_role("target")
        labels = read_labels(jobfile.base / job.labels, probe.ids, targets)
    return Plan(job, zoo, manifest, probe, folder, keys, allow_code, labels)


def _attribution_identity(attribution: AttributionSettings) -> dict[str, Any]:
    """JSON values that change whenever a map could: the settings, whatever the methods' order, and
    the versions of the optional packages that their numbers pass through.
    """
    settings: dict[str, Any] = attribution.model_dump(mode="json")
    settings["methods"] = sorted(settings["methods"])
    if not settings["arguments"]:
        del settings["arguments"]
    packages = {package for method in attribution.made().values() for package in method.packages}
    if packages:
        settings["versions"] = {package: metadata.version(package) for package in sorted(packages)}
    return settings


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
