"""Similarities of layers beside measured accuracies: correlations over layers, regret, lambda.

Arrays and tables in, tables out. A source has K layers that can be transferred from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from depara_bench.sweep import LAMBDAS

DEPTH = "depth"
"""The baseline that looks at nothing: the deeper a layer, the better."""
CEILING = "self-agreement"
"""No method either: how far the measurement agrees with itself, over pairs of seeds."""
RANDOM = "random"
"""A layer picked at random."""

COLUMNS = (
    "source", "fraction", "method", "metric", "lambda", "value", "low", "high", "seed_low",
    "seed_high", "layer",
)  # fmt: skip


@dataclass(frozen=True)
class Layers:
    """Of one source: nodes, edges (K,) float64, and of B resamples of the probe images, (B, K)."""

    names: tuple[str, ...]
    depths: tuple[int, ...]
    nodes: np.ndarray
    edges: np.ndarray
    drawn_nodes: np.ndarray
    drawn_edges: np.ndarray


def spearman(left: np.ndarray, right: np.ndarray, ties: str = "average") -> float:
    """Spearman correlation of left (n,) and right (n,), n >= 2.

    ties: "average": equal values get the mean of their ranks, and the correlation is 0 where all
    are equal; "ordinal": they are ranked by their position, largest first, and the correlation is
    1 - 6 sum(d^2) / (n^3 - n), as DEPARA's published figures have it.
    """
    if ties == "average":
        ranks = [stats.rankdata(np.round(side, 12)) for side in (left, right)]
        if any(np.ptp(side) == 0 for side in ranks):
            return 0.0
        one, other = (side - side.mean() for side in ranks)
        return float(one @ other / np.sqrt((one @ one) * (other @ other)))
    one, other = (np.argsort(np.argsort(-side, kind="stable")) for side in (left, right))
    count = len(left)
    return float(1.0 - 6.0 * ((one - other) ** 2).sum() / (count**3 - count))


def regret(similarity: np.ndarray, accuracy: np.ndarray) -> float:
    """Accuracy (K,) of the best layer less that of the layer of the highest similarity (K,); the
    mean over all that are highest.
    """
    picked = np.isclose(similarity, similarity.max(), rtol=0, atol=1e-12)
    return float(accuracy.max() - accuracy[picked].mean())


_METRICS = {
    "spearman": lambda s, a: spearman(s, a),
    "spearman-ordinal": lambda s, a: spearman(s, a, "ordinal"),
    "regret": regret,
}


def evaluate(
    layers: Mapping[str, Layers],
    accuracies: Mapping[tuple[str, str], np.ndarray],
    weights: Mapping[str, float],
) -> pd.DataFrame:
    """One row a source, fraction, method and metric, `COLUMNS`.

    layers: by source. accuracies: (seeds, K) by source and name of the fraction. weights: lambda,
    by fraction. Methods: depara (nodes + lambda * edges), its two parts, and `DEPTH`; with them
    `CEILING` (spearman) and `RANDOM` (regret). value: against the mean over the seeds. low, high:
    95 % bootstrap over the probe images, null for what does not look at them. seed_low, seed_high:
    least and largest against a single seed. layer: the one that is picked.
    """
    rows: list[tuple[Any, ...]] = []
    for source, found in layers.items():
        for fraction, weight in weights.items():
            seeds = accuracies[source, fraction]
            mean = seeds.mean(axis=0)
            depths = np.array(found.depths, dtype=np.float64)
            scores = {
                "depara": (
                    found.nodes + weight * found.edges,
                    found.drawn_nodes + weight * found.drawn_edges,
                ),
                "depara-nodes": (found.nodes, found.drawn_nodes),
                "depara-edges": (found.edges, found.drawn_edges),
                DEPTH: (depths, depths[None][:0]),
            }
            for method, (similarity, drawn) in scores.items():
                for metric, judge in _METRICS.items():
                    ends = _ends([judge(one, mean) for one in drawn])
                    single = [judge(similarity, one) for one in seeds]
                    rows.append(
                        (source, fraction, method, metric,
                         weight if method == "depara" else np.nan, judge(similarity, mean), *ends,
                         min(single), max(single), found.names[int(similarity.argmax())])
                    )  # fmt: skip
            rows.append(
                (source, fraction, RANDOM, "regret", np.nan, mean.max() - mean.mean(), np.nan,
                 np.nan, *_range(seeds.max(axis=1) - seeds.mean(axis=1)), None)
            )  # fmt: skip
            if len(seeds) > 1:
                agreements = [spearman(one, other) for one, other in combinations(seeds, 2)]
                rows.append(
                    (source, fraction, CEILING, "spearman", np.nan, float(np.mean(agreements)),
                     np.nan, np.nan, *_range(np.array(agreements)), None)
                )  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"layer": object})


def sweep(
    layers: Mapping[str, Layers],
    accuracies: Mapping[tuple[str, str], np.ndarray],
    lambdas: Sequence[float] = LAMBDAS,
) -> pd.DataFrame:
    """Spearman (average ranks) and regret of nodes + lambda * edges against the mean over seeds:
    source, fraction, lambda, metric, value.
    """
    rows = [
        (source, fraction, weight, metric, _METRICS[metric](
            layers[source].nodes + weight * layers[source].edges, seeds.mean(axis=0)))
        for (source, fraction), seeds in accuracies.items()
        for weight in lambdas
        for metric in ("spearman", "regret")
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["source", "fraction", "lambda", "metric", "value"])


def _ends(values: Sequence[float]) -> tuple[float, float]:
    if not len(values):
        return np.nan, np.nan
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def _range(values: np.ndarray) -> tuple[float, float]:
    return float(values.min()), float(values.max())
