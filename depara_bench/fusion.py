"""Several rankings as one: their mean ranks, and which ones, chosen without the target it serves.

Affinities of different methods have no common scale, ranks have. Which methods are fused is chosen
for each target by how well their fusion does on all the *other* targets, so that the truth of a
target never decides what that target is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from depara_bench.evaluate import average_ranks
from depara_bench.sweep import Judge, leave_out_choice

NAME = "fusion"

CANDIDATES = (
    "depara-edges",
    "depara-nodes",
    "nodes-pooled",
    "ridge-r2",
    "rsa",
    "dds-cosine-znorm",
    "dds-laplacian-znorm",
    "cka-linear",
    "cka-rbf",
    "svcca",
    "pwcca",
    "procrustes",
)
"""Label-free methods that may be fused: one of each kind, named before any truth was looked at."""

MOST = 3
"""Methods in a fusion."""


@dataclass(frozen=True)
class Fusion:
    """scores (T, S): for each target those of its own fusion, higher is closer. chosen: the methods
    of each target's fusion.
    """

    scores: np.ndarray
    chosen: tuple[tuple[str, ...], ...]


def fuse(matrices: Mapping[str, np.ndarray], own: np.ndarray) -> np.ndarray:
    """Minus the mean over methods of the rank of each source, per target: (T, S) float64.

    matrices: (T, S) by method. own (T, S) bool: self pairs, which have no rank and get 0.
    """
    ranks = [np.where(own, 0.0, average_ranks(matrix, own)) for matrix in matrices.values()]
    mean: np.ndarray = -np.mean(ranks, axis=0)
    return mean


def leave_out_fusion(matrices: Mapping[str, np.ndarray], own: np.ndarray, judge: Judge) -> Fusion:
    """The fusion of up to `MOST` methods, for each target the one that has the best mean Spearman
    over the other targets; of those that tie the first, fewer methods before more. T >= 2.
    """
    sets: Sequence[tuple[str, ...]] = [
        names for size in range(1, MOST + 1) for names in combinations(matrices, size)
    ]
    fused = [fuse({name: matrices[name] for name in names}, own) for names in sets]
    spearman = np.stack([judge(scores)[-1] for scores in fused])
    best = leave_out_choice(spearman)
    return Fusion(
        np.stack([fused[choice][t] for t, choice in enumerate(best)]),
        tuple(sets[choice] for choice in best),
    )
