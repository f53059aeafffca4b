"""What each pixel sees: batched analytic ray casting.

Pixels are held in square tiles of 8x8, and each solid meets the rays of those tiles only that the
image of its bounding box touches: (solid, tile) pairs of one kind of solid are intersected in one
go over the whole batch, and the nearest is kept by a scatter-minimum. No loop over pixels, images
or solids.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from depara_bench.rooms.kinds import BALL, BOX, CONE
from depara_bench.rooms.layout import FIELD, Scenes
from depara_bench.rooms.primitives import (
    Vector,
    box_normal,
    cone_normal,
    meet_ball,
    meet_box,
    meet_cone,
)
from depara_bench.rooms.solids import FACES, ROOM, Solids, frames, solids_of

TILE = 8
_NEAR = 0.02  # metres; a bounding box that reaches nearer is taken to fill the image


@dataclass(frozen=True)
class Hits:
    """What N images of `size` see, tile by tile: Q = pixels of an image in whole tiles.

    Surfaces are numbered over the batch: 6 faces of each room first, then the solids.
    """

    size: int
    solids: Solids
    direction: Tensor  # (3, N, Q) unit, world
    distance: Tensor  # (N, Q) metres
    surface: Tensor  # (N, Q) int64: 6 * image + face, or 6 * N + solid
    point: Tensor  # (3, N, Q) what is hit, in the frame of the surface (a room's: its middle)
    extent: Tensor  # (3, N, Q) size of the solid
    local: Tensor  # (3, N, Q) unit normal towards the camera, in the frame of the surface
    cos: Tensor  # (N, Q) of the turn of that frame
    sin: Tensor
    shape: Tensor  # (N, Q) float32: BOX, BALL, CONE or ROOM
    basis: Tensor  # (N, 3, 3) rows: right, up, forward of the camera

    @cached_property
    def normal(self) -> Vector:
        """Unit normal in the world, three (N, Q)."""
        x, y, z = self.local
        return self.cos * x - self.sin * y, self.sin * x + self.cos * y, z

    def image(self, values: Tensor) -> Tensor:
        """Values (..., Q) of tiled pixels as (..., S, S) in rows and columns."""
        side = -(-self.size // TILE)
        lead = values.shape[:-1]
        grid = values.reshape(*lead, side, side, TILE, TILE).transpose(-3, -2)
        return grid.reshape(*lead, side * TILE, side * TILE)[..., : self.size, : self.size]


def camera_basis(scenes: Scenes) -> NDArray[np.float64]:
    """(N, 3, 3): rows right, up and forward of each camera in the world."""
    cy, sy, cp, sp = (f(a) for a in (scenes.yaw, scenes.pitch) for f in (np.cos, np.sin))
    zero = np.zeros_like(cy)
    right = np.stack([sy, -cy, zero], axis=1)
    up = np.stack([-cy * sp, -sy * sp, cp], axis=1)
    forward = np.stack([cy * cp, sy * cp, sp], axis=1)
    return np.stack([right, up, forward], axis=1)


def pixel_rays(size: int) -> NDArray[np.float64]:
    """Rays (3, Q) through pixel centres in the camera frame (right, up, forward), unit length."""
    side = -(-size // TILE)
    step = np.arange(side * TILE).reshape(side, TILE)
    row = np.broadcast_to(step[:, None, :, None], (side, side, TILE, TILE)).reshape(-1)
    column = np.broadcast_to(step[None, :, None, :], (side, side, TILE, TILE)).reshape(-1)
    rays = np.stack(
        [
            FIELD * ((column + 0.5) * 2 / size - 1),
            FIELD * (1 - (row + 0.5) * 2 / size),
            np.ones(len(row)),
        ]
    )
    return np.asarray(rays / np.linalg.norm(rays, axis=0))


def _touched(
    scenes: Scenes, solids: Solids, basis: NDArray[np.float64], size: int
) -> NDArray[np.bool_]:
    """(M, T): does the image of the bounding box of a solid touch a tile? Errs on yes."""
    reach = solids.size.copy()
    cone = solids.solid == CONE
    reach[cone, :2] = solids.size[cone, :2].max(axis=1, keepdims=True)
    corner = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    local = corner[None] * reach[:, None, :]
    cos, sin = solids.cos[:, None], solids.sin[:, None]
    offset = (solids.centre - scenes.camera[solids.image])[:, None, :] + np.stack(
        [
            cos * local[..., 0] - sin * local[..., 1],
            sin * local[..., 0] + cos * local[..., 1],
            local[..., 2],
        ],
        axis=-1,
    )
    seen = np.matmul(offset, basis[solids.image].transpose(0, 2, 1))  # right, up, forward
    depth = seen[..., 2]
    near = depth.min(axis=1) < _NEAR
    safe = np.maximum(depth, _NEAR)
    side = -(-size // TILE)
    column = (seen[..., 0] / safe / FIELD + 1) * size / 2 / TILE
    row = (1 - seen[..., 1] / safe / FIELD) * size / 2 / TILE
    touched = []
    for at in (row, column):
        low = np.where(near, -1.0, at.min(axis=1) - 0.01)
        high = np.where(near, side + 1.0, at.max(axis=1) + 0.01)
        tile = np.arange(side)
        touched.append((tile + 1 >= low[:, None]) & (tile <= high[:, None]))
    both = touched[0][:, :, None] & touched[1][:, None, :]
    # All corners beyond one side of the field of view: not seen, however near.
    limit = FIELD * depth
    outside = (depth <= 0).all(axis=1)
    for across in (seen[..., 0], seen[..., 1]):
        outside |= (across > limit).all(axis=1) | (across < -limit).all(axis=1)
    both[outside] = False
    return both.reshape(len(near), side * side)


def _tensor(values: NDArray[np.float64], device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(device)


def _split(values: Tensor) -> Vector:
    """(3, ...) as three."""
    return values[0], values[1], values[2]


def _room(scenes: Scenes, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Where rays leave the room: distance (N, Q), face (N, Q) int64."""
    device = direction.device
    origin, room = _tensor(scenes.camera, device), _tensor(scenes.room, device)
    exits = []
    for axis in range(3):
        inverse = direction[axis].reciprocal()
        o, w = origin[:, axis, None], room[:, axis, None]
        exits.append(torch.maximum((w - o) * inverse, -o * inverse))
    distance = torch.minimum(torch.minimum(exits[0], exits[1]), exits[2])
    axis_number = 2 * (exits[1] < exits[0]).to(torch.int8)
    axis_number = axis_number.masked_fill_(distance == exits[2], 4)
    ahead = [(d > 0).to(torch.int8) for d in direction]
    side = torch.where(
        axis_number == 4, ahead[2], torch.where(axis_number == 2, ahead[1], ahead[0])
    )
    return distance, (axis_number + side).to(torch.int64)


def _surfaces(
    scenes: Scenes, solids: Solids, direction: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    """The nearest surface of each ray: distance (N, Q), surface (N, Q) int64."""
    device = direction.device
    n, quantity = direction.shape[1:]
    tiles = quantity // TILE**2
    distance, face = _room(scenes, direction)
    surface = FACES * torch.arange(n, device=device)[:, None] + face
    touched = _touched(scenes, solids, camera_basis(scenes), size)
    offset = scenes.camera[solids.image] - solids.centre
    cos, sin = solids.cos, solids.sin
    local = [cos * offset[:, 0] + sin * offset[:, 1], cos * offset[:, 1] - sin * offset[:, 0]]
    table = np.stack([*local, offset[:, 2], *solids.size.T, cos, sin])
    by_tile = direction.view(3, n * tiles, TILE**2)
    met, owners, targets = [], [], []
    for which in (BOX, BALL, CONE):
        mine = np.flatnonzero(solids.solid == which)
        row, tile = np.nonzero(touched[mine])
        solid = mine[row]
        at = torch.from_numpy(solids.image[solid] * tiles + tile).to(device)
        ox, oy, oz, sx, sy, sz, cos_, sin_ = _tensor(table[:, solid], device)[:, :, None]
        gx, gy, dz = _split(by_tile.index_select(1, at))
        ray = (cos_ * gx + sin_ * gy, cos_ * gy - sin_ * gx, dz)
        if which == BOX:
            met.append(meet_box((ox, oy, oz), ray, (sx, sy, sz)))
        elif which == BALL:
            met.append(meet_ball((ox, oy, oz), ray, sx))
        else:
            met.append(meet_cone((ox, oy, oz), ray, sx, sy, sz))
        owners.append(torch.from_numpy(solid).to(device))
        targets.append(at)
    # Positive floats are ordered as their bits are: one 64-bit minimum keeps distance and who.
    key = torch.cat(met).view(torch.int32).to(torch.int64) << 32
    key |= torch.cat(owners)[:, None] + FACES * n
    nearest = (distance.view(torch.int32).to(torch.int64) << 32) | surface
    nearest = nearest.view(n * tiles, TILE**2)
    into = torch.cat(targets)[:, None].expand_as(key)
    nearest = nearest.scatter_reduce_(0, into, key, "amin").view(n, quantity)
    return (nearest >> 32).to(torch.int32).view(torch.float32), nearest & 0xFFFFFFFF


def cast(scenes: Scenes, size: int, device: torch.device | None = None) -> Hits:
    """What every pixel of `size` x `size` images of the scenes sees."""
    device = device or torch.device("cpu")
    n = len(scenes)
    solids = solids_of(scenes)
    basis = camera_basis(scenes)
    rays = _tensor(pixel_rays(size), device)
    turned = _tensor(basis.transpose(2, 0, 1).reshape(3 * n, 3), device)
    direction = (turned @ rays).view(3, n, -1)
    # No ray is parallel to a slab: a component of 0 would give 0 / 0 on its edge.
    direction += (direction.abs() < 1e-7) * 2e-7
    distance, surface = _surfaces(scenes, solids, direction, size)

    flat = surface.view(-1)
    table = _tensor(frames(scenes, solids), device)
    cx, cy, cz, cos, sin, *box, shape = (f.index_select(0, flat).view_as(surface) for f in table)
    camera = _tensor(scenes.camera, device)
    gx, gy, z = (
        torch.addcmul(camera[:, axis, None] - centre, distance, direction[axis])
        for axis, centre in enumerate((cx, cy, cz))
    )
    point = (cos * gx + sin * gy, cos * gy - sin * gx, z)
    extent = (box[0], box[1], box[2])
    on_ball, on_cone, on_room = shape == BALL, shape == CONE, shape == ROOM
    inward = 1.0 - 2.0 * on_room.float()
    scale = box[0].reciprocal()
    normal = []
    for flat_side, round_side, p in zip(
        box_normal(point, extent), cone_normal(point, extent), point, strict=True
    ):
        kept = torch.where(on_cone, round_side, flat_side * inward)
        normal.append(torch.where(on_ball, p * scale, kept))
    return Hits(
        size,
        solids,
        direction,
        distance,
        surface,
        torch.stack(point),
        torch.stack(extent),
        torch.stack(normal),
        cos,
        sin,
        shape,
        _tensor(basis, device),
    )
