"""What a model does to two images before a run begins: rows that are not their own, and maps that
are rounding, are refused with their cause; all else passes.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import Result
from torch import Tensor, nn
from torch.nn import functional

from depara_bench.errors import InputError
from depara_bench.extract import exact_arithmetic, find_embedding
from depara_bench.job import AttributionSettings
from depara_bench.preprocess import to_input
from depara_bench.rounding import _cosine, _exactly
from depara_bench.rows import try_out
from depara_bench.trial import Trial, two_images
from depara_bench.zoo import InputSpec, PythonSpec

Command = Callable[..., Result]


def trial(model: nn.Module, size: int = 32, **settings: object) -> Trial:
    spec = PythonSpec(
        name="m", loader="python", factory="f:f", input=InputSpec(size=size), roles=("source",)
    )
    made = AttributionSettings.model_validate(settings)
    return Trial(spec, model.eval().requires_grad_(False), model, made, "cpu")


def tried(model: nn.Module, **settings: object) -> None:
    with exact_arithmetic(1):
        try_out(trial(model, **settings))  # type: ignore[arg-type]


def net(*more: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=3), nn.ReLU(), nn.Conv2d(8, 6, 3, stride=2), *more
    )


class Of(nn.Module):
    """A module of a function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def rarely(x: Tensor) -> Tensor:
    return x * (torch.rand(len(x), 1, 1, 1) > 0.3)


def masked(x: Tensor) -> Tensor:
    kept = torch.rand(x.shape[2]).argsort()[: x.shape[2] // 2]
    return x[:, :, kept]


def by_numpy(x: Tensor) -> Tensor:
    return x + float(np.random.default_rng().normal())


CHANCE = {
    "dropout": lambda x: functional.dropout(x, 0.5),
    "dropout2d": lambda x: functional.dropout2d(x, 0.2),
    "alpha dropout": lambda x: functional.alpha_dropout(x, 0.2, training=True),
    "stochastic depth": rarely,
    "mask": masked,
    "noise": lambda x: x + 0.05 * torch.randn_like(x),
    "another generator": by_numpy,
    "attention": lambda x: functional.scaled_dot_product_attention(x, x, x, dropout_p=0.4),
    "rrelu": lambda x: functional.rrelu(x, training=True),
}


@pytest.mark.parametrize("kind", CHANCE)
def test_a_model_that_draws_is_refused(kind: str) -> None:
    with pytest.raises(InputError, match=r"model 'm'.*from pass to pass; it draws random numbers"):
        tried(net(Of(CHANCE[kind])))


COMPANY: dict[str, nn.Module] = {
    "statistics of the batch": nn.BatchNorm2d(6, track_running_stats=False),
    "mean over the batch": Of(lambda x: x - x.mean(dim=0, keepdim=True)),
    "size of the batch": Of(lambda x: x / len(x)),
    "maximum of the batch": Of(lambda x: x / x.abs().max()),
    "softmax over the batch": Of(lambda x: x + x.softmax(dim=0)),
    "other image": Of(lambda x: x + 0.1 * x.flip(0)),
}


@pytest.mark.parametrize("kind", COMPANY)
def test_a_model_that_mixes_images_is_refused(kind: str) -> None:
    with pytest.raises(InputError, match="depend on the other images of the batch"):
        tried(net(COMPANY[kind]))


def test_a_model_that_takes_no_image_alone_is_refused() -> None:
    norm = nn.BatchNorm1d(6, track_running_stats=False)
    with pytest.raises(InputError, match=r"takes two images and not one alone.*other images"):
        tried(net(nn.AdaptiveAvgPool2d(1), nn.Flatten(), norm))


def test_a_traced_archive_with_dropout_baked_in(command: Command, tmp_path: Path) -> None:
    model = net(nn.Dropout(0.3), nn.Flatten()).train()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive = torch.jit.trace(model, torch.rand(2, 3, 32, 32), check_trace=False)
        buffer = io.BytesIO()
        torch.jit.save(archive, buffer)
    (tmp_path / "m.pt").write_bytes(buffer.getvalue())
    entry = {"name": "m", "loader": "torchscript", "weights": "m.pt", "input": {"size": 32}}
    zoo = {"name": "z", "models": [{**entry, "roles": ["source"]}]}
    (tmp_path / "zoo.yaml").write_text(yaml.safe_dump(zoo))
    result = command("zoo", "check", tmp_path / "zoo.yaml", "--allow-code")
    assert result.code == 2 and "draws random numbers" in " ".join(result.out.split())


def test_a_masked_autoencoder_is_told_what_to_set(command: Command, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.ViTMAEConfig(
        **sizes, intermediate_size=64, image_size=32, patch_size=8, decoder_num_hidden_layers=1,
        decoder_hidden_size=16, decoder_num_attention_heads=2, decoder_intermediate_size=32,
    )  # fmt: skip
    for name, ratio in (("masked", 0.75), ("whole", 0.0)):
        config.mask_ratio = ratio
        config.save_pretrained(tmp_path / name)
    models = [
        {
            "name": name,
            "loader": "transformers",
            "architecture": name,
            "seed": 0,
            "embedding": "layers.1",
            "input": {"size": 32},
            "roles": ["source"],
        }
        for name in ("masked", "whole")
    ]
    for entry in models:
        (tmp_path / "zoo.yaml").write_text(yaml.safe_dump({"name": "z", "models": [entry]}))
        result = command("zoo", "check", tmp_path / "zoo.yaml")
        told = " ".join(result.out.split())
        if entry["name"] == "masked":
            assert result.code == 2 and "at random" in told and "mask_ratio: 0" in told
        else:
            assert result.code == 0, told


def unit(x: Tensor) -> Tensor:
    return functional.normalize(x.flatten(1))


NOISE: dict[str, tuple[nn.Module, str]] = {
    "softmax": (nn.Sequential(nn.Flatten(), nn.Softmax(dim=1)), "sum"),
    "equal gains": (nn.Sequential(nn.Flatten(), nn.LayerNorm(96)), "sum"),
    "no affine": (nn.GroupNorm(6, 6, affine=False), "sum"),
    "one group": (nn.GroupNorm(1, 6, affine=False), "sum"),
    "instances": (nn.InstanceNorm2d(6), "sum"),
    "unit length": (Of(unit), "l2norm"),
}


@pytest.mark.parametrize("kind", NOISE)
def test_maps_of_rounding_are_refused(kind: str) -> None:
    head, scalar = NOISE[kind]
    with pytest.raises(InputError, match="rounding noise") as refusal:
        tried(net(head), scalar=scalar)
    told = str(refusal.value)
    assert "the same for every image" in told and "another 'embedding'" in told
    other = "sum" if scalar == "l2norm" else "l2norm"
    if f"attribution.scalar: {other}" in told:
        tried(net(head), scalar=other)  # what is proposed helps


def test_what_is_proposed_is_proposed_where_it_helps() -> None:
    balanced = Of(lambda x: functional.normalize(x.flatten(1) - x.flatten(1).mean(1, True)))
    for (head, scalar), helps in (
        (NOISE["softmax"], True),
        (NOISE["unit length"], True),
        ((balanced, "l2norm"), False),
    ):
        with pytest.raises(InputError) as refusal:
            tried(net(head), scalar=scalar)
        assert ("or set attribution.scalar" in str(refusal.value)) == helps


def test_a_program_of_fixed_types_is_tried_as_well() -> None:
    """float64 is no way for it: noise shows by its size."""

    def fixed(x: Tensor) -> Tensor:
        return x.to(torch.float32) @ torch.eye(x.shape[-1], dtype=torch.float32)

    tried(nn.Sequential(Of(fixed), *net()))
    with pytest.raises(InputError, match="rounding noise"):
        tried(nn.Sequential(Of(fixed), *net(nn.Flatten(), nn.Softmax(dim=1))))


def test_features_of_rounding_are_refused() -> None:
    """The images change the last digits of a constant, and nothing else."""
    with pytest.raises(InputError, match="differ by rounding alone"):
        tried(net(Of(lambda x: 1e4 + 1e-4 * x)))


SOUND: dict[str, nn.Module] = {
    "plain": nn.Flatten(),
    "statistics": nn.BatchNorm2d(6),
    "dropout in eval mode": nn.Dropout(0.5),
    "draws without effect": Of(lambda x: x + 0 * torch.rand_like(x)),
    "its own generator": Of(
        lambda x: x + torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(1))
    ),
    "attention": Of(lambda x: functional.scaled_dot_product_attention(x, x, x)),
    "constant": Of(lambda x: 0 * x),
}


@pytest.mark.parametrize("kind", SOUND)
@pytest.mark.parametrize("scalar", ["sum", "l2norm"])
def test_a_sound_model_passes(kind: str, scalar: str) -> None:
    tried(net(SOUND[kind]), scalar=scalar)


def test_unequal_gains_pass() -> None:
    norm = nn.LayerNorm(96)
    nn.init.normal_(norm.weight, 1.0, 0.3, generator=torch.Generator().manual_seed(0))
    tried(net(nn.Flatten(), norm))


def test_draws_of_an_attribution_method_pass() -> None:
    methods = [{"name": "smoothgrad", "samples": 4}, {"name": "integrated_gradients", "steps": 5}]
    tried(net(nn.Flatten()), methods=methods)


def test_a_model_comes_back_as_it_was() -> None:
    model = net(nn.BatchNorm2d(6))
    one = trial(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    inputs = to_input(two_images(32, 32), one.spec.input)
    found = _exactly(one, inputs, Trial.run)
    assert found is not None
    assert (_cosine(found.features, one.run(inputs).features) > 1 - 1e-9).all()
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert torch.get_default_dtype() == torch.float32


def test_random_networks_of_a_library() -> None:
    """At initialisation the sum of a last normalisation's output is a constant: gains are equal."""
    from torchvision.models import ConvNeXt, VisionTransformer, resnet18
    from torchvision.models.convnext import CNBlockConfig

    torch.manual_seed(0)
    networks = {
        "avgpool": resnet18(weights=None),
        "encoder.ln": VisionTransformer(32, 8, 2, 2, 32, 64),
        "classifier.0": ConvNeXt([CNBlockConfig(16, 32, 1), CNBlockConfig(32, None, 1)]),
    }
    for name, model in networks.items():
        one = trial(model)
        at = Trial(one.spec, one.model, find_embedding(model, name, "m"), one.settings, "cpu")
        with exact_arithmetic(1):
            if name == "avgpool":
                try_out(at)
                continue
            with pytest.raises(InputError, match="rounding noise"):
                try_out(at)


def test_a_run_is_refused_before_it_begins(command: Command, tmp_path: Path) -> None:
    (tmp_path / "refused_run.py").write_text(
        "from torch import nn\n"
        "def plain(): return nn.Sequential(nn.Conv2d(3, 6, 5, stride=4), nn.Flatten())\n"
        "def soft(): return nn.Sequential(plain(), nn.Softmax(dim=1))\n"
    )
    models = [
        {
            "name": name,
            "loader": "python",
            "factory": f"refused_run:{name}",
            "input": {"size": 32},
            "roles": ["source", "target"],
        }
        for name in ("plain", "soft")
    ]
    (tmp_path / "zoo.yaml").write_text(yaml.safe_dump({"name": "z", "models": models}))
    probe = {"kind": "rooms", "count": 5, "seed": 303, "size": 32}
    (tmp_path / "job.yaml").write_text(
        yaml.safe_dump({"name": "z", "zoo": "zoo.yaml", "probe": probe})
    )
    out = tmp_path / "out"
    result = command("run", tmp_path / "job.yaml", "--out", out, "--allow-code")
    assert result.code == 2 and len(result.err.strip().splitlines()) == 1
    assert "model 'soft'" in result.err and "rounding noise" in result.err
    assert not out.exists()
