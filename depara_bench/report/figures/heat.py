"""Heat maps of affinities: targets down, sources across."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from depara_bench.report.figures.canvas import (
    ACCENT,
    INK,
    MUTED,
    RULE,
    box,
    canvas,
    label,
    shorten,
    text_width,
    to_svg,
)
from depara_bench.report.matrix import Matrix
from depara_bench.report.render import number

COLOURS = LinearSegmentedColormap.from_list(
    "affinity", ["#f6f1e4", "#d3dcc9", "#93bdb4", "#4a93a3", "#22648b", "#173a63"]
)
SELF = "#e9e7e2"
NUMBERED = 24
"""Most columns in whose cells a value can be read."""
PIXELS = 600
"""Most rows and columns of an unlabelled heat map; larger matrices are averaged to it."""
_SIZE = 8.5
_FOOT = 44.0


@dataclass(frozen=True)
class Grid:
    """Where the cells lie: top left corner, and size of a cell, in points."""

    left: float
    top: float
    width: float
    height: float


def heat_map(matrix: Matrix, name: str, title: str) -> str:
    """Standalone SVG of a labelled heat map, cells in the order of the matrix. Self cells are grey,
    and take no part in the colour scale; the best source of each target has a frame.
    """
    rows, columns = matrix.values.shape
    width = float(np.clip(600 / columns, 12, 34))
    grid = Grid(
        left=max(text_width(shorten(t), _SIZE) for t in matrix.targets) + 10,
        top=0.78 * max(text_width(shorten(s), _SIZE) for s in matrix.sources) + 16,
        width=width,
        height=min(width, 22.0),
    )
    # The last slanted label reaches over the right edge.
    over = 0.62 * text_width(shorten(matrix.sources[-1]), _SIZE)
    total = max(grid.left + columns * grid.width + over, grid.left + _key_width(matrix.limits))
    figure, axes = canvas(total, grid.top + rows * grid.height + _FOOT)
    _labels(axes, matrix, grid)
    tips = _cells(axes, matrix, grid)
    _key(axes, matrix.limits, grid.left, grid.top + rows * grid.height + 14, frame=True)
    return to_svg(figure, name, title, tips)


def _labels(axes: Axes, matrix: Matrix, grid: Grid) -> None:
    for row, target in enumerate(matrix.targets):
        y = grid.top + (row + 0.5) * grid.height
        label(axes, grid.left - 6, y, shorten(target), _SIZE, ha="right")
    for column, source in enumerate(matrix.sources):
        x = grid.left + (column + 0.5) * grid.width
        label(
            axes, x + 2, grid.top - 5, shorten(source), _SIZE,
            rotation=52, rotation_mode="anchor", ha="left", va="center",
        )  # fmt: skip


def _cells(axes: Axes, matrix: Matrix, grid: Grid) -> dict[str, str]:
    """Draw them, and return what hovering over each shows, by gid."""
    tips = {}
    numbered = len(matrix.sources) <= NUMBERED
    best = best_columns(matrix)
    for row, target in enumerate(matrix.targets):
        for column, source in enumerate(matrix.sources):
            value = float(matrix.values[row, column])
            gid = f"{row}-{column}"
            x, y = grid.left + column * grid.width, grid.top + row * grid.height
            own, framed = bool(matrix.self_cells[row, column]), best.get(row) == column
            colour = _colour(matrix, value, own)
            # A margin of half a point keeps neighbours apart in print and on screen.
            inset = 1.25 if framed else 0.5
            box(
                axes, x + inset, y + inset, grid.width - 2 * inset, grid.height - 2 * inset,
                facecolor=colour, gid=gid,
                edgecolor=ACCENT if framed else "none", linewidth=1.5 if framed else 0,
            )  # fmt: skip
            shown = number(value) if np.isfinite(value) else "missing"
            tips[gid] = f"target {target}, source {source}: {shown}" + (" (self)" if own else "")
            if numbered:
                ink = MUTED if own else _ink(colour)
                text = "self" if own else _short(value)
                label(
                    axes, x + grid.width / 2, y + grid.height / 2, text, 7.5,
                    ha="center", va="center_baseline", color=ink,
                )  # fmt: skip
    return tips


def best_columns(matrix: Matrix) -> dict[int, int]:
    """By row, the column of its highest value that is not self; the first where several tie."""
    others = np.where(np.isfinite(matrix.others), matrix.others, -np.inf)
    return {r: int(v.argmax()) for r, v in enumerate(others) if np.isfinite(v.max())}


def _colour(matrix: Matrix, value: float, own: bool) -> str:
    if own:
        return SELF
    if not np.isfinite(value):
        return "none"
    red, green, blue = (round(255 * part) for part in COLOURS(matrix.share(value))[:3])
    return f"#{red:02x}{green:02x}{blue:02x}"


def _ink(colour: str) -> str:
    """Dark or light, whichever can be read on the colour."""
    if colour == "none":
        return INK
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return INK if 0.3 * red + 0.59 * green + 0.11 * blue > 135 else "#fdfcf9"


def _short(value: float) -> str:
    """A value for a cell: "0.42" as ".42", so that it fits."""
    if not np.isfinite(value):
        return "–"
    if abs(value) >= 100:
        return f"{value:.0f}"
    text = f"{value:.2f}"
    text = "0.00" if text == "-0.00" else text
    return text.replace("0.", ".", 1) if abs(value) < 0.995 else text


def _key_width(limits: tuple[float, float]) -> float:
    return 345 + sum(text_width(number(limit), 8) for limit in limits)


def _key(axes: Axes, limits: tuple[float, float], x: float, y: float, frame: bool) -> None:
    """The colour scale, and what grey cells and frames mean."""
    low, high = limits
    start = x + text_width(number(low), 8) + 4
    label(axes, x, y + 5, number(low), 8, color=MUTED)
    for step in range(40):
        colour = COLOURS(step / 39)
        # Each reaches to the end and is painted over by the next: no seams.
        rest = 3 * (40 - step)
        box(axes, start + 3 * step, y, rest, 10, facecolor=colour, linewidth=0)
    label(axes, start + 126, y + 5, number(high), 8, color=MUTED)
    x = start + 140 + text_width(number(high), 8)
    box(axes, x, y, 14, 10, facecolor=SELF, edgecolor=RULE, linewidth=0.5)
    label(axes, x + 19, y + 5, "self, not ranked", 8, color=MUTED)
    if frame:
        x += 96
        box(axes, x, y, 14, 10, fill=False, edgecolor=ACCENT, linewidth=1.5)
        label(axes, x + 19, y + 5, "best of its row", 8, color=MUTED)


def dense_heat_map(matrix: Matrix, name: str, title: str) -> str:
    """Standalone SVG of an unlabelled heat map, for more models than names fit. Matrices beyond
    `PIXELS` are averaged block by block, self cells left out.
    """
    values = _shrink(matrix.others)
    own = _shrink(np.where(matrix.self_cells, 1.0, np.nan))
    low, high = matrix.limits
    shares = np.clip((values - low) / (high - low), 0, 1) if high > low else np.ones_like(values)
    pixels = np.round(255 * np.asarray(COLOURS(np.nan_to_num(shares)))).astype(np.uint8)
    pixels[np.isnan(values)] = (0, 0, 0, 0)
    pixels[np.isnan(values) & ~np.isnan(own)] = [int(SELF[i : i + 2], 16) for i in (1, 3, 5)] + [
        255
    ]
    rows, columns = matrix.values.shape
    width = 620.0
    height = float(np.clip(width * rows / columns, 40, 900))
    figure, axes = canvas(width + 40, height + 20 + _FOOT)
    # Not resampled: the file keeps one pixel per cell, and the reader's program enlarges them.
    axes.imshow(pixels, extent=(30, 30 + width, 18 + height, 18), interpolation="none",
                aspect="auto", clip_on=False)  # fmt: skip
    axes.set_xlim(0, width + 40)
    axes.set_ylim(height + 20 + _FOOT, 0)
    label(axes, 30, 9, f"{columns:,} sources →", color=MUTED)
    label(axes, 19, 18, f"← {rows:,} targets", color=MUTED, rotation=90, ha="center", va="top")
    _key(axes, matrix.limits, 30, height + 30, frame=False)
    return to_svg(figure, name, title)


def _shrink(values: np.ndarray) -> np.ndarray:
    """Means of blocks, NaN left out, so that neither side is longer than `PIXELS`."""
    total, count = np.nan_to_num(values), np.isfinite(values).astype(float)
    for axis in (0, 1):
        step = -(-values.shape[axis] // PIXELS)
        starts = np.arange(0, values.shape[axis], step)
        total, count = (np.add.reduceat(part, starts, axis=axis) for part in (total, count))
    means: np.ndarray = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    return means
