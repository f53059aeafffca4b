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
        counts = (~own).sum(axis=1)
        self.ks = [k for k in (1, RELEVANT) if k <= counts.min()]
        self.metrics = (*(f"p@{k}" for k in self.ks), "spearman")
        # Targets with as many sources as one another (g of them, n sources) are judged together.
        self.groups: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
        for count in np.unique(counts):
            targets = np.flatnonzero(counts == count)
            others = np.stack([np.flatnonzero(~own[t]) for t in targets])
            values = value[targets[:, None], others]
            relevant = np.stack([relevance(row) for row in values])
            self.groups.append((targets, others, relevant, _unit_ranks(values)))

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """(metrics, T) of scores (T, S), in the order of `metrics`."""
        found = np.empty((len(self.metrics), len(scores)))
        for targets, others, relevant, ranks in self.groups:
            rows = scores[targets[:, None], others]
            order = np.argsort(-rows, axis=1, kind="stable")
            hits, sorted_rows = (np.take_along_axis(x, order, axis=1) for x in (relevant, rows))
            tied = (sorted_rows[:, 1:] == sorted_rows[:, :-1]).any(axis=1)
            for row in np.flatnonzero(tied):
                hits[row] = expected_relevance(rows[row], relevant[row])
            found[:-1, targets] = [hits[:, :k].sum(axis=1) / k for k in self.ks]
            found[-1, targets] = (_unit_ranks(rows) * ranks).sum(axis=1)
        return found


def _unit_ranks(rows: np.ndarray) -> np.ndarray:
    """Average ranks of each row (g, n), centred, of length 1; zeros where all of a row tie, so that
    its correlations are 0.
    """
    ranks = stats.rankdata(rows, axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    lengths = np.sqrt((ranks * ranks).sum(axis=1, keepdims=True))
    unit: np.ndarray = np.divide(ranks, lengths, out=np.zeros_like(ranks), where=lengths > 0.0)
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
