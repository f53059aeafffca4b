"""The ways in which a checkpoint's names can be read as those of an architecture.

Training scripts wrap the tensors into entries ("state_dict", "model_ema", "teacher") and networks
into other modules ("module.", "backbone.", "module.encoder_q."). Here all are listed; which of them
is right is decided by what fits (`fit_keys`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

State = Mapping[str, "Tensor"]
"""Tensors by name."""

_DEPTH = 4
_MOST_PREFIXES = 20

# Modules that only pass on to the one inside: of torch.compile, data parallelism, FSDP.
_WRAPPING = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}

# DenseNets of before torch 0.4.1, whose module names had a dot in them.
_DENSE = re.compile(r"(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.\w+)")


@dataclass(frozen=True)
class Reading:
    """Tensors under the names that are left of an entry (`key`, "": the file itself) once what
    they begin with (`strip`) is removed.
    """

    key: str
    strip: str
    tensors: State

    @property
    def fields(self) -> str:
        """As the manifest says it: "key: teacher, strip: backbone."."""
        parts = (("key", self.key), ("strip", self.strip))
        return ", ".join(f"{field}: {value}" for field, value in parts if value)


def states(held: Any, key: str = "", depth: int = _DEPTH) -> dict[str, State]:
    """All mappings of names to tensors inside of what a file holds, by their dotted key."""
    import torch

    if not isinstance(held, Mapping):
        return {}
    named = {name: value for name, value in held.items() if isinstance(name, str)}
    tensors = {n: value for n, value in named.items() if isinstance(value, torch.Tensor)}
    found: dict[str, State] = {key: tensors} if tensors else {}
    for name, value in named.items():
        if depth:
            found |= states(value, f"{key}.{name}" if key else name, depth - 1)
    return found


def readings(
    found: Mapping[str, State], expected: Set[str], strip: str | None
) -> Iterator[Reading]:
    """Every way to read the states as an architecture with the names `expected`; strip: the only
    prefix to consider.
    """
    for key, tensors in found.items():
        for prefix in [strip] if strip is not None else _prefixes(tensors, expected):
            kept = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
            if kept:
                yield Reading(key, prefix, _present(_unwrapped(kept, expected), expected))


def _prefixes(tensors: State, expected: Set[str]) -> list[str]:
    """What stands before an expected name, and what all names begin with: "" first, then the most
    frequent ones.
    """
    counts: Counter[str] = Counter()
    for name in tensors:
        parts = name.split(".")
        for position in range(1, len(parts)):
            if ".".join(p for p in parts[position:] if p not in _WRAPPING) in expected:
                counts[".".join(parts[:position]) + "."] += 1
    shared = ""
    while len(firsts := {name.removeprefix(shared).partition(".")[0] for name in tensors}) == 1:
        part = f"{shared}{firsts.pop()}."
        if not all(name.startswith(part) for name in tensors):
            break
        shared = part
        counts[shared] += 0
    ordered = sorted(counts, key=lambda prefix: -counts[prefix])
    return ["", *ordered[:_MOST_PREFIXES]]


def _unwrapped(tensors: State, expected: Set[str]) -> State:
    """Names without the modules that only pass on, where the architecture has none of them."""
    known = {part for name in expected for part in name.split(".")}
    dropped = _WRAPPING - known
    short = {name: ".".join(p for p in name.split(".") if p not in dropped) for name in tensors}
    if len(set(short.values())) < len(short):
        return tensors
    return {short[name]: tensor for name, tensor in tensors.items()}


def _present(tensors: State, expected: Set[str]) -> State:
    """Names of old DenseNets ("norm.1") as they are now ("norm1")."""

    def name_now(name: str) -> str:
        old = _DENSE.fullmatch(name) if name not in expected else None
        return f"{old[1]}{old[2]}" if old else name

    return {name_now(name): tensor for name, tensor in tensors.items()}
