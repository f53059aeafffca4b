"""From a model's entry in the manifest to a torch module, one file per kind of model."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depara_bench.loaders.process import isolated
from depara_bench.zoo import AnySpec

if TYPE_CHECKING:
    from torch import Tensor, nn


def load(spec: AnySpec, base: Path, *, allow_code: bool = False) -> nn.Module:
    """The model of `spec` with its weights, in eval mode, parameters frozen, on the CPU. It takes
    batches (B, C, H, W), whatever its own layout.

    `base` is the manifest's folder, against which relative weight paths are read.
    Raises InputError (file, what, how to mend) when weights are missing, have another hash than
    the manifest says, do not fit the architecture, or would have to run code that is not allowed.

    Parameters of other precision become float32. What loading changes in the process as a whole
    (torch's default type, say) is put back.
    """
    with isolated():
        module: nn.Module = _loader(spec.loader)(spec, base, allow_code)
        if any(_is_other_precision(value) for value in _tensors(module)):
            module.float()
        if spec.input.layout == "nhwc":
            module.register_forward_pre_hook(_channels_last)
        return module.eval().requires_grad_(False)


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _is_other_precision(value: Tensor) -> bool:
    import torch

    return value.is_floating_point() and value.dtype != torch.float32


def _channels_last(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (inputs[0].permute(0, 2, 3, 1), *inputs[1:])


def _loader(kind: str) -> Callable[[Any, Path, bool], nn.Module]:
    # Imported when used: each brings its own heavy libraries.
    module = importlib.import_module(f"depara_bench.loaders.{kind}")
    found: Callable[[Any, Path, bool], nn.Module] = module.load
    return found
