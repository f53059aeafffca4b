"""Intervals over few targets, and over many pairs: exact cases, coverage, invariances."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from depara_bench.evaluate import metric_columns, metric_limits, score_all
from depara_bench.intervals import FEWEST, Limits, mean_interval, mean_intervals
from depara_bench.simultaneous import joint_ends, paired

SHARE, CORRELATION = Limits(0.0, 1.0), Limits(-1.0, 1.0)


@given(st.integers(FEWEST, 60), st.data())
@settings(max_examples=30, deadline=None)
def test_a_proportion_has_the_exact_binomial_interval(targets: int, data):
    hits = data.draw(st.integers(0, targets))
    values = np.repeat([0.0, 1.0], [targets - hits, hits])
    exact = stats.binomtest(hits, targets).proportion_ci(method="exact")
    found = mean_interval(values, SHARE)
    assert [found.low, found.high] == pytest.approx([exact.low, exact.high], abs=1e-9)
    # Of R@1 the same, in fifths.
    fifth = mean_interval(values / 5, Limits(0.0, 0.2))
    assert [fifth.low, fifth.high] == pytest.approx([exact.low / 5, exact.high / 5], abs=1e-9)


def test_eighteen_of_eighteen():
    found = mean_interval(np.ones(18), SHARE)
    assert (round(found.low, 2), found.high) == (0.81, 1.0)


def test_fewer_than_eight_targets_have_no_interval_and_no_verdict():
    for targets in (1, 3, 7):
        found = mean_interval(np.arange(targets) / 10, SHARE)
        assert np.isnan([found.low, found.high]).all() and np.isfinite(found.value)
        pairs = paired(np.ones((targets, 2)), [CORRELATION] * 2)
        ends = (pairs.low, pairs.high, pairs.joint_low, pairs.joint_high)
        assert np.isnan(ends).all() and (pairs.value == 1.0).all()
    assert np.isfinite(mean_interval(np.arange(8) / 10, SHARE).low)


def test_one_value_for_all_targets():
    """So many could have had another: 1 - .025^(1/T), at a limit; none where there is no room."""
    share = 1 - 0.025 ** (1 / 12)
    found = mean_interval(np.full(12, 0.4), SHARE)
    assert [found.low, found.high] == pytest.approx([0.4 - share * 0.4, 0.4 + share * 0.6])
    zero = mean_interval(np.zeros(12), Limits(0.0, 3.0))
    assert [zero.low, zero.high] == pytest.approx([0.0, 3 * share])
    fixed = mean_interval(np.full(12, 0.25), Limits(0.25, 0.25))
    assert (fixed.low, fixed.value, fixed.high) == (0.25, 0.25, 0.25)


def test_one_odd_target_leaves_resamples_without_spread():
    """A third of them are all zero: the end that they leave open is the exact bound's."""
    values = np.append(np.zeros(17), 0.5)
    found = mean_interval(values, Limits(0.0, 2.0))
    bound = 2 * (1 - 0.025 ** (1 / 18))  # of zeros alone
    assert 0.0 <= found.low < found.value < found.high
    assert bound < found.high < bound + 0.15


@given(st.integers(0, 10**6), st.integers(FEWEST, 25), st.floats(0.1, 9.0), st.floats(-3.0, 3.0))
@settings(max_examples=10, deadline=None)
def test_intervals_move_with_their_values(seed: int, targets: int, factor: float, shift: float):
    """Scaled, moved, turned over, in another column, the interval does the same; the order of the
    targets matters to the resamples alone.
    """
    values = np.random.default_rng(seed).random(targets) ** 3
    here = mean_interval(values, SHARE)
    moved = mean_interval(values * factor + shift, Limits(shift, factor + shift))
    expected = [here.low * factor + shift, here.high * factor + shift]
    assert [moved.low, moved.high] == pytest.approx(expected, abs=1e-9)
    turned = mean_interval(1 - values, SHARE)
    assert [1 - turned.high, 1 - turned.low] == pytest.approx([here.low, here.high], abs=1e-9)
    low, high = mean_intervals(np.stack([values[::-1], values], axis=1), [SHARE] * 2)
    assert [low[1], high[1]] == pytest.approx([here.low, here.high], abs=1e-12)
    assert [low[0], high[0]] == pytest.approx([here.low, here.high], abs=0.06)
    assert 0.0 <= here.low <= here.value <= here.high <= 1.0


@pytest.mark.parametrize("targets", [8, 18])
@pytest.mark.parametrize("kind", ["smooth", "p@1", "p@5", "regret"])
def test_intervals_hold_the_mean_in_nine_of_ten(kind: str, targets: int):
    random = np.random.default_rng(targets)
    shape, limits = (targets, 600), SHARE
    if kind == "smooth":
        values, mean = random.beta(8, 1.5, shape), 8 / 9.5
    elif kind == "p@1":
        values, mean = (random.random(shape) < 0.95) * 1.0, 0.95
    elif kind == "p@5":
        values, mean = random.binomial(5, 0.95, shape) / 5, 0.95
    else:
        values = np.where(random.random(shape) < 0.7, 0.0, random.exponential(0.3, shape))
        mean, limits = 0.09, Limits(0.0, 6.0)
    low, high = mean_intervals(values, [limits] * 600)
    assert ((low <= mean) & (mean <= high)).mean() >= 0.92


@pytest.mark.parametrize("kind", ["normal", "p@1", "leaning"])
def test_equal_methods_are_hardly_ever_told_apart(kind: str):
    """60 methods, 1,770 pairs, 12 targets: any pair in at most one league of six."""
    random, told = np.random.default_rng(6), 0
    one, other = np.array(list(combinations(range(60), 2))).T
    for _ in range(6):
        scores = random.normal(size=(12, 60))
        if kind == "p@1":
            scores = (scores > -0.5) * 1.0
        elif kind == "leaning":
            scores = np.exp(scores)
        apart = scores[:, one] - scores[:, other]
        low, high = joint_ends(apart, [Limits(-100.0, 100.0)] * len(one))
        told += bool(((low > 0) | (high < 0)).any())
    low, high = mean_intervals(apart, [Limits(-100.0, 100.0)] * len(one))
    assert told <= 1 and ((low > 0) | (high < 0)).any()


def test_what_is_clear_is_told_among_many():
    random = np.random.default_rng(8)
    scores = random.normal(0.5, 0.05, (18, 25))
    scores[:, 7] += 0.3
    pairs = list(combinations(range(25), 2))
    one, other = np.array(pairs).T
    found = paired(scores[:, one] - scores[:, other], [CORRELATION.difference] * len(pairs))
    told = {
        pair for p, pair in enumerate(pairs) if found.joint_low[p] > 0 or found.joint_high[p] < 0
    }
    assert told == {pair for pair in pairs if 7 in pair}


def test_pairs_of_fewer_targets_do_not_widen_those_of_many():
    random = np.random.default_rng(9)
    apart = random.normal(0.1, 0.1, (30, 40))
    gappy = apart.copy()
    gappy[8:, 20:] = np.nan
    limits = [CORRELATION] * 40
    whole, mixed = paired(apart, limits), paired(gappy, limits)
    width = (whole.joint_high - whole.joint_low)[:20].mean()
    assert (mixed.joint_high - mixed.joint_low)[:20].mean() < 1.15 * width
    assert (mixed.joint_high - mixed.joint_low)[20:].mean() > 2 * width
    gappy[7:, 20:] = np.nan
    few = paired(gappy, limits)
    assert np.isnan(few.joint_low[20:]).all() and np.isfinite(few.joint_low[:20]).all()
    alone = paired(gappy[:, :20], limits[:20])
    np.testing.assert_array_equal(alone.joint_low, few.joint_low[:20])


def test_always_better_by_the_same_is_told_with_enough_targets():
    """1 for every target has no spread; with 1,770 pairs 8 targets are too few, 18 are enough."""
    limits = [SHARE.difference] * 1770
    for targets, told in ((8, False), (18, True)):
        apart = np.zeros((targets, 1770))
        apart[:, 0] = 1.0
        assert (joint_ends(apart, limits)[0][0] > 0.0) == told
        assert paired(apart[:, :1], limits[:1]).joint_low[0] > 0.0


@given(st.integers(0, 10**6), st.integers(2, 4), st.integers(3, 9), st.booleans())
@settings(max_examples=15, deadline=None)
def test_no_score_lies_beyond_the_limits_of_its_metric(
    seed: int, targets: int, sources: int, beside: bool
):
    random = np.random.default_rng(seed)
    value = random.integers(1, 9, (targets, sources)).astype(float)
    loss, own = 10 - value, np.eye(targets, sources, dtype=bool)
    own[-1] &= beside
    if (~own).sum(axis=1).min() < 2:
        return
    limits = metric_limits(value, loss, own)
    for scores in (value, -value, random.integers(0, 4, value.shape) * 1.0):
        for key, found in metric_columns(score_all(scores, value, loss, own)).items():
            assert limits[key].low - 1e-9 <= found.min() and found.max() <= limits[key].high + 1e-9
    best = metric_columns(score_all(value, value, loss, own))
    assert best["regret", None].max() == limits["regret", None].low == 0.0
    worst = metric_columns(score_all(-loss * -1.0, value, loss, own))["regret", None]
    assert worst.max() == pytest.approx(limits["regret", None].high)


def test_seeds_give_the_same_and_other_draws():
    values = np.random.default_rng(3).random(18)
    assert mean_interval(values, SHARE, 5) == mean_interval(values, SHARE, 5)
    assert mean_interval(values, SHARE, 5) != mean_interval(values, SHARE, 6)
