"""The networks of a layer job: from the manifest's entry to a module, trained or fresh."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import torch
from torch import nn

from depara_bench.loaders import load
from depara_bench.loaders.seeded import seeded
from depara_bench.zoo import AnySpec, PythonSpec, TorchvisionSpec

_OWN = "depara_bench.layers."  # factories that come with this package need no permission


def network(spec: AnySpec, base: Path, allow_code: bool = False) -> nn.Module:
    """The network with its weights, in evaluation mode. Raises InputError as `loaders.load`."""
    return load(spec, base, allow_code=allow_code or _is_own(spec))


def fresh(spec: AnySpec, base: Path, seed: int, allow_code: bool = False) -> nn.Module:
    """A network of the same architecture, initialised at random by `seed`, to be trained."""
    if isinstance(spec, TorchvisionSpec):
        untrained: AnySpec = spec.model_copy(update={"weights": None, "sha256": None, "seed": seed})
    else:
        untrained = spec.model_copy(update={"weights": None, "sha256": None})
    with seeded(seed):
        return load(untrained, base, allow_code=allow_code or _is_own(spec)).requires_grad_(True)


def outline(spec: AnySpec, base: Path, allow_code: bool = False) -> nn.Module:
    """The network for its names alone: without its weights, and without memory for them, where it
    can be built so.
    """
    if not trainable(spec):
        return network(spec, base, allow_code)
    with torch.device("meta") if isinstance(spec, TorchvisionSpec) else nullcontext():
        return fresh(spec, base, 0, allow_code)


def trainable(spec: AnySpec) -> bool:
    """Can this package build the architecture without weights?"""
    return isinstance(spec, (PythonSpec, TorchvisionSpec))


def _is_own(spec: AnySpec) -> bool:
    return isinstance(spec, PythonSpec) and spec.factory.startswith(_OWN)
