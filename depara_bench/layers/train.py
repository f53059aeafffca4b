"""The networks of a layer job, trained as tasks of an engine: one at a time a worker, resumable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml

from depara_bench.engine import Engine, Resources, Slot, Task
from depara_bench.errors import InputError, RunError, begun
from depara_bench.layers.chain import unroll
from depara_bench.layers.data import open_set, prepare
from depara_bench.layers.finetune import accuracy, train_above
from depara_bench.layers.job import LayersFile, Training
from depara_bench.layers.networks import fresh, trainable
from depara_bench.storage import Folder
from depara_bench.zoo import AnySpec, Zoo

_METADATA = "layers"  # entry of a weights file
_COLUMNS = ("network", "images", "classes", "epochs", "accuracy")
_RECIPE = 1  # raise it when the network or the training change

Advance = Callable[[str, int, int], None]


@dataclass(frozen=True)
class _Shared:
    file: LayersFile
    training: Training
    out: Path
    allow_code: bool


def train_networks(
    file: LayersFile,
    out: Path,
    engine: Engine,
    *,
    allow_code: bool = False,
    advance: Advance = lambda _stage, _done, _total: None,
) -> pd.DataFrame:
    """Train the networks of `training` into `out`: weights/<name>.safetensors, training.csv and
    zoo.yaml, a manifest of what is there. Returns training.csv: network, classes, epochs, accuracy.

    What is there already by the same recipe is kept. Raises InputError when the job trains nothing,
    RunError when a training failed.
    """
    training = file.job.training
    if training is None:
        raise InputError(f"{file.path}: has no 'training'; nothing is trained")
    for name in training.networks:
        if not trainable(file.spec(name)):
            raise InputError(
                f"{file.manifest}: model '{name}' is of loader '{file.spec(name).loader}', which"
                f" builds no network without weights; take it out of 'training'"
            )
    shared = _Shared(file, training, out.resolve(), allow_code)
    todo = [name for name in training.networks if _done(shared, name) is None]
    for name in todo:
        for spec in (training.networks[name], training.held_out[name]):
            prepare(spec, out / "work", lambda done, total: advance("scenes", done, total))
    tasks = [Task(name, name, name) for name in todo]
    failed = []
    for done, outcome in enumerate(engine.run(_Trainer, shared, tasks, Resources()), start=1):
        if outcome.error is not None:
            failed.append(f"{outcome.task.key}: {outcome.error}")
        advance("networks", done, len(tasks))
    if failed:
        raise RunError(f"layers train: {len(failed)} failed, run again to go on; {failed[0]}")
    rows = [_done(shared, name) or {} for name in training.networks]
    table = pd.DataFrame(rows)[list(_COLUMNS)]
    folder = Folder(str(out))
    with begun():
        folder.write("training.csv", table.to_csv(index=False, lineterminator="\n").encode())
        folder.write("zoo.yaml", _manifest(file, out, training).encode())
    return table


class _Trainer:
    """A worker: one network at a time."""

    def __init__(self, shared: _Shared, slot: Slot) -> None:
        self.shared, self.slot = shared, slot

    def __call__(self, name: str) -> None:
        """Train a network and write its weights, with its accuracy beside them in the file."""
        from safetensors.torch import save

        torch.set_num_threads(self.slot.threads)
        shared, training = self.shared, self.shared.training
        spec, work = shared.file.spec(name), shared.out / "work"
        images = open_set(training.networks[name], shared.file.base, work)
        held_out = open_set(training.held_out[name], shared.file.base, work)
        model = fresh(spec, shared.file.manifest.parent, training.seed, shared.allow_code)
        chain = unroll(model, name, spec.input.height_width, spec.input.shape[0])
        nothing, everything = chain.below(0), chain.above(0)
        train_above(
            nothing,
            everything,
            images,
            np.arange(len(images.labels)),
            spec.input,
            training.recipe,
            epochs=training.epochs,
            seed=training.seed,
            device=self.slot.device,
        )
        found = accuracy(nothing, everything, held_out, spec.input, self.slot.device)
        row = {
            "network": name,
            "images": len(images.labels),
            "classes": images.classes,
            "epochs": training.epochs,
            "accuracy": found,
        }
        state = {key: value.cpu().contiguous() for key, value in model.state_dict().items()}
        kept = {"fingerprint": _fingerprint(shared.file, training, name), "row": row}
        content = save(state, metadata={_METADATA: json.dumps(kept, sort_keys=True)})
        Folder(str(shared.out)).write(f"weights/{name}.safetensors", content)


def _fingerprint(file: LayersFile, training: Training, name: str) -> str:
    spec = file.spec(name).model_dump(mode="json", exclude={"weights", "sha256"})
    what = {
        "recipe": _RECIPE,
        "model": spec,
        "training": training.model_dump(mode="json", exclude={"networks", "held_out"}),
        "images": training.networks[name].model_dump(mode="json"),
        "held_out": training.held_out[name].model_dump(mode="json"),
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def _done(shared: _Shared, name: str) -> dict[str, Any] | None:
    """The row of a network that is there, trained by this very recipe; None where it is not."""
    from safetensors import SafetensorError, safe_open

    path = shared.out / "weights" / f"{name}.safetensors"
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as stream:
            kept = json.loads((stream.metadata() or {}).get(_METADATA, "{}"))
    except (SafetensorError, OSError, ValueError):
        return None
    if kept.get("fingerprint") != _fingerprint(shared.file, shared.training, name):
        return None
    return dict(kept["row"])


def _manifest(file: LayersFile, out: Path, training: Training) -> str:
    """zoo.yaml of the networks that are in `out`, in the order of the job's manifest."""
    models: list[AnySpec] = []
    for model in file.zoo.models:
        if model.name not in training.networks:
            continue
        weights = f"weights/{model.name}.safetensors"
        digest = hashlib.sha256((out / weights).read_bytes()).hexdigest()
        models.append(model.model_copy(update={"weights": weights, "sha256": digest, "seed": None}))
    zoo = Zoo(name=file.zoo.name, models=tuple(models))
    content = zoo.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=100)
