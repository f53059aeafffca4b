"""Scenes drawn once for training: images and labels of one seed, as arrays on disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depara_bench.rooms.labels import render_labelled
from depara_bench.rooms.tasks import TASKS

BLOCK = 256  # scenes drawn between two reports of progress
_IMAGES = "images.npy"
_SAME_AS_IMAGE = "image"  # the label that needs no file


def _stored(values: NDArray[Any]) -> NDArray[Any]:
    """Labels as they are kept: half precision, or bytes for classes."""
    return values.astype(np.float16 if values.dtype.kind == "f" else np.uint8)


def draw_set(
    folder: Path,
    seed: int,
    count: int,
    tasks: Sequence[str],
    on_progress: Callable[[int, int], None] | None = None,
    *,
    style: str = "plain",
) -> None:
    """Draw scenes 0..count-1 of `seed` with the labels of `tasks` into `folder`, whole or not at
    all. A folder that is there is taken to be this set (its name says which it is).
    """
    if folder.is_dir():
        return
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    one_per_label = {TASKS[name].label: name for name in tasks}
    one_per_label.pop(_SAME_AS_IMAGE, None)
    files: dict[str, NDArray[Any]] = {}
    for start in range(0, count, BLOCK):
        part = range(start, min(start + BLOCK, count))
        images, labels = render_labelled(seed, part, list(one_per_label.values()), style=style)
        found = {_IMAGES: images}
        for label, name in one_per_label.items():
            found[f"{label}.npy"] = _stored(labels[name])
        for name, values in found.items():
            if name not in files:
                files[name] = np.lib.format.open_memmap(
                    partial / name, "w+", dtype=values.dtype, shape=(count, *values.shape[1:])
                )
            files[name][part.start : part.stop] = values
        if on_progress:
            on_progress(part.stop, count)
    for values in files.values():
        values.flush()  # type: ignore[attr-defined]  # each is a memmap
    partial.rename(folder)


def read_set(
    folder: Path | None, seed: int, count: int, task: str, style: str = "plain"
) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Images (N, 64, 64, 3) uint8 and labels of one task: from `folder`, or drawn here when it is
    not to be seen from this machine. The numbers are the same either way.
    """
    label = TASKS[task].label
    if folder is not None and folder.is_dir():
        images = np.load(folder / _IMAGES, mmap_mode="r")
        if label == _SAME_AS_IMAGE:
            return images, images.transpose(0, 3, 1, 2)
        return images, np.load(folder / f"{label}.npy", mmap_mode="r")
    images, labels = render_labelled(seed, range(count), [task], style=style)
    if label == _SAME_AS_IMAGE:
        return images, images.transpose(0, 3, 1, 2)
    return images, _stored(labels[task])


def label_batch(task: str, labels: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    """Labels of some rows in their own units, as `render_labelled` gives them."""
    values = labels[rows]
    if TASKS[task].label == _SAME_AS_IMAGE:
        return np.asarray(values.astype(np.float32) / 127.5 - 1.0)
    if values.dtype == np.float16:
        return values.astype(np.float32)
    return values.astype(np.int64)
