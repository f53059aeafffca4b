"""Attribution methods against plain versions, captum and zennit; what they have no rule for; the
settings of the papers.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from depara_bench.attribution import METHODS, make_method, method_name
from depara_bench.attribution.batch import Batch
from depara_bench.attribution.operations import operations
from depara_bench.engine import Resources
from depara_bench.engine.local import LocalEngine
from depara_bench.errors import InputError
from depara_bench.extract import extract, find_embedding, pixel_ends, prepare
from depara_bench.job import PRESETS, AttributionSettings, Job, load_job
from depara_bench.pipeline import reduce_stage, run_extraction
from depara_bench.plan import _attribution_identity, make_plan
from depara_bench.reduce import EDGES, reduce
from depara_bench.report.data import ReportData
from depara_bench.report.sections.settings import choices
from depara_bench.shards import Shard, encode_shard, shard_path
from depara_bench.similarity.edges import edge_ranks, ordinal_ranks
from depara_bench.storage import Folder
from depara_bench.tables import read_table
from depara_bench.terminal import Terminal
from depara_bench.zoo import InputSpec

captum_attr = pytest.importorskip("captum.attr")
zennit_rules = pytest.importorskip("zennit.rules")

SIZE = 8
BLACK, WHITE = torch.tensor([-1.0, -2.0, -1.5]), torch.tensor([1.0, 0.5, 2.0])
ENDS = (BLACK.view(3, 1, 1), WHITE.view(3, 1, 1))


def images(count: int = 3, seed: int = 0) -> Tensor:
    levels = torch.randint(0, 256, (count, 3, SIZE, SIZE), generator=torch.manual_seed(seed))
    return ENDS[0] + (ENDS[1] - ENDS[0]) * levels / 255.0


def ready(model: nn.Module, seed: int = 0, *, affine: bool = True) -> nn.Module:
    """In eval mode, frozen, float64; batch normalisation with numbers of a trained one."""
    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr, operator]
            nn.init.uniform_(module.weight, 0.5, 1.5)
            if affine:
                module.running_mean.uniform_(-1, 1)  # type: ignore[union-attr, operator]
                nn.init.uniform_(module.bias, -1, 1)
    return model.double().eval().requires_grad_(False)


def batch_of(
    model: nn.Module,
    embedding: str | None = None,
    inputs: Tensor | None = None,
    scalar: str = "sum",
    ends: tuple[Tensor, Tensor] = ENDS,
) -> Batch:
    inputs = (images() if inputs is None else inputs).double()
    node = find_embedding(model, embedding, "m")
    return prepare(model, node, inputs, scalar=scalar, ends=ends, name="m")


def method(name: str, **arguments: Any) -> Any:
    return make_method(name, arguments)


def close(a: Tensor, b: Tensor, tolerance: float = 1e-9) -> bool:
    return bool((a - b).abs().max() <= tolerance * b.abs().max())


def smooth(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layers = (nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(144, 5), nn.Softplus())
    return ready(nn.Sequential(*layers), seed)


def relu_net(bias: bool, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return ready(
        nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1, bias=bias),
            nn.ReLU(inplace=True),
            nn.AvgPool2d(2),
            nn.Conv2d(6, 5, 3, bias=bias),
            nn.LeakyReLU(0.1, inplace=True),
            nn.Flatten(),
            nn.Linear(20, 4, bias=bias),
        ),
        seed,
    )


class Block(nn.Module):
    """Convolution, batch normalisation after it, ReLU; what torchvision's residual blocks do not
    cover: a sum of its own.
    """

    def __init__(self, residual: bool, bias: bool = True) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)  # defined before the layer whose output it takes
        self.conv = nn.Conv2d(3, 3, 3, padding=1, bias=bias)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm(self.conv(x)))
        return y + x if self.residual else y


# --- integrated gradients ------------------------------------------------------------------------


@pytest.mark.parametrize("scalar", ["sum", "l2norm"])
def test_integrated_gradients_equal_captums(scalar: str) -> None:
    """captum's midpoint rule from the same baseline, to 1e-6: its steps are float32."""
    batch = batch_of(smooth(), scalar=scalar)
    expected = captum_attr.IntegratedGradients(batch.score).attribute(
        batch.inputs, ENDS[0].double().expand(1, 3, SIZE, SIZE), n_steps=7,
        method="riemann_middle",
    )  # fmt: skip
    assert close(method("integrated_gradients", steps=7)(batch), expected, 1e-6)


def test_integrated_gradients_are_complete() -> None:
    """Their sum nears s(x) - s(black) with the square of the steps, as the midpoint rule does."""
    batch = batch_of(smooth())
    black = ENDS[0].double().expand(3, 3, SIZE, SIZE)
    change = batch.score(batch.inputs) - batch.score(black)
    errors = [
        (method("integrated_gradients", steps=n)(batch).sum(dim=(1, 2, 3)) - change).abs().max()
        for n in (2, 6, 60)
    ]
    assert errors[1] < errors[0] / 5
    assert errors[2] < errors[1] / 50
    assert errors[2] < 1e-4 * change.abs().max()


def test_ends_of_a_models_units() -> None:
    """Black and white as the manifest's range, mean and deviation make them."""
    spec = InputSpec.model_validate(
        {"size": 8, "range": [-1, 1], "mean": [0.5, 0, 1], "std": [1, 2, 4]}
    )
    black, white = pixel_ends(spec)
    assert black.flatten().tolist() == [-1.5, -0.5, -0.5]
    assert white.flatten().tolist() == [0.5, 0.5, 0.0]


# --- SmoothGrad ----------------------------------------------------------------------------------


def plain_noise(batch: Batch, samples: int, sigma: float, seed: int) -> Tensor:
    """(samples, B, C, H, W)."""
    rows = []
    for image_seed in batch.seeds(seed):
        generator = torch.Generator().manual_seed(image_seed)
        rows.append(
            torch.stack([torch.randn((3, SIZE, SIZE), generator=generator) for _ in range(samples)])
        )
    return torch.stack(rows, dim=1).double() * sigma * (ENDS[1] - ENDS[0])


def test_smoothgrad_equals_captums(monkeypatch: pytest.MonkeyPatch) -> None:
    """captum's noise tunnel, given the same noise, to 1e-12; and a plain loop."""
    batch = batch_of(smooth())
    found = method("smoothgrad", samples=4, sigma=0.2, seed=3)(batch)
    noise = plain_noise(batch, 4, 0.2, 3)
    expected = sum(batch.gradient_at(batch.inputs + one) for one in noise) / 4
    assert close(found, expected, 1e-12)
    assert not close(found, batch.gradient, 1e-3)
    # captum keeps the copies of an image together.
    copies = noise.transpose(0, 1).reshape(-1, 3, SIZE, SIZE)
    monkeypatch.setattr("torch.normal", lambda *_args, **_more: copies)
    tunnel = captum_attr.NoiseTunnel(captum_attr.Saliency(batch.score))
    assert close(found, tunnel.attribute(batch.inputs, nt_samples=4, abs=False), 1e-12)


def test_smoothgrad_noise_belongs_to_the_pixels() -> None:
    """Another seed or pixel: other noise. Other units: the same. No noise: the gradient."""
    batch = batch_of(smooth())
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 2)).double().requires_grad_(False)
    unit = batch_of(
        model,
        inputs=(batch.inputs - ENDS[0]) / (ENDS[1] - ENDS[0]),
        ends=(torch.zeros(3, 1, 1), torch.ones(3, 1, 1)),
    )
    assert batch.seeds(0) == unit.seeds(0)
    assert len({*batch.seeds(0), *batch.seeds(1)}) == 6
    maps = [method("smoothgrad", samples=2, seed=seed)(batch) for seed in (0, 0, 1)]
    assert torch.equal(maps[0], maps[1])
    assert not close(maps[0], maps[2], 1e-3)
    assert close(method("smoothgrad", samples=2, sigma=0)(batch), batch.gradient, 1e-12)


# --- LRP -----------------------------------------------------------------------------------------


def plain_lrp(layers: list[nn.Module], x: Tensor, epsilon: float) -> Tensor:
    """The epsilon rule, layer by layer, of x (1, ...): each linear layer as its matrix, made from
    its action on unit vectors; activations and flattening pass.
    """
    with torch.no_grad():
        values, linear = [x], []
        for layer in layers:
            values.append(layer(values[-1].clone()))
            linear.append(not isinstance(layer, (nn.ReLU, nn.LeakyReLU, nn.Flatten)))
        relevance = values[-1].flatten()
        for layer, before, after, is_linear in zip(
            reversed(layers), values[-2::-1], values[:0:-1], reversed(linear), strict=True
        ):
            if not is_linear:
                continue
            units = torch.eye(before.numel(), dtype=x.dtype).view(-1, *before.shape[1:])
            weights = (layer(units) - layer(0 * units)).flatten(1)
            z = after.flatten()
            stable = torch.where(z >= 0, z + epsilon, z - epsilon)
            relevance = before.flatten() * (weights @ (relevance / stable))
    return relevance.view(x.shape[1:])


@pytest.mark.parametrize("epsilon", [1e-6, 0.1])
def test_lrp_epsilon_equals_the_plain_rule(epsilon: float) -> None:
    """The rule on the layers' matrices, in float64, biases and batch normalisation included."""
    torch.manual_seed(3)
    conv, norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
    rest = [nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, 5), nn.LeakyReLU(0.2)]
    model = ready(nn.Sequential(conv, norm, *rest, nn.Linear(5, 3)))
    batch = batch_of(model)
    found = method("lrp_epsilon", epsilon=epsilon)(batch)
    fused = torch.nn.utils.fuse_conv_bn_eval(conv, norm)
    layers = [fused, *list(model.children())[2:]]
    for row, image in enumerate(batch.inputs):
        assert close(found[row], plain_lrp(layers, image[None], epsilon), 1e-9)
    assert close(found, batch.inputs * batch.gradient, 1e-2) == (epsilon < 1e-3)


def test_lrp_epsilon_equals_captums() -> None:
    """captum's epsilon rule, its other implementation, on the layers that it has rules for."""
    from captum.attr._utils.lrp_rules import EpsilonRule

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act, self.fc = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(36, 1)
            self.pool = nn.MaxPool2d(2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.pool(self.act(self.conv(x))).flatten(1))

    torch.manual_seed(4)
    model = ready(Net())
    batch = batch_of(model)
    found = method("lrp_epsilon", epsilon=1e-3)(batch)
    for layer in (model.conv, model.fc):
        layer.rule = EpsilonRule(epsilon=1e-3)  # type: ignore[assignment]
    expected = captum_attr.LRP(model).attribute(batch.inputs.clone(), target=0)
    assert close(found, expected.detach(), 1e-6)


@pytest.mark.parametrize("scalar", ["sum", "l2norm"])
def test_lrp_and_input_x_gradient_agree_without_biases(scalar: str) -> None:
    """ReLU and leaky ReLU, no biases, epsilon to 0: both forms are input x gradient, and all three
    sum to the scalar.
    """
    batch = batch_of(relu_net(bias=False), scalar=scalar)
    product = method("input_x_gradient")(batch)
    errors = []
    for epsilon in (1e-3, 1e-6, 1e-9):
        maps = [
            method(f"lrp_{form}", epsilon=epsilon)(batch) for form in ("epsilon", "deepexplain")
        ]
        errors.append([float((m - product).abs().max() / product.abs().max()) for m in maps])
    assert max(errors[2]) < 1e-6
    assert all(errors[0][form] > 10 * errors[2][form] for form in range(2))
    scalars = batch.score(batch.inputs)
    assert close(product.sum(dim=(1, 2, 3)), scalars)


def test_lrp_forms_agree_with_biases() -> None:
    """As epsilon goes to 0, relevance over pre-activation is DeepExplain's gradient: of ReLU with
    biases, where it is input x gradient as well, and of tanh and softplus, where it is not.
    """
    for model, is_product in ((relu_net(bias=True), True), (smooth(), False)):
        batch = batch_of(model)
        product = method("input_x_gradient")(batch)
        forms = [method(f"lrp_{f}", epsilon=1e-12)(batch) for f in ("epsilon", "deepexplain")]
        assert close(forms[0], forms[1], 1e-8)
        assert close(forms[0], product, 1e-8) == is_product
        assert close(forms[0], product, 1e-2) == is_product


def residual_net() -> nn.Module:
    from torchvision.models.resnet import BasicBlock, Bottleneck

    torch.manual_seed(5)
    down = nn.Sequential(nn.Conv2d(4, 8, 1, 2, bias=False), nn.BatchNorm2d(8))
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        BasicBlock(4, 4),
        Bottleneck(4, 2, 2, down),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


def test_lrp_epsilon_on_residual_blocks() -> None:
    """Without biases and shifts it is input x gradient, through sums and merged normalisation; with
    them it is not, nothing is left without a rule, and the model is as it was, to the bit.
    """
    batch = batch_of(ready(residual_net(), affine=False))
    lrp = method("lrp_epsilon", epsilon=1e-12)
    assert close(lrp(batch), method("input_x_gradient")(batch), 1e-6)
    model = ready(residual_net())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batch = batch_of(model, "5")
    first = lrp(batch)
    assert lrp.uncovered(batch) == ()
    assert torch.equal(lrp(batch), first)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters())
    # The embedding that ends before a normalisation is not changed by it.
    assert close(
        batch_of(model, "0").embedding,
        F.conv2d(batch.inputs, model[0].weight, padding=1).flatten(1),
    )  # type: ignore[arg-type]
    conv = batch_of(model, "0")
    assert close(lrp(conv), method("input_x_gradient")(conv), 1e-6)


def test_batch_normalisation_is_found_where_it_is_run() -> None:
    """Not by the order in which modules are defined."""
    torch.manual_seed(6)
    model = ready(nn.Sequential(Block(residual=False), nn.Flatten(), nn.Linear(192, 2)))
    batch = batch_of(model)
    block = model[0]
    fused = torch.nn.utils.fuse_conv_bn_eval(block.conv, block.norm)  # type: ignore[arg-type]
    layers = [fused, nn.ReLU(), *list(model.children())[1:]]
    found = method("lrp_epsilon")(batch)
    assert close(found[1], plain_lrp(layers, batch.inputs[1:2], 1e-6), 1e-8)


def plain_deepexplain(model: nn.Sequential, x: Tensor, epsilon: float) -> Tensor:
    """Backwards by hand through convolution, tanh, flatten, linear, softplus, of one image."""
    conv, _, _, linear, _ = model
    z1 = conv(x[None])
    a1 = torch.tanh(z1)
    z2 = linear(a1.flatten(1))
    slopes = [f / (torch.where(z >= 0, z + epsilon, z - epsilon))
              for f, z in ((F.softplus(z2), z2), (a1, z1))]  # fmt: skip
    back = (slopes[0] @ linear.weight).view(a1.shape) * slopes[1]
    return x * F.conv_transpose2d(back, conv.weight)[0]


def test_lrp_deepexplain_by_hand() -> None:
    """The modified backward pass written out, in float64."""
    model = smooth()
    batch = batch_of(model)
    for epsilon in (1e-4, 0.3):
        found = method("lrp_deepexplain", epsilon=epsilon)(batch)
        for row, image in enumerate(batch.inputs):
            expected = plain_deepexplain(model, image, epsilon)  # type: ignore[arg-type]
            assert close(found[row], expected)


@pytest.mark.parametrize(
    "activation",
    [
        nn.Tanh(), nn.ReLU(), nn.ReLU(inplace=True), nn.LeakyReLU(0.3, True), nn.ELU(inplace=True),
        nn.GELU(), nn.SiLU(), nn.Hardswish(), nn.PReLU(dtype=torch.float64), nn.ReLU6(True),
        torch.tanh, torch.relu, torch.relu_, F.relu, lambda x: F.relu(input=x, inplace=True),
        lambda x: x.relu(), lambda x: (x.relu_(), x)[1], torch.ops.aten.relu.default,
        torch.sigmoid, F.softplus,
    ],
)  # fmt: skip
def test_lrp_deepexplain_finds_activations(activation: Callable[[Tensor], Tensor]) -> None:
    """As modules, functions, methods, in place or not, or as exported programs call them."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 3)
            self.act = activation

        def forward(self, x: Tensor) -> Tensor:
            return self.act(self.conv(x))

    torch.manual_seed(1)
    model = ready(Net())
    batch = batch_of(model)
    z = F.conv2d(batch.inputs, model.conv.weight, model.conv.bias)  # type: ignore[arg-type]
    with torch.no_grad():
        ratio = activation(z.clone()) / (torch.where(z >= 0, z + 1e-4, z - 1e-4))
    expected = batch.inputs * F.conv_transpose2d(ratio, model.conv.weight)  # type: ignore[arg-type]
    assert close(method("lrp_deepexplain")(batch), expected)
    assert method("lrp_deepexplain").uncovered(batch) == ()


# --- captum by name ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "arguments", "more"),
    [
        ("Saliency", {"abs": False}, {}),
        ("InputXGradient", {}, {}),
        ("IntegratedGradients", {"n_steps": 5}, {"baselines": 1}),
        ("IntegratedGradients", {"n_steps": 5, "multiply_by_inputs": False}, {"baselines": 1}),
        ("DeepLift", {}, {"baselines": 1}),
        ("GuidedBackprop", {}, {}),
        ("Occlusion", {"sliding_window_shapes": [3, 4, 4], "strides": [3, 4, 4]}, {"baselines": 1}),
    ],
)
def test_captum_classes(kind: str, arguments: dict[str, Any], more: dict[str, Any]) -> None:
    """What the class itself gives, with the black image where it wants a baseline."""
    torch.manual_seed(2)
    layers = (nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 1))
    model = ready(nn.Sequential(*layers))
    batch = batch_of(model)
    found = method(f"captum_{kind}", **arguments)(batch)
    first = {k: v for k, v in arguments.items() if k == "multiply_by_inputs"}
    rest = {
        k: tuple(v) if isinstance(v, list) else v for k, v in arguments.items() if k not in first
    }
    if more:
        rest["baselines"] = ENDS[0].double().expand(1, 3, SIZE, SIZE)
    made = getattr(captum_attr, kind)(model, **first)
    assert close(found, made.attribute(batch.inputs.clone(), target=0, **rest), 1e-12)
    given = method(f"captum_{kind}", **arguments, **({"baselines": 0} if more else {}))(batch)
    assert close(given, found, 1e-6) != bool(more)


def test_random_captum_classes_are_seeded_by_the_image() -> None:
    """The same twice, alone or among others; the common random numbers go on as if nothing was."""
    batch = batch_of(smooth())
    shap = method("captum_GradientShap", stdevs=0.1, n_samples=3)
    torch.manual_seed(0)
    undisturbed = torch.rand(3)
    torch.manual_seed(0)
    first = shap(batch)
    assert torch.equal(torch.rand(3), undisturbed)
    assert torch.equal(shap(batch), first)
    alone = shap(batch_of(smooth(), inputs=images()[1:2]))
    assert close(alone[0], first[1], 1e-12)


def test_what_captum_refuses_is_one_line() -> None:
    """A model that the class cannot deal with: model, class and cause."""
    model = ready(nn.Sequential(nn.Conv2d(3, 2, 3), nn.LeakyReLU(0.1, inplace=True)))
    with pytest.raises(InputError, match=r"model 'm': captum:LRP fails: Module of type") as caught:
        method("captum_LRP")(batch_of(model))
    assert "\n" not in str(caught.value)
    assert model[1].inplace is True


# --- all of them ---------------------------------------------------------------------------------

ALL: dict[str, dict[str, Any]] = {
    **{name: {} for name in METHODS},
    "integrated_gradients": {"steps": 3},
    "smoothgrad": {"samples": 2},
    "captum_DeepLift": {},
    "captum_GradientShap": {"n_samples": 2},
    "captum_IntegratedGradients": {"n_steps": 3},
}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("scalar", ["sum", "l2norm"])
def test_batches_do_not_change_the_numbers(name: str, scalar: str) -> None:
    """One image at a time, three, or all seven: the same, to 1e-9 in float64; no gradient stays."""
    model, inputs = relu_net(bias=True), images(7).double()
    parts = {}
    for size in (1, 3, 7):
        rows = [
            method(name, **ALL[name])(batch_of(model, inputs=part, scalar=scalar))
            for part in inputs.split(size)
        ]
        parts[size] = torch.cat(rows)
    assert parts[7].shape == inputs.shape
    assert parts[7].abs().max() > 0
    assert torch.isfinite(parts[7]).all()
    for size in (1, 3):
        assert close(parts[size], parts[7])
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("name", ALL)
def test_an_embedding_of_zeros_gives_maps_of_numbers(name: str) -> None:
    """Dead units everywhere: zeros, not NaN."""
    model = relu_net(bias=False)
    for parameter in model.parameters():
        parameter.zero_()
    for scalar in ("sum", "l2norm"):
        maps = method(name, **ALL[name])(batch_of(model, scalar=scalar))
        assert torch.equal(maps, torch.zeros_like(maps))


def test_one_shared_pass() -> None:
    """Plain gradients are computed once for all that want them; integration adds its own."""
    passes = []
    model = relu_net(bias=True).float()
    model.register_forward_pre_hook(lambda *_: passes.append(1))
    arguments: dict[str, Any] = {
        "scalar": "sum", "channels": "signed-mean", "ends": ENDS, "batch_size": 7, "device": "cpu",
        "name": "m",
    }  # fmt: skip
    inputs = images(7)
    methods = {name: method(name) for name in ("saliency", "input_x_gradient")}
    extract(model, model, inputs, methods=methods, **arguments)
    assert len(passes) == 1
    methods["integrated_gradients"] = method("integrated_gradients", steps=4)
    found = extract(model, model, inputs, methods=methods, **arguments)
    assert len(passes) == 1 + 1 + 4
    assert [*found.attributions] == [*methods]


# --- what there is no rule for -------------------------------------------------------------------


class Mixed(nn.Module):
    """A product, a norm over a layer, a plain function, a sum, and a module after the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.act = nn.LeakyReLU(0.1)
        self.norm = nn.LayerNorm(SIZE)
        self.body = nn.Identity()
        self.late = nn.Softmax(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.conv(x))
        y = self.norm(y + x) * torch.sigmoid(y) * 2.0
        return self.late(self.body(y))


def test_what_has_no_rule() -> None:
    """Module and operation, in order; up to the embedding; by the rules of each method."""
    batch = batch_of(ready(Mixed()), "body")
    assert method("lrp_epsilon").uncovered(batch) == (
        "model (add)", "norm (layer_norm)", "model (sigmoid)", "model (mul)",
    )  # fmt: skip
    assert method("lrp_deepexplain").uncovered(batch) == ("norm (layer_norm)", "model (mul)")
    assert method("captum_DeepLift").uncovered(batch) == (
        "norm (layer_norm)", "model (sigmoid)", "model (mul)",
    )  # fmt: skip
    assert "act (leaky_relu)" in method("captum_GuidedBackprop").uncovered(batch)
    for name in ("saliency", "input_x_gradient", "integrated_gradients", "smoothgrad"):
        assert method(name).uncovered(batch) == ()
    names = [operation.name for operation in operations(batch)]
    assert "softmax" not in names
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in batch.model.modules())


def test_lrp_epsilon_names_an_own_residual_sum() -> None:
    """And a normalisation that follows no layer."""
    model = ready(nn.Sequential(nn.BatchNorm2d(3), Block(residual=True)))
    assert method("lrp_epsilon").uncovered(batch_of(model)) == ("0 (batch_norm)", "1 (add)")


def test_lrp_epsilon_refuses_what_it_cannot_do() -> None:
    """No layer with a rule; a layer that runs twice: one line naming the model."""
    conv = nn.Conv2d(3, 3, 3, padding=1)
    for model, expected in (
        (nn.Sequential(nn.Tanh()), "has a rule for none of its layers"),
        (nn.Sequential(conv, nn.ReLU(), conv), "a layer that runs 2 times ('0')"),
    ):
        for call in (method("lrp_epsilon"), method("lrp_epsilon").uncovered):
            with pytest.raises(InputError) as caught:
                call(batch_of(ready(model)))
            assert str(caught.value).startswith("model 'm': lrp_epsilon")
            assert expected in str(caught.value)


# --- in a job ------------------------------------------------------------------------------------

JOB = {"name": "j", "zoo": "rooms", "probe": {"kind": "rooms", "count": 14, "seed": 303}}


def test_methods_with_arguments() -> None:
    """Names and arguments apart, defaults filled in; reading what was written changes nothing."""
    given = {
        "methods": [
            "input_x_gradient",
            {"name": "smoothgrad", "samples": 3},
            {"name": "captum:IntegratedGradients", "n_steps": 20},
            "captum:DeepLift",
            "lrp_epsilon",
        ]
    }
    found = AttributionSettings.model_validate(given)
    assert found.methods == (
        "input_x_gradient", "smoothgrad", "captum_IntegratedGradients", "captum_DeepLift",
        "lrp_epsilon",
    )  # fmt: skip
    assert found.arguments == {
        "smoothgrad": {"samples": 3, "sigma": 0.15, "seed": 0},
        "captum_IntegratedGradients": {"n_steps": 20},
        "lrp_epsilon": {"epsilon": 1e-6},
    }
    assert AttributionSettings.model_validate(found.model_dump(mode="json")) == found
    assert [*found.made()] == [*found.methods]
    assert found.made()["smoothgrad"].samples == 3  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("methods", "expected"),
    [
        (["captum:DeepLft"], "captum.attr has no such class; nearest: DeepLift"),
        (["captum:LayerGradCam"], "it is no attribution of the inputs alone; nearest:"),
        (["captum:NoiseTunnel"], "it is no attribution of the inputs alone"),
        (["captum:LLMAttribution"], "it is no attribution of the inputs alone"),
        (["captum:FeaturePermutation"], "it shuffles the images of a batch"),
        (["captum:Attribution"], "it is no attribution of the inputs alone"),
        (["captum:Tensor"], "captum.attr has no such class"),
        (["captum:Occlusion"], "'captum:Occlusion' needs 'sliding_window_shapes'"),
        ([{"name": "captum:DeepLift", "target": 3}], "takes no 'target'; nearest: "),
        (
            [{"name": "captum:IntegratedGradients", "steps": 3}],
            "takes no 'steps'; nearest: n_steps",
        ),
        ([{"name": "smoothgrad", "sampels": 3}], "sampels: unknown field; did you mean 'samples'?"),
        ([{"name": "smoothgrad", "samples": 0}], "samples: input should be greater than or equal"),
        ([{"name": "saliency", "abs": 1}], "'saliency': abs: unknown field"),
        ([{"name": "lrp_epsilon", "epsilon": 0}], "epsilon: input should be greater than 0"),
        ([{"samples": 3}], "attribution.methods.0: Input should be a valid string"),
        (["saliency", {"name": "saliency"}], "each method at most once"),
        (["captum:DeepLift", "captum_DeepLift"], "each method at most once"),
    ],
)
def test_a_mistake_in_a_method(tmp_path: Path, methods: list[Any], expected: str) -> None:
    """One line that names file and field."""
    path = tmp_path / "job.yaml"
    path.write_text(json.dumps({**JOB, "attribution": {"methods": methods}}))
    with pytest.raises(InputError) as caught:
        load_job(str(path))
    assert str(caught.value).startswith(f"{path}: attribution.")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_arguments_of_no_method(tmp_path: Path) -> None:
    """Arguments given apart must belong to a method of the job."""
    path = tmp_path / "job.yaml"
    path.write_text(json.dumps({**JOB, "attribution": {"arguments": {"smoothgrad": {}}}}))
    with pytest.raises(InputError, match="'smoothgrad' is none of the methods; remove it"):
        load_job(str(path))


@pytest.mark.parametrize("name", ["lrp_epsilon", "captum:DeepLift"])
def test_a_missing_extra(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the job is read, before anything is done: one line that says what to install."""
    monkeypatch.setattr("depara_bench.attribution.method.find_spec", lambda _name: None)
    path = tmp_path / "job.yaml"
    path.write_text(json.dumps({**JOB, "attribution": {"methods": [name]}}))
    with pytest.raises(
        InputError, match=r"needs the package .*install depara-bench\[attribution\]"
    ):
        load_job(str(path))
    path.write_text(json.dumps({**JOB, "attribution": {"methods": ["lrp_deepexplain"]}}))
    assert load_job(str(path)).job.attribution.methods == ("lrp_deepexplain",)


def test_what_decides_a_shard() -> None:
    """Arguments and the packages' versions do, the order of methods does not; methods without
    arguments are told as they always were.
    """

    def identity(*methods: Any) -> dict[str, Any]:
        settings = AttributionSettings.model_validate({"methods": methods})
        return _attribution_identity(settings, (64, 64))

    assert identity("saliency", "input_x_gradient") == identity("input_x_gradient", "saliency") == {
        "methods": ["input_x_gradient", "saliency"], "scalar": "sum", "channels": "signed-mean",
    }  # fmt: skip
    a, b = (identity({"name": "smoothgrad", "samples": n}) for n in (2, 3))
    assert a != b
    assert identity("smoothgrad") == identity({"name": "smoothgrad", "samples": 25})
    assert set(identity("captum:DeepLift", "lrp_epsilon")["versions"]) == {"captum", "zennit"}
    assert method_name("captum:DeepLift") == "captum_DeepLift"


def test_shards_and_notes_of_a_run(job: Callable[..., Path], tmp_path: Path) -> None:
    """Columns, affinities and notes; the same numbers in other blocks; notes outlive a run that
    finds its shards there.
    """
    attribution = {
        "methods": [
            {"name": "captum:IntegratedGradients", "n_steps": 2},
            {"name": "smoothgrad", "samples": 2},
            "lrp_epsilon",
            "captum:GuidedBackprop",
        ]
    }
    probe = {"kind": "rooms", "count": 4, "seed": 303}
    terminal, tables, records = Terminal(quiet=True), [], []
    for label, block in (("a", 3), ("b", 4), ("a", 3)):
        path = job(f"{label}.yaml", attribution=attribution, block_size=block, batch_size=block,
                   models=["autoencoder", "rgb2depth"], probe=probe)  # fmt: skip
        folder = Folder(str(tmp_path / label))
        plan = make_plan(load_job(str(path)), folder, terminal)
        records.append(run_extraction(plan, LocalEngine(), terminal))
        reduce_stage(folder, records[-1], LocalEngine(), terminal)
        tables.append(read_table(folder, "affinity.parquet"))
    names = {"depara", "depara-edges", "depara-nodes:captum_GuidedBackprop", "depara:smoothgrad"}
    assert names <= set(tables[0]["method"])
    assert np.abs(tables[0]["value"] - tables[1]["value"]).max() < 1e-4
    assert tables[0].equals(tables[2])
    assert records[2]["shards"] == {"computed": 0, "reused": 4}
    first, _, again = (record["attribution_notes"] for record in records)
    assert first == again
    assert [*first] == ["autoencoder", "rgb2depth"]
    places = first["rgb2depth"]["captum_GuidedBackprop"]
    assert first["rgb2depth"].keys() == {"captum_GuidedBackprop"}
    assert places[0] == "encoder.2 (leaky_relu)"
    rows = {name: (value, about) for name, value, about in shown(records[0])}
    assert rows["no rule in captum_GuidedBackprop"][0] == "2 models"
    assert "autoencoder: encoder.2 (leaky_relu)" in rows["no rule in captum_GuidedBackprop"][1]
    assert rows["of smoothgrad"][0] == "samples 2, sigma 0.15, seed 0"


def shown(record: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The settings that a report shows of a run."""
    return choices(ReportData(record, pd.DataFrame(), pd.DataFrame()))


# --- the papers' settings ------------------------------------------------------------------------


def job_of(**fields: Any) -> Job:
    return Job.model_validate({**JOB, **fields})


def test_presets() -> None:
    """Each sets its fields together; without one, the corrected settings stand."""
    job = job_of(preset="cvpr-2020")
    assert (job.lambda_, job.edges.center, job.edges.ties) == (0.25, True, "ordinal")
    assert (job.attribution.scalar, job.attribution.channels) == ("sum", "signed-mean")
    assert job.attribution.methods == ("input_x_gradient",)
    job = job_of(preset="neurips-2019", attribution={"methods": ["saliency"]})
    assert (job.lambda_, job.attribution.methods) == (0.0, ("saliency",))
    assert job_of(preset="neurips-2019").attribution.methods[-1] == "lrp_deepexplain"
    job = job_of()
    assert (job.preset, job.lambda_, job.edges.ties) == (None, 1.0, "average")
    for preset in (None, *PRESETS):
        job = job_of(preset=preset)
        assert Job.model_validate(job.model_dump(mode="json", by_alias=True)) == job
    given = {**JOB, "preset": "cvpr-2020", "edges": {}}
    assert Job.model_validate(given).edges.ties == "ordinal"
    assert given["edges"] == {}
    assert job_of(preset="cvpr-2020", **{"lambda": 0.25}).lambda_ == 0.25


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"lambda": 1.0}, "lambda is 1.0, preset cvpr-2020 has 0.25; remove one of the two"),
        ({"edges": {"center": False}}, "edges.center is false, preset cvpr-2020 has true"),
        ({"edges": {"ties": "average"}}, "edges.ties is average, preset cvpr-2020 has ordinal"),
        ({"attribution": {"scalar": "l2norm"}}, "attribution.scalar is l2norm, preset cvpr-2020"),
        ({"attribution": {"channels": "abs-mean"}}, "attribution.channels is abs-mean"),
        ({"attribution": {"methods": ["saliency"]}}, "attribution.methods begins with saliency"),
        ({"attribution": ["saliency"]}, "attribution: must hold 'field: value' lines"),
        ({"preset": "cvpr"}, "preset: input should be 'neurips-2019' or 'cvpr-2020', not 'cvpr'"),
    ],
)
def test_what_contradicts_a_preset(tmp_path: Path, fields: dict[str, Any], expected: str) -> None:
    """An error that names the field."""
    path = tmp_path / "job.yaml"
    path.write_text(json.dumps({**JOB, "preset": "cvpr-2020", **fields}))
    with pytest.raises(InputError) as caught:
        load_job(str(path))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def plain_ordinal(values: list[float]) -> list[int]:
    """Rank of each: how many are larger, or equal and before it, and one."""
    return [
        1 + sum(w > v or (w == v and j < i) for j, w in enumerate(values))
        for i, v in enumerate(values)
    ]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=30))
def test_ordinal_ranks(levels: list[int]) -> None:
    """By counting; ties by position; a permutation of 1..E."""
    values = [level / 4 for level in levels]
    assert ordinal_ranks(np.array(values)).tolist() == plain_ordinal(values)


def test_ordinal_edges() -> None:
    """The printed formula on ranks by position; other than average ranks where edges tie, the same
    where none does; equal edges everywhere have no order and give zeros.
    """
    random = np.random.default_rng(0)
    features = [random.integers(-1, 2, (9, 3)).astype(np.float32) for _ in range(2)]
    ranks = []
    for rows in features:
        rows = rows.astype(np.float64)
        rows -= rows.mean(axis=0)
        pairs = combinations(range(9), 2)
        edges = [rows[i] @ rows[j] / np.linalg.norm(rows[i]) / np.linalg.norm(rows[j])
                 for i, j in pairs]  # fmt: skip
        ranks.append(np.array(plain_ordinal([round(e, 9) for e in edges]), dtype=float))
    count = len(ranks[0])
    rho = 1 - 6 * ((ranks[0] - ranks[1]) ** 2).sum() / (count**3 - count)
    units = [edge_ranks(f, ties="ordinal").unit for f in features]
    assert abs(units[0] @ units[1] - rho) < 1e-12
    average = [edge_ranks(f).unit for f in features]
    assert abs(average[0] @ average[1] - rho) > 1e-4
    free = [random.normal(size=(9, 5)).astype(np.float32) for _ in range(2)]
    a, b = ([edge_ranks(f, ties=t).unit for f in free] for t in ("ordinal", "average"))
    assert abs(a[0] @ a[1] - b[0] @ b[1]) < 1e-12
    same = np.eye(5, dtype=np.float32)
    assert not edge_ranks(same, ties="ordinal").unit.any()


def test_a_preset_in_the_report() -> None:
    """The preset, and the default beside what it has changed; neither where there is none."""
    for preset, expected in (
        ("cvpr-2020", ("cvpr-2020", "0.25 (default 1.0)", "ordinal ranks (default average ranks)")),
        (None, ("none", "1.0", "average ranks")),
    ):
        job = job_of(preset=preset).model_dump(mode="json", by_alias=True)
        rows = {name: value for name, value, _ in shown({"job": job})}
        assert (rows["preset"], rows["λ"], rows["ties"]) == expected


def test_ties_reach_the_reduction(tmp_path: Path) -> None:
    """A folder reduced with ordinal ties has the affinities of ordinal ranks."""
    random = np.random.default_rng(1)
    features = {name: random.integers(-1, 2, (8, 3)).astype(np.float32) for name in "ab"}
    folder = Folder(str(tmp_path))
    for name, rows in features.items():
        columns = {"feature": rows, "map": random.normal(size=(8, 4)).astype(np.float32)}
        shard = Shard(np.arange(8, dtype=np.int32), [str(i) for i in range(8)], columns)
        folder.write(shard_path(name, 0), encode_shard(shard, "k"))
    for ties in ("ordinal", "average"):
        found = reduce(folder, ["a", "b"], images=8, blocks=1, methods=["map"], center=True,
                       ties=ties, engine=LocalEngine(), resources=Resources())  # fmt: skip
        a, b = (edge_ranks(rows, ties=ties).unit for rows in features.values())
        assert abs(found[EDGES].matrix[0, 1] - a @ b) < 1e-12
