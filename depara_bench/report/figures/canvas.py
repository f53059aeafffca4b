"""A matplotlib figure measured in points, and its way to small, repeatable, themed SVG."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from depara_bench.report.markdown import clean

INK, MUTED, RULE, PAPER, ACCENT = "#1d1c1a", "#6d6a64", "#cfcbc2", "#ffffff", "#a8402c"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
LABEL = 24
"""Most characters of a name in a figure."""


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure whose coordinates are points from the top left corner, without axes."""
    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    figure.patch.set_visible(False)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.axis("off")
    return figure, axes


def label(axes: Axes, x: float, y: float, text: str, size: float = 8.5, **style: Any) -> Text:
    """Text as it is: `$` begins no formula."""
    style = {"color": INK, "va": "center", **style}
    return axes.text(x, y, text, fontsize=size, parse_math=False, **style)


def box(axes: Axes, x: float, y: float, width: float, height: float, **style: Any) -> None:
    """A rectangle by its top left corner."""
    # Not `add_patch`, which measures each for the limits of the axes: those are fixed.
    axes.add_artist(Rectangle((x, y), width, height, clip_on=False, **style))


def shorten(name: str) -> str:
    """A name that fits a figure."""
    name = clean(name)
    return name if len(name) <= LABEL else f"{name[: LABEL - 1]}…"


def text_width(text: str, size: float) -> float:
    """Points that a text may take; the font is the reader's, so this is on the safe side."""
    return 0.58 * size * len(text)


def to_svg(figure: Figure, name: str, title: str, tips: Mapping[str, str] | None = None) -> str:
    """A standalone SVG: text as text, no dates, ids made from `name`.

    tips: what hovering over the element of a gid shows.
    """
    stream = io.BytesIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with (
        mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}),
        warnings.catch_warnings(),
    ):
        # Which glyphs matplotlib's own font has does not matter: the reader's font draws them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        FigureCanvasSVG(figure).print_svg(stream, metadata=nothing)  # type: ignore[no-untyped-call]
    svg = stream.getvalue().decode()
    svg = _TAG.sub(lambda tag: _tidy(tag.group(), name), svg[svg.index("<svg") :])
    svg = re.sub(r">\s*\n\s*<", ">\n<", _DROP.sub("", svg))
    for_tip = {f"{name}-{gid}": escape(clean(tip)) for gid, tip in (tips or {}).items()}
    svg = re.sub(
        r'<g id="([^"]*)">',
        lambda g: g[0] + (f"<title>{for_tip[g[1]]}</title>" if g[1] in for_tip else ""),
        svg,
    )
    head, body = svg.split(">", 1)
    return (
        f'{head} role="img" font-family="{FONT}"'
        f' stroke-linejoin="round" stroke-linecap="butt"><title>{escape(clean(title))}</title>'
        f'<rect class="paper" width="100%" height="100%" fill="{PAPER}"/>{body}'
    )


def inline(svg: str) -> str:
    """The SVG for within a page, whose own background shows through."""
    return re.sub(r'<rect class="paper"[^>]*/>', "", svg).strip()


_TAG = re.compile(r"<[^>]*>")
_DROP = re.compile(r"<metadata>.*?</metadata>|<style.*?</style>", re.DOTALL)


def _tidy(tag: str, name: str) -> str:
    """One tag without what the backend repeats per element: the list of fonts, the transform of
    unrotated text, white space. Its ids are made unique, since a page holds several figures.
    """
    tag = re.sub(r"font: ((?:[a-z]+ |\d{3} )*)(\d[\d.]*px)[^;\"]*", r"font-size: \2", tag)
    tag = re.sub(r"font-family: [^;\"]*;? ?", "", tag)
    tag = re.sub(r' transform="rotate\(-?0 [^)]*\)"', "", tag)
    tag = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", tag)
    return re.sub(r"\s+", " ", tag)
