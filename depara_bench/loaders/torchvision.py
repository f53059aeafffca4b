"""Models of torchvision by their registered name: a local checkpoint, or random by seed."""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depara_bench.config import nearest
from depara_bench.errors import InputError
from depara_bench.loaders import weights
from depara_bench.zoo import TorchvisionSpec

if TYPE_CHECKING:
    from torch import nn


def load(spec: TorchvisionSpec, base: Path, allow_code: bool) -> nn.Module:
    """Build the architecture; fill it from the checkpoint, or at random by the seed."""
    if spec.weights is None:
        return _build(spec)
    # Before the model is built, which can take seconds: is the file there and the right one?
    path = weights.resolve(spec.weights, base, spec.name)
    content = weights.read_bytes(path, spec.sha256, spec.name)
    model = _build(spec)
    weights.fill(model, weights.state_dict(content, path, spec.name), path, spec.name)
    return model


def _build(spec: TorchvisionSpec) -> nn.Module:
    """Build without a download and without touching the global random state."""
    import torch
    from torchvision.models import get_model_builder, list_models

    known = list_models()
    if spec.architecture not in known:
        raise InputError(
            f"model '{spec.name}': torchvision has no architecture '{spec.architecture}';"
            f" nearest: {nearest(spec.architecture, known)}"
        )
    builder = get_model_builder(spec.architecture)
    options: dict[str, Any] = {"weights": None, "num_classes": spec.classes}
    if "weights_backbone" in inspect.signature(builder).parameters:
        options["weights_backbone"] = None  # its default would be downloaded
    # Only the CPU's generator is seeded and restored: torch.manual_seed would reach the GPUs' too.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a default for init_weights that will change some day
        torch.default_generator.manual_seed(spec.seed or 0)
        try:
            model: nn.Module = builder(**options)
        except (TypeError, ValueError) as error:
            cause = " ".join(str(error).split())
            raise InputError(
                f"model '{spec.name}': torchvision cannot build '{spec.architecture}' with"
                f" {spec.classes} classes ({cause}); choose another architecture or 'classes'"
            ) from error
    return model
