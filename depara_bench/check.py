"""Checks of a zoo before anything is started, and what `zoo check` shows: each model is loaded,
its weights hashed, its embedding found, and two images are run through it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from depara_bench.engine import Engine, Resources, Slot, Task
from depara_bench.errors import InputError
from depara_bench.extract import (
    check_finite,
    exact_arithmetic,
    find_embedding,
    pixel_ends,
    prepare,
)
from depara_bench.job import AttributionSettings
from depara_bench.loaders import load
from depara_bench.loaders.digest import digest
from depara_bench.preprocess import to_input
from depara_bench.rows import try_out
from depara_bench.shards import Digest
from depara_bench.trial import Trial, two_images
from depara_bench.zoo import AnySpec

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Shared:
    """What every checking worker knows; threads: that a model computes with."""

    manifest_folder: Path
    allow_code: bool
    attribution: AttributionSettings
    threads: int = 1


@dataclass(frozen=True)
class Checked:
    """A model that works, or what is wrong with it.

    features: length F of its embedding; pixels: length D of its maps; parameters: their number.
    uncovered: by attribution method, where the model does what the method has no rule for; without
    the methods that have a rule for all of it. loaded: what the model is; None where it could not
    be loaded. error: one line; None when all is well. mistake: the error is in what the user gave
    (manifest, file), not in what the model computes.
    """

    model: str
    features: int = 0
    pixels: int = 0
    parameters: int = 0
    uncovered: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    loaded: Digest | None = None
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
            with exact_arithmetic(self.shared.threads):
                return self._check(spec)
        except InputError as error:
            return Checked(spec.name, error=str(error), mistake=True)

    def _check(self, spec: AnySpec) -> Checked:
        folder = self.shared.manifest_folder
        model = load(spec, folder, allow_code=self.shared.allow_code)
        loaded = digest(spec, model, folder)
        try:
            return self._tried(spec, model, loaded)
        except InputError:
            raise
        except Exception as error:  # of the model's own computation: foreign code
            return Checked(spec.name, loaded=loaded, error=str(error) or type(error).__name__)

    def _tried(self, spec: AnySpec, model: nn.Module, loaded: Digest) -> Checked:
        settings, device = self.shared.attribution, self.slot.device
        node = find_embedding(model.to(device), spec.embedding, spec.name)
        trial = Trial(spec, model, node, settings, device)
        extracted = try_out(trial)
        check_finite(extracted, ["trial 0", "trial 1"], spec.name)
        height, width = spec.input.height_width
        inputs = to_input(two_images(height, width)[:1], spec.input).to(device)
        ends = pixel_ends(spec.input)
        one = prepare(model, node, inputs, scalar=settings.scalar, ends=ends, name=spec.name)
        uncovered = {name: method.uncovered(one) for name, method in settings.made().items()}
        return Checked(
            model=spec.name,
            features=extracted.features.shape[1],
            pixels=math.prod(settings.grid or (height, width)),
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            uncovered={name: places for name, places in uncovered.items() if places},
            loaded=loaded,
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
