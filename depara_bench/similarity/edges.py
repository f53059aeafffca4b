"""Edge similarity of DEPARA: Spearman correlation of two models' edges, an edge being the cosine
similarity of the features of two images (Song et al., CVPR 2020, eq. 4 and 6).

A model is ranked once. What remains of it is one vector of unit length, and the correlation of
any two models is the product of theirs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from depara_bench.similarity.gram import cosines, gram

# Edges closer than this are one value, and get the average of their ranks. It is far below what
# float32 features resolve, and far above the rounding of float64 sums, so that edges that are equal
# on paper (of repeated images, say) are equal here, whatever order a sum was taken in.
_RESOLUTION = 2.0**-30


@dataclass(frozen=True)
class EdgeRanks:
    """unit (E,) float64: centred ranks of the E = N(N-1)/2 edges, scaled to length 1;
    all zero when all edges are equal, so that its correlation with anything is 0 by definition.
    zeros: how many of the N feature vectors are all zero (after centring, when centred).
    """

    unit: np.ndarray
    zeros: int


def edge_ranks(features: np.ndarray, *, center: bool = True, ties: str = "average") -> EdgeRanks:
    """The ranked graph of one model from its features (N, F) float32, N >= 3.

    ties: what equal edges get, the "average" of their ranks or, "ordinal", ranks by position.
    """
    values, zeros = edges(features, center=center)
    return EdgeRanks(unit=unit_ranks(values, ties), zeros=zeros)


def edges(features: np.ndarray, *, center: bool = True) -> tuple[np.ndarray, int]:
    """Cosine similarity of all pairs of rows of features (N, F): (N(N-1)/2,) float64, in the order
    of `numpy.triu_indices(N, 1)`, and the number of zero rows, whose cosine is 0 by definition.

    center: subtract the mean row first (see `gram`).
    """
    return cosines(gram(features, center=center))


def unit_ranks(values: np.ndarray, ties: str = "average") -> np.ndarray:
    """Ranks of values (E,) in [-1, 1], centred and scaled to length 1: (E,) float64.

    Zeros throughout when all values tie: there is no order then, though ordinal ranks make one up.
    """
    if ties == "ordinal" and np.ptp(levels_of(values)):
        ranks = ordinal_ranks(values)
    else:
        ranks = average_ranks(values)
    ranks -= (len(ranks) + 1) / 2
    length = np.sqrt(ranks @ ranks)
    return ranks / length if length > 0.0 else ranks


def average_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks 1..E of values (E,) in [-1, 1], float64; values that tie get the mean of their ranks.

    Value and position are packed into one integer and sorted together: one pass of a plain
    integer sort, several times faster than an argsort.
    """
    count = len(values)
    if count >= 2**32:
        raise ValueError("more than 2**32 edges do not fit the packed sort")
    packed = np.sort((levels_of(values) << 32) | np.arange(count, dtype=np.int64))
    order = packed & 0xFFFFFFFF
    levels = packed >> 32
    starts = np.flatnonzero(np.concatenate(([True], levels[1:] != levels[:-1])))
    if len(starts) == count:
        sorted_ranks = np.arange(1.0, count + 1.0)
    else:
        sizes = np.diff(np.append(starts, count))
        sorted_ranks = np.repeat(starts + (sizes + 1) / 2, sizes)
    ranks = np.empty(count)
    ranks[order] = sorted_ranks
    return ranks


def ordinal_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks 1..E of values (E,) in [-1, 1], float64, the largest first; those that tie are ranked
    by their position.

    DEPARA's code ranks so, by an argsort of the negated values, but its sort is not stable.
    """
    ranks = np.empty(len(values))
    ranks[np.argsort(-levels_of(values), kind="stable")] = np.arange(1.0, len(values) + 1.0)
    return ranks


def levels_of(values: np.ndarray) -> np.ndarray:
    """Values (E,) in [-1, 1] as whole numbers (E,) int64; those that tie get the same one."""
    levels: np.ndarray = np.rint(values / _RESOLUTION).astype(np.int64)
    return levels


def correlations(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Spearman correlations (a, b) of unit rank vectors left (a, E) and right (b, E) float64."""
    products: np.ndarray = left @ right.T
    return products.clip(-1.0, 1.0)
