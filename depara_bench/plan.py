"""What a job will do, found out before anything is done: models, probe, folder, missing work."""

from __future__ import annotations

import shutil
from collections import Counter
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
from depara_bench.shards import (
    Digest,
    Origin,
    fingerprint,
    parse_shard_path,
    read_origin,
)
from depara_bench.storage import Folder
from depara_bench.terminal import Terminal
from depara_bench.worker import ModelBlock
from depara_bench.zoo import RUNS_CODE, InputSpec, Zoo, find_manifest, load_zoo, select

MOST_PIXELS = 1 << 27
"""Pixels of an image on its way into a model; decoders refuse larger ones as well."""


@dataclass(frozen=True)
class Plan:
    """A job, resolved: the models with the keys of their shards (see `Origin`), the probe, the
    folder.
    """

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
    check_folder(folder, job, zoo, fresh)
    terminal.detail(f"probe: {job.probe.kind}")
    with terminal.waiting("probe"):
        probe = load_probe(job.probe, jobfile.base)
    for remark in probe.remarks:
        terminal.say(remark)
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


@dataclass(frozen=True)
class Found:
    """The shards of an earlier run. whole: those that this plan can use, by model and block.
    left_out: by model, how many there are of models that the job leaves out; they stay. replaced:
    how many are of other settings, and so of no use.
    """

    whole: Mapping[str, Mapping[int, Origin]]
    left_out: Mapping[str, int]
    replaced: int

    def origins(self, model: str) -> set[Origin]:
        """What the whole shards of a model were made from: one thing, if all is well."""
        return set(self.whole.get(model, {}).values())


def find_shards(plan: Plan, terminal: Terminal) -> Found:
    """Look through the shards of an earlier run. What killed processes left half-written is
    deleted, and shards of the job's models that fit no block of it.
    """
    there = plan.folder.files("shards")
    shards = {path: parsed for path in there if (parsed := parse_shard_path(path))}
    left_out = Counter(model for model, _ in shards.values() if model not in plan.keys)
    ours = {path: of for path, of in shards.items() if of[0] in plan.keys}
    blocks = plan.probe.blocks(plan.job.block_size)
    beyond = [path for path, (_, block) in ours.items() if block >= len(blocks)]
    plan.folder.delete([*filter(is_left_over, there), *beyond])
    present = {path: of for path, of in ours.items() if of[1] < len(blocks)}

    def origin(path: str) -> Origin | None:
        model, block = present[path]
        return read_origin(plan.folder, path, plan.keys[model], blocks[block], plan.probe.ids)

    whole: dict[str, dict[int, Origin]] = {}
    used = 0
    with (
        terminal.progress("verify", len(present), "shards") as advance,
        ThreadPoolExecutor() as pool,
    ):
        for (model, block), found in zip(present.values(), pool.map(origin, present), strict=True):
            advance(1)
            if found is not None:
                whole.setdefault(model, {})[block] = found
                used += 1
    return Found(whole, dict(left_out), len(ours) - used)


def missing_blocks(plan: Plan, found: Found, loaded: Mapping[str, Digest]) -> list[ModelBlock]:
    """The units of work whose shard is not there, not whole, of other settings, or of another model
    than the one that was `loaded` (by name); model by model. Models that could not be loaded are
    passed over.
    """
    return [
        ModelBlock(model, block, origin)
        for model in plan.zoo.models
        if model.name in loaded
        for origin in [Origin(plan.keys[model.name], loaded[model.name])]
        for block in range(plan.blocks)
        if found.whole.get(model.name, {}).get(block) != origin
    ]


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
