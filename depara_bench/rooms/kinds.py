"""What stands in a room: ten kinds of furniture and two things on walls, built of three solids.

Parts are in metres in the frame of the object: x to its right, y to its front, z up from the
floor; a thing on a wall has y = 0 at the wall and z = 0 at its own centre.
"""

from __future__ import annotations

from dataclasses import dataclass

from depara_bench.rooms.styles import (
    CHECKER,
    MOTTLED,
    PLAIN,
    STRIPES,
    TILES,
    Colour,
)

BOX, BALL, CONE = range(3)  # solids; a cone is a frustum on a vertical axis, or a cylinder


@dataclass(frozen=True)
class Part:
    """One solid. `size`: half edges of a box; (r, r, r) of a ball; (bottom radius, top radius,
    half height) of a cone. `colour`: which of the two colours of its kind.
    """

    solid: int
    centre: tuple[float, float, float]
    size: tuple[float, float, float]
    colour: int = 0


@dataclass(frozen=True)
class Kind:
    """One kind of object: its parts, colours and texture, and how it is placed and looked at."""

    name: str
    parts: tuple[Part, ...]
    colours: tuple[Colour, Colour]
    texture: int
    pattern: float  # patterns per metre
    contrast: float
    half_width: float  # of the footprint, metres
    half_depth: float
    look_at: float  # height the camera aims at, metres
    distance: float  # that the camera likes to keep, metres
    at_wall: bool = False


def _legs(x: float, y: float, top: float, r: float) -> tuple[Part, ...]:
    return tuple(
        Part(BOX, (sx * x, sy * y, top / 2), (r, r, top / 2), 1) for sx in (-1, 1) for sy in (-1, 1)
    )


FURNITURE = (
    Kind(
        "ball",
        (Part(BALL, (0, 0, 0.36), (0.36, 0.36, 0.36)),),
        ((0.00, 0.85, 0.75), (0.15, 0.7, 0.85)),
        STRIPES,
        3.0,
        0.8,
        0.36,
        0.36,
        0.36,
        1.8,
    ),
    Kind(
        "crate",
        (
            Part(BOX, (0, 0, 0.32), (0.36, 0.36, 0.32)),
            Part(BOX, (0, 0, 0.66), (0.40, 0.40, 0.03), 1),
        ),
        ((0.09, 0.6, 0.50), (0.07, 0.65, 0.30)),
        TILES,
        4.5,
        0.6,
        0.40,
        0.40,
        0.36,
        1.8,
    ),
    Kind(
        "bin",
        (
            Part(CONE, (0, 0, 0.33), (0.22, 0.32, 0.33)),
            Part(CONE, (0, 0, 0.69), (0.34, 0.34, 0.03), 1),
        ),
        ((0.60, 0.45, 0.40), (0.60, 0.2, 0.75)),
        PLAIN,
        3.0,
        0.3,
        0.34,
        0.34,
        0.36,
        1.8,
    ),
    Kind(
        "cone",
        (
            Part(BOX, (0, 0, 0.03), (0.34, 0.34, 0.03), 1),
            Part(CONE, (0, 0, 0.48), (0.30, 0.03, 0.45)),
        ),
        ((0.05, 0.95, 0.85), (0.10, 0.2, 0.80)),
        STRIPES,
        2.6,
        0.9,
        0.34,
        0.34,
        0.42,
        1.9,
    ),
    Kind(
        "table",
        (Part(BOX, (0, 0, 0.73), (0.62, 0.42, 0.03)), *_legs(0.55, 0.35, 0.70, 0.04)),
        ((0.07, 0.7, 0.45), (0.06, 0.7, 0.28)),
        STRIPES,
        5.0,
        0.4,
        0.62,
        0.42,
        0.5,
        2.3,
    ),
    Kind(
        "chair",
        (
            Part(BOX, (0, 0, 0.45), (0.26, 0.26, 0.03)),
            Part(BOX, (0, -0.24, 0.75), (0.26, 0.025, 0.28)),
            *_legs(0.22, 0.22, 0.42, 0.03),
        ),
        ((0.97, 0.6, 0.42), (0.05, 0.6, 0.22)),
        PLAIN,
        4.0,
        0.3,
        0.28,
        0.28,
        0.5,
        1.9,
    ),
    Kind(
        "sofa",
        (
            Part(BOX, (0, 0, 0.22), (0.80, 0.40, 0.20)),
            Part(BOX, (0, -0.32, 0.58), (0.80, 0.10, 0.22)),
            Part(BOX, (-0.88, 0, 0.32), (0.10, 0.42, 0.30), 1),
            Part(BOX, (0.88, 0, 0.32), (0.10, 0.42, 0.30), 1),
            Part(BALL, (-0.5, -0.1, 0.55), (0.16, 0.16, 0.16), 1),
        ),
        ((0.50, 0.65, 0.45), (0.48, 0.65, 0.32)),
        MOTTLED,
        3.0,
        0.5,
        0.98,
        0.43,
        0.4,
        2.7,
        True,
    ),
    Kind(
        "lamp",
        (
            Part(CONE, (0, 0, 0.03), (0.20, 0.16, 0.03), 1),
            Part(CONE, (0, 0, 0.65), (0.03, 0.03, 0.60), 1),
            Part(CONE, (0, 0, 1.42), (0.32, 0.16, 0.20)),
        ),
        ((0.14, 0.55, 0.95), (0.60, 0.2, 0.18)),
        PLAIN,
        3.0,
        0.2,
        0.32,
        0.32,
        0.95,
        2.1,
    ),
    Kind(
        "shelf",
        (
            Part(BOX, (0, -0.15, 0.85), (0.46, 0.02, 0.85)),
            Part(BOX, (-0.47, 0, 0.86), (0.03, 0.17, 0.86)),
            Part(BOX, (0.47, 0, 0.86), (0.03, 0.17, 0.86)),
            Part(BOX, (0, 0, 0.10), (0.46, 0.17, 0.03)),
            Part(BOX, (0, 0, 0.65), (0.46, 0.17, 0.03)),
            Part(BOX, (0, 0, 1.18), (0.46, 0.17, 0.03)),
            Part(BOX, (0, 0, 1.70), (0.46, 0.17, 0.03)),
            Part(BOX, (-0.15, -0.02, 0.84), (0.26, 0.10, 0.16), 1),
            Part(BOX, (0.12, -0.02, 1.36), (0.28, 0.10, 0.15), 1),
        ),
        ((0.06, 0.65, 0.40), (0.98, 0.6, 0.50)),
        STRIPES,
        9.0,
        0.5,
        0.50,
        0.19,
        0.85,
        2.4,
        True,
    ),
    Kind(
        "plant",
        (
            Part(CONE, (0, 0, 0.20), (0.16, 0.24, 0.20), 1),
            Part(BALL, (0, 0, 0.66), (0.30, 0.30, 0.30)),
            Part(BALL, (0.16, 0.05, 0.92), (0.20, 0.20, 0.20)),
            Part(BALL, (-0.15, 0.1, 1.00), (0.17, 0.17, 0.17)),
        ),
        ((0.33, 0.80, 0.32), (0.04, 0.75, 0.42)),
        CHECKER,
        8.0,
        0.5,
        0.38,
        0.36,
        0.6,
        2.0,
    ),
)
ON_WALL = (
    Kind(
        "picture",
        (
            Part(BOX, (0, 0.02, 0), (0.42, 0.02, 0.32), 1),
            Part(BOX, (0, 0.03, 0), (0.36, 0.02, 0.26)),
        ),
        ((0.55, 0.5, 0.60), (0.10, 0.6, 0.25)),
        MOTTLED,
        5.0,
        0.9,
        0.42,
        0.05,
        1.6,
        2.0,
        True,
    ),
    Kind(
        "door",
        (
            Part(BOX, (0, 0.02, 0), (0.48, 0.02, 1.04), 1),
            Part(BOX, (0, 0.03, 0), (0.42, 0.03, 0.99)),
            Part(BALL, (0.33, 0.10, 0), (0.05, 0.05, 0.05), 1),
        ),
        ((0.08, 0.55, 0.55), (0.08, 0.4, 0.75)),
        PLAIN,
        2.0,
        0.4,
        0.48,
        0.06,
        1.0,
        2.0,
        True,
    ),
)
KINDS = FURNITURE + ON_WALL
KIND_NAMES = tuple(kind.name for kind in FURNITURE)
SEMANTIC_NAMES = ("wall", "floor", "ceiling", *(kind.name for kind in KINDS))
MAX_PARTS = max(len(kind.parts) for kind in KINDS)
