"""Exact labels of scenes, each a function of what the camera sees.

Maps are (N, C, S, S) float32, class maps (N, S, S) int64, vectors (N, K) float32, classes (N,)
int64. Only what is asked for is computed: a `View` works its quantities out when first used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from depara_bench.errors import InputError
from depara_bench.rooms import filters
from depara_bench.rooms.layout import SLOTS, Scenes
from depara_bench.rooms.scenes import map_chunks, to_bytes
from depara_bench.rooms.solids import FACES
from depara_bench.rooms.view import View

LAYOUT_ANGLES = np.radians([-32.0, -16.0, 0.0, 16.0, 32.0])  # to the left is positive
_SEGMENTS = FACES + SLOTS
_OCCLUSION = 0.06  # least relative jump of depth at an occlusion edge


def _signed(images: Tensor) -> Tensor:
    return images * 2 - 1


def _occlusion(view: View) -> Tensor:
    z = view.depth[:, 0]
    edge = torch.zeros_like(z)
    for axis in (1, 2):
        a, b = slice(0, view.size - 1), slice(1, view.size)

        def pair(
            values: Tensor, axis: int = axis, a: slice = a, b: slice = b
        ) -> tuple[Tensor, Tensor]:
            return (values[:, a], values[:, b]) if axis == 1 else (values[..., a], values[..., b])

        (near, far), (one, two) = pair(z), pair(view.surface)
        room_one, room_two = pair(view.in_room)
        jump = (near - far).abs() > _OCCLUSION * torch.minimum(near, far)
        mark = (jump & (one != two) & ~(room_one & room_two)).float()
        for side in pair(edge):
            side.copy_(torch.maximum(side, mark))
    return filters.binomial(edge[:, None])


def _geometric_corners(view: View) -> Tensor:
    geometry = torch.cat([view.normals, 2 * view.depth.log()], dim=1)
    return filters.corner_strength(geometry)


def _segments(view: View) -> Tensor:
    n, size = len(view.scenes), view.size
    number = (view.segment + _SEGMENTS * torch.arange(n, device=view.device)[:, None, None]).view(
        -1
    )
    at = ((torch.arange(size, device=view.device) + 0.5) / size).expand(n, size, size)
    column, row = at.reshape(-1), at.transpose(1, 2).reshape(-1)
    log_depth = view.depth.log().reshape(-1)
    values = torch.stack([torch.ones_like(column), column, row, log_depth], dim=1)
    totals = torch.zeros(n * _SEGMENTS, 4, device=view.device).index_add_(0, number, values)
    mean = (totals / totals[:, :1].clamp(min=1))[number]
    code = torch.stack([mean[:, 1] - column, mean[:, 2] - row, mean[:, 3]], dim=0)
    return code.view(3, n, size, size).transpose(0, 1).contiguous()


def _regions(view: View) -> Tensor:
    n, size = len(view.scenes), view.size
    at = ((torch.arange(size, device=view.device) + 0.5) / size).expand(n, 1, size, size)
    position = torch.cat([at, at.transpose(2, 3)], dim=1)
    mixed = filters.diffuse(torch.cat([position, view.luminance], dim=1), view.clean)
    return torch.cat([mixed[:, :2] - position, mixed[:, 2:]], dim=1)


def wall_distance(
    room: NDArray[np.float64], at: NDArray[np.float64], heading: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Horizontal distance (N, A) from `at` (N, 2+) to the wall in direction `heading` (N, A)."""
    exits = []
    for axis, way in enumerate((np.cos(heading), np.sin(heading))):
        way = np.where(np.abs(way) < 1e-9, 1e-9, way)
        exits.append(
            np.where(way > 0, room[:, axis, None] - at[:, axis, None], -at[:, axis, None]) / way
        )
    return np.asarray(np.minimum(exits[0], exits[1]))


def _layout(view: View) -> Tensor:
    scenes = view.scenes
    walls = wall_distance(scenes.room, scenes.camera, scenes.yaw[:, None] + LAYOUT_ANGLES)
    below = scenes.camera[:, 2:]
    numbers = np.concatenate([walls, below, scenes.room[:, 2:] - below], axis=1)
    return torch.from_numpy(numbers.astype(np.float32))


def _vanishing(view: View) -> Tensor:
    yaw, pitch = view.scenes.yaw, view.scenes.pitch
    numbers = np.stack([np.cos(4 * yaw), np.sin(4 * yaw), pitch], axis=1)
    return torch.from_numpy(numbers.astype(np.float32))


def vanishing_points(label: NDArray[np.float64]) -> NDArray[np.float64]:
    """Directions of the three vanishing points in the frame of the camera (right, up, forward),
    (N, 3, 3) unit vectors up to sign: two horizontal, nearest to the axis first, and the vertical,
    from labels (N, 3) of vanishing_point.
    """
    turn = np.arctan2(label[:, 1], label[:, 0]) / 4  # yaw up to quarter turns
    cos, sin, zero = np.cos(label[:, 2]), np.sin(label[:, 2]), np.zeros(len(label))
    points = []
    for yaw in (turn, turn + np.pi / 2):
        # The wall direction (1, 0, 0) seen by a camera turned by yaw and raised by pitch.
        points.append(np.stack([np.sin(yaw), -np.cos(yaw) * sin, np.cos(yaw) * cos], axis=1))
    points.append(np.stack([zero, cos, sin], axis=1))
    return np.stack(points, axis=1)


LABELS: dict[str, Callable[[View], Tensor]] = {
    # The image itself, in [-1, 1].
    "image": lambda v: _signed(v.sensed.float() / 255),
    # The image before sensor noise, in [-1, 1].
    "clean_image": lambda v: _signed(v.clean),
    # Principal curvatures of the surface, 1/m, larger first, 0 on planes.
    "curvature": lambda v: v.curvature,
    # Length of the Sobel gradient of the blurred clean luminance, per pixel.
    "edge2d": lambda v: torch.stack(filters.gradients(filters.binomial(v.luminance))).norm(dim=0),
    # Occlusion edges: neighbours on different surfaces, at least one of an object, whose depths
    # differ by 6 % or more; both sides marked, blurred 3x3. In [0, 1].
    "edge3d": _occlusion,
    # Corner measure (smaller eigenvalue of the structure tensor) of the clean luminance.
    "keypoint2d": lambda v: filters.corner_strength(v.luminance),
    # The same measure of the geometry (normals and 2 ln depth): corners of shape, not of texture.
    "keypoint3d": _geometric_corners,
    # Red and blue of the clean image less its luminance.
    "chroma": lambda v: v.clean[:, [0, 2]] - v.luminance,
    # Light arriving at the surface (ambient and Lambert), without colour or texture.
    "shading": lambda v: v.shading,
    # Depth along the optical axis, metres.
    "depth": lambda v: v.depth,
    # Distance from the camera, metres.
    "distance": lambda v: v.distance,
    # Unit normals in the frame of the camera: right, up, towards the camera.
    "normals": lambda v: v.normals,
    # Distances in the floor plan to the walls at -32, -16, 0, 16, 32 degrees from the heading
    # (left positive), then to the floor and to the ceiling, metres.
    "layout": _layout,
    # Segments of geometry (faces of the room, objects): offset from each pixel to the centroid of
    # the visible part of its segment (columns, rows, in image widths), and its mean ln depth.
    "segments": _segments,
    # Segments of colour in the clean image: offset from each pixel to the mean position of the
    # pixels of its region nearby (columns, rows, in image widths), and their mean luminance.
    "regions": _regions,
    # Where walls and verticals vanish: cos and sin of 4 x yaw to the walls, and pitch, radians.
    "vanishing": _vanishing,
    # Class of what each pixel sees, kinds.SEMANTIC_NAMES.
    "semantic": lambda v: v.semantic,
    # Kind of the piece of furniture that the camera is aimed at, kinds.KIND_NAMES.
    "subject": lambda v: torch.from_numpy(v.scenes.kind[:, 0]),
    # Which of styles.PLACES the room is.
    "place": lambda v: torch.from_numpy(v.scenes.place),
}


def render_labelled(
    seed: int,
    indices: Sequence[int],
    tasks: Sequence[str],
    *,
    size: int = 64,
    style: str = "plain",
) -> tuple[NDArray[np.uint8], dict[str, NDArray[Any]]]:
    """Images (N, size, size, 3) uint8 and the label of each of `tasks` for scenes `indices`.

    Raises InputError for an unknown task or style.
    """
    from depara_bench.rooms.tasks import TASKS

    for name in tasks:
        if name not in TASKS:
            raise InputError(f"rooms: task '{name}' is not one of {', '.join(TASKS)}")
    kinds = list(dict.fromkeys(TASKS[name].label for name in tasks))

    def draw(scenes: Scenes) -> tuple[NDArray[np.uint8], dict[str, NDArray[Any]]]:
        view = View(scenes, size)
        return to_bytes(view.sensed), {kind: LABELS[kind](view).numpy() for kind in kinds}

    if not len(indices):
        raise InputError("rooms: no scenes are asked for; give one index or more")
    images = np.empty((len(indices), size, size, 3), dtype=np.uint8)
    found: dict[str, NDArray[Any]] = {}
    for place, (drawn, labels) in map_chunks(draw, seed, indices, size, style):
        images[place] = drawn
        for kind, values in labels.items():
            if kind not in found:
                found[kind] = np.empty((len(indices), *values.shape[1:]), dtype=values.dtype)
            found[kind][place] = values
    # Tasks with the same label share one array.
    return images, {name: found[TASKS[name].label] for name in tasks}
