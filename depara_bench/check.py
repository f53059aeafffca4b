"""Checks of a zoo before anything is started, and what `zoo check` shows: each model is loaded,
its weights hashed, its embedding found, and two images are run through it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from depara_bench.engine import Engine, Resources, Slot, Task
from depara_bench.errors import InputError
from depara_bench.extract import (
    check_finite,
    exact_arithmetic,
    extract,
    find_embedding,
    pixel_ends,
    prepare,
)
from depara_bench.job import AttributionSettings
from depara_bench.loaders import load
from depara_bench.preprocess import to_input
from depara_bench.zoo import AnySpec


@dataclass(frozen=True)
class Shared:
    """What every checking worker knows."""

    manifest_folder: Path
    allow_code: bool
    attribution: AttributionSettings


@dataclass(frozen=True)
class Checked:
    """A model that works, or what is wrong with it.

    features: length F of its embedding; pixels: length D of its maps; parameters: their number.
    uncovered: by attribution method, where the model does what the method has no rule for; without
    the methods that have a rule for all of it. error: one line; None when all is well. mistake: the
    error is in what the user gave (manifest, file), not in what the model computes.
    """

    model: str
    features: int = 0
    pixels: int = 0
    parameters: int = 0
    uncovered: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    error: str | None = None
    mistake: bool = False


class Checker:
    """A worker of the check; takes model specs."""

    def __init__(self, shared: Shared, slot: Slot) -> None:
        self.shared = shared
        self.slot = slot

    def __call__(self, spec: AnySpec) -> Checked:
        """Try one model; a mistake in what the user gave is an answer, not an exception."""
        try:
            with exact_arithmetic(self.slot.threads):
                return self._check(spec)
        except InputError as error:
            return Checked(spec.name, error=str(error), mistake=True)

    def _check(self, spec: AnySpec) -> Checked:
        settings, device = self.shared.attribution, self.slot.device
        model = load(spec, self.shared.manifest_folder, allow_code=self.shared.allow_code)
        node = find_embedding(model.to(device), spec.embedding, spec.name)
        height, width = spec.input.height_width
        images = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
        inputs, ends = to_input(list(images), spec.input), pixel_ends(spec.input)
        methods = settings.made()
        extracted = extract(
            model,
            node,
            inputs,
            methods=methods,
            scalar=settings.scalar,
            channels=settings.channels,
            grid=settings.grid,
            ends=ends,
            batch_size=2,
            device=device,
            name=spec.name,
        )
        check_finite(extracted, ["noise 0", "noise 1"], spec.name)
        one = prepare(
            model, node, inputs[:1].to(device), scalar=settings.scalar, ends=ends, name=spec.name
        )
        uncovered = {name: method.uncovered(one) for name, method in methods.items()}
        return Checked(
            model=spec.name,
            features=extracted.features.shape[1],
            pixels=math.prod(settings.grid or (height, width)),
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            uncovered={name: places for name, places in uncovered.items() if places},
        )


def check_models(
    specs: Sequence[AnySpec],
    shared: Shared,
    engine: Engine,
    resources: Resources,
    advance: Callable[[int], None] = lambda _: None,
) -> list[Checked]:
    """One `Checked` per model, in the order given."""
    tasks = [Task(spec.name, spec.name, spec) for spec in specs]
    found: dict[str, Checked] = {}
    for outcome in engine.run(Checker, shared, tasks, resources):
        name = outcome.task.key
        found[name] = outcome.value if outcome.error is None else Checked(name, error=outcome.error)
        advance(1)
    return [found[spec.name] for spec in specs]
