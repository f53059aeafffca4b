"""The measured truth of layers: each source frozen up to each of its layers, the rest trained.

Every transfer starts from the source's own weights, with a fresh last layer, and is one file in a
work folder, under the fingerprint of all it depends on: a killed measurement goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from depara_bench.engine import Engine, Resources, Slot, Task
from depara_bench.errors import InputError, RunError
from depara_bench.layers.chain import Chain, choose, unroll, with_head
from depara_bench.layers.data import Images, draw_share, missing_photos, open_set, prepare
from depara_bench.layers.finetune import accuracy, train_above
from depara_bench.layers.job import SCRATCH, LayersFile
from depara_bench.layers.networks import fresh, network, trainable
from depara_bench.loaders.seeded import seeded
from depara_bench.storage import Folder

_RECIPE = 1  # raise it when freezing, training or scoring change

Advance = Callable[[str, int, int], None]


@dataclass(frozen=True)
class LayerTransfer:
    """One training: `source` frozen up to `layer`, its `depth`-th, trained on a share. SCRATCH has
    no layer, and depth 0.
    """

    source: str
    layer: str
    depth: int
    fraction: str
    seed: int

    @property
    def file(self) -> str:
        """Where its accuracy lies in the work folder."""
        return f"accuracy/{self.source}-{self.depth:02d}-{self.fraction}-{self.seed}.json"


@dataclass(frozen=True)
class _Shared:
    file: LayersFile
    work: Path
    allow_code: bool


def transferable(file: LayersFile, source: str, allow_code: bool = False) -> list[tuple[str, int]]:
    """The chosen layers of a source, with their depths, see `choose`. Raises InputError for one
    that the network cannot be cut after.
    """
    spec = file.spec(source)
    model = network(spec, file.manifest.parent, allow_code)
    chain = unroll(model, source, spec.input.height_width, spec.input.shape[0])
    found = [(one.name, one.depth) for one in choose(model, file.job.layers, source) if one.chosen]
    for layer, _ in found:
        if layer not in chain.names:
            raise InputError(
                f"model '{source}': '{layer}' is not one of the modules it is cut between; leave it"
                f" out of 'layers'"
            )
    return found


def transfers(file: LayersFile, allow_code: bool = False) -> list[LayerTransfer]:
    """All trainings of a job: seed by seed, of each the longest first."""
    measure = file.job.measure
    places = [(SCRATCH, "", 0)]
    for source in file.job.sources:
        places += [(source, *place) for place in transferable(file, source, allow_code)]
    shares = sorted(measure.fractions, key=measure.fractions.__getitem__, reverse=True)
    return [
        LayerTransfer(source, layer, depth, fraction, seed)
        for seed in measure.seeds
        for fraction in shares
        for source, layer, depth in sorted(places, key=lambda place: place[2])
    ]


def measure_layers(
    file: LayersFile,
    work: Path,
    engine: Engine,
    *,
    allow_code: bool = False,
    advance: Advance = lambda _stage, _done, _total: None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Accuracies: source, layer, depth (int32), fraction, seed (int32), accuracy, one row a
    transfer, scratch first; and the splits: fraction, seed, image, one row an image trained on.

    Raises InputError, before anything is trained, for networks and images that are not there;
    RunError when transfers failed.
    """
    measure = file.job.measure
    if not trainable(file.spec(file.job.target)):
        raise InputError(
            f"{file.manifest}: model '{file.job.target}' is of loader"
            f" '{file.spec(file.job.target).loader}', which builds no network without weights to"
            f" train from scratch; describe it as a torchvision or python model"
        )
    wanted = transfers(file, allow_code)
    for spec in (measure.train, measure.held_out):
        if missing := missing_photos(spec, file.base):
            raise InputError(
                f"{missing[0]}: no such image, and {len(missing) - 1} more; correct 'root'"
            )
    places = {
        source: work / fingerprint(file, source, allow_code)
        for source in (SCRATCH, *file.job.sources)
    }

    def path(transfer: LayerTransfer) -> Path:
        return places[transfer.source].resolve() / transfer.file

    todo = [transfer for transfer in wanted if not path(transfer).is_file()]
    if todo:
        for spec in (measure.train, measure.held_out):
            prepare(spec, work, lambda done, total: advance("scenes", done, total))
        tasks = [Task(one.file, one.file, (one, path(one))) for one in todo]
        shared = _Shared(file, work.resolve(), allow_code)
        failed = []
        for done, outcome in enumerate(engine.run(_Transferrer, shared, tasks, Resources()), 1):
            if outcome.error is not None:
                failed.append(f"{outcome.task.key}: {outcome.error}")
            advance("transfers", done, len(tasks))
        if failed:
            raise RunError(
                f"layers measure: {len(failed)} transfers failed, first {failed[0]}; run again"
            )
    order = {name: row for row, name in enumerate((SCRATCH, *file.job.sources))}
    wanted.sort(key=lambda t: (order[t.source], -measure.fractions[t.fraction], t.depth, t.seed))
    rows = [
        {
            "source": transfer.source,
            "layer": transfer.layer,
            "depth": transfer.depth,
            "fraction": measure.fractions[transfer.fraction],
            "seed": transfer.seed,
            "accuracy": json.loads(path(transfer).read_text())["accuracy"],
        }
        for transfer in wanted
    ]
    table = pd.DataFrame(rows).astype({"depth": "int32", "seed": "int32"})
    return table, _splits(file, work)


def fingerprint(file: LayersFile, source: str, allow_code: bool = False) -> str:
    """Of everything that the accuracies of a source depend on: recipe, settings, its weights."""
    job = file.job
    spec = file.spec(job.target if source == SCRATCH else source)
    weights = hashlib.sha256()
    if source != SCRATCH:
        model = network(spec, file.manifest.parent, allow_code)
        for key, value in model.state_dict().items():
            weights.update(key.encode() + value.contiguous().numpy().tobytes())
    what = {
        "recipe": _RECIPE,
        "measure": job.measure.model_dump(mode="json", exclude={"seeds"}),
        "model": spec.model_dump(mode="json", exclude={"weights", "sha256"}),
        "weights": weights.hexdigest(),
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


class _Transferrer:
    """A worker: one transfer at a time; it keeps the images it has opened."""

    def __init__(self, shared: _Shared, slot: Slot) -> None:
        self.shared, self.slot = shared, slot
        self._sets: tuple[Images, Images] | None = None

    def __call__(self, payload: tuple[LayerTransfer, Path]) -> None:
        """Freeze, train, and write the accuracy on the held-out images into a file."""
        transfer, path = payload
        torch.set_num_threads(self.slot.threads)
        file, measure = self.shared.file, self.shared.file.job.measure
        train, held_out = self._images()
        rows = draw_share(train.labels, measure.fractions[transfer.fraction], transfer.seed)
        source = file.job.target if transfer.source == SCRATCH else transfer.source
        spec = file.spec(source)
        chain, cut = self._start(transfer, source, max(train.classes, held_out.classes))
        frozen, rest = chain.below(cut), chain.above(cut).requires_grad_(True)
        train_above(
            frozen,
            rest,
            train,
            rows,
            spec.input,
            measure.recipe,
            epochs=measure.epochs[transfer.fraction],
            seed=transfer.seed,
            device=self.slot.device,
        )
        found = accuracy(frozen, rest, held_out, spec.input, self.slot.device)
        content = json.dumps({"accuracy": found, "images": len(rows)})
        Folder(str(path.parent)).write(path.name, content.encode())

    def _start(self, transfer: LayerTransfer, source: str, classes: int) -> tuple[Chain, int]:
        """The network before training, and where it is cut."""
        file = self.shared.file
        spec, base, allowed = file.spec(source), file.manifest.parent, self.shared.allow_code
        size, channels = spec.input.height_width, spec.input.shape[0]
        if transfer.source == SCRATCH:
            chain = unroll(fresh(spec, base, transfer.seed, allowed), source, size, channels)
        else:
            chain = unroll(network(spec, base, allowed), source, size, channels)
        with seeded(transfer.seed):
            chain = with_head(chain, classes)
        return chain, chain.cut_after(transfer.layer) if transfer.layer else 0

    def _images(self) -> tuple[Images, Images]:
        if self._sets is None:
            file, work = self.shared.file, self.shared.work
            train, held_out = file.job.measure.train, file.job.measure.held_out
            self._sets = (open_set(train, file.base, work), open_set(held_out, file.base, work))
        return self._sets


def _splits(file: LayersFile, work: Path) -> pd.DataFrame:
    measure = file.job.measure
    images = open_set(measure.train, file.base, work)
    frames: list[pd.DataFrame] = []
    for share in measure.fractions.values():
        for seed in measure.seeds:
            rows = draw_share(images.labels, share, seed)
            names: list[Any] = [images.names[row] for row in rows]
            frames.append(pd.DataFrame({"fraction": share, "seed": seed, "image": names}))
    return pd.concat(frames, ignore_index=True)
