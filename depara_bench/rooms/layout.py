"""Drawing rooms: parameters of scenes as arrays over scenes, in float64 numpy.

World frame: x and y along the walls, z up, metres; the room is [0, W] x [0, D] x [0, H].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depara_bench.rooms.draws import Draws, scene_keys
from depara_bench.rooms.kinds import FURNITURE, KIND_NAMES, KINDS
from depara_bench.rooms.styles import PLACES, TEXTURES, Style

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

OTHERS = 6  # pieces of furniture tried beside the subject
PICTURES = 2
SLOTS = 1 + OTHERS + PICTURES + 1  # subject, others, pictures, door
FIELD = np.tan(np.radians(34.0))  # tangent of half the angle of view (square image)

_FOOT = np.array([[kind.half_width, kind.half_depth] for kind in KINDS])
_AT_WALL = np.array([kind.at_wall for kind in KINDS])
_AIM = np.array([[kind.look_at, kind.distance] for kind in KINDS])
_COLOURS = np.array([kind.colours for kind in KINDS])
_MIX = np.array([[1.0 + place.furniture.get(name, 0.0) for name in KIND_NAMES] for place in PLACES])
_WALL_NORMAL = np.array([[0.0, 1.0], [-1.0, 0.0], [0.0, -1.0], [1.0, 0.0]])


@dataclass(frozen=True)
class Scenes:
    """Parameters of N scenes; J = SLOTS objects, the first of which is the subject."""

    keys: NDArray[np.uint64]  # (N,)
    style: Style
    room: Floats  # (N, 3) width, depth, height
    place: Ints  # (N,) which of PLACES
    camera: Floats  # (N, 3)
    yaw: Floats  # (N,) radians, from the x axis
    pitch: Floats  # (N,) radians, up is positive
    light: Floats  # (N, 3)
    light_colour: Floats  # (N, 3)
    kind: Ints  # (N, J) which of KINDS
    present: NDArray[np.bool_]  # (N, J)
    position: Floats  # (N, J, 3) of the frame of the object
    turn: Floats  # (N, J) radians about z
    stretch: Floats  # (N, J, 3) factors on x, y, z; x = y
    colours: Floats  # (N, J, 2, 3) linear RGB
    surface_colours: Floats  # (N, 3, 3) wall, floor, ceiling
    surface_texture: Ints  # (N, 3)
    surface_pattern: Floats  # (N, 3) patterns per metre
    surface_contrast: Floats  # (N, 3)

    def __len__(self) -> int:
        return len(self.keys)

    def part(self, rows: slice) -> Scenes:
        """Some of the scenes."""
        arrays: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        del arrays["style"]
        return replace(self, **{name: values[rows] for name, values in arrays.items()})


def rgb(hsv: Floats) -> Floats:
    """(..., 3) hue, saturation, value in [0, 1] to linear RGB."""
    hue, saturation, value = hsv[..., :1], hsv[..., 1:2], hsv[..., 2:]
    sector = (hue * 6.0 + np.array([5.0, 3.0, 1.0])) % 6.0
    ramp = np.clip(np.minimum(sector, 4.0 - sector), 0.0, 1.0)
    return np.asarray(value * (1.0 - saturation * ramp))


def _jittered(draws: Draws, hsv: Floats, style: Style) -> Floats:
    """Colours (N, ..., 3) of this scene: hue, saturation and value moved a little."""
    shape = hsv.shape[1:-1]
    hue = hsv[..., 0] + style.hue_shift
    hue = hue + draws.uniform(*shape, low=-style.hue_jitter, high=style.hue_jitter)
    saturation = hsv[..., 1] * style.saturation * draws.uniform(*shape, low=0.75, high=1.15)
    value = hsv[..., 2] * draws.uniform(*shape, low=0.7, high=1.2)
    return rgb(np.stack([hue % 1.0, saturation.clip(0, 1), value.clip(0, 1)], axis=-1))


def _spots(
    draws: Draws, room: Floats, kind: Ints, stretch: Floats, count: int
) -> tuple[Floats, Floats]:
    """Places where objects of `kind` (N,) may stand: positions (N, C, 2), turns (N, C).

    Furniture that belongs at a wall has its back to one; the rest stands free, turned at will.
    """
    wall = (draws.uniform(count) * 4).astype(np.int64)
    along, free_x, free_y = draws.uniform(count), draws.uniform(count), draws.uniform(count)
    free_turn = draws.uniform(count, low=-np.pi, high=np.pi)
    foot = _FOOT[kind] * stretch[:, :2]
    radius = np.where(_AT_WALL[kind], 0.0, np.hypot(foot[:, 0], foot[:, 1]))[:, None] + 0.05
    width, depth = room[:, 0][:, None], room[:, 1][:, None]
    half, back = foot[:, 0][:, None] + 0.05, foot[:, 1][:, None] + 0.02
    along_x = half + along * (width - 2 * half)
    along_y = half + along * (depth - 2 * half)
    wall_x = np.choose(wall, [along_x, width - back + 0 * along, along_x, back + 0 * along])
    wall_y = np.choose(wall, [back + 0 * along, along_y, depth - back + 0 * along, along_y])
    x = radius + free_x * (width - 2 * radius)
    y = radius + free_y * (depth - 2 * radius)
    at_wall = _AT_WALL[kind][:, None]
    spots = np.stack([np.where(at_wall, wall_x, x), np.where(at_wall, wall_y, y)], axis=-1)
    return spots, np.where(at_wall, wall * (np.pi / 2), free_turn)


def _camera(
    draws: Draws, room: Floats, subject: Floats, turn: Floats, kind: Ints
) -> tuple[Floats, Floats, Floats]:
    """Camera (N, 3), yaw and pitch (N,): aimed at the subject, not quite, from a fair distance."""
    spots = 0.35 + draws.uniform(16, 2) * (room[:, None, :2] - 0.7)
    offset = spots - subject[:, None, :]
    distance = np.hypot(offset[..., 0], offset[..., 1])
    wanted = _AIM[kind, 1] * draws.uniform(low=0.85, high=1.35)
    front = -np.sin(turn)[:, None] * offset[..., 0] + np.cos(turn)[:, None] * offset[..., 1]
    behind = _AT_WALL[kind][:, None] & (front < 0.6 * distance)
    cost = np.abs(distance - wanted[:, None]) + 4.0 * behind + 8.0 * (distance < 1.2)
    best = cost.argmin(axis=1)
    rows = np.arange(len(best))
    height = draws.uniform(low=1.0, high=1.7)
    aim = -offset[rows, best]
    reach = distance[rows, best]
    yaw = np.arctan2(aim[:, 1], aim[:, 0]) + draws.uniform(low=-0.2, high=0.2)
    pitch = np.arctan2(_AIM[kind, 0] - height, reach) * 0.75 + draws.uniform(low=-0.1, high=0.14)
    return np.column_stack([spots[rows, best], height]), yaw, pitch


def draw_scenes(seed: int, indices: Sequence[int], style: Style) -> Scenes:
    """Parameters of scenes `indices` of `seed` in `style`; each depends on its own index only."""
    keys = scene_keys(seed, indices)
    n = len(keys)
    rows = np.arange(n)
    draws = Draws(keys)
    room = np.stack(
        [
            draws.uniform(low=3.6, high=6.2),
            draws.uniform(low=3.6, high=6.2),
            draws.uniform(low=2.4, high=3.1),
        ],
        axis=1,
    )
    place = draws.choice(np.ones(len(PLACES)), 1)[:, 0]
    kind = np.zeros((n, SLOTS), dtype=np.int64)
    # Most subjects are any kind, so that the kind of the subject does not give the place.
    any_kind = draws.choice(np.ones(len(FURNITURE)), 1)[:, 0]
    usual = draws.choice(_MIX[place], 1 + OTHERS)
    kind[:, : 1 + OTHERS] = usual
    kind[:, 0] = np.where(draws.uniform(1)[:, 0] < 0.7, any_kind, usual[:, 0])
    kind[:, 1 + OTHERS : -1] = len(FURNITURE)
    kind[:, -1] = len(FURNITURE) + 1
    plan = draws.uniform(SLOTS, low=0.85, high=1.2)
    tall = draws.uniform(SLOTS, low=0.88, high=1.15)
    tall[:, -1] = 0.9 + 0.1 * (tall[:, -1] - 0.88)
    stretch = np.stack([plan, plan, tall], axis=-1)
    position = np.zeros((n, SLOTS, 3))
    turn = np.zeros((n, SLOTS))
    present = np.ones((n, SLOTS), dtype=bool)
    radius = np.hypot(_FOOT[kind, 0], _FOOT[kind, 1]) * plan * 0.9

    spots, turns = _spots(draws, room, kind[:, 0], stretch[:, 0], 1)
    position[:, 0, :2], turn[:, 0] = spots[:, 0], turns[:, 0]
    camera, yaw, pitch = _camera(draws, room, position[:, 0, :2], turn[:, 0], kind[:, 0])
    sight = position[:, 0, :2] - camera[:, :2]
    length = np.hypot(sight[:, 0], sight[:, 1])
    sight = sight / length[:, None]
    heading = np.stack([np.cos(yaw), np.sin(yaw)], axis=1)
    for j in range(1, 1 + OTHERS):
        spots, turns = _spots(draws, room, kind[:, j], stretch[:, j], 12)
        from_camera = spots - camera[:, None, :2]
        clear = np.hypot(from_camera[..., 0], from_camera[..., 1]) - radius[:, j, None] - 0.45
        for i in range(j):
            gap = spots - position[:, i, None, :2]
            free = np.hypot(gap[..., 0], gap[..., 1]) - (radius[:, i] + radius[:, j])[:, None]
            clear = np.minimum(clear, np.where(present[:, i, None], free, 9.0))
        # Nothing stands between the camera and the subject: it is to be seen.
        along = np.einsum("ncd,nd->nc", from_camera, sight).clip(0, None)
        along = np.minimum(along, length[:, None])
        aside = from_camera - along[..., None] * sight[:, None, :]
        between = np.hypot(aside[..., 0], aside[..., 1]) - radius[:, j, None] - 0.1
        clear = np.minimum(clear, between)
        far = np.hypot(from_camera[..., 0], from_camera[..., 1])
        seen = np.einsum("ncd,nd->nc", from_camera, heading) > 0.8 * far
        best = (2.0 * (clear > 0) + 1.0 * seen).argmax(axis=1)
        position[:, j, :2], turn[:, j] = spots[rows, best], turns[rows, best]
        present[:, j] = clear[rows, best] > 0
    for j in range(1 + OTHERS, SLOTS):
        spots, turns = _spots(draws, room, kind[:, j], stretch[:, j], 1)
        inward = _WALL_NORMAL[np.rint(turns[:, 0] / (np.pi / 2)).astype(np.int64) % 4]
        back = (_FOOT[kind[:, j], 1] * plan[:, j] + 0.02)[:, None]
        position[:, j, :2], turn[:, j] = spots[:, 0] - back * inward, turns[:, 0]
        position[:, j, 2] = draws.uniform(1, low=1.45, high=1.75)[:, 0]
    position[:, -1, 2] = 1.04 * stretch[:, -1, 2]

    walls = np.array([place.wall for place in PLACES])[place]
    floors = np.array([place.floor for place in PLACES])[place]
    ceilings = np.tile(np.array([0.12, 0.06, 0.85]), (n, 1))
    textures = np.array([[p.wall_texture, p.floor_texture, 0] for p in PLACES])[place]
    # One room in six has another wall or floor than is usual: texture alone is not the place.
    odd = draws.uniform(2) < 1 / 6
    other = (draws.uniform(2) * TEXTURES).astype(np.int64)
    textures[:, :2] = np.where(odd, other, textures[:, :2])
    textures[:, :2] = (textures[:, :2] + style.texture_shift) % TEXTURES
    pattern = np.array([1.7, 1.7, 1.0]) * draws.uniform(3, low=0.8, high=1.3)
    light = np.concatenate(
        [
            room[:, :2] * draws.uniform(2, low=0.25, high=0.75),
            room[:, 2:] - draws.uniform(1, low=0.25, high=0.6),
        ],
        axis=1,
    )
    tint = np.concatenate(
        [draws.uniform(1), style.light_tint * draws.uniform(1, low=0.5), np.ones((n, 1))], axis=1
    )
    return Scenes(
        keys=keys,
        style=style,
        room=room,
        place=place,
        camera=camera,
        yaw=yaw,
        pitch=pitch,
        light=light,
        light_colour=rgb(tint) * draws.uniform(1, low=0.8, high=1.2),
        kind=kind,
        present=present,
        position=position,
        turn=turn,
        stretch=stretch,
        colours=_jittered(draws, _COLOURS[kind], style),
        surface_colours=_jittered(draws, np.stack([walls, floors, ceilings], axis=1), style),
        surface_texture=textures,
        surface_pattern=pattern / style.texture_scale,
        surface_contrast=draws.uniform(3, low=0.25, high=0.55) * style.contrast,
    )
