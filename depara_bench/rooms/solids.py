"""Objects unfolded into solids that stand in the world, and the table of all surfaces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from depara_bench.rooms.kinds import BALL, KINDS, MAX_PARTS
from depara_bench.rooms.layout import Scenes

FACES = 6  # of the room: x = 0, x = W, y = 0, y = D, floor, ceiling
ROOM = 3  # a shape beside BOX, BALL and CONE

_SOLID = np.full((len(KINDS), MAX_PARTS), -1, dtype=np.int64)
_CENTRE = np.zeros((len(KINDS), MAX_PARTS, 3))
_SIZE = np.ones((len(KINDS), MAX_PARTS, 3))
_COLOUR = np.zeros((len(KINDS), MAX_PARTS), dtype=np.int64)
for _k, _kind in enumerate(KINDS):
    for _p, _part in enumerate(_kind.parts):
        _SOLID[_k, _p], _COLOUR[_k, _p] = _part.solid, _part.colour
        _CENTRE[_k, _p], _SIZE[_k, _p] = _part.centre, _part.size


@dataclass(frozen=True)
class Solids:
    """The M solids of N scenes, in order of scene."""

    image: NDArray[np.int64]  # (M,) which scene
    slot: NDArray[np.int64]  # (M,) which object of the scene
    solid: NDArray[np.int64]  # (M,) BOX, BALL or CONE
    centre: NDArray[np.float64]  # (M, 3) world
    size: NDArray[np.float64]  # (M, 3) see kinds.Part
    cos: NDArray[np.float64]  # (M,) of the turn about z
    sin: NDArray[np.float64]
    colour: NDArray[np.int64]  # (M,) which colour of its object


def solids_of(scenes: Scenes) -> Solids:
    """Unfold objects into solids, placed in the world."""
    solid = _SOLID[scenes.kind]
    image, slot, part = np.nonzero((solid >= 0) & scenes.present[:, :, None])
    kind = scenes.kind[image, slot]
    stretch = scenes.stretch[image, slot]
    centre, size = _CENTRE[kind, part] * stretch, _SIZE[kind, part].copy()
    which = _SOLID[kind, part]
    # A ball stays one, and the radii of a cone follow the plan: stretch is the same in x and y.
    size[:, :2] *= stretch[:, :2]
    size[:, 2] *= np.where(which == BALL, stretch[:, 0], stretch[:, 2])
    turn = scenes.turn[image, slot]
    cos, sin = np.cos(turn), np.sin(turn)
    world = scenes.position[image, slot].copy()
    world[:, 0] += cos * centre[:, 0] - sin * centre[:, 1]
    world[:, 1] += sin * centre[:, 0] + cos * centre[:, 1]
    world[:, 2] += centre[:, 2]
    return Solids(image, slot, which, world, size, cos, sin, _COLOUR[kind, part])


def frames(scenes: Scenes, solids: Solids) -> NDArray[np.float64]:
    """Frame, size and shape of each surface (9, 6 N + M): centre, cos, sin, size, shape; a room
    is a box seen from inside, shape ROOM.
    """
    n = len(scenes)
    table = np.zeros((9, FACES * n + len(solids.image)))
    room = table[:, : FACES * n].reshape(9, n, FACES)
    room[:3] = room[5:8] = scenes.room.T[:, :, None] / 2
    room[3], room[8] = 1.0, ROOM
    table[:, FACES * n :] = np.concatenate(
        [solids.centre.T, [solids.cos, solids.sin], solids.size.T, [solids.solid]]
    )
    return table
