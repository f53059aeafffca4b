"""What a job will do, found out before anything is done: models, probe, folder, missing work."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from depara_bench.check import Checked
from depara_bench.engine import Resources
from depara_bench.errors import InputError
from depara_bench.identity import model_identity
from depara_bench.job import AttributionSettings, Job, JobFile
from depara_bench.labels import Labels, read_labels
from depara_bench.owned import check_folder, is_left_over
from depara_bench.preprocess import resized_size
from depara_bench.probe import Probe, load_probe
from depara_bench.shards import fingerprint, is_complete, parse_shard_path, shard_path
from depara_bench.storage import Folder
from depara_bench.terminal import Terminal
from depara_bench.worker import ModelBlock
from depara_bench.zoo import RUNS_CODE, InputSpec, Zoo, find_manifest, load_zoo, select

MOST_PIXELS = 1 << 27
"""Pixels of an image on its way into a model; decoders refuse larger ones as well."""


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
    if len(zoo.models) < 2:
        raise InputError(f"{path}: one model has nothing to be compared with; name at least two")
    for role in ("source", "target"):
        if not zoo.with_role(role):
            raise InputError(
                f"{manifest}: no model has the role '{role}'; add it to 'roles' of at least one"
            )
    programs = [m.name for m in zoo.models if m.loader in RUNS_CODE]
    if programs and not allow_code:
        raise InputError(
            f"{manifest}: model '{programs[0]}' runs code that this manifest names; if you trust"
            f" it, add --allow-code"
        )
    attribution = job.attribution.model_copy(update={"grid": common_grid(job.attribution, zoo)})
    job = job.model_copy(update={"attribution": attribution})
    identities = {m.name: model_identity(m, manifest.parent) for m in zoo.models}
    check_folder(folder, job, fresh)
    terminal.detail(f"probe: {job.probe.kind}")
    probe = load_probe(job.probe, jobfile.base)
    sizes = {model.name: model.input.height_width for model in zoo.models}
    keys = {
        name: fingerprint(
            model=identity,
            probe=probe.sha256,
            attribution=_attribution_identity(job.attribution, sizes[name]),
            block_size=job.block_size,
        )
        for name, identity in identities.items()
    }
    labels = None
    if job.labels is not None and job.labels != "rooms":
        targets = zoo.with_role("target")
        labels = read_labels(jobfile.base / job.labels, probe.ids, targets)
    return Plan(job, zoo, manifest, probe, folder, keys, allow_code, labels)


def _attribution_identity(
    attribution: AttributionSettings, size: tuple[int, int]
) -> dict[str, Any]:
    """JSON values that change whenever a map of a model that takes images of `size` could: the
    settings, whatever the methods' order, and the versions of the optional packages that their
    numbers pass through.
    """
    settings: dict[str, Any] = attribution.model_dump(mode="json")
    settings["methods"] = sorted(settings["methods"])
    if not settings["arguments"]:
        del settings["arguments"]
    if attribution.grid in (None, size):
        del settings["grid"]  # the maps stay as they are
    packages = {package for method in attribution.made().values() for package in method.packages}
    if packages:
        settings["versions"] = {package: metadata.version(package) for package in sorted(packages)}
    return settings


def common_grid(attribution: AttributionSettings, zoo: Zoo) -> tuple[int, int] | None:
    """The grid that the maps of all models are brought to, so that they can be compared pixel by
    pixel; None where they are of one size anyway, and the settings ask for no other.
    """
    if attribution.grid is not None:
        return attribution.grid
    sizes = {model.input.height_width for model in zoo.models}
    if len(sizes) == 1:
        return None
    heights, widths = zip(*sizes, strict=True)
    return min(heights), min(widths)


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
    stale = [p for p in there if is_left_over(p) or (parse_shard_path(p) and p not in wanted)]
    plan.folder.delete(stale)
    present = [path for path in there if path in wanted]
    blocks = plan.probe.blocks(plan.job.block_size)

    def whole(path: str) -> bool:
        work = wanted[path]
        return is_complete(plan.folder, path, work.key, blocks[work.block], plan.probe.ids)

    complete: set[str] = set()
    with (
        terminal.progress("verify", len(present), "shards") as advance,
        ThreadPoolExecutor() as pool,
    ):
        for path, good in zip(present, pool.map(whole, present), strict=True):
            advance(1)
            if good:
                complete.add(path)
    return [work for path, work in wanted.items() if path not in complete]


def check_sizes(probe: Probe, inputs: Mapping[str, InputSpec]) -> None:
    """Raise InputError when an image, resized for one of the models (inputs by name), would take
    gigabytes: a `resize` out of all measure, or an image many times longer than wide.
    """
    sizes = [probe.size(i) for i in range(len(probe))]
    kinds = {(spec.height_width, spec.resize, spec.fit): model for model, spec in inputs.items()}
    for model in kinds.values():
        for image, (rows, columns) in zip(probe.ids, sizes, strict=True):
            height, width = resized_size(rows, columns, inputs[model])
            if height * width > MOST_PIXELS:
                raise InputError(
                    f"{image}: becomes {height} x {width} at the input of '{model}'; leave it out"
                    f" of the probe, or lower the model's 'size' or 'resize'"
                )


def small_images(probe: Probe, inputs: Mapping[str, InputSpec]) -> str | None:
    """A line that tells of images smaller than what the models (inputs by name) crop from them;
    None where there are none. They are enlarged, which changes what a model sees.
    """
    crops = {name: spec.height_width for name, spec in inputs.items() if spec.crops}
    if not crops:
        return None
    model, (height, width) = max(crops.items(), key=lambda item: item[1])
    sizes = map(probe.size, range(len(probe)))
    small = [i for i, (rows, columns) in enumerate(sizes) if rows < height or columns < width]
    if not small:
        return None
    rows, columns = probe.size(small[0])
    return (
        f"{len(small)} images are smaller than the {height} x {width} crop of '{model}', first"
        f" {probe.ids[small[0]]} ({rows} x {columns}); they are enlarged: leave them out, or take"
        f" models of smaller input"
    )


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
