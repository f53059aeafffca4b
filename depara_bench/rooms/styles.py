"""How rooms look: the visual style of a whole set of scenes, and the eight kinds of room (places).

Colours are (hue, saturation, value) in [0, 1], linear light.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

from depara_bench.errors import InputError

PLAIN, STRIPES, CHECKER, TILES, BRICKS, MOTTLED = range(6)
TEXTURES = 6

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Style:
    """One visual style: everything that changes the pixels and not the geometry."""

    name: str
    hue_shift: float = 0.0  # added to every hue
    hue_jitter: float = 0.04  # half-width of a uniform jitter of each hue
    saturation: float = 1.0  # factor
    texture_shift: int = 0  # added to the texture number of every surface, modulo 6
    texture_scale: float = 1.0  # factor on the size of a pattern
    contrast: float = 1.0  # factor on the contrast of textures
    noise: float = 0.015  # standard deviation of sensor noise, of a range of 1
    blur: float = 0.0  # share of the 3x3 binomial blur mixed in, twice
    light_tint: float = 0.06  # saturation of the colour of the light
    ambient: float = 0.30
    light: float = 0.95


STYLES = {
    "plain": Style("plain"),
    "foreign": Style(
        "foreign",
        hue_shift=0.37,
        hue_jitter=0.12,
        saturation=0.75,
        texture_shift=2,
        texture_scale=1.6,
        contrast=1.3,
        noise=0.045,
        blur=0.7,
        light_tint=0.45,
        ambient=0.2,
        light=1.15,
    ),
}


def _known(name: str) -> str:
    if name not in STYLES:
        raise ValueError(f"{name[:200]!r} is not one of {', '.join(STYLES)}")
    return name


StyleName = Annotated[str, AfterValidator(_known)]
"""A style in a file that users write."""


def style_named(name: str) -> Style:
    """The style by name. Raises InputError for an unknown one."""
    if name not in STYLES:
        raise InputError(f"rooms: style '{name}' is not one of {', '.join(STYLES)}")
    return STYLES[name]


@dataclass(frozen=True)
class Place:
    """One kind of room: colours and textures of wall and floor, and what stands in it."""

    name: str
    wall: Colour
    floor: Colour
    wall_texture: int
    floor_texture: int
    furniture: dict[str, float]  # weight of a kind beside the 1 that every kind has


PLACES = (
    Place(
        "living_room",
        (0.11, 0.25, 0.75),
        (0.07, 0.55, 0.35),
        PLAIN,
        STRIPES,
        {"sofa": 9, "lamp": 5, "plant": 3},
    ),
    Place(
        "office",
        (0.58, 0.12, 0.72),
        (0.60, 0.20, 0.30),
        PLAIN,
        MOTTLED,
        {"table": 7, "chair": 8, "bin": 4},
    ),
    Place(
        "kitchen",
        (0.15, 0.35, 0.80),
        (0.03, 0.45, 0.45),
        TILES,
        CHECKER,
        {"table": 6, "chair": 6, "bin": 4},
    ),
    Place(
        "library",
        (0.04, 0.45, 0.45),
        (0.02, 0.60, 0.25),
        STRIPES,
        STRIPES,
        {"shelf": 9, "chair": 4, "lamp": 4},
    ),
    Place(
        "warehouse",
        (0.03, 0.55, 0.40),
        (0.60, 0.04, 0.40),
        BRICKS,
        PLAIN,
        {"crate": 9, "cone": 6, "shelf": 3},
    ),
    Place(
        "nursery",
        (0.88, 0.30, 0.80),
        (0.16, 0.40, 0.60),
        MOTTLED,
        MOTTLED,
        {"ball": 9, "crate": 4, "chair": 3},
    ),
    Place(
        "greenhouse",
        (0.40, 0.25, 0.70),
        (0.08, 0.35, 0.45),
        TILES,
        BRICKS,
        {"plant": 10, "table": 3, "bin": 3},
    ),
    Place(
        "gym",
        (0.62, 0.40, 0.60),
        (0.09, 0.55, 0.55),
        BRICKS,
        TILES,
        {"ball": 7, "cone": 7, "bin": 2},
    ),
)
