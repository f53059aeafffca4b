"""A network as a chain of modules, cut after one of its layers: frozen below, trained above."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from depara_bench.config import nearest
from depara_bench.errors import InputError

LAYERS = (nn.Conv2d, nn.Linear)
"""What counts as a layer that can be chosen."""
_PARTS = ("features", "avgpool", "classifier")


def layer_names(model: nn.Module) -> list[str]:
    """Dotted names of the convolutions and linear layers of a model, in the order it holds them."""
    return [name for name, module in model.named_modules() if isinstance(module, LAYERS)]


@dataclass(frozen=True)
class Listed:
    """A layer of a network: its dotted name, its depth from 1, and whether it is chosen."""

    name: str
    depth: int
    chosen: bool


def choose(model: nn.Module, patterns: Sequence[str], name: str) -> list[Listed]:
    """The layers of a model, in its order, and which of them any of the patterns fits.

    A pattern ("features.*") is held against convolutions and linear layers; a plain name may be of
    any module. The last layer, the head, is never chosen: nothing is left to
    train above it. Raises InputError with the nearest names for a pattern that fits nothing.
    """
    known = layer_names(model)
    if len(known) < 2:
        raise InputError(f"model '{name}': has {len(known)} convolutions and linear layers, not 2")
    modules = dict(model.named_modules())
    named = [p for p in patterns if p in modules and p and p not in known]
    for pattern in patterns:
        if pattern not in named and not any(fnmatchcase(layer, pattern) for layer in known):
            raise InputError(
                f"model '{name}': no layer fits '{pattern}'; nearest: {nearest(pattern, known)};"
                f" correct 'layers' ('--list' shows all)"
            )
    fits = {layer for layer in known[:-1] if any(fnmatchcase(layer, p) for p in patterns)}
    return [
        Listed(layer, depth, layer in fits or layer in named)
        for depth, layer in enumerate((n for n in modules if n in known or n in named), start=1)
    ]


@dataclass(frozen=True)
class Chain:
    """Modules that are called one after the other, and their dotted names in the model."""

    names: tuple[str, ...]
    modules: tuple[nn.Module, ...]

    def cut_after(self, layer: str) -> int:
        """Position of the first module that does not belong to `layer`, or to one before it.

        What follows a layer belongs to it, its batch normalisation first of all, up to the next
        layer, or to dropout, which is part of the training of what comes after it.
        """
        start = self.names.index(layer) + 1
        for position in range(start, len(self.modules)):
            if isinstance(self.modules[position], (*LAYERS, nn.Dropout)):
                return position
        return len(self.modules)

    def below(self, position: int) -> nn.Sequential:
        """The modules before a position, frozen: no gradients, statistics of normalisation fixed.

        They stay so when they are put into a larger module whose `train()` is called.
        """
        return _Frozen(*self.modules[:position])

    def above(self, position: int) -> nn.Sequential:
        """The modules from a position on."""
        return nn.Sequential(*self.modules[position:])


class _Frozen(nn.Sequential):
    def __init__(self, *modules: nn.Module) -> None:
        super().__init__(*modules)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> _Frozen:
        super().train(False)
        return self

    def forward(self, input: Tensor) -> Tensor:
        with torch.no_grad():
            for module in self:
                input = module(input)
        return input


def unroll(model: nn.Module, name: str, size: tuple[int, int], channels: int = 3) -> Chain:
    """A model as a chain: an `nn.Sequential`, or `features`, `avgpool` (if any), flattening and
    `classifier`, as VGG and AlexNet are. size: height and width of its input.

    Raises InputError when calling the modules one after the other is not what the model does, on
    an image of noise: then it has no cut below which all is frozen.
    """
    if isinstance(model, nn.Sequential):
        names, modules = _flat(model, "")
    else:
        children = dict(model.named_children())
        names, modules = [], []
        for part in _PARTS:
            if part not in children:
                continue
            if part == "classifier":
                names.append("flatten")
                modules.append(nn.Flatten())
            found = _flat(children[part], part)
            names += found[0]
            modules += found[1]
    chain = Chain(tuple(names), tuple(modules))
    model.eval()
    image = torch.rand((1, channels, *size), generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad():
            same = torch.allclose(nn.Sequential(*modules)(image), model(image), atol=1e-5)
    except (RuntimeError, ValueError, TypeError):
        same = False
    if not same or not modules or not isinstance(modules[-1], nn.Linear):
        raise InputError(
            f"model '{name}': is no chain of features and classifier that ends in a linear layer,"
            f" so it cannot be frozen up to a layer; measure it elsewhere and give the table as"
            f" 'truth'"
        )
    return chain


def _flat(module: nn.Module, name: str) -> tuple[list[str], list[nn.Module]]:
    if not isinstance(module, nn.Sequential):
        return [name], [module]
    names, modules = [], []
    for child_name, child in module.named_children():
        found = _flat(child, f"{name}.{child_name}" if name else child_name)
        names += found[0]
        modules += found[1]
    return names, modules


def with_head(chain: Chain, classes: int) -> Chain:
    """The chain with a fresh last layer of `classes` outputs, at random by torch's generator."""
    last = chain.modules[-1]
    assert isinstance(last, nn.Linear)
    head = nn.Linear(last.in_features, classes, bias=last.bias is not None)
    return Chain(chain.names, (*chain.modules[:-1], head))
