"""What a method is: what it needs, what it computes once per model, and what per pair of models.

    def unit(features):                       # per model, once
        return {"unit": ...}                  # a State: arrays by name

    METHOD = Method("my-method", "one line on it", unit)

The engine calls `model` once for each model and `pairs` for blocks of models, so that nothing that
belongs to one model is computed for every pair. Where a State is a vector "unit" of length 1 the
similarity of two models is the product of theirs, which is what `pairs` does unless told otherwise.

Methods that read many states off one matrix are a `Family`; a `Method` offers the same two names,
`names` and `models`, so that whoever runs them need not tell one from the other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

State = Mapping[str, np.ndarray]
"""What is kept of a model, by name."""


def products(targets: Sequence[State], sources: Sequence[State]) -> np.ndarray:
    """Inner products (T, S) float64 of the vectors "unit" of each state, within [-1, 1]."""
    left, right = (np.stack([state["unit"] for state in side]) for side in (targets, sources))
    found: np.ndarray = np.dot(left, right.T)  # not @: it lets the other threads run meanwhile
    return found.clip(-1.0, 1.0)


@dataclass(frozen=True)
class Method:
    """A label-free similarity of models.

    name: as in affinity.parquet. about: one line, with the paper. model: features (N, F) float32 of
    one model to its State; the same N images, in the same order, for all models. pairs: states of
    T targets and S sources to their similarities (T, S) float64, finite, higher is closer.
    symmetric: whether exchanging source and target changes nothing. column: what `model` is given:
    "feature", or "map", the maps (N, D) of the job's first attribution method.
    """

    name: str
    about: str
    model: Callable[[np.ndarray], State]
    pairs: Callable[[Sequence[State], Sequence[State]], np.ndarray] = products
    symmetric: bool = True
    column: Literal["feature", "map"] = "feature"

    @property
    def names(self) -> tuple[str, ...]:
        """Its one name, as a `Family` has several."""
        return (self.name,)

    def models(self, features: np.ndarray, wanted: Collection[str]) -> Iterator[tuple[str, State]]:
        """As `Family.models`."""
        if self.name in wanted:
            yield self.name, self.model(features)


@dataclass(frozen=True)
class Family:
    """Methods that share what they compute of a model.

    names: of its methods. models: features (N, F) of one model, and which names are wanted, to
    these names and their states. They come one at a time, so that no more than one need be held.
    about, pairs, symmetric and column: of each of the methods, as in `Method`.
    """

    names: tuple[str, ...]
    about: str
    models: Callable[[np.ndarray, Collection[str]], Iterator[tuple[str, State]]]
    pairs: Callable[[Sequence[State], Sequence[State]], np.ndarray] = products
    symmetric: bool = True
    column: Literal["feature", "map"] = "feature"
