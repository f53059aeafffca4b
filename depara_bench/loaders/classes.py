"""A checkpoint whose head has another number of classes than the manifest says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from depara_bench.errors import InputError
from depara_bench.loaders.weights import first_few

if TYPE_CHECKING:
    from torch import Tensor, nn


def check_classes(
    model: nn.Module, state: Mapping[str, Tensor], classes: int, path: Path, name: str
) -> None:
    """Raise InputError naming `classes` when all that keeps `state` from fitting `model` is the
    number of outputs of its head: there the model has `classes`, and the file another number.
    """
    pairs = {
        key: (value.shape, state[key].shape)
        for key, value in model.state_dict().items()
        if key in state and value.shape != state[key].shape
    }
    heads = all(ours[:1] == (classes,) and ours[1:] == its[1:] for ours, its in pairs.values())
    counts = {tuple(its[:1]) for _, its in pairs.values()}
    if pairs and heads and len(counts) == 1 and (count := counts.pop()):
        raise InputError(
            f"model '{name}': {path} does not fit the architecture: it"
            f" {first_few('has another shape for', list(pairs))}, of {count[0]} classes and not"
            f" {classes}; set 'classes: {count[0]}'"
        )
