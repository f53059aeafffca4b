"""Features and gradients against a plain loop over images; what cannot be extracted is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from depara_bench.attribution import make_method
from depara_bench.errors import InputError, RunError
from depara_bench.extract import (
    Extracted,
    check_finite,
    exact_arithmetic,
    extract,
    find_embedding,
    scalar_of,
)

SIZE = 8


class Residual(nn.Module):
    """Convolution, batch normalisation, an activation in place, and the input added in place."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x))
        y += x
        return self.act(y)


class Shared(nn.Module):
    """One module used twice; its first output is the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.block = Residual(3)
        self.fc = nn.Linear(3 * SIZE * SIZE, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.block(self.block(x)).flatten(1))


class Spoiled(nn.Module):
    """The embedding is changed in place by what follows it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, stride=2)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv(x)).mul_(0)


def in_place_first() -> nn.Module:
    return nn.Sequential(
        nn.ReLU(inplace=True),
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.Flatten(),
        nn.Linear(144, 6),
    )


def smooth() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(144, 6))


NETS: dict[str, tuple[Callable[[], nn.Module], str | None]] = {
    "in place first": (in_place_first, "2"),
    "whole model": (in_place_first, None),
    "residual": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), Residual(4), Residual(4)), "1"),
    "shared": (Shared, "block"),
    "spoiled": (Spoiled, "conv"),
    "smooth": (smooth, "3"),
}


def made(net: str) -> tuple[nn.Module, str | None]:
    build, embedding = NETS[net]
    torch.manual_seed(len(net))
    model = build()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)  # type: ignore[union-attr, operator]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr, operator]
    return model.eval(), embedding


def images(count: int = 5, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def run(
    model: nn.Module,
    embedding: str | None,
    inputs: Tensor,
    node: nn.Module | None = None,
    **more: Any,
) -> Extracted:
    options = {
        "methods": ("input_x_gradient", "saliency"),
        "scalar": "sum",
        "channels": "signed-mean",
        "ends": (torch.zeros(3, 1, 1), torch.ones(3, 1, 1)),
        "batch_size": 64,
        "device": "cpu",
        "name": "m",
        **more,
    }
    options["methods"] = {name: make_method(name, {}) for name in options["methods"]}
    node = node or find_embedding(model, embedding, "m")
    return extract(model, node, inputs, **options)


def plain(model: nn.Module, embedding: str | None, image: Tensor, scalar: str) -> tuple[Any, ...]:
    """Feature and gradient (3, H, W) of one image, by whole passes and a plain backward."""
    node = dict(model.named_modules())[embedding or ""]
    seen: list[Tensor] = []
    handle = node.register_forward_hook(lambda _m, _i, out: seen.append(out.clone()))
    leaf = image[None].clone().requires_grad_(True)
    model(leaf * 1.0)
    handle.remove()
    feature = seen[0].flatten()
    value = feature.sum() if scalar == "sum" else feature.pow(2).sum().sqrt()
    (gradient,) = torch.autograd.grad(value, leaf)
    return feature.detach().numpy(), gradient[0].numpy()


def close(a: np.ndarray, b: np.ndarray, tolerance: float = 1e-5) -> bool:
    return bool(np.abs(a - b).max() <= tolerance * max(1.0, np.abs(b).max()))


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("scalar", ["sum", "l2norm"])
@pytest.mark.parametrize("channels", ["signed-mean", "abs-mean"])
def test_equals_a_plain_loop(net: str, scalar: str, channels: str) -> None:
    """Features, gradient and both methods equal one plain backward pass per image."""
    model, embedding = made(net)
    inputs = images()
    before = inputs.clone()
    found = run(model, embedding, inputs, scalar=scalar, channels=channels)
    assert torch.equal(inputs, before)
    for row, image in enumerate(inputs):
        feature, gradient = plain(model, embedding, image, scalar)
        assert close(found.features[row], feature)
        product = image.numpy() * gradient
        maps = {"saliency": np.abs(gradient), "input_x_gradient": product}
        for method, values in maps.items():
            values = np.abs(values) if channels == "abs-mean" else values
            assert close(found.attributions[method][row], values.mean(axis=0).reshape(-1))
    assert found.features.dtype == found.attributions["saliency"].dtype == np.float32
    assert found.attributions["saliency"].shape == (5, SIZE * SIZE)


@pytest.mark.parametrize("net", NETS)
def test_batches_do_not_change_the_numbers(net: str) -> None:
    """One image at a time, three, or all: the same to 1e-5; once more: the same to the last bit."""
    model, embedding = made(net)
    inputs = images(10)
    whole = run(model, embedding, inputs)
    for size in (1, 3):
        cut = run(model, embedding, inputs, batch_size=size)
        again = run(model, embedding, inputs, batch_size=size)
        assert close(cut.features, whole.features)
        assert np.array_equal(cut.features, again.features)
        for method, rows in whole.attributions.items():
            assert close(cut.attributions[method], rows)
            assert np.array_equal(cut.attributions[method], again.attributions[method])


def test_nothing_accumulates() -> None:
    """Other layers and calls in between change nothing, and no parameter keeps a gradient."""
    model, _ = made("smooth")
    inputs = images()
    first = run(model, "1", inputs)
    for layer in ("0", "1", "2", "3", None):
        run(model, layer, images(seed=1), scalar="l2norm")
    again = run(model, "1", inputs)
    for method, rows in first.attributions.items():
        assert np.array_equal(again.attributions[method], rows)
    assert all(p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    assert inputs.grad is None
    assert not inputs.requires_grad


def test_results_are_copies() -> None:
    """What is returned does not share memory with the model, whose next call may overwrite it."""

    class Overwrites(nn.Module):
        last: Tensor | None = None

        def forward(self, x: Tensor) -> Tensor:
            if self.last is not None:
                self.last.detach().zero_()
            self.last = x * 1.0
            return self.last

    model = Overwrites()
    found = run(model, None, images(), batch_size=2)
    assert np.array_equal(found.features, images().flatten(1).numpy())


def test_norm_against_finite_differences() -> None:
    """In float64 the gradients of both scalars equal central differences."""
    model, embedding = made("smooth")
    model = model.double()
    inputs = images(2).double()
    for scalar in ("sum", "l2norm"):
        found = run(model, embedding, inputs, scalar=scalar, methods=("input_x_gradient",))
        expected = np.zeros((2, 3, SIZE * SIZE))
        step = 1e-5
        with torch.no_grad():
            for channel in range(3):
                for pixel in range(0, SIZE * SIZE, 21):
                    ends = []
                    for sign in (1, -1):
                        moved = inputs.clone()
                        moved.view(2, 3, -1)[:, channel, pixel] += sign * step
                        ends.append(scalar_of(model(moved).flatten(1), scalar))
                    gradient = (ends[0] - ends[1]) / (2 * step)
                    value = inputs.view(2, 3, -1)[:, channel, pixel] * gradient
                    expected[:, channel, pixel] = value.numpy()
        at = slice(0, None, 21)
        maps = found.attributions["input_x_gradient"]
        assert close(maps[:, at], expected.mean(axis=1)[:, at], 1e-6)


def test_scalars_and_channels_differ() -> None:
    """Norm is not sum, and absolute is not signed: the options are not mixed up."""
    model, embedding = made("smooth")
    maps = [
        run(model, embedding, images(), scalar=s, channels=c).attributions["input_x_gradient"]
        for s in ("sum", "l2norm")
        for c in ("signed-mean", "abs-mean")
    ]
    for i in range(4):
        for j in range(i):
            assert np.abs(maps[i] - maps[j]).max() > 1e-3
    assert (maps[1] >= 0).all()
    assert (maps[0] < 0).any()


def test_norm_of_a_zero_embedding() -> None:
    """Where the embedding is zero the norm's gradient is 0, not NaN; other images keep theirs."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 4), nn.ReLU()).eval()
    nn.init.constant_(model[1].weight, 1.0)  # type: ignore[arg-type]
    nn.init.zeros_(model[1].bias)  # type: ignore[arg-type]
    inputs = images(3).abs()
    inputs[1] *= -1
    found = run(model, None, inputs, scalar="l2norm")
    assert not found.features[1].any()
    for rows in found.attributions.values():
        assert np.isfinite(rows).all()
        assert not rows[1].any()
        assert rows[[0, 2]].any(axis=1).all()


def test_the_forward_pass_ends_at_the_embedding() -> None:
    """What follows the embedding is not run."""

    class Bomb(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise AssertionError("reached")

    model = nn.Sequential(nn.Conv2d(3, 2, 3), Bomb())
    assert run(model, "0", images()).features.shape == (5, 2 * 6 * 6)
    with pytest.raises(AssertionError, match="reached"):
        run(model, None, images())
    assert not any(module._forward_hooks for module in model.modules())


def test_unknown_embedding_names_the_nearest() -> None:
    """A wrong module name: the nearest ones; none: the model itself."""
    model = nn.ModuleDict({"encoder": nn.Conv2d(3, 2, 3), "decoder": nn.Conv2d(2, 3, 3)})
    assert find_embedding(model, None, "m") is model
    assert find_embedding(model, "encoder", "m") is model["encoder"]
    with pytest.raises(InputError, match=r"model 'm': no module is called 'encodr'") as caught:
        find_embedding(model, "encodr", "m")
    assert "nearest: encoder, decoder" in str(caught.value)
    with pytest.raises(InputError):
        find_embedding(model, "", "m")


class Gives(nn.Module):
    """Gives what a function makes of the input."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: (x, x), "gives tuple, not a tensor"),
        (lambda x: None, "gives NoneType, not a tensor"),
        (lambda x: x[:2], r"shape (2, 3, 8, 8) and type torch.float32 for 5 images"),
        (lambda x: x.sum(), "shape () and type"),
        (lambda x: x.flatten(1).argmax(1), "type torch.int64"),
        (lambda x: x[:, :0], "shape (5, 0, 8, 8)"),
        (lambda x: x.to(torch.complex64), "type torch.complex64"),
        (lambda x: x.detach() * 2, "cannot be differentiated with respect to the image"),
        (lambda x: torch.ones(len(x), 2), "cannot be differentiated with respect to the image"),
    ],
)
def test_what_is_no_embedding(function: Callable[[Tensor], Any], expected: str) -> None:
    """No tensor, not a row per image, no floats, no gradient: one line naming the model."""
    with pytest.raises(InputError) as caught:
        run(Gives(function), None, images())
    assert str(caught.value).startswith("model 'm': ")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_output_that_ignores_the_image() -> None:
    """Parameters alone, or a detached image times parameters: does not depend on the image."""
    model = Gives(lambda x: x)
    for function in (
        lambda x: model.weight.expand(len(x), 4),
        lambda x: x.detach().flatten(1) * model.weight,
    ):
        model.function = function
        with pytest.raises(
            InputError, match="model 'm': the embedding does not depend on the image"
        ):
            run(model, None, images())


def test_a_module_that_is_never_reached() -> None:
    """A module that the forward pass leaves out."""
    model = nn.Sequential(nn.Conv2d(3, 2, 3))
    with pytest.raises(InputError, match="model 'm': its forward pass never reaches"):
        run(model, None, images(), node=nn.Conv2d(3, 2, 3))


def test_without_gradient_mode() -> None:
    """Called where gradients are switched off, it switches them on for itself."""
    model, embedding = made("smooth")
    expected = run(model, embedding, images())
    with torch.no_grad():
        found = run(model, embedding, images())
        assert not torch.is_grad_enabled()
    assert np.array_equal(found.attributions["saliency"], expected.attributions["saliency"])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["features", "saliency"])
def test_not_finite_names_model_and_image(bad: float, where: str) -> None:
    """NaN or inf anywhere: model, image and what, in one line."""
    maps = {"saliency": np.zeros((3, 4), np.float32)}
    found = Extracted(np.zeros((3, 2), np.float32), maps)
    check_finite(found, ["a", "b", "c"], "m")
    (found.features if where == "features" else maps["saliency"])[1:, 1] = bad
    with pytest.raises(RunError) as caught:
        check_finite(found, ["a", "b", "c"], "m")
    message = f"model 'm': {where} of image 'b' hold NaN or inf (2 of 3 images in this block)"
    assert str(caught.value) == message


def test_a_network_that_overflows_is_caught() -> None:
    """Inf that a model makes of one image reaches the check."""
    inputs = images(3)
    inputs[2] = 1e30
    found = run(Gives(lambda x: x * x), None, inputs)
    with pytest.raises(RunError, match="features of image 'c'"):
        check_finite(found, ["a", "b", "c"], "m")


def test_exact_arithmetic_restores_what_was() -> None:
    """Inside: the threads asked for, no TF32, fixed kernels; afterwards, also after an error, as
    before.
    """

    def state() -> tuple[Any, ...]:
        cudnn = torch.backends.cudnn
        return (
            torch.get_num_threads(),
            cudnn.deterministic,
            cudnn.benchmark,
            cudnn.allow_tf32,
            torch.backends.cuda.matmul.allow_tf32,
        )

    start = state()
    try:
        torch.set_num_threads(3)
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = True
        before = state()
        with pytest.raises(ZeroDivisionError), exact_arithmetic(1):
            assert state() == (1, True, False, False, False)
            raise ZeroDivisionError
        assert state() == before
    finally:
        torch.set_num_threads(start[0])
        torch.backends.cudnn.benchmark = start[2]
        torch.backends.cudnn.allow_tf32 = start[3]


def test_a_batch_that_does_not_fit_is_halved() -> None:
    """Out of memory above two images: the same numbers, in smaller batches; with one: an error."""
    model, _ = made("smooth")
    sizes: list[int] = []
    limit = 2

    def cramped(x: Tensor) -> Tensor:
        sizes.append(len(x))
        if len(x) > limit:
            raise torch.OutOfMemoryError("out of memory")
        return model(x)

    inputs = images(7)
    found = run(Gives(cramped), None, inputs)
    assert close(found.features, run(model, None, inputs).features)
    assert sizes == [7, 3, *[1] * 7]
    limit = 0
    with pytest.raises(RunError, match="model 'm': one image does not fit in memory"):
        run(Gives(cramped), None, inputs)


def test_of_a_module_that_runs_twice_the_first_call_counts() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Tanh())

        def forward(self, x: Tensor) -> Tensor:
            return self.block(self.block(x))

    torch.manual_seed(0)
    model = Twice().eval()
    found = run(model, "block", images())
    with torch.no_grad():
        expected = model.block(images()).flatten(1).numpy()
    assert close(found.features, expected)
