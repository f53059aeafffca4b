"""Labels of probe scenes as scores take them: one class an image, or a handful of numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from depara_bench.labels import Labels
from depara_bench.rooms.labels import render_labelled
from depara_bench.rooms.tasks import TASKS

_GRID = 4
_SURFACES = 3  # wall, floor and ceiling, which are in every image


def scene_labels(seed: int, count: int, style: str, targets: Sequence[str]) -> dict[str, Labels]:
    """Labels of scenes 0..count-1 of `seed` for those targets that are tasks of rooms.

    Classes as they are. segmentsemantic: the kind of object that covers most of the image (the
    surface that does, where there is no object). Maps: their means over 4 x 4 cells, channel by
    channel, in the units that a network predicts. Vectors: in the same units.
    """
    tasks = [name for name in targets if name in TASKS]
    _, found = render_labelled(seed, range(count), tasks, style=style)
    return {name: Labels(_pooled(name, found[name])) for name in tasks}


def _pooled(name: str, labels: NDArray[np.generic]) -> NDArray[np.generic]:
    import torch

    task = TASKS[name]
    if task.classifies:
        return _main_class(labels) if labels.ndim == 3 else labels.astype(np.int64)
    values = np.asarray(labels, dtype=np.float32)
    if task.label == "image" and labels.dtype == np.uint8:
        values = values / 127.5 - 1.0
    predicted = task.target_of(torch.from_numpy(values)).double()
    if predicted.ndim == 4:
        predicted = torch.nn.functional.adaptive_avg_pool2d(predicted, _GRID)
    return predicted.flatten(1).numpy()


def _main_class(maps: NDArray[np.generic]) -> NDArray[np.int64]:
    """The class (N,) that covers most of each map (N, S, S), surfaces behind objects."""
    flat = maps.reshape(len(maps), -1).astype(np.int64)
    counts = np.stack([np.bincount(row, minlength=flat.max() + 1) for row in flat])
    objects = counts[:, _SURFACES:]
    main: NDArray[np.int64] = np.where(
        objects.any(axis=1), _SURFACES + objects.argmax(axis=1), counts.argmax(axis=1)
    )
    return main
