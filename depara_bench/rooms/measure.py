"""The measured truth: every transfer of the embedded Taskonomy, trained and scored.

For each target, source, training-set size and seed a fresh readout is trained on the frozen source
encoder and its loss on every held-out scene is kept; beside the sources, a network trained from
scratch on the same data and a frozen encoder that was never trained, as Taskonomy has them.
Everything lies in a work folder under the fingerprint of what it was made from, one file a
transfer, so that a killed measurement goes on where it was.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from depara_bench.config import Strict
from depara_bench.engine import Engine, Resources, Slot, Task
from depara_bench.errors import InputError, RunError
from depara_bench.rooms import TRANSFER_TEST_SEED, TRANSFER_TRAIN_SEED
from depara_bench.rooms.corruption import corrupt
from depara_bench.rooms.data import draw_set, read_set
from depara_bench.rooms.networks import load_network
from depara_bench.rooms.tasks import SOURCES, TARGETS, TASKS
from depara_bench.rooms.transfer import random_encoder, represent, standardise, train_readout
from depara_bench.storage import Folder
from depara_bench.zoo import Name

SCRATCH = "scratch"
"""Not a source: the same readout with an encoder trained from the start on the target's data."""
RANDOM = "random"
"""Not a source: the readout on a frozen encoder that was never trained."""

_MOST = 1_000_000
"""Of scenes, and of steps of one training."""

_RECIPE = 2  # raise it when the readout or its training change


class MeasureJob(Strict):
    """What is measured: jobs/measure-rooms.yaml.

    zoo: an embedded zoo of rooms, or the folder of one. targets, sources: of the tasks; None: all.
    sizes: training scenes, by name ("large", "small"); the first is the one that `compare` takes.
    steps: training steps, by the same names. seeds: of readout and order of images. width: channels
    of the readout's first convolution.
    """

    name: Name
    zoo: str = "rooms"
    targets: tuple[str, ...] | None = Field(default=None, min_length=1)
    sources: tuple[str, ...] | None = Field(default=None, min_length=2)
    sizes: dict[str, int]
    steps: dict[str, int]
    seeds: tuple[int, ...] = Field(min_length=2, max_length=10_000)
    held_out: int = Field(ge=10, le=_MOST)
    batch: int = Field(default=32, ge=2, le=100_000)
    learning_rate: float = Field(default=3e-3, gt=0, lt=1)
    width: int = Field(default=64, ge=1, le=10_000)

    @field_validator("sizes")
    @classmethod
    def _some(cls, sizes: dict[str, int]) -> dict[str, int]:
        if not sizes or not all(2 <= size <= _MOST for size in sizes.values()):
            raise ValueError(f"name at least one size, each of 2 scenes or more, up to {_MOST:,}")
        return sizes

    @field_validator("seeds")
    @classmethod
    def _differ(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) != len(seeds):
            raise ValueError("each seed at most once")
        return seeds

    @model_validator(mode="after")
    def _steps_of_each_size(self) -> MeasureJob:
        if set(self.sizes) != set(self.steps):
            raise ValueError("'sizes' and 'steps' must have the same names")
        if not all(1 <= steps <= _MOST for steps in self.steps.values()):
            raise ValueError(f"'steps' must lie in 1..{_MOST}")
        return self


@dataclass(frozen=True)
class Transfer:
    """One training: from `source` (a network, SCRATCH or RANDOM) to `target`."""

    target: str
    source: str
    size: str
    seed: int

    @property
    def file(self) -> str:
        """Where its losses lie in the work folder."""
        return f"losses/{self.target}/{self.source}-{self.size}-{self.seed}.npy"


@dataclass(frozen=True)
class Shared:
    """What every measuring worker knows. threads: that a network computes with, on every engine
    alike: of another number, sums are added otherwise, and training amplifies that.
    """

    job: MeasureJob
    work: Path
    zoo: Path
    tasks: tuple[str, ...]
    threads: int


def transfers(job: MeasureJob, targets: Sequence[str], sources: Sequence[str]) -> list[Transfer]:
    """All trainings, target by target."""
    return [
        Transfer(target, source, size, seed)
        for target in targets
        for source in (*sources, SCRATCH, RANDOM)
        for size in job.sizes
        for seed in job.seeds
    ]


def fingerprint(job: MeasureJob, zoo: Path, sources: Sequence[str]) -> str:
    """Of everything the losses depend on: recipe, job, the networks' bytes."""
    weights = {
        name: hashlib.sha256((zoo / "weights" / f"{name}.safetensors").read_bytes()).hexdigest()
        for name in sources
    }
    what = {
        "recipe": _RECIPE,
        "job": job.model_dump(exclude={"name", "zoo", "targets", "sources"}),
        "weights": weights,
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def measure(
    job: MeasureJob,
    zoo: Path,
    work: Path,
    engine: Engine,
    resources: Resources,
    *,
    targets: Sequence[str] = TARGETS,
    sources: Sequence[str] = SOURCES,
    advance: Callable[[str, int, int], None] = lambda _stage, _done, _total: None,
) -> pd.DataFrame:
    """All losses: target, source, size, seed, image (int32), loss (float32), one row an image.

    zoo: folder of the networks. work: where scenes, representations and finished transfers are
    kept; what is there and fits is not done again. `advance` gets (stage, done, total).
    Raises RunError when transfers failed; InputError when networks are missing.
    """
    for name in sources:
        if not (zoo / "weights" / f"{name}.safetensors").is_file():
            raise InputError(f"{zoo}: has no weights of '{name}'; run 'depara-bench rooms train'")
    place = work / fingerprint(job, zoo, sources)
    wanted = transfers(job, targets, sources)
    todo = [transfer for transfer in wanted if not (place / transfer.file).is_file()]
    if todo:
        for seed, count in _scene_sets(job):
            draw_set(
                _scenes(work, seed, count),
                seed,
                count,
                list(TASKS),
                lambda done, total: advance("scenes", done, total),
            )
        shared = Shared(job, place, zoo.resolve(), tuple(sources), resources.cpus)
        names = [name for name in (*sources, RANDOM) if not _representation(place, name).is_file()]
        encode = [Task(name, name, name) for name in names]
        _run(engine, Representer, shared, encode, resources, advance, "encode")
        tasks = [Task(transfer.file, transfer.file, transfer) for transfer in todo]
        _run(engine, Transferrer, shared, tasks, resources, advance, "transfer")
    return pd.concat([_rows(place, transfer) for transfer in wanted], ignore_index=True)


def clean(job: MeasureJob, zoo: Path, work: Path, sources: Sequence[str] = SOURCES) -> None:
    """Delete what was only needed while measuring: scenes and representations. Losses stay."""
    for seed, count in _scene_sets(job):
        shutil.rmtree(_scenes(work, seed, count), ignore_errors=True)
    shutil.rmtree(work / fingerprint(job, zoo, sources) / "representations", ignore_errors=True)


def _run(
    engine: Engine,
    factory: Callable[[Shared, Slot], Callable[..., None]],
    shared: Shared,
    tasks: Sequence[Task],
    resources: Resources,
    advance: Callable[[str, int, int], None],
    stage: str,
) -> None:
    failed = []
    for done, outcome in enumerate(engine.run(factory, shared, tasks, resources), start=1):
        if outcome.error is not None:
            failed.append(f"{outcome.task.key}: {outcome.error}")
        advance(stage, done, len(tasks))
    if failed:
        raise RunError(f"measure: {len(failed)} of {stage} failed, first {failed[0]}; run again")


class Representer:
    """A worker: representations of all transfer scenes by one frozen encoder, once."""

    def __init__(self, shared: Shared, slot: Slot) -> None:
        self.shared, self.slot = shared, slot

    def __call__(self, source: str) -> None:
        """Write the representations of one source, float32, training scenes first."""
        torch.set_num_threads(self.shared.threads)
        job = self.shared.job
        if source == RANDOM:
            encoder: torch.nn.Module = random_encoder(seed=0)
        else:
            path = self.shared.zoo / "weights" / f"{source}.safetensors"
            encoder = load_network(path, source).encoder
        parts = [
            represent(encoder, _images(self.shared.work.parent, seed, count), self.slot.device)
            for seed, count in _scene_sets(job)
        ]
        _save(self.shared.work, f"representations/{source}.npy", torch.cat(parts).numpy())


class Transferrer:
    """A worker: one transfer at a time; it keeps the labels of the target it has last read."""

    def __init__(self, shared: Shared, slot: Slot) -> None:
        self.shared, self.slot = shared, slot
        self._target = ""
        self._labels: list[NDArray[np.generic]] = []

    def __call__(self, transfer: Transfer) -> None:
        """Train, and write the loss on each held-out scene."""
        torch.set_num_threads(self.shared.threads)
        job, count = self.shared.job, self.shared.job.sizes[transfer.size]
        train_labels, test_labels = self._read_labels(transfer.target)
        if transfer.source == SCRATCH:
            train, test = (
                _images(self.shared.work.parent, seed, most) for seed, most in _scene_sets(job)
            )
            train = train[:count]
        else:
            both = torch.from_numpy(np.load(_representation(self.shared.work, transfer.source)))
            train, test = standardise(both[:count], both[-job.held_out :])
        losses = train_readout(
            TASKS[transfer.target],
            train,
            test,
            train_labels[:count],
            test_labels,
            steps=job.steps[transfer.size],
            batch=min(job.batch, count),
            learning_rate=job.learning_rate,
            width=job.width,
            seed=_seed(transfer),
            device=self.slot.device,
            scratch=transfer.source == SCRATCH,
        )
        if not np.isfinite(losses).all():
            raise RunError(f"{transfer.file}: a loss is not finite")
        _save(self.shared.work, transfer.file, losses)

    def _read_labels(self, target: str) -> list[NDArray[np.generic]]:
        if target != self._target:
            sets = _scene_sets(self.shared.job)
            work = self.shared.work.parent
            self._labels = [read_set(_scenes(work, s, n), s, n, target)[1] for s, n in sets]
            self._target = target
        return self._labels


def _seed(transfer: Transfer) -> int:
    """The same for all sources of a target: what differs between them is the source alone."""
    return transfer.seed * 1_000_003 + zlib.crc32(transfer.target.encode()) % 1_000_003


def _scene_sets(job: MeasureJob) -> list[tuple[int, int]]:
    """Seed and number of training and of held-out scenes; no network has seen either."""
    return [(TRANSFER_TRAIN_SEED, max(job.sizes.values())), (TRANSFER_TEST_SEED, job.held_out)]


def _scenes(work: Path, seed: int, count: int) -> Path:
    return work / f"scenes-{_RECIPE}-{seed}-{count}"


def _images(work: Path, seed: int, count: int) -> torch.Tensor:
    images, _ = read_set(_scenes(work, seed, count), seed, count, "autoencoder")
    return corrupt("none", np.asarray(images), range(count), seed)


def _representation(work: Path, source: str) -> Path:
    return work / "representations" / f"{source}.npy"


def _save(work: Path, path: str, values: NDArray[np.generic]) -> None:
    buffer = io.BytesIO()
    np.save(buffer, values)
    Folder(str(work)).write(path, buffer.getbuffer())


def _rows(work: Path, transfer: Transfer) -> pd.DataFrame:
    losses = np.load(work / transfer.file)
    return pd.DataFrame(
        {
            "target": transfer.target,
            "source": transfer.source,
            "size": transfer.size,
            "seed": np.int32(transfer.seed),
            "image": np.arange(len(losses), dtype=np.int32),
            "loss": losses,
        }
    )
