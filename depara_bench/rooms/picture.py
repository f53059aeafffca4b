"""The picture in the docs: input, label and prediction of every task on held-out scenes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from depara_bench.rooms import HELD_OUT_SEED
from depara_bench.rooms.kinds import KIND_NAMES, SEMANTIC_NAMES
from depara_bench.rooms.labels import render_labelled
from depara_bench.rooms.networks import load_network
from depara_bench.rooms.styles import PLACES
from depara_bench.rooms.tasks import SIZE, TASKS, RoomTask
from depara_bench.rooms.train import weights_path

_CLASSES = {"subject": KIND_NAMES, "place": tuple(place.name for place in PLACES)}


def _colours(count: int) -> NDArray[np.float64]:
    """(count, 3) colours far apart from each other."""
    from matplotlib import colormaps

    return np.asarray(colormaps["tab20"](np.arange(count) % 20))[:, :3]


def as_picture(task: RoomTask, target: NDArray[Any]) -> NDArray[np.float64]:
    """What a network predicts or should, for one image, as (S, S, 3) in [0, 1]."""
    from matplotlib import colormaps

    if task.name == "segmentsemantic":
        classes = target.argmax(axis=0) if target.ndim == 3 else target
        return np.asarray(_colours(len(SEMANTIC_NAMES))[classes])
    if task.name == "colorization":
        red, blue = target[0] * 0.06, target[1] * 0.06
        return np.clip(0.5 + np.stack([red, -0.51 * red - 0.19 * blue, blue], axis=-1), 0, 1)
    if target.shape[0] == 3:
        scale = 0.25 if task.spread[0] != 0.4 else 0.2
        return np.clip(0.5 + scale * target.transpose(1, 2, 0), 0, 1)
    value = target[0]
    return np.asarray(colormaps["viridis"](np.clip((value + 1.5) / 4, 0, 1)))[..., :3]


def as_text(task: RoomTask, target: NDArray[Any]) -> str:
    """The same for a task whose output is no map."""
    if task.label in _CLASSES:
        number = int(target.argmax()) if target.ndim else int(target)
        return _CLASSES[task.label][number].replace("_", "\n")
    values = target * np.asarray(task.spread) + np.asarray(task.centre)
    if task.label == "layout":
        values = np.concatenate([np.exp(values[:5]), values[5:]])
        return (
            "walls, m\n"
            + "\n".join(f"{v:.1f}" for v in values[:5])
            + (f"\nfloor {values[5]:.1f}\nceiling {values[6]:.1f}")
        )
    yaw = np.degrees(np.arctan2(values[1], values[0]) / 4)
    return f"yaw {yaw:.0f}°\npitch {np.degrees(values[2]):.0f}°"


def draw(zoo: Path, to: Path, scenes: Sequence[int] = (3, 14, 27)) -> None:
    """Write the picture of the networks in `zoo` to `to` (PNG)."""
    from matplotlib.figure import Figure
    from PIL import Image

    images, labels = render_labelled(HELD_OUT_SEED, scenes, list(TASKS))
    blocks = 2  # of tasks side by side
    lines = -(-len(TASKS) // blocks)
    per_block = 3 * len(scenes)
    figure = Figure(figsize=(1.02 * (blocks * per_block + 1.6), 1.08 * lines + 0.3), dpi=72)
    grid = figure.add_gridspec(
        lines,
        blocks * per_block + 1,
        wspace=0.04,
        hspace=0.06,
        width_ratios=[1] * per_block + [0.9] + [1] * per_block,
        left=0.05,
        right=0.998,
        top=0.965,
        bottom=0.003,
    )
    for number, task in enumerate(TASKS.values()):
        line, block = number % lines, number // lines
        path = weights_path(zoo, task.name)
        inputs = task.inputs(images, list(scenes), HELD_OUT_SEED)
        with torch.inference_mode():
            target = task.target_of(torch.from_numpy(labels[task.name])).numpy()
            predicted = load_network(path, task.name)(inputs).numpy() if path.is_file() else target
        for k in range(len(scenes)):
            shown = inputs[k].permute(1, 2, 0).numpy() * 0.5 + 0.5
            for part, (title, content) in enumerate(
                (("input", None), ("label", target[k]), ("prediction", predicted[k]))
            ):
                axes = figure.add_subplot(grid[line, block * (per_block + 1) + 3 * k + part])
                axes.set_xticks([])
                axes.set_yticks([])
                if content is None:
                    axes.imshow(shown)
                elif task.shape[1:] == (SIZE, SIZE):
                    axes.imshow(as_picture(task, content))
                else:
                    axes.text(
                        0.5,
                        0.5,
                        as_text(task, content),
                        fontsize=7,
                        ha="center",
                        va="center",
                        transform=axes.transAxes,
                    )
                    axes.set_aspect("equal")
                if line == 0:
                    axes.set_title(title, fontsize=9, pad=2)
                if k == 0 and part == 0:
                    axes.set_ylabel(task.name.replace("_", "\n"), fontsize=9)
    drawn = io.BytesIO()
    figure.savefig(drawn)
    to.parent.mkdir(parents=True, exist_ok=True)
    # 256 colours are plenty here, and a third of the size.
    Image.open(drawn).convert("RGB").quantize(256).save(to, optimize=True)


def example_scenes(to: Path, style: str = "plain", count: int = 24) -> None:
    """Write a sheet of held-out scenes at 128 x 128 to `to` (PNG)."""
    from PIL import Image

    from depara_bench.rooms.scenes import render

    images = render(HELD_OUT_SEED, range(count), size=128, style=style)
    rows = count // 8
    sheet = images[: rows * 8].reshape(rows, 8, 128, 128, 3).transpose(0, 2, 1, 3, 4)
    to.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet.reshape(rows * 128, 8 * 128, 3)).save(to, optimize=True)
