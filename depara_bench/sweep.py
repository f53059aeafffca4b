"""What a score depends on besides the method: which probe images were drawn, how many, and lambda.

Arrays in, arrays out. A zoo of M models has T targets and S sources, all of them among the models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from scipy import stats

from depara_bench.evaluate import RELEVANT, expected_relevance, relevance
from depara_bench.similarity.resample import edge_matrices, node_matrices

LAMBDAS = (0.0, *(round(float(10.0**e), 6) for e in np.linspace(-2, 2, 41)))
"""Weights of the edges that a sweep goes through."""

PUBLISHED = {0.25: "Taskonomy", 0.03: "COCO", 0.27: "Indoor"}
"""Lambdas of DEPARA by probe set (the defaults of its code), which were tuned on the truth."""

SIZES = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
"""Numbers of probe images that are tried, as far as there are as many."""


class Judge:
    """P@1, P@5 and Spearman of many score matrices against one truth: `score_all`, but quick."""

    def __init__(self, value: np.ndarray, own: np.ndarray) -> None:
        """value (T, S): the truth. own (T, S) bool: self pairs, which are left out."""
        self.others = [np.flatnonzero(~row) for row in own]
        values = [row[others] for row, others in zip(value, self.others, strict=True)]
        self.relevant = [relevance(row) for row in values]
        self.ranks = [_unit(stats.rankdata(row)) for row in values]
        least = min(len(row) for row in values)
        self.ks = [k for k in (1, RELEVANT) if k <= least]
        self.metrics = (*(f"p@{k}" for k in self.ks), "spearman")

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """(metrics, T) of scores (T, S), in the order of `metrics`."""
        found = np.empty((len(self.metrics), len(scores)))
        for t, others in enumerate(self.others):
            row = scores[t, others]
            hits = expected_relevance(row, self.relevant[t])
            found[:-1, t] = [hits[:k].sum() / k for k in self.ks]
            found[-1, t] = _unit(stats.rankdata(row)) @ self.ranks[t]
        return found


def _unit(ranks: np.ndarray) -> np.ndarray:
    """Ranks (n,), centred, of length 1; zeros where all tie, so that the correlation is 0."""
    centred = ranks - ranks.mean()
    length = np.sqrt(centred @ centred)
    unit: np.ndarray = centred / length if length > 0.0 else centred
    return unit


def lambda_scores(
    nodes: np.ndarray, edges: np.ndarray, lambdas: Sequence[float], judge: Judge
) -> np.ndarray:
    """(L, metrics, T): scores of nodes + lambda * edges (both (T, S)) at each lambda."""
    return np.stack([judge(nodes + weight * edges) for weight in lambdas])


def leave_out_choice(scores: np.ndarray) -> np.ndarray:
    """For each target the lambda (its index) that is best for all the *other* targets: (T,) int.

    scores (L, T), higher is better, T >= 2. Of lambdas that tie the smallest is taken.
    """
    return np.array(
        [np.delete(scores, t, axis=1).mean(axis=1).argmax() for t in range(scores.shape[1])]
    )


@dataclass(frozen=True)
class ProbeData:
    """What is kept of the shards. cosines: by attribution method (N, M, M), of each image's maps;
    grams: of each model (N, N), inner products of its features, made with `center`.
    """

    cosines: Mapping[str, np.ndarray]
    grams: Sequence[np.ndarray]
    center: bool

    def affinities(
        self,
        counts: np.ndarray,
        weight: float,
        pool: Executor,
        advance: Callable[[int], None] = lambda _: None,
    ) -> dict[str, np.ndarray]:
        """(B, M, M) of each method, named as contract C3 has it, of resamples counts (B, N)."""
        edges = edge_matrices(self.grams, counts, pool, center=self.center, advance=advance)
        found = {"depara-edges": edges}
        for suffix, cosines in zip(self._suffixes, self.cosines.values(), strict=True):
            nodes = node_matrices(cosines, counts)
            found[f"depara{suffix}"] = nodes + weight * edges
            found[f"depara-nodes{suffix}"] = nodes
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """The methods of `affinities`."""
        families = ("depara", "depara-nodes")
        return ("depara-edges", *(f + s for s in self._suffixes for f in families))

    @property
    def _suffixes(self) -> list[str]:
        return [f":{method}" if position else "" for position, method in enumerate(self.cosines)]


def percentiles(replicates: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the 95 % interval over axis 0 of replicates (B, ...) of a value (...).

    An end that differs from the value by rounding alone (self pairs: a model is like itself, in
    every resample) is the value.
    """
    low, high = np.percentile(replicates, [2.5, 97.5], axis=0)
    same = 1e-12 * np.maximum(np.abs(value), 1.0)
    return (
        np.where(np.abs(low - value) <= same, value, low),
        np.where(np.abs(high - value) <= same, value, high),
    )


def probe_sizes(images: int) -> list[int]:
    """The `SIZES` below a number of images, and that number."""
    return [*(size for size in SIZES if size < images), images]
