"""Scenes: the same for every batch, and what a plain ray caster sees."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from depara_bench.errors import InputError
from depara_bench.rooms import HELD_OUT_SEED, PROBE_SEED, TRAIN_SEED, raycast, solids
from depara_bench.rooms.draws import Draws, pixel_noise, scene_keys
from depara_bench.rooms.kinds import BALL, BOX, KINDS
from depara_bench.rooms.layout import FIELD, draw_scenes
from depara_bench.rooms.scenes import render
from depara_bench.rooms.styles import STYLES

PLAIN = STYLES["plain"]


FROZEN = [[0.04876156039276014, 0.8075739466164118], [0.6225531430546949, 0.27569310144549375]]


def test_draws_are_uniform_and_frozen() -> None:
    draws = Draws(scene_keys(7, range(2000)))
    values = draws.uniform(8)
    assert abs(values.mean() - 0.5) < 0.01 and abs(values.var() - 1 / 12) < 0.005
    assert values.min() >= 0 and values.max() < 1
    assert abs(np.corrcoef(values.T) - np.eye(8)).max() < 0.1
    # Frozen numbers: scenes must not move between versions of numpy or of this package.
    first = Draws(scene_keys(1, [0, 5])).uniform(2)
    np.testing.assert_allclose(first, FROZEN, rtol=0, atol=1e-15)


def test_noise_is_nearly_normal_and_independent_of_the_batch() -> None:
    keys = scene_keys(3, range(40))
    noise = pixel_noise(keys, 3, 64, salt=1)
    assert abs(float(noise.mean())) < 0.01 and abs(float(noise.std()) - 1) < 0.01
    flat = noise.reshape(40, -1)
    assert abs(np.corrcoef(flat.numpy()) - np.eye(40)).max() < 0.05
    assert torch.equal(pixel_noise(keys[7:8], 3, 64, salt=1)[0], noise[7])
    assert not torch.equal(pixel_noise(keys, 3, 64, salt=2), noise)


def _differ(a: np.ndarray, b: np.ndarray) -> float:
    """Share of values that differ by more than one level: rounding may move single ones."""
    return float((np.abs(a.astype(int) - b.astype(int)) > 1).mean())


@pytest.mark.parametrize("style", sorted(STYLES))
def test_a_scene_does_not_depend_on_its_batch(style: str) -> None:
    together = render(5, range(40), style=style)
    for index in (0, 17, 39):
        assert _differ(render(5, [index], style=style)[0], together[index]) < 1e-3
    shuffled = render(5, [39, 3, 17], style=style)
    assert _differ(shuffled, together[[39, 3, 17]]) < 1e-3


def test_seeds_indices_and_styles_give_different_scenes() -> None:
    images = [
        render(TRAIN_SEED, [0]),
        render(HELD_OUT_SEED, [0]),
        render(PROBE_SEED, [0]),
        render(TRAIN_SEED, [1]),
        render(TRAIN_SEED, [0], style="foreign"),
    ]
    for i, one in enumerate(images):
        for other in images[:i]:
            assert _differ(one, other) > 0.5


def test_any_size_shows_the_same_room() -> None:
    small, large = render(5, [2], size=50), render(5, [2], size=100)
    assert small.shape == (1, 50, 50, 3) and large.shape == (1, 100, 100, 3)
    halved = large.reshape(1, 50, 2, 50, 2, 3).mean(axis=(2, 4))
    assert np.abs(halved - small).mean() < 12


def test_bad_requests_are_one_line_errors() -> None:
    for call in (
        lambda: render(1, [0], style="baroque"),
        lambda: render(1, [0], size=4),
        lambda: render(1, [-1]),
    ):
        with pytest.raises(InputError, match="rooms"):
            call()


def test_rooms_are_furnished() -> None:
    scenes = draw_scenes(9, range(300), PLAIN)
    pieces = scenes.present[:, :7].sum(axis=1)
    assert pieces.mean() > 4
    assert len(np.unique(scenes.kind[:, 0])) == 10 and len(np.unique(scenes.place)) == 8
    inside = (scenes.camera > 0) & (scenes.camera < scenes.room)
    assert inside.all()
    assert len(KINDS) >= 8


def _slow(scenes: object, row: int, pixel: tuple[int, int], size: int) -> tuple[float, int]:
    """Distance and surface along one ray, found by marching towards it: no shared algebra.

    Signed distances to boxes, balls and frusta; sphere tracing in float64.
    """
    s = scenes
    parts = solids.solids_of(s)
    cy, sy = np.cos(s.yaw[row]), np.sin(s.yaw[row])
    cp, sp = np.cos(s.pitch[row]), np.sin(s.pitch[row])
    forward = np.array([cy * cp, sy * cp, sp])
    right = np.array([sy, -cy, 0.0])
    up = np.cross(right, forward)
    i, j = pixel
    ray = (
        forward
        + FIELD * ((j + 0.5) * 2 / size - 1) * right
        + FIELD * (1 - (i + 0.5) * 2 / size) * up
    )
    ray /= np.linalg.norm(ray)
    mine = np.flatnonzero(parts.image == row)
    t = 0.0
    for _ in range(4000):
        p = s.camera[row] + t * ray
        gaps = [*p, *(s.room[row] - p)]
        names = [0, 2, 4, 1, 3, 5]
        for m in mine:
            q = p - parts.centre[m]
            q = np.array(
                [
                    parts.cos[m] * q[0] + parts.sin[m] * q[1],
                    parts.cos[m] * q[1] - parts.sin[m] * q[0],
                    q[2],
                ]
            )
            size_m = parts.size[m]
            if parts.solid[m] == BOX:
                e = np.abs(q) - size_m
                gap = np.linalg.norm(np.maximum(e, 0)) + min(e.max(), 0)
            elif parts.solid[m] == BALL:
                gap = np.linalg.norm(q) - size_m[0]
            else:
                bottom, top, half = size_m
                slope = (top - bottom) / (2 * half)
                side = np.hypot(q[0], q[1]) - (bottom + top) / 2 - slope * q[2]
                gap = max(side / np.hypot(1, slope), abs(q[2]) - half)
            gaps.append(gap)
            names.append(solids.FACES * len(s.keys) + m)
        nearest = int(np.argmin(gaps))
        if gaps[nearest] < 1e-7:
            break
        t += gaps[nearest]
    name = names[nearest]
    return t, name if nearest >= 6 else solids.FACES * row + name


def test_the_ray_caster_agrees_with_a_slow_one() -> None:
    size, chosen = 24, [3, 8, 11, 20]
    scenes = draw_scenes(4, chosen, PLAIN)
    hits = raycast.cast(scenes, size)
    distance = hits.image(hits.distance).numpy()
    surface = hits.image(hits.surface).numpy()
    rng = np.random.default_rng(0)
    same = total = 0
    for row in range(len(chosen)):
        for i, j in rng.integers(0, size, (40, 2)):
            t, name = _slow(scenes, row, (int(i), int(j)), size)
            total += 1
            # Rays along an edge may go either way; there are few.
            if abs(t - distance[row, i, j]) < 2e-3 * t:
                same += 1
                assert name == surface[row, i, j] or abs(t - distance[row, i, j]) < 1e-3
    assert same >= 0.98 * total


def test_normals_face_the_camera_and_are_unit_and_match_differences_of_position() -> None:
    scenes = draw_scenes(6, range(8), PLAIN)
    hits = raycast.cast(scenes, 128)
    normal = torch.stack(list(hits.normal))
    assert float((normal.norm(dim=0) - 1).abs().max()) < 1e-4
    towards = -(normal * hits.direction).sum(dim=0)
    assert float((towards > -1e-3).float().mean()) > 0.999
    # The surface's own tangents, from neighbouring pixels of the same surface.
    position = hits.image(hits.distance * hits.direction)
    surface = hits.image(hits.surface)
    n = hits.image(normal)
    across = position[..., :, 1:] - position[..., :, :-1]
    same = (surface[..., 1:] == surface[..., :-1]) & (across.norm(dim=0) < 0.05)
    cosine = (across * (n[..., 1:] + n[..., :-1])).sum(dim=0) / across.norm(dim=0)
    assert float((cosine.abs()[same] < 0.1).float().mean()) > 0.98
