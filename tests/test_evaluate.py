"""Scores of rankings against plain versions, published baselines to the digit, intervals."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, SHARED
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from depara_bench.evaluate import (
    CORRELATIONS,
    average_ranks,
    compare_sentence,
    metric_columns,
    popularity,
    random_score,
    score_all,
    score_target,
    symmetric_ceiling,
)
from depara_bench.intervals import Interval
from depara_bench.truth.imports import SOURCES, TARGETS
from depara_bench.truth.table import read_truth

OWN = np.array([[source == target for source in SOURCES] for target in TARGETS])


def hits(scores: np.ndarray, value: np.ndarray) -> list[float]:
    """Hit counts over the targets at K = 1..19."""
    found = score_all(scores, value, None, OWN)
    return [
        round(sum(score.precision[k] * (k + 1) for score in found), 9)
        for k in range(len(SOURCES) - 1)
    ]


def taskonomy() -> np.ndarray:
    return read_truth("taskonomy", ROOT).restrict(TARGETS, SOURCES).value


def test_baselines_of_the_papers_setting_to_the_digit():
    """Oracle, popularity (leave-target-out) and symmetric reference on the 16k affinities
    (papers.md 6.4 to 6.6)."""
    value = taskonomy()
    ranks = average_ranks(value, OWN)
    assert hits(value, value) == [18, 36, 54, 72] + [90] * 15
    # Mean ranks tie. The published counts break ties by the order of the sources; here tied sources
    # share their places, which gives fractions beside those counts.
    in_order = -1e-9 * np.arange(len(SOURCES))
    popular = popularity(ranks)
    assert hits(popular + in_order, value) == [
        7, 19, 28, 40, 49, 53, 54, 55, 60, 61, 66, 67, 72, 75, 77, 80, 83, 88, 90,
    ]  # fmt: skip
    ceiling = symmetric_ceiling(ranks, TARGETS, SOURCES)
    assert hits(ceiling + in_order, value)[:10] == [18, 36, 52, 65, 78, 81, 85, 86, 89, 90]
    for scores in (popular, ceiling):
        assert np.allclose(hits(scores, value), hits(scores + in_order, value), atol=1.5)


def test_first_order_affinities_that_ship_are_the_published_ones():
    folder = SHARED / "data" / "taskonomy"
    if not folder.is_dir():
        pytest.skip("Taskonomy's published pickles are not beside this checkout")
    from depara_bench.truth.imports import import_truth

    truth = import_truth(folder / "all_affinities_16k.pkl")
    assert np.array_equal(taskonomy()[~OWN], truth.value[~OWN])


def test_published_averages_follow_from_the_published_counts():
    """All 24 averages of DEPARA's table 1 (papers.md 1.3): over 17 targets, Class Places left out;
    the counts that ship are over 18. So hits minus those of Class Places (0 or 1 at K = 1, 0 to 5
    at K = 5) must give the average in two decimals."""
    table = pd.read_csv(ROOT / "zoo" / "taskonomy" / "published" / "hits.csv")
    counts = table[table["paper"] == "depara-2020"].set_index(["probe", "method", "k"])["hits"]
    averages = {
        "taskonomy": "0.88/0.75 0.71/0.68 0.82/0.75 0.82/0.73",
        "indoor": "1.00/0.81 0.82/0.72 1.00/0.78 1.00/0.79",
        "coco": "0.82/0.80 0.82/0.78 0.76/0.65 0.82/0.69",
    }
    for probe, line in averages.items():
        methods = ("depara", "depara-nodes", "depara-edges", "rsa")
        for method, pair in zip(methods, line.split(), strict=True):
            one, five = map(float, pair.split("/"))
            assert any(round((counts[probe, method, 1] - c) / 17, 2) == one for c in (0, 1))
            assert any(round((counts[probe, method, 5] - c) / 85, 2) == five for c in range(6))
    # DEPARA itself, exactly: 1/1/1 at K = 1 and 4/3/1 of 5 at K = 5 for Class Places.
    for probe, places, one, five in (
        ("taskonomy", 4, 15, 64), ("indoor", 3, 17, 69), ("coco", 1, 14, 68),
    ):  # fmt: skip
        assert counts[probe, "depara", 1] - 1 == one
        assert counts[probe, "depara", 5] - places == five


def test_published_counts_are_whole_and_consistent():
    table = pd.read_csv(ROOT / "zoo" / "taskonomy" / "published" / "hits.csv")
    series = table.groupby(["paper", "probe", "method"])["hits"].apply(list)
    assert len(series) == 12 + 10 and all(len(values) == 19 for values in series)
    for values in series:
        assert values == sorted(values) and values[-1] == 90
        assert all(hit <= min(18 * (k + 1), 90) for k, hit in enumerate(values))
    # DEPARA's V is the predecessor's gradient x input, number for number.
    for probe in ("taskonomy", "coco", "indoor"):
        before = series["attribution-maps-2019", probe, "depara-nodes:input_x_gradient"]
        assert series["depara-2020", probe, "depara-nodes"] == before


def slow_precision(scores: np.ndarray, value: np.ndarray, k: int) -> float:
    """P@K averaged over every order of the sources that is sorted by score; no ties in value."""
    relevant = set(np.argsort(-value)[: min(5, len(value))])
    orders = [
        order
        for order in itertools.permutations(range(len(scores)))
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))
    ]
    return float(np.mean([len(relevant & set(order[:k])) / k for order in orders]))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=6, max_size=6), st.integers(0, 1000))
def test_precision_equals_the_mean_over_all_orders_of_ties(scores: list[int], seed: int):
    value = np.random.default_rng(seed).permutation(6).astype(float)
    found = score_target(np.array(scores, dtype=float), value)
    for k in range(1, 7):
        assert found.precision[k - 1] == pytest.approx(slow_precision(np.array(scores), value, k))


def test_correlations_are_scipys_and_constant_rankings_have_none():
    random = np.random.default_rng(0)
    scores, value = random.integers(0, 6, 19).astype(float), random.normal(size=19)
    found = score_target(scores, value)
    assert found.spearman == pytest.approx(stats.spearmanr(scores, value).statistic)
    assert found.kendall == pytest.approx(stats.kendalltau(scores, value).statistic)
    assert found.weighted_tau == pytest.approx(stats.weightedtau(scores, value).statistic)
    assert found.pearson == pytest.approx(stats.pearsonr(scores, value).statistic)
    assert found.ties == sum((scores == s).sum() > 1 for s in scores)
    for a, b in ((np.ones(19), value), (scores, np.ones(19))):
        flat = score_target(a, b)
        assert all(getattr(flat, name) == 0.0 for name in CORRELATIONS)
        assert np.isfinite(flat.precision).all()


def test_regret_and_relative_top1_by_hand():
    value, loss = np.array([0.5, 0.3, 0.2]), np.array([1.0, 1.5, 2.0])
    picked = score_target(np.array([1.0, 3.0, 2.0]), value, loss)
    assert picked.regret == pytest.approx(0.5) and picked.relative_top1 == pytest.approx(0.6)
    tied = score_target(np.array([3.0, 3.0, 2.0]), value, loss)
    assert tied.regret == pytest.approx(0.25) and tied.relative_top1 == pytest.approx(0.8)
    assert score_target(value, value).regret is None


def test_random_is_the_mean_over_all_rankings():
    random = np.random.default_rng(1)
    value, loss = random.random(8), random.random(8) + 1
    drawn = [score_target(random.permutation(8.0 + np.arange(8)), value, loss) for _ in range(800)]
    expected = random_score(value, loss)
    assert np.allclose(np.mean([d.precision for d in drawn], axis=0), expected.precision, atol=0.04)
    assert np.allclose(np.mean([d.recall for d in drawn], axis=0), expected.recall, atol=0.04)
    assert np.mean([d.regret for d in drawn]) == pytest.approx(expected.regret, abs=0.04)
    assert random_score(np.arange(19.0)).precision == pytest.approx(np.full(19, 5 / 19))


def test_sentences():
    assert compare_sentence("A", "B", Interval(0.1, -0.1, 0.3)) == "A and B cannot be told apart"
    few = compare_sentence("A", "B", Interval(0.1, np.nan, np.nan))
    assert few == "no verdict on A and B: fewer than 8 targets"
    assert compare_sentence("A", "B", Interval(0.1, 0.05, 0.3)) == "A ranks better than B"
    assert compare_sentence("A", "B", Interval(-0.2, -0.3, -0.1)) == "B ranks better than A"
    lower = compare_sentence("A", "B", Interval(-0.2, -0.3, -0.1), higher=False)
    assert lower == "A ranks better than B"


def test_self_is_left_out_by_name_and_columns_are_complete():
    """A method that ranks the target itself last, or first, scores the same."""
    random = np.random.default_rng(4)
    value, scores = random.random((18, 20)), random.random((18, 20))
    changed = np.where(OWN, -1e9, scores)
    columns = metric_columns(score_all(scores, value, value + 1, OWN))
    assert len(columns) == 19 * 2 + 6
    for key, values in metric_columns(score_all(changed, value, value + 1, OWN)).items():
        assert np.array_equal(values, columns[key])
