"""Outputs of many layers of one forward pass, in a graph that can be gone back along."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from depara_bench.errors import InputError

RECTIFIERS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.SiLU)
"""What counts as the activation after a layer."""


def outputs(
    model: nn.Module, layers: Sequence[str], inputs: Tensor, *, activation: str, name: str
) -> dict[str, Tensor]:
    """Output (B, F) of each of the modules `layers` for inputs (B, C, H, W), flattened, in the
    graph of the one forward pass that all of them share.

    activation: "pre": of the layer itself; "post": of the first rectifier that is called after it
    and before the next layer, of the layer itself where there is none (as after the last one).
    Each is copied when it is made: a rectifier in place, which would turn the output of the layer
    before it into its own, changes nothing here. Raises InputError for a layer that is not reached,
    or does not give one row of floats per image.
    """
    modules = dict(model.named_modules())
    if activation == "post" and not any(isinstance(m, RECTIFIERS) for m in modules.values()):
        raise InputError(
            f"model '{name}': has no ReLU among its modules, so there is nothing 'post'; set"
            f" 'activation: pre'"
        )
    caught: dict[str, Any] = {}
    waiting: list[str] = []  # the layer that was called last, until a rectifier is

    def keep(layer: str, output: Any) -> None:
        caught[layer] = output.clone() if isinstance(output, Tensor) else output

    def at_layer(layer: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            waiting.clear()
            if layer not in caught:  # a layer that is called again counts once
                keep(layer, output)
                waiting.append(layer)

        return hook

    def at_rectifier(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if waiting:
            keep(waiting.pop(), output)

    handles = [modules[layer].register_forward_hook(at_layer(layer)) for layer in layers]
    if activation == "post":
        # Of layers that are not asked for too: the rectifier after them is not the one before's.
        others = [m for n, m in modules.items() if _weighs(m) and n not in layers]
        handles += [m.register_forward_hook(lambda *_: waiting.clear()) for m in others]
        handles += [
            m.register_forward_hook(at_rectifier)
            for m in modules.values()
            if isinstance(m, RECTIFIERS)
        ]
    try:
        model(inputs.clone())  # a copy: the model's first operation may be in place
    finally:
        for handle in handles:
            handle.remove()
    return {layer: _flat(caught, layer, len(inputs), name) for layer in layers}


def _weighs(module: nn.Module) -> bool:
    return isinstance(module, (nn.Conv2d, nn.Linear))


def _flat(caught: dict[str, Any], layer: str, count: int, name: str) -> Tensor:
    if layer not in caught:
        raise InputError(f"model '{name}': its forward pass never reaches layer '{layer}'")
    output = caught[layer]
    if not isinstance(output, torch.Tensor):
        raise InputError(
            f"model '{name}': layer '{layer}' gives {type(output).__name__}, not a tensor; leave it"
            f" out of 'layers'"
        )
    rows = output.ndim > 0 and output.shape[0] == count and output.numel() > 0
    if not rows or not output.is_floating_point():
        raise InputError(
            f"model '{name}': layer '{layer}' gives shape {tuple(output.shape)} of {output.dtype}"
            f" for {count} images, not one row of floats per image; leave it out of 'layers'"
        )
    return output.reshape(count, -1)
