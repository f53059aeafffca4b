"""Curves with bands: scores against K, recall, lambda, number of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patches import Polygon
from matplotlib.ticker import LogLocator, MaxNLocator

from depara_bench.report.figures.canvas import INK, MUTED, RULE, box, canvas, label, to_svg
from depara_bench.report.markdown import clean

COLOURS = ("#22648b", "#b5651d", "#3f6b4a", "#7a4a8c", "#a8402c", "#5d6b1f", "#1f8a8a", "#8c5a6e")
"""Of the methods, in order; readable on paper and, turned round in lightness, on dark screens."""
PAPER_GREY = "#aaa69d"
_LEFT, _TOP, _WIDTH, _HEIGHT, _FOOT, _LEGEND = 52.0, 12.0, 400.0, 260.0, 44.0, 235.0


@dataclass(frozen=True)
class Curve:
    """x, y (n,), finite; low, high (n,) or None: its band. dash: dots and spaces, as matplotlib has
    them. marks: whether each point is marked.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    colour: str = INK
    width: float = 1.6
    dash: str | tuple[float, tuple[float, ...]] = "solid"
    marks: bool = False


@dataclass(frozen=True)
class Scale:
    """An axis: its name, its ends (finite, low < high), whether it is logarithmic, and where its
    ticks are (empty: at round numbers).
    """

    name: str
    low: float
    high: float
    log: bool = False
    at: tuple[float, ...] = ()

    def share(self, values: np.ndarray) -> np.ndarray:
        """Where values lie between the ends, 0..1; what lies beyond is cut off."""
        found, low, high = np.asarray(values, dtype=np.float64), self.low, self.high
        if self.log:
            found, low, high = np.log(np.maximum(found, low)), np.log(low), np.log(high)
        shares: np.ndarray = ((found - low) / (high - low)).clip(0.0, 1.0)
        return shares

    def ticks(self) -> list[float]:
        """Where numbers stand, between the ends."""
        if self.at:
            return list(self.at)
        if self.log:
            found = LogLocator(subs=(1.0, 2.0, 5.0)).tick_values(self.low, self.high)
            inside = [t for t in found if self.low * 0.999 <= t <= self.high * 1.001]
            if len(inside) > 9:
                inside = [t for t in inside if np.isclose(np.log10(t), np.round(np.log10(t)))]
        else:
            integer = self.high - self.low >= 5
            found = MaxNLocator(6, integer=integer).tick_values(self.low, self.high)
            margin = 1e-9 * (self.high - self.low)
            inside = [t for t in found if self.low - margin <= t <= self.high + margin]
        return [float(t) for t in inside]


def span(name: str, curves: Sequence[Curve], floor: float | None = None) -> Scale:
    """A scale for the y of curves and their bands, with a little room; `floor` is always on it."""
    parts = [part for c in curves for part in (c.y, c.low, c.high) if part is not None]
    values = np.concatenate([*parts, [] if floor is None else [floor]])
    low, high = float(values.min()), float(values.max())
    room = 0.04 * (high - low) or 0.05
    return Scale(name, low if low == floor else low - room, high + room)


def curves(drawn: Sequence[Curve], across: Scale, up: Scale, name: str, title: str) -> str:
    """Standalone SVG. Later curves lie above earlier ones; the legend lists them last first."""
    height = max(_TOP + _HEIGHT + _FOOT, _TOP + 15.0 * len(drawn) + 20)
    figure, axes = canvas(_LEFT + _WIDTH + 20 + _LEGEND, height)
    _frame(axes, across, up)
    tips = {}
    for number, curve in enumerate(drawn):
        x = _LEFT + across.share(curve.x) * _WIDTH
        if curve.low is not None and curve.high is not None:
            upper, lower = (_y(up, part) for part in (curve.high, curve.low))
            corners = np.column_stack([np.append(x, x[::-1]), np.append(upper, lower[::-1])])
            axes.add_artist(
                Polygon(corners, facecolor=curve.colour, alpha=0.13, linewidth=0, clip_on=False)
            )
        points = np.column_stack([x, _y(up, curve.y)])
        axes.add_collection(
            LineCollection(
                [points], colors=curve.colour, linewidths=curve.width, linestyles=[curve.dash],
                clip_on=False, gid=f"curve-{number}",
            ),
            autolim=False,
        )  # fmt: skip
        tips[f"curve-{number}"] = curve.name
        if curve.marks or len(points) == 1:
            for left, top in points:
                box(axes, left - 2, top - 2, 4, 4, facecolor=curve.colour, linewidth=0)
    for row, curve in enumerate(reversed(drawn)):
        _key(axes, curve, _LEFT + _WIDTH + 22, _TOP + 6 + 15.0 * row)
    return to_svg(figure, name, title, tips)


def _y(up: Scale, values: np.ndarray) -> np.ndarray:
    return _TOP + (1.0 - up.share(values)) * _HEIGHT


def _frame(axes: Axes, across: Scale, up: Scale) -> None:
    bottom = _TOP + _HEIGHT
    lines = []
    for tick in up.ticks():
        (y,) = _y(up, np.array([tick]))
        lines.append([(_LEFT, y), (_LEFT + _WIDTH, y)])
        label(axes, _LEFT - 6, y, f"{tick:g}", 8, color=MUTED, ha="right")
    for tick in across.ticks():
        (x,) = _LEFT + across.share(np.array([tick])) * _WIDTH
        lines.append([(x, bottom), (x, bottom + 4)])
        label(axes, x, bottom + 12, f"{tick:g}", 8, color=MUTED, ha="center")
    axes.add_collection(LineCollection(lines, colors=RULE, linewidths=0.6, clip_on=False))
    label(axes, _LEFT + _WIDTH / 2, bottom + 30, across.name, 8.5, ha="center")
    label(axes, 10, _TOP + _HEIGHT / 2, up.name, 8.5, rotation=90, ha="center")


def _key(axes: Axes, curve: Curve, x: float, y: float) -> None:
    if len(curve.x) == 1:
        box(axes, x + 9, y - 2, 4, 4, facecolor=curve.colour, linewidth=0)
    else:
        _stroke(axes, curve, x, y)
    text = clean(curve.name)
    label(axes, x + 28, y, text if len(text) <= 42 else f"{text[:41]}…", 8)


def _stroke(axes: Axes, curve: Curve, x: float, y: float) -> None:
    axes.add_collection(
        LineCollection(
            [[(x, y), (x + 22, y)]], colors=curve.colour, linewidths=curve.width,
            linestyles=[curve.dash], clip_on=False,
        ),
        autolim=False,
    )  # fmt: skip
