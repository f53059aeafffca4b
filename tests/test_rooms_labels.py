"""Labels: the identities that hold between them, and the table of tasks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from depara_bench.errors import InputError
from depara_bench.rooms import filters, raycast
from depara_bench.rooms.kinds import BALL, CONE, KIND_NAMES, SEMANTIC_NAMES
from depara_bench.rooms.labels import LABELS, render_labelled, vanishing_points
from depara_bench.rooms.layout import FIELD, draw_scenes
from depara_bench.rooms.losses import as_prediction, best_constant, per_image
from depara_bench.rooms.scenes import render
from depara_bench.rooms.solids import FACES
from depara_bench.rooms.styles import PLACES, STYLES
from depara_bench.rooms.tasks import SOURCES, TARGETS, TASKS
from depara_bench.rooms.view import View

DEPARA_ORDER = (
    "autoencoder curvature denoise edge2d edge3d keypoint2d keypoint3d colorization reshade "
    "rgb2depth rgb2mist rgb2sfnorm room_layout segment25d segment2d vanishing_point "
    "segmentsemantic class_1000 class_places inpainting_whole"
).split()


@pytest.fixture(scope="module")
def view() -> View:
    return View(draw_scenes(12, range(16), STYLES["plain"]), 64)


def test_the_table_is_deparas() -> None:
    assert list(SOURCES) == DEPARA_ORDER
    sources_only = {"colorization", "inpainting_whole"}
    assert list(TARGETS) == [name for name in DEPARA_ORDER if name not in sources_only]
    assert all(task.label in LABELS for task in TASKS.values())


def test_depth_is_distance_along_the_axis(view: View) -> None:
    at = (torch.arange(64) + 0.5) / 32 - 1
    slant = torch.sqrt(1 + (FIELD * at[None, :]) ** 2 + (FIELD * at[:, None]) ** 2).float()
    assert torch.allclose(view.depth[:, 0] * slant, view.distance[:, 0], rtol=1e-5, atol=0)


def test_normals_are_unit_and_face_the_camera(view: View) -> None:
    normals = view.normals
    assert float((normals.norm(dim=1) - 1).abs().max()) < 1e-4
    floor = view.segment == 4
    up = torch.from_numpy(raycast.camera_basis(view.scenes)[:, :, 2]).float()
    for image in range(16):
        seen = normals[image][:, floor[image]]
        expected = torch.stack([up[image, 0], up[image, 1], -up[image, 2]])
        assert torch.allclose(seen, expected[:, None].expand_as(seen), atol=1e-4)


def test_curvature_of_planes_balls_cylinders_and_cones(view: View) -> None:
    solids = view.hits.solids
    curvature, surface = view.curvature, view.surface
    offset = FACES * len(view.scenes)
    seen = {BALL: 0, CONE: 0}
    assert float(curvature[:, :, :][:, 0][view.in_room].abs().max()) == 0
    point = view.hits.image(view.hits.point)
    for m in np.unique(surface[~view.in_room].numpy()) - offset:
        here = surface == offset + int(m)
        larger, smaller = curvature[:, 0][here], curvature[:, 1][here]
        mean, gauss = (larger + smaller) / 2, larger * smaller
        bottom, top, half = (float(v) for v in solids.size[m])
        if solids.solid[m] == BALL:
            seen[BALL] += 1
            assert torch.allclose(mean, torch.full_like(mean, 1 / bottom), rtol=1e-4)
            assert torch.allclose(gauss, torch.full_like(gauss, 1 / bottom**2), rtol=1e-4)
        elif solids.solid[m] == CONE:
            seen[CONE] += 1
            radius = torch.hypot(point[0][here], point[1][here])
            # Circumferential normal curvature of a cone: cos(half angle) / radius (Meusnier).
            tilt = (1 + ((top - bottom) / (2 * half)) ** 2) ** 0.5
            side = larger > 0
            assert torch.allclose(mean[side], (1 / (2 * radius * tilt))[side], rtol=1e-3)
            assert float(smaller.abs().max()) == 0
        else:
            assert float(larger.abs().max()) == 0
    assert seen[BALL] > 3 and seen[CONE] > 3


def test_vanishing_points_are_where_walls_point(view: View) -> None:
    label = LABELS["vanishing"](view).double().numpy()
    points = vanishing_points(label)
    basis = raycast.camera_basis(view.scenes)
    # The directions of the edges of the room, seen by the camera, in some order and up to sign.
    axes = np.abs(np.einsum("nij,nkj->nik", points, basis.transpose(0, 2, 1)))
    np.testing.assert_allclose(np.sort(axes, axis=2)[..., 2], 1, atol=1e-5)
    np.testing.assert_allclose(axes.max(axis=1), 1, atol=1e-5)


def test_layout_is_read_off_the_walls() -> None:
    scenes = draw_scenes(12, range(8), STYLES["plain"])
    bare = type(scenes)(**{**scenes.__dict__, "present": np.zeros_like(scenes.present)})
    numbers = LABELS["layout"](View(bare, 64)).numpy()
    view = View(bare, 256)
    point = view.hits.image(view.distance.new_tensor(0) + view.hits.distance * view.hits.direction)
    for image in range(8):
        ahead = point[:, image]
        heading = torch.atan2(ahead[1], ahead[0])
        wanted = bare.yaw[image] + np.radians([-16.0, 0.0, 16.0])
        on_wall = view.segment[image] < 4
        for number, way in zip(numbers[image, 1:4], wanted, strict=True):
            turn = torch.remainder(heading - way + np.pi, 2 * np.pi) - np.pi
            near = on_wall & (turn.abs() < 0.004)
            assert near.any()
            flat = torch.hypot(ahead[0], ahead[1])[near]
            assert torch.allclose(flat, torch.full_like(flat, float(number)), rtol=0.05)
        assert abs(numbers[image, 5:].sum() - bare.room[image, 2]) < 1e-5


def test_occlusion_edges_lie_where_depth_jumps_and_nowhere_else(view: View) -> None:
    edges = LABELS["edge3d"](view)[:, 0]
    assert 0.01 < float((edges > 0.5).float().mean()) < 0.3
    z = view.depth[:, 0]
    jump = torch.zeros_like(z, dtype=torch.bool)
    ratio = (z[:, 1:] / z[:, :-1]).log().abs() > 0.05
    jump[:, 1:] |= ratio
    jump[:, :-1] |= ratio
    ratio = (z[..., 1:] / z[..., :-1]).log().abs() > 0.05
    jump[..., 1:] |= ratio
    jump[..., :-1] |= ratio
    near_jump = torch.nn.functional.max_pool2d(jump[:, None].float(), 3, 1, 1)[:, 0] > 0
    assert bool(near_jump[edges > 0].all())
    empty = type(view.scenes)(
        **{**view.scenes.__dict__, "present": np.zeros_like(view.scenes.present)}
    )
    assert float(LABELS["edge3d"](View(empty, 64)).abs().max()) == 0


def test_segments_average_to_their_centroid(view: View) -> None:
    code, segment = LABELS["segments"](view), view.segment
    for number in torch.unique(segment[0]):
        here = segment[0] == number
        assert abs(float(code[0, 0][here].mean())) < 1e-4
        assert abs(float(code[0, 1][here].mean())) < 1e-4
        assert float(code[0, 2][here].std(unbiased=False)) < 1e-3


def test_light_times_colour_is_the_image(view: View) -> None:
    """Reshading knows nothing of colour: two colours of one room have one shading."""
    other = View(draw_scenes(12, range(16), STYLES["foreign"]), 64)
    assert torch.allclose(other.depth, view.depth)
    assert view.shading.shape == (16, 1, 64, 64) and float(view.shading.min()) > 0
    assert not torch.allclose(other.clean, view.clean, atol=0.1)


def test_filters_know_edges_corners_and_regions() -> None:
    image = torch.zeros(1, 1, 32, 32)
    image[..., 8:24, 8:24] = 1
    dx, dy = filters.gradients(image)
    assert float(dx[0, 0, 16, 16].abs() + dy[0, 0, 16, 16].abs()) == 0
    assert float(dx[0, 0, 16, 8]) == pytest.approx(0.5) and float(dy[0, 0, 16, 8]) == 0
    corners = filters.corner_strength(image)[0, 0]
    assert float(corners[8, 8]) > 10 * float(corners[16, 8])
    ramp = torch.linspace(0, 1, 32).expand(1, 1, 32, 32)
    mixed = filters.diffuse(ramp, image)
    # Averaging keeps values within the range of their neighbourhood.
    assert float(mixed.min()) >= 0 and float(mixed.max()) <= 1
    assert float(mixed[0, 0, 16, 9]) > float(ramp[0, 0, 16, 9]) + 0.02  # drawn into the square
    assert float(mixed[0, 0, 16, 7]) < float(ramp[0, 0, 16, 7]) - 0.02  # and out of it


def test_only_what_is_asked_is_drawn_and_it_is_the_same() -> None:
    images, labels = render_labelled(12, range(3), list(SOURCES))
    assert list(labels) == list(SOURCES)
    assert np.array_equal(images, render(12, range(3)))
    _, one = render_labelled(12, [2], ["rgb2depth"])
    assert list(one) == ["rgb2depth"]
    np.testing.assert_allclose(one["rgb2depth"][0], labels["rgb2depth"][2], rtol=1e-4)
    shapes = {"segmentsemantic": (64, 64), "class_1000": (), "class_places": ()}
    for name, task in TASKS.items():
        assert labels[name].shape == (3, *shapes.get(name, task.shape)), name
        assert np.isfinite(labels[name]).all()
    assert labels["segmentsemantic"].max() < len(SEMANTIC_NAMES)
    assert labels["class_1000"].max() < len(KIND_NAMES)
    assert labels["class_places"].max() < len(PLACES)
    with pytest.raises(InputError, match="rgb2sound"):
        render_labelled(12, [0], ["rgb2sound"])


def test_corruptions_are_functions_of_seed_and_index() -> None:
    images = render(12, range(4))
    for name in ("denoise", "colorization", "inpainting_whole", "autoencoder"):
        task = TASKS[name]
        inputs = task.inputs(images, range(4), 9)
        assert inputs.shape == (4, 3, 64, 64) and inputs.dtype == torch.float32
        assert float(inputs.min()) >= -1 and float(inputs.max()) <= 1
        assert torch.equal(task.inputs(images[2:3], [2], 9)[0], inputs[2])
        if name in ("denoise", "inpainting_whole"):
            assert not torch.equal(task.inputs(images, range(4), 8), inputs)
    grey = TASKS["colorization"].inputs(images, range(4))
    assert torch.equal(grey[:, 0], grey[:, 2])
    holes = (TASKS["inpainting_whole"].inputs(images, range(4), 9) == 0).all(dim=1)
    assert 0.1 < float(holes.float().mean()) < 0.6


@pytest.mark.parametrize("loss", ["l1", "l2", "curved_l2"])
def test_no_constant_beats_the_best(loss: str) -> None:
    target = torch.randn(20, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    target = target * (target > 0.2)
    best = best_constant(loss, target, 2)

    def error(constant: torch.Tensor) -> float:
        prediction = as_prediction(constant, (2, 8, 8)).expand_as(target)
        return float(per_image(loss, prediction, target).double().mean())

    for step in (-0.05, 0.05):
        for channel in range(2):
            moved = best.clone()
            moved[channel] += step
            assert error(moved) >= error(best) - 1e-6


def test_losses_are_one_number_per_image() -> None:
    for task in TASKS.values():
        labels = torch.zeros((3, 64, 64) if len(task.shape) == 3 else (3,), dtype=torch.int64)
        target = labels if task.classifies else torch.ones(3, *task.shape)
        losses = task.losses(torch.zeros(3, *task.shape), target)
        assert losses.shape == (3,) and losses.dtype == torch.float32
