"""Where rays meet the three solids, exactly: box, ball, frustum of a cone on a vertical axis.

All functions work in the frame of the solid (origin at its centre, z up): `origin` and
`direction` are three tensors (P, 1) and (P, R), directions of unit length, sizes (P, 1) in metres.
Distances run along the ray and are inf where it misses. Rays start outside the solids.
"""

from __future__ import annotations

import torch
from torch import Tensor

Vector = tuple[Tensor, Tensor, Tensor]
INF = float("inf")


def meet_box(origin: Vector, direction: Vector, size: Vector) -> Tensor:
    """Distance (P, R) to an axis-parallel box with half edges `size`: the slab method."""
    enter: Tensor | None = None
    leave: Tensor | None = None
    for o, d, h in zip(origin, direction, size, strict=True):
        inverse = d.reciprocal()
        middle = -o * inverse
        half = h * inverse.abs_()
        near, far = middle - half, middle.add_(half)
        enter = near if enter is None else torch.maximum(enter, near)
        leave = far if leave is None else torch.minimum(leave, far)
    assert enter is not None and leave is not None
    return enter.masked_fill_((enter >= leave) | (enter <= 0), INF)


def meet_ball(origin: Vector, direction: Vector, radius: Tensor) -> Tensor:
    """Distance (P, R) to a ball."""
    ox, oy, oz = origin
    dx, dy, dz = direction
    b = ox * dx + oy * dy + oz * dz
    # The distance of the ray from the centre, rather than b * b - c: no cancellation far away.
    px, py, pz = ox - b * dx, oy - b * dy, oz - b * dz
    inside = radius * radius - (px * px + py * py + pz * pz)
    near = -b - inside.clamp(min=0).sqrt()
    return near.masked_fill_((inside <= 0) | (near <= 0), INF)


def meet_cone(
    origin: Vector, direction: Vector, bottom: Tensor, top: Tensor, half: Tensor
) -> Tensor:
    """Distance (P, R) to a frustum with radii `bottom` at z = -half and `top` at z = half."""
    ox, oy, oz = origin
    dx, dy, dz = direction
    middle, slope = 0.5 * (bottom + top), 0.5 * (top - bottom) / half
    radius0 = middle + slope * oz  # radius of the (endless) cone at the height of the origin
    rate = slope * dz
    a = dx * dx + dy * dy - rate * rate
    a = a + (a.abs() < 1e-7) * 2e-7
    b = ox * dx + oy * dy - rate * radius0
    inside = b * b - a * (ox * ox + oy * oy - radius0 * radius0)
    root = inside.clamp(min=0).sqrt()
    inverse = a.reciprocal()
    best: Tensor | None = None
    for sign in (-1.0, 1.0):
        t = (sign * root - b) * inverse
        miss = (inside <= 0) | (t <= 0) | ((oz + t * dz).abs() > half)
        t = t.masked_fill_(miss, INF)
        best = t if best is None else torch.minimum(best, t)
    assert best is not None
    # Of the two discs only the one on the side of the origin can be seen.
    rim = torch.where(oz > 0, top, bottom)
    t = (torch.where(oz > 0, half, -half) - oz) / dz
    x, y = ox + t * dx, oy + t * dy
    miss = (t <= 0) | (x * x + y * y > rim * rim) | (oz.abs() <= half)
    return torch.minimum(best, t.masked_fill_(miss, INF))


def box_normal(point: Vector, size: Vector) -> Vector:
    """Outward normal of a box at a point of its surface, all (...) tensors."""
    x, y, z = point
    sx, sy, sz = size
    gap_x, gap_y, gap_z = x.abs() - sx, y.abs() - sy, z.abs() - sz
    on_z = gap_z >= torch.maximum(gap_x, gap_y)
    on_x = ~on_z & (gap_x >= gap_y)
    on_y = ~(on_z | on_x)
    return x.sign() * on_x, y.sign() * on_y, z.sign() * on_z


def cone_normal(point: Vector, size: Vector) -> Vector:
    """Outward normal of a frustum (bottom radius, top radius, half height) at a surface point."""
    x, y, z = point
    bottom, top, half = size
    slope = 0.5 * (top - bottom) / half
    radius = (x * x + y * y).clamp(min=1e-12).sqrt()
    tilt = (1 + slope * slope).rsqrt()
    # On a disc if nearer to its plane than to the side.
    side_gap = (radius - 0.5 * (bottom + top) - slope * z).abs()
    side = (side_gap <= half - z.abs()).float()
    across = side * tilt / radius
    return x * across, y * across, torch.lerp(z.sign(), -slope * tilt, side)


def cone_curvature(point: Vector, size: Vector) -> Tensor:
    """Curvature around the axis of a frustum's side, 1/m, 0 on its discs. The other is 0."""
    x, y, _ = point
    nx, ny, _ = cone_normal(point, size)
    # On the side the horizontal part of the normal is 1 / sqrt(1 + slope^2).
    return (nx * nx + ny * ny).sqrt() / (x * x + y * y).clamp(min=1e-12).sqrt()
