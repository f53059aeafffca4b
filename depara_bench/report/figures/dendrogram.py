"""The task similarity tree, drawn: leaves on the left, joins at their height to the right."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.ticker import MaxNLocator

from depara_bench.report.data import LARGE
from depara_bench.report.figures.canvas import (
    INK,
    MUTED,
    RULE,
    canvas,
    label,
    shorten,
    text_width,
    to_svg,
)
from depara_bench.report.tree import Tree

_SIZE = 9.0
_PLOT = 500.0


def brackets(tree: Tree) -> np.ndarray:
    """Lines of the joins: (T-1, 4, 2) float64, x = height, y = position among the leaves."""
    leaves = len(tree.targets)
    height, place = np.zeros(2 * leaves - 1), np.zeros(2 * leaves - 1)
    place[tree.leaves] = np.arange(leaves)
    lines = np.zeros((leaves - 1, 4, 2))
    # Not scipy's `dendrogram`: that recurses, and the trees of single linkage can be very deep.
    for step, (left, right, at) in enumerate(tree.joins[:, :3]):
        a, b = int(left), int(right)
        lines[step] = [(height[a], place[a]), (at, place[a]), (at, place[b]), (height[b], place[b])]
        height[leaves + step], place[leaves + step] = at, (place[a] + place[b]) / 2
    return lines


def dendrogram(tree: Tree, name: str, title: str) -> str:
    """Standalone SVG of a tree; beyond `LARGE` leaves without their names."""
    count = len(tree.targets)
    labelled = count <= LARGE
    step = 19.0 if labelled else max(600 / count, 0.6)
    left = max(text_width(shorten(t), _SIZE) for t in tree.targets) + 12 if labelled else 20.0
    bottom = 14 + count * step
    figure, axes = canvas(left + _PLOT + 30, bottom + 40)
    top = float(tree.heights.max()) or 1.0
    ticks = [t for t in MaxNLocator(6).tick_values(0, top) if t <= top * 1.0001]
    _scale(axes, ticks, top, left, bottom)
    lines = brackets(tree)
    lines[..., 0] = left + lines[..., 0] / top * _PLOT
    lines[..., 1] = 10 + (lines[..., 1] + 0.5) * step
    weight = 1.3 if labelled else 0.6
    axes.add_collection(
        LineCollection(list(lines), colors=INK, linewidths=weight, clip_on=False), autolim=False
    )
    if labelled:
        for position, leaf in enumerate(tree.leaves):
            y = 10 + (position + 0.5) * step
            label(axes, left - 6, y, shorten(tree.targets[leaf]), _SIZE, ha="right")
    return to_svg(figure, name, title)


def _scale(axes: Axes, ticks: list[float], top: float, left: float, bottom: float) -> None:
    lines = [[(left + t / top * _PLOT, 8), (left + t / top * _PLOT, bottom)] for t in ticks]
    axes.add_collection(LineCollection(lines, colors=RULE, linewidths=0.6, clip_on=False))
    for tick, line in zip(ticks, lines, strict=True):
        label(axes, line[0][0], bottom + 10, f"{tick:g}", 8, color=MUTED, ha="center")
    label(axes, left, bottom + 28, "height of the join: distance between the rows", 8, color=MUTED)
