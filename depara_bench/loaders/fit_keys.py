"""Whether tensors fit an architecture: every name, shape and kind of number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

    from depara_bench.loaders.readings import State

# Buffers that are computed when the model is built, and which some versions of it do not save.
_CONSTANTS = ("num_batches_tracked", "position_ids", "relative_position_index")

# What profilers and averages of weights leave in a state dict.
_COUNTERS = ("total_ops", "total_params", "n_averaged", "num_batches_tracked")

# What comes after the embedding in a network of classification or of self-supervision.
_HEADS = set(
    "fc head heads head_dist classifier classifiers last_linear logits AuxLogits aux1 aux2"
    " aux_classifier aux_head projector projection_head predictor prototypes mask_token queue"
    " queue_ptr decoder decoder_embed decoder_blocks decoder_norm decoder_pred"
    " decoder_pos_embed".split()
)


@dataclass(frozen=True)
class Fit:
    """How tensors differ from what an architecture has.

    missing, extra: names; spare: those of the extra that no embedding needs. shapes: name, shape in
    the file, shape of the architecture. kinds: names of whole numbers where there must be real
    ones, or the reverse. matched: how many are right.
    """

    missing: tuple[str, ...]
    extra: tuple[str, ...]
    spare: tuple[str, ...]
    shapes: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    kinds: tuple[str, ...]
    matched: int

    @property
    def contradicts(self) -> bool:
        """Whether the tensors are of another architecture, or of this one with other sizes."""
        return bool(len(self.extra) > len(self.spare) or self.shapes or self.kinds)

    def problems(self) -> str:
        """What is wrong, for a message: "it lacks ...; it adds ..."."""
        shapes = [f"{name} ({list(its)} for {list(own)})" for name, its, own in self.shapes]
        told = (
            ("lacks", self.missing),
            ("adds", self.extra),
            ("has another shape for", shapes),
            ("has another kind of numbers (whole or real) in", self.kinds),
        )
        return "; ".join(f"it {first_few(what, names)}" for what, names in told if names)


def first_few(what: str, keys: Sequence[str]) -> str:
    """What is wrong with the first three of `keys`, and how many there are."""
    return f"{what} {', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''} ({len(keys)} in all)"


def compare(model: nn.Module, tensors: State) -> Fit:
    """How the tensors fit the model. Of no concern are buffers that the model computes itself, a
    head that it lacks, and names of one and the same tensor but one.
    """
    from torch.nn.parameter import is_lazy

    own = expected(model)
    there = [name for name in own if name in tensors and not name.endswith("num_batches_tracked")]
    sized = [name for name in there if not is_lazy(own[name])]
    shapes = tuple(
        (name, tuple(tensors[name].shape), tuple(own[name].shape))
        for name in sized
        if tensors[name].shape != own[name].shape
    )
    kinds = tuple(
        name for name in there if tensors[name].is_floating_point() != own[name].is_floating_point()
    )
    lacking = [n for n in own if n not in tensors and n.rpartition(".")[2] not in _CONSTANTS]
    extra = tuple(sorted(name for name in tensors if name not in own))
    unsaved = {name for name, _ in model.named_buffers()} - set(own)
    return Fit(
        missing=tuple(n for n in lacking if n not in _aliases(own, lacking)),
        extra=extra,
        spare=tuple(name for name in extra if name in unsaved or is_spare(name)),
        shapes=shapes,
        kinds=kinds,
        matched=len(there) - len(shapes),
    )


def expected(model: nn.Module) -> dict[str, Tensor]:
    """The tensors that a model saves, by name."""
    import torch

    # keep_vars: those without a size yet (lazy layers) can only be given as they are.
    state = model.state_dict(keep_vars=True)
    return {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}


def is_spare(name: str) -> bool:
    """Whether what a file adds can be left out without changing an embedding."""
    return name.partition(".")[0] in _HEADS or name.rpartition(".")[2] in _COUNTERS


def is_whole(name: str) -> bool:
    """Whether a tensor of this name counts or numbers something, whatever the model's is called."""
    return name.rpartition(".")[2] in (*_CONSTANTS, *_COUNTERS)


def _aliases(own: dict[str, Tensor], lacking: Sequence[str]) -> set[str]:
    """Names, of those, whose tensor is filled under another name too. `save_model` of safetensors
    writes such a tensor once.
    """
    from torch.nn.parameter import is_lazy

    sized = {name: tensor for name, tensor in own.items() if not is_lazy(tensor)}
    storages = {name: t.untyped_storage().data_ptr() for name, t in sized.items()}
    storages = {name: place for name, place in storages.items() if place}  # 0: empty, or on meta
    whole = {
        storages[name]
        for name in storages
        if name not in lacking
        and own[name].numel() * own[name].element_size() == own[name].untyped_storage().nbytes()
    }
    return {name for name in lacking if storages.get(name) in whole}


def translated(model: nn.Module, tensors: State) -> State | None:
    """The tensors under the present names of a model whose modules read those of their earlier
    versions; None where they do not.
    """
    if any(tensor.is_meta for tensor in model.state_dict().values()):
        return None
    try:
        copy = deepcopy(model)
        read = copy.load_state_dict(dict(tensors), strict=False)
    except Exception:  # shapes, and whatever else the modules find wrong
        return None
    if read.missing_keys or read.unexpected_keys:
        return None
    return copy.state_dict()


def hints(fit: Fit, has_classes: bool) -> str:
    """How to mend other shapes, where that can be told: "" or "; ..."."""
    heads = {(its[0], own[0]) for _, its, own in fit.shapes if its and own and its[1:] == own[1:]}
    tails = [its[:1] + own[1:] == its for _, its, own in fit.shapes if its and own]
    if has_classes and len(heads) == 1 and len(tails) == len(fit.shapes) and all(tails):
        return f"; give 'classes: {heads.pop()[0]}'"
    for name, its, own in fit.shapes:
        if "pos" in name.lower() and len(its) == len(own) >= 2 and its[-1] == own[-1]:
            theirs, ours = _side(its[-2]), _side(own[-2])
            return (
                f"; its positions are of {theirs} patches, the model's of {ours}: correct"
                f" 'input.size', or the size that the model is built for"
            )
    return ""


def _side(tokens: int) -> str:
    """A number of positions as the square that it is, with or without other tokens."""
    for others in (0, 1, 2, 5):
        side = math.isqrt(max(tokens - others, 0))
        if side * side == tokens - others and side:
            return f"{side} x {side}"
    return str(tokens)
