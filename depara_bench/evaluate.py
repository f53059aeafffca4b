"""How well a method's affinities agree with a truth: per target, over all targets, with intervals.

Conventions, the same for every method. The source that is the target itself is left out by name.
Relevant are the `RELEVANT` best sources by the truth. Tied scores share their places: P@K and R@K
are expectations over the order of tied sources, correlations use average ranks. A method (or a
truth) that gives all sources one value has no ranking: its correlations are 0. NaN is refused
before anything is scored, so no score is NaN; a metric that has no meaning (regret without losses,
relative top-1 where the best value is not positive) is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from depara_bench.intervals import FEWEST, ROUNDING, Interval, Limits

RELEVANT = 5
"""Best sources of a target that count as relevant, as in DEPARA."""

CORRELATIONS = ("spearman", "kendall", "weighted_tau", "pearson")

Columns = Mapping[tuple[str, int | None], np.ndarray]
"""Values (T,), one a target, by (metric, K)."""


@dataclass(frozen=True)
class TargetScore:
    """Scores of one ranking of n sources against the truth.

    precision, recall: (n,) P@K and R@K for K = 1..n. The correlations; regret: loss lost by
    following the first choice, relative to the best source's loss (None where the truth has no
    losses); relative_top1: value of the first choice over that of the best (None where that is not
    positive). ties: how many sources share their score with another.
    """

    precision: np.ndarray
    recall: np.ndarray
    spearman: float
    kendall: float
    weighted_tau: float
    pearson: float
    regret: float | None
    relative_top1: float | None
    ties: int


def score_target(
    scores: np.ndarray, value: np.ndarray, loss: np.ndarray | None = None
) -> TargetScore:
    """Compare scores (n,) of a method with the value (n,) and loss (n,) of the same sources.

    Higher scores and values are better. n >= 2; self already left out.
    """
    hits = np.cumsum(expected_relevance(scores, relevance(value)))
    count = len(scores)
    chosen = scores == scores.max()
    return TargetScore(
        precision=hits / np.arange(1, count + 1),
        recall=hits / min(RELEVANT, count),
        regret=None if loss is None else float(loss[chosen].mean() / loss.min() - 1.0),
        relative_top1=_relative(value[chosen].mean(), value),
        ties=int(count - (np.unique(scores, return_counts=True)[1] == 1).sum()),
        **correlations(scores, value),
    )


def _relative(chosen: float, value: np.ndarray) -> float | None:
    best = float(value.max())
    return float(chosen) / best if best > 0.0 else None


def relevance(value: np.ndarray) -> np.ndarray:
    """(n,) in [0, 1], sum min(RELEVANT, n): 1 for the best sources; those that tie for the last
    places share them.
    """
    count = min(RELEVANT, len(value))
    threshold = np.sort(value)[-count]
    above = value > threshold
    tied = value == threshold
    shared: np.ndarray = above + tied * (count - above.sum()) / tied.sum()
    return shared


def expected_relevance(scores: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Relevance at each place of the ranking, (n,), expected over the order of tied scores."""
    _, group, sizes = np.unique(-scores, return_inverse=True, return_counts=True)
    return np.repeat(np.bincount(group, weights=relevant) / sizes, sizes)


def correlations(scores: np.ndarray, value: np.ndarray) -> dict[str, float]:
    """Correlations of scores (n,) and value (n,), by the names of `CORRELATIONS`.

    Spearman; Kendall's tau-b; weighted tau with hyperbolic weights averaged over both rankings
    (Vigna 2015, scipy's default, as the LogME papers); Pearson.
    """
    if np.ptp(scores) == 0.0 or np.ptp(value) == 0.0:
        return dict.fromkeys(CORRELATIONS, 0.0)
    return {
        "spearman": float(stats.spearmanr(scores, value).statistic),
        "kendall": float(stats.kendalltau(scores, value).statistic),
        "weighted_tau": float(stats.weightedtau(scores, value).statistic),
        "pearson": float(stats.pearsonr(scores, value).statistic),
    }


def random_score(value: np.ndarray, loss: np.ndarray | None = None) -> TargetScore:
    """What a ranking drawn at random scores on average: P@K = RELEVANT / n for every K."""
    count = len(value)
    share = min(RELEVANT, count) / count
    ks = np.arange(1, count + 1)
    return TargetScore(
        precision=np.full(count, share),
        recall=share * ks / min(RELEVANT, count),
        **dict.fromkeys(CORRELATIONS, 0.0),
        regret=None if loss is None else float(loss.mean() / loss.min() - 1.0),
        relative_top1=_relative(value.mean(), value),
        ties=0,
    )


def average_ranks(value: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Ranks (T, S) by falling value, 1 = best, per target, self pairs (own, bool) NaN."""
    ranks = np.full(value.shape, np.nan)
    for t in range(len(value)):
        others = ~own[t]
        ranks[t, others] = stats.rankdata(-value[t, others])
    return ranks


def popularity(ranks: np.ndarray) -> np.ndarray:
    """Scores (T, S) that know nothing of the target: minus each source's mean rank over the *other*
    targets (leave-target-out). ranks (T, S), self NaN.
    """
    scores = np.empty_like(ranks)
    for t in range(len(ranks)):
        rest = np.delete(ranks, t, axis=0)
        known = np.isfinite(rest)
        sums = np.where(known, rest, 0.0).sum(axis=0)
        # A source that is ranked for no other target has no popularity: the middle of the field.
        middle = (ranks.shape[1]) / 2
        scores[t] = -np.where(known.any(axis=0), sums / np.maximum(known.sum(axis=0), 1), middle)
    return scores


def symmetric_ceiling(
    ranks: np.ndarray, targets: Sequence[str], sources: Sequence[str]
) -> np.ndarray:
    """Scores (T, S) of a symmetric method that knows the truth: minus the mean of the ranks of the
    pair in both directions. Not a proven ceiling; it shows what symmetry costs. A source that is no
    target has one direction only, which counts alone.
    """
    scores = -ranks.copy()
    row, column = {n: i for i, n in enumerate(targets)}, {n: i for i, n in enumerate(sources)}
    for t, target in enumerate(targets):
        for s, source in enumerate(sources):
            if source != target and source in row and target in column:
                scores[t, s] = -(ranks[t, s] + ranks[row[source], column[target]]) / 2
    return scores


def self_agreement(seeds: np.ndarray, own: np.ndarray) -> Columns:
    """How well a truth agrees with itself: values of each seed (R, T, S), R >= 2, as scores against
    the mean of the other seeds; the scores are averaged over the seeds.
    """
    rounds = [
        metric_columns(score_all(seeds[r], np.delete(seeds, r, axis=0).mean(axis=0), None, own))
        for r in range(len(seeds))
    ]
    shared = [key for key in rounds[0] if all(key in found for found in rounds)]
    return {key: np.mean([found[key] for found in rounds], axis=0) for key in shared}


def compare_sentence(one: str, other: str, difference: Interval, higher: bool = True) -> str:
    """A paired difference (one - other) in words; `higher`: more of the metric is better."""
    if not np.isfinite(difference.low):
        return f"no verdict on {one} and {other}: fewer than {FEWEST} targets"
    if not (difference.low > ROUNDING or difference.high < -ROUNDING):
        return f"{one} and {other} cannot be told apart"
    first = (difference.value > 0.0) == higher
    better, worse = (one, other) if first else (other, one)
    return f"{better} ranks better than {worse}"


def score_all(
    scores: np.ndarray, value: np.ndarray, loss: np.ndarray | None, own: np.ndarray
) -> list[TargetScore]:
    """`score_target` for each row of scores (T, S) against value and loss (T, S); own (T, S) bool
    marks self pairs, which are left out.
    """
    return [
        score_target(
            scores[t, ~own[t]], value[t, ~own[t]], None if loss is None else loss[t, ~own[t]]
        )
        for t in range(len(scores))
    ]


def metric_columns(scores: Sequence[TargetScore]) -> Columns:
    """Values (T,) by (metric, K), as contract C5 names them; K None where there is none. K ends
    where the target with the fewest sources does.
    """
    columns: dict[tuple[str, int | None], np.ndarray] = {}
    for k in range(1, min(len(score.precision) for score in scores) + 1):
        columns["p@k", k] = np.array([score.precision[k - 1] for score in scores])
        columns["r@k", k] = np.array([score.recall[k - 1] for score in scores])
    for metric in (*CORRELATIONS, "regret", "relative_top1"):
        values = [getattr(score, metric) for score in scores]
        if None not in values:
            columns[metric, None] = np.array(values, dtype=np.float64)
    return columns


def metric_limits(
    value: np.ndarray, loss: np.ndarray | None, own: np.ndarray
) -> dict[tuple[str, int | None], Limits]:
    """The least and the largest value that each metric can have for a target of this truth: value,
    loss (T, S), own (T, S) bool. Regret ends at the largest that a target's worst source has.
    """
    counts = np.unique((~own).sum(axis=1))
    found: dict[tuple[str, int | None], Limits] = {
        (metric, None): Limits(-1.0, 1.0) for metric in CORRELATIONS
    }
    for k in range(1, int(counts.min()) + 1):
        relevant = np.minimum(RELEVANT, counts)
        hits = np.maximum(k - (counts - relevant), 0), np.minimum(k, relevant)
        found["p@k", k] = Limits(float(hits[0].min()) / k, float(hits[1].max()) / k)
        low, high = (one / relevant for one in hits)
        found["r@k", k] = Limits(float(low.min()), float(high.max()))
    best = value.max(axis=1, where=~own, initial=-np.inf)
    worst = value.min(axis=1, where=~own, initial=np.inf)
    lowest = float((worst / best).min()) if (best > 0.0).all() else -np.inf
    found["relative_top1", None] = Limits(lowest, 1.0)
    if loss is not None:
        least = loss.min(axis=1, where=~own, initial=np.inf)
        most = loss.max(axis=1, where=~own, initial=-np.inf)
        found["regret", None] = Limits(0.0, float((most / least).max() - 1.0))
    return found
