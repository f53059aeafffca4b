"""A truth that lacks pairs: which of them, and what of a run can be judged all the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RULES = {
    "targets": "judged are the targets that are complete",
    "sources": "judged are all targets, by the sources that all of them have",
}
"""Which part of a run is judged where the truth has gaps."""

_NAMED = 3


@dataclass(frozen=True)
class Gaps:
    """Pairs (source, target) of a run that a truth lacks, and what is kept of the run: targets (T,)
    and sources (S,) bool. rule: a name of `RULES`; None where nothing is lacking.
    """

    lacking: tuple[tuple[str, str], ...]
    pairs: int
    targets: np.ndarray
    sources: np.ndarray
    rule: str | None

    def sentence(self, truth: str, targets: Sequence[str], sources: Sequence[str]) -> str:
        """In words: how many pairs are lacking, which first, and who is left out by which rule."""
        named = ", ".join(f"{source} -> {target}" for source, target in self.lacking[:_NAMED])
        more = ", ..." if len(self.lacking) > _NAMED else ""
        left = self.left_out(targets, sources)
        return (
            f"truth '{truth}' lacks {len(self.lacking)} of {self.pairs} pairs ({named}{more});"
            f" {RULES[self.rule or 'targets']}: left out {', '.join(left)}"
        )

    def left_out(self, targets: Sequence[str], sources: Sequence[str]) -> list[str]:
        """Names of the targets, or of the sources, that are not judged."""
        names, kept = (targets, self.targets) if self.rule == "targets" else (sources, self.sources)
        return [name for name, keep in zip(names, kept, strict=True) if not keep]


def find_gaps(
    known: np.ndarray, own: np.ndarray, targets: Sequence[str], sources: Sequence[str]
) -> Gaps | None:
    """What is judged of a run whose pairs (T, S) are known or not; own (T, S) bool: self pairs,
    which need not be.

    The targets that have all sources; where those are fewer than half, all targets by the sources
    that all of them have, if there are two for each. A target must keep two sources beside itself.
    None where neither rule leaves anything.
    """
    lacks = ~known & ~own
    every = np.ones(len(targets), dtype=bool), np.ones(len(sources), dtype=bool)
    lacking = tuple((sources[s], targets[t]) for t, s in np.argwhere(lacks))
    pairs = int((~own).sum())
    if not lacking:
        return Gaps((), pairs, *every, None)
    complete, shared = ~lacks.any(axis=1), ~lacks.any(axis=0)
    if 2 * complete.sum() < len(complete) and ((~own)[:, shared].sum(axis=1) >= 2).all():
        return Gaps(lacking, pairs, every[0], shared, "sources")
    return Gaps(lacking, pairs, complete, every[1], "targets") if complete.any() else None
