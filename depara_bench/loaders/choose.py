"""Which of a checkpoint's readings is meant: the only one that fits the architecture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from depara_bench.config import nearest
from depara_bench.errors import InputError
from depara_bench.loaders.fit_keys import Fit, compare, expected, hints, translated
from depara_bench.loaders.readings import Reading, State, readings, states

if TYPE_CHECKING:
    from torch import Tensor, nn

    from depara_bench.zoo import AnySpec

Translate = Callable[[dict[str, Any]], State]

Tried = tuple[Reading, Fit]


def unchanged(state: dict[str, Any]) -> State:
    """Translate nothing."""
    return state


def choose(
    model: nn.Module,
    held: Mapping[str, Any],
    where: str,
    spec: AnySpec | None,
    translate: Translate = unchanged,
) -> Tried:
    """The reading of what a file holds that fits the model, and how it does.

    One that lacks nothing comes before those that do.

    Raises InputError where none fits, or several do that differ.
    """
    tried = attempts(model, held, where, spec, translate)
    best = pick(tried, where)
    if best is None:
        raise InputError(misfit(tried, where, hasattr(spec, "classes")))
    return best


def attempts(
    model: nn.Module,
    held: Mapping[str, Any],
    where: str,
    spec: AnySpec | None,
    translate: Translate = unchanged,
) -> list[Tried]:
    """Every reading of what a file holds, of the entry and prefix that the manifest names, if any,
    and how it fits the model.
    """
    found = _asked_for(states(held), getattr(spec, "key", None), where)
    strip = getattr(spec, "strip", None)
    names = set(expected(model))
    tried = [_try(model, reading, translate) for reading in readings(found, names, strip)]
    if not tried:
        firsts = sorted({name.partition(".")[0] for state in found.values() for name in state})
        raise InputError(
            f"{where} has no name that begins with '{strip}'; they begin with"
            f" {', '.join(firsts[:6])}; correct 'strip'"
        )
    return tried


def pick(tried: Sequence[Tried], where: str) -> Tried | None:
    """The reading that fits, None where none does. Raises InputError where it is not the only one
    and the others hold other numbers.
    """
    fitting = [(reading, fit) for reading, fit in tried if fit.matched and not fit.contradicts]
    whole = [(reading, fit) for reading, fit in fitting if not fit.missing]
    most = max(fit.matched for _, fit in tried)  # else what is wrong with that one is told
    best = whole or [(reading, fit) for reading, fit in fitting if fit.matched == most]
    different: list[Tried] = []
    for one in best:
        if not any(_same(one, other) for other in different):
            different.append(one)
    if len(different) > 1:
        ways = [reading.fields or "as it is" for reading, _ in different]
        raise InputError(
            f"{where} holds several sets of weights that fit: {' | '.join(ways[:6])};"
            f" say which one is meant, e.g. weights: {{file: ..., {ways[-1]}}}"
        )
    return best[0] if best else None


def _asked_for(found: dict[str, State], key: str | None, where: str) -> dict[str, State]:
    if key is None:
        return found
    if key not in found:
        known = [name for name in found if name]
        raise InputError(
            f"{where} has no tensors under '{key}'; correct 'key', nearest: {nearest(key, known)}"
        )
    return {key: found[key]}


def _try(model: nn.Module, reading: Reading, translate: Translate) -> Tried:
    """The reading under the model's names, and how it fits."""
    with suppress(Exception):  # of a library, which expects files of its own: the names tell below
        reading = replace(reading, tensors=translate(in_float32(reading.tensors)))
    fit = compare(model, reading.tensors)
    if fit.missing and fit.extra and fit.matched > len(fit.missing):
        present = translated(model, reading.tensors)
        if present is not None:
            reading = replace(reading, tensors=present)
            fit = compare(model, present)
    return reading, fit


def in_float32(tensors: State) -> dict[str, Tensor]:
    """Real numbers as float32: what is computed in, and what every function of a library takes."""
    return {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}


def _same(one: Tried, other: Tried) -> bool:
    """Whether two readings give the model the same numbers."""
    import torch

    first, second = (
        {name: tensor for name, tensor in reading.tensors.items() if name not in fit.extra}
        for reading, fit in (one, other)
    )
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype and torch.equal(first[name], second[name])
        for name in first
    )


def misfit(tried: Sequence[Tried], where: str, has_classes: bool) -> str:
    """Tell what is wrong, of the reading that comes nearest."""
    reading, fit = max(
        tried, key=lambda pair: (pair[1].matched, len(pair[1].spare) - len(pair[1].extra))
    )
    which = f" ({reading.fields})" if reading.fields else ""
    return (
        f"{where}{which} does not fit the architecture: {fit.problems()}{hints(fit, has_classes)}"
    )
