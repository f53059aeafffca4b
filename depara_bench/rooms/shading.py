"""From what is seen to an image: textures, light, blur, sensor noise."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from depara_bench.rooms.draws import pixel_noise
from depara_bench.rooms.filters import binomial
from depara_bench.rooms.kinds import KINDS
from depara_bench.rooms.layout import FIELD, Scenes
from depara_bench.rooms.raycast import Hits
from depara_bench.rooms.solids import FACES
from depara_bench.rooms.styles import BRICKS, CHECKER, MOTTLED, STRIPES, TEXTURES, TILES

_SENSOR = 7  # salt of the sensor noise
_LOOK = np.array([[kind.texture, kind.pattern, kind.contrast] for kind in KINDS])
_MEAN = torch.tensor([0.0, 0.5, 0.5, 0.28, 0.3, 0.5])  # mean of each texture, by its number


def surface_table(scenes: Scenes, hits: Hits) -> NDArray[np.float32]:
    """Per surface (6, 6 N + M): 0-2 colour, 3 texture, 4 patterns per metre, 5 contrast."""
    n, solids = len(scenes), hits.solids
    table = np.zeros((6, FACES * n + len(solids.image)), dtype=np.float32)
    room = table[:, : FACES * n].reshape(6, n, FACES)
    part = np.array([0, 0, 0, 0, 1, 2])  # wall, wall, wall, wall, floor, ceiling
    room[:3] = scenes.surface_colours[:, part].transpose(2, 0, 1)
    room[3] = scenes.surface_texture[:, part]
    room[4] = scenes.surface_pattern[:, part]
    room[5] = scenes.surface_contrast[:, part]
    mine = table[:, FACES * n :]
    where = (solids.image, solids.slot)
    kind = scenes.kind[where]
    style = scenes.style
    mine[:3] = scenes.colours[(*where, solids.colour)].T
    mine[3] = (_LOOK[kind, 0] + style.texture_shift) % TEXTURES
    mine[4] = _LOOK[kind, 1] / style.texture_scale
    mine[5] = _LOOK[kind, 2] * style.contrast * np.where(solids.colour == 0, 1.0, 0.3)
    return table


def _pattern(texture: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Procedural textures (N, Q) in [0, 1]; u and v in patterns."""
    fu, fv = u - u.floor(), v - v.floor()
    odd = (v.floor() * 0.5).frac().abs() * 2
    fb = u * 0.5 + 0.5 * odd
    fb = fb - fb.floor()
    wave = 0.5 + 0.25 * (torch.sin(7 * u + 3 * torch.sin(5 * v)) + torch.sin(9 * v + 2 * u))
    lines = ((fu < 0.15) | (fv < 0.15)).float()
    bricks = ((fb < 0.08) | (fv < 0.16)).float()
    value = torch.where(texture == STRIPES, (fu < 0.5).float(), 0.0)
    value = torch.where(texture == CHECKER, ((fu < 0.5) ^ (fv < 0.5)).float(), value)
    value = torch.where(texture == TILES, lines, value)
    value = torch.where(texture == BRICKS, bricks, value)
    return torch.where(texture == MOTTLED, wave, value)


def shade(scenes: Scenes, hits: Hits) -> Tensor:
    """Light arriving at each pixel's surface (N, Q): ambient, brighter from above, and a point
    light with Lambert's law and fall-off. No cast shadows.
    """
    device = hits.distance.device
    style = scenes.style
    from_light = torch.from_numpy((scenes.light - scenes.camera).astype(np.float32)).to(device)
    t = hits.distance
    to = [from_light[:, a, None] - t * hits.direction[a] for a in range(3)]
    squared = to[0] * to[0] + to[1] * to[1] + to[2] * to[2]
    cosine = to[0] * hits.normal[0] + to[1] * hits.normal[1] + to[2] * hits.normal[2]
    facing = (cosine * squared.rsqrt()).clamp(min=0)
    sky = style.ambient * (1 + 0.25 * hits.normal[2] + 0.1 * hits.normal[0])
    return sky + style.light * facing / (1 + 0.12 * squared)


def clean_images(scenes: Scenes, hits: Hits, shading: Tensor | None = None) -> Tensor:
    """Images without sensor noise (N, 3, S, S) float32 in [0, 1], display encoding (root)."""
    device = hits.distance.device
    shading = shade(scenes, hits) if shading is None else shading
    table = torch.from_numpy(surface_table(scenes, hits)).to(device)
    flat = hits.surface.view(-1)
    *colour, texture, rate, contrast = (
        row.index_select(0, flat).view_as(hits.surface) for row in table
    )
    x, y, z = hits.point
    nx, ny, nz = hits.local.abs()
    lying = nz > 0.8
    u = torch.where(lying | (ny >= nx), x, y)
    v = torch.where(lying, y, z)
    # Patterns finer than the pixels are faded to their mean, so that nothing aliases.
    d = hits.direction
    slant = (d[0] * hits.normal[0] + d[1] * hits.normal[1] + d[2] * hits.normal[2]).abs()
    footprint = rate * hits.distance * (2 * FIELD / hits.size) / slant.clamp(min=0.05)
    fade = (1.3 - 1.4 * footprint).clamp(0, 1)
    mean = _MEAN.to(device)[texture.to(torch.int64)]
    value = mean + (_pattern(texture, u * rate, v * rate) - mean) * fade
    light = shading * (1 - contrast * value)
    tint = torch.from_numpy(scenes.light_colour.astype(np.float32)).to(device)
    image = torch.stack(
        [(colour[c] * light * tint[:, c, None]).clamp(1e-4, 1).sqrt() for c in range(3)], dim=1
    )
    image = hits.image(image)
    if scenes.style.blur:
        for _ in range(2):
            image = torch.lerp(image, binomial(image), scenes.style.blur)
    return image


def sensed(scenes: Scenes, clean: Tensor) -> Tensor:
    """Images as the sensor gives them (N, 3, S, S) uint8: noise, clipping, 256 levels."""
    noise = pixel_noise(scenes.keys, 3, clean.shape[-1], salt=_SENSOR).to(clean.device)
    noisy = torch.addcmul(clean * 255.0 + 0.5, noise, torch.tensor(255.0 * scenes.style.noise))
    return noisy.clamp(0, 255.99).to(torch.uint8)
