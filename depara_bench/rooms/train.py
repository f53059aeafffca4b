"""Training of the zoo: one network a task, as tasks of an engine, resumable and deterministic."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from depara_bench.engine import Engine, Resources, Slot, Task, Worker
from depara_bench.errors import InputError, RunError
from depara_bench.rooms import HELD_OUT_SEED, TRAIN_SEED
from depara_bench.rooms.data import draw_set, label_batch, read_set
from depara_bench.rooms.networks import build
from depara_bench.rooms.quality import Quality, constant_for, from_dict, measure, read_csv, to_csv
from depara_bench.rooms.tasks import TASKS

_METADATA = "rooms"  # entry of a weights file: recipe and quality
RECIPE = 1  # raise it when scenes, labels, networks or the training change


@dataclass(frozen=True)
class Settings:
    """The training recipe. All of it decides the weights; the fingerprint is made of it."""

    images: int = 6000  # training scenes
    epochs: int = 4
    batch: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    held_out: int = 600  # scenes of the quality gate
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises InputError for numbers that cannot be trained with."""
        for name in ("images", "epochs", "batch", "held_out"):
            if getattr(self, name) < 1:
                raise InputError(f"rooms train: {name} is {getattr(self, name)}; give 1 or more")
        if self.batch < 2 or self.batch > self.images:
            raise InputError(f"rooms train: batch is {self.batch}; give 2 up to images")
        if not 0 < self.learning_rate < 1:
            raise InputError("rooms train: learning_rate lies between 0 and 1")


@dataclass(frozen=True)
class TrainedResult:
    """A trained network's parameters on the CPU, and how good it is."""

    state: dict[str, Tensor]
    quality: Quality


@dataclass(frozen=True)
class Progress:
    """Something happened: `stage` is "scenes" or "networks", `done` of `total` are."""

    stage: str
    done: int
    total: int
    quality: Quality | None = None  # of the network just trained
    error: str | None = None


def fingerprint(task: str, settings: Settings) -> str:
    """What decides the weights of a task, as a hash."""
    text = json.dumps(
        {"recipe": RECIPE, "task": repr(TASKS[task]), "settings": asdict(settings)}, sort_keys=True
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _sets(work: Path | None, settings: Settings) -> tuple[Path | None, Path | None]:
    """Folders of training and held-out scenes within the work folder."""
    if work is None:
        return None, None
    return (
        work / f"scenes-{RECIPE}-{TRAIN_SEED}-{settings.images}",
        work / f"scenes-{RECIPE}-{HELD_OUT_SEED}-{settings.held_out}",
    )


def train_one(
    task: str, settings: Settings, device: str = "cpu", threads: int = 1, work: Path | None = None
) -> TrainedResult:
    """Train and measure the network of one task; scenes come from `work` where they are there.

    AdamW, one cycle of the learning rate: up over the first tenth, down along a cosine.
    """
    torch.set_num_threads(threads)
    started = time.perf_counter()
    row = TASKS[task]
    own_seed = (settings.seed * 1_000_003 + zlib.crc32(task.encode())) & 0x7FFFFFFF
    folder, held_folder = _sets(work, settings)
    images, labels = read_set(folder, TRAIN_SEED, settings.images, task)
    order = np.random.default_rng(own_seed)
    devices = [device] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(own_seed)
        torch.backends.cudnn.deterministic = True
        network = build(task).to(device).to(memory_format=torch.channels_last).train()
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        per_epoch = settings.images // settings.batch
        epochs = settings.epochs * row.effort
        steps = per_epoch * epochs
        warm = max(1, steps // 10)

        def rate(step: int) -> float:
            if step < warm:
                return 0.1 + 0.9 * step / warm
            return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))) + 1e-3

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
        for epoch in range(epochs):
            shuffled = order.permutation(settings.images)
            for start in range(0, per_epoch * settings.batch, settings.batch):
                rows = np.sort(shuffled[start : start + settings.batch])
                # Another corruption of a scene in each epoch.
                inputs = row.inputs(images[rows], rows.tolist(), TRAIN_SEED + 1000 * epoch)
                target = row.target_of(torch.from_numpy(label_batch(task, labels, rows)))
                inputs = inputs.to(device, memory_format=torch.channels_last)
                loss = row.losses(network(inputs), target.to(device)).mean()
                optimiser.zero_grad(set_to_none=True)
                torch.autograd.backward(loss)
                optimiser.step()
                schedule.step()
        network.eval()
        held_images, held_labels = read_set(held_folder, HELD_OUT_SEED, settings.held_out, task)
        quality = measure(
            row,
            lambda batch: network(batch.to(device, memory_format=torch.channels_last)).cpu(),
            constant_for(row, labels),
            held_images,
            held_labels,
            HELD_OUT_SEED,
        )
    state = {
        name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()
    }
    seconds = round(time.perf_counter() - started, 1)
    return TrainedResult(state, replace(quality, seconds=seconds))


def _worker(shared: tuple[Settings, str | None], slot: Slot) -> Worker:
    """Trains in an engine's slot: payload is the name of a task, value its TrainedResult."""
    settings, work = shared

    def train(task: str) -> TrainedResult:
        folder = None if work is None else Path(work)
        return train_one(task, settings, slot.device, slot.threads, folder)

    return train


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    os.replace(partial, path)  # noqa: PTH105 - says what it is here for


def _save(out: Path, result: TrainedResult, mark: str) -> None:
    from safetensors.torch import save

    # The seconds stay out of the file, and there is one entry only (the library keeps no order of
    # several): the same recipe gives the same bytes.
    kept = {"fingerprint": mark, "quality": asdict(replace(result.quality, seconds=None))}
    state = {name: value.contiguous() for name, value in result.state.items()}
    content = save(state, metadata={_METADATA: json.dumps(kept, sort_keys=True)})
    write_whole(weights_path(out, result.quality.task), content)


def weights_path(out: Path, task: str) -> Path:
    """Where the network of a task lies in a zoo folder."""
    return out / "weights" / f"{task}.safetensors"


def trained(out: Path, task: str, settings: Settings | None = None) -> Quality | None:
    """Quality of the network that is there already, None if there is none (of these settings)."""
    from safetensors import SafetensorError, safe_open

    path = weights_path(out, task)
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            kept = json.loads((file.metadata() or {}).get(_METADATA, "{}"))
    except (SafetensorError, OSError, ValueError):
        return None
    if settings is not None and kept.get("fingerprint") != fingerprint(task, settings):
        return None
    return from_dict(kept["quality"]) if "quality" in kept else None


def manifest(out: Path, tasks: Sequence[str]) -> str:
    """zoo.yaml of the networks that are in `out`, as text."""
    lines = ["name: rooms", "models:"]
    for task in tasks:
        digest = hashlib.sha256(weights_path(out, task).read_bytes()).hexdigest()
        roles = "[source, target]" if TASKS[task].target else "[source]"
        lines += [
            f"  - name: {task}",
            "    loader: rooms",
            f"    weights: weights/{task}.safetensors",
            f"    sha256: {digest}",
            "    input: {size: 64, range: [-1.0, 1.0]}",
            "    embedding: encoder",
            f"    roles: {roles}",
        ]
    return "\n".join(lines) + "\n"


def train_all(
    out: Path,
    engine: Engine,
    settings: Settings | None = None,
    tasks: Sequence[str] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    *,
    work: Path | None = None,
    resources: Resources | None = None,
) -> list[Quality]:
    """Train the networks of `tasks` (all 20) into `out`: weights, training.csv and zoo.yaml.

    What is there already with the same recipe is kept, so that a killed training goes on where it
    was, at the granularity of one network. Scenes are drawn once into `work` (default
    `out`/work), which is removed when every network is there. Returns the rows of training.csv.

    Raises InputError for unknown tasks, RunError when the training of a task failed.
    """
    settings = settings or Settings()
    names = list(TASKS) if tasks is None else list(dict.fromkeys(tasks))
    for name in names:
        if name not in TASKS:
            raise InputError(f"rooms train: task '{name}' is not one of {', '.join(TASKS)}")
    report = on_progress or (lambda progress: None)
    table = out / "training.csv"
    seconds: dict[str, float | None] = {}
    todo = [name for name in names if trained(out, name, settings) is None]

    def write_table() -> list[Quality]:
        found = ((name, trained(out, name)) for name in TASKS)
        known = {name: row.seconds for name, row in read_csv(table).items()} | seconds
        rows = [replace(row, seconds=known.get(name)) for name, row in found if row is not None]
        write_whole(table, to_csv(rows).encode())
        return rows

    failures = []
    own_work = work is None
    work = work or out / "work"
    if todo:
        counts = ((TRAIN_SEED, settings.images), (HELD_OUT_SEED, settings.held_out))
        for folder, (seed, count) in zip(_sets(work, settings), counts, strict=True):
            assert folder is not None
            draw_set(
                folder,
                seed,
                count,
                list(TASKS),
                lambda done, total: report(Progress("scenes", done, total)),
            )
        pieces = [Task(key=name, group=name, payload=name) for name in todo]
        shared = (settings, str(work.resolve()))
        done = len(names) - len(todo)
        report(Progress("networks", done, len(names)))
        for outcome in engine.run(_worker, shared, pieces, resources or Resources(cpus=1)):
            done += 1
            if outcome.error is not None:
                failures.append(f"{outcome.task.key}: {outcome.error}")
                report(Progress("networks", done, len(names), error=failures[-1]))
                continue
            result: TrainedResult = outcome.value
            name = result.quality.task
            _save(out, result, fingerprint(name, settings))
            seconds[name] = result.quality.seconds
            write_table()
            report(Progress("networks", done, len(names), result.quality))
    rows = write_table()
    write_whole(out / "zoo.yaml", manifest(out, [row.task for row in rows]).encode())
    if failures:
        raise RunError(f"rooms train: {len(failures)} failed, run again to go on; {failures[0]}")
    if own_work and len(rows) == len(TASKS):
        shutil.rmtree(work, ignore_errors=True)
    return rows
