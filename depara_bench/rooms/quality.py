"""How good a network is on scenes it has not seen, beside the best constant prediction."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from depara_bench.errors import InputError
from depara_bench.rooms.data import label_batch
from depara_bench.rooms.losses import as_prediction, best_constant
from depara_bench.rooms.tasks import RoomTask

MOST_OF_CONSTANT = 0.75  # the gate: error at most this share of the constant's
TIMES_CHANCE = 2.5  # the gate for classes: accuracy at least this many times chance
_BATCH = 100


@dataclass(frozen=True)
class Quality:
    """One row of training.csv. Error: mean loss over held-out scenes.

    `accuracy`, `chance`: of an image's class, and that of the most frequent class; for
    segmentsemantic the mean recall over classes that occur, and that of any constant.
    """

    task: str
    metric: str
    error: float
    constant_error: float
    ratio: float
    accuracy: float | None
    chance: float | None
    passes: bool
    seconds: float | None = None


def constant_for(task: RoomTask, labels: NDArray[Any], most: int = 2000) -> Tensor:
    """The constant (C,) that is best on (the first `most`) training labels."""
    rows = np.arange(min(most, len(labels)))
    target = task.target_of(torch.from_numpy(label_batch(task.name, labels, rows)))
    return best_constant(task.loss, target, task.shape[0])


def measure(
    task: RoomTask,
    predict: Callable[[Tensor], Tensor],
    constant: Tensor,
    images: NDArray[np.uint8],
    labels: NDArray[Any],
    seed: int,
) -> Quality:
    """Quality of `predict` (input to prediction, both on the CPU) on scenes 0..N-1 of `seed`."""
    errors, constants = [], []
    classes = task.shape[0]
    right = torch.zeros(classes, dtype=torch.float64)
    total = torch.zeros(classes, dtype=torch.float64)
    with torch.inference_mode():
        for start in range(0, len(images), _BATCH):
            rows = np.arange(start, min(start + _BATCH, len(images)))
            target = task.target_of(torch.from_numpy(label_batch(task.name, labels, rows)))
            prediction = predict(task.inputs(images[rows], rows.tolist(), seed)).float()
            errors.append(task.losses(prediction, target))
            fixed = as_prediction(constant, task.shape).expand(len(rows), *task.shape)
            constants.append(task.losses(fixed, target))
            if task.classifies:
                hit = (prediction.argmax(dim=1) == target).flatten().double()
                right += torch.zeros_like(right).index_add_(0, target.flatten(), hit)
                total += torch.bincount(target.flatten(), minlength=classes)
    error = float(torch.cat(errors).double().mean())
    constant_error = float(torch.cat(constants).double().mean())
    accuracy = chance = None
    if task.classifies and len(task.shape) == 1:
        accuracy, chance = float(right.sum() / total.sum()), float(total.max() / total.sum())
    elif task.classifies:
        seen = total > 0
        accuracy, chance = float((right[seen] / total[seen]).mean()), float(1 / seen.sum())
    passes = error <= MOST_OF_CONSTANT * constant_error
    if accuracy is not None and chance is not None:
        passes = passes and accuracy >= TIMES_CHANCE * chance
    return Quality(
        task=task.name,
        metric=task.loss,
        error=round(error, 6),
        constant_error=round(constant_error, 6),
        ratio=round(error / constant_error, 4),
        accuracy=None if accuracy is None else round(accuracy, 4),
        chance=None if chance is None else round(chance, 4),
        passes=passes,
    )


def to_csv(rows: Iterable[Quality]) -> str:
    """training.csv as text."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in fields(Quality)])
    for row in rows:
        values = asdict(row)
        values["passes"] = "yes" if row.passes else "no"
        writer.writerow(["" if value is None else value for value in values.values()])
    return text.getvalue()


def read_csv(path: Path) -> dict[str, Quality]:
    """Rows of training.csv by task; empty when there is none.

    Raises InputError when the file is not of this form.
    """
    if not path.is_file():
        return {}
    rows = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                numbers = {
                    name: float(row[name]) if row[name] else None
                    for name in (
                        "error",
                        "constant_error",
                        "ratio",
                        "accuracy",
                        "chance",
                        "seconds",
                    )
                }
                rows[row["task"]] = from_dict(
                    {
                        "task": row["task"],
                        "metric": row["metric"],
                        **numbers,
                        "passes": row["passes"] == "yes",
                    }
                )
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path}: not a training table ({error}); remove it") from error
    return rows


def from_dict(values: dict[str, Any]) -> Quality:
    """A row from its fields by name."""
    return Quality(**values)
