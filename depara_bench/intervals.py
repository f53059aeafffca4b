"""Intervals of means over targets: 95 %, for few and skewed values, and for many pairs at once.

A mean over T targets has the interval of the studentised bootstrap (bootstrap-t: Efron 1982; Hall
1988), and no end of it lies beyond that of a bound for any values within known limits, which is the
mean of the targets and one more at the limit, weighted by a Dirichlet (Learned-Miller and Thomas
2019). For values that are at the limits alone, as P@1 is, that bound is the exact binomial interval
of Clopper and Pearson, and stands alone. So it does where all targets have one value, and nothing
can be resampled: of T targets, 1 - .025^(1/T) could have been at either limit. With fewer than
`FEWEST` targets there is no interval: NaN.

`benchmarks/coverage.py` shows how often such intervals hold the true mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import stats

FEWEST = 8
"""Targets that an interval needs."""

RESAMPLES = 4000
"""Bootstrap resamples of the targets."""

ROUNDING = 1e-12
"""What is left of a difference that is zero on paper."""

NO_INTERVAL = f"no interval: fewer than {FEWEST} targets"

TAIL = 0.025
COLUMNS = 256
_LAST = int(TAIL * (RESAMPLES + 1)) - 1  # the end of a sorted row that leaves out the tail


@dataclass(frozen=True)
class Limits:
    """The least and the largest value that a metric can have."""

    low: float
    high: float

    @property
    def difference(self) -> Limits:
        """Of the difference of two such values."""
        return Limits(self.low - self.high, self.high - self.low)


@dataclass(frozen=True)
class Interval:
    """A mean over targets and the ends of its 95 % interval, NaN where there is none."""

    value: float
    low: float
    high: float


@lru_cache(maxsize=4)
def _resamples(count: int, seed: int) -> np.ndarray:
    """(RESAMPLES, count): how often each of `count` targets was drawn, over count."""
    random = np.random.default_rng(seed)
    return random.multinomial(count, np.full(count, 1 / count), RESAMPLES) / count


@lru_cache(maxsize=4)
def _weights(count: int, seed: int) -> np.ndarray:
    """(RESAMPLES, count + 1): weights of the targets, and of one more at a limit."""
    return np.random.default_rng([seed, 1]).dirichlet(np.ones(count + 1), RESAMPLES)


def mean_interval(values: np.ndarray, limits: Limits, seed: int = 0) -> Interval:
    """Mean of values (T,), one a target, all within limits, and its interval."""
    ends = mean_intervals(values[:, None], [limits], seed)
    return Interval(float(values.mean()), *(float(end[0]) for end in ends))


def mean_intervals(
    values: np.ndarray, limits: Sequence[Limits], seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Ends (P,) of the intervals of the means of values (T, P), each column with its own limits."""
    count, columns = values.shape
    if count < FEWEST or not columns:
        return np.full(columns, np.nan), np.full(columns, np.nan)
    lowest, highest = within(values, limits)
    return _by_columns(
        columns, lambda part: _mean_ends(values[:, part], lowest[part], highest[part], seed)
    )


def within(values: np.ndarray, limits: Sequence[Limits]) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest (P,) of values (T, P); rounding may have carried one beyond."""
    lowest, highest = (np.array([getattr(one, end) for one in limits]) for end in ("low", "high"))
    return (
        np.fmin(lowest, np.nanmin(values, axis=0)),
        np.fmax(highest, np.nanmax(values, axis=0)),
    )


def _by_columns(
    columns: int, ends: Callable[[slice], tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """Ends of all columns, a few at a time."""
    parts = [ends(slice(at, at + COLUMNS)) for at in range(0, columns, COLUMNS)]
    low, high = (np.concatenate([part[end] for part in parts]) for end in (0, 1))
    return low, high


def _mean_ends(
    values: np.ndarray, lowest: np.ndarray, highest: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    mean = values.mean(axis=0)
    low, high = _bounds(values, lowest, highest, seed)
    exact = ((values == lowest) | (values == highest)).all(axis=0)
    t_low, t_high = _bootstrap_t(values, seed)
    low = np.where(exact, low, np.maximum(low, t_low))
    high = np.where(exact, high, np.minimum(high, t_high))
    return rounded(np.minimum(low, mean), mean), rounded(np.maximum(high, mean), mean)


def rounded(ends: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """An end that differs from the mean by rounding alone is the mean."""
    found: np.ndarray = np.where(np.abs(ends - mean) <= ROUNDING, mean, ends)
    return found


def _bootstrap_t(values: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Ends (P,) of bootstrap-t. A resample of one value has no spread: its t is infinite, and
    where more than a tail of them are, so is the end. Without any spread both are.
    """
    mean, spread = values.mean(axis=0), values.var(axis=0)
    rest = values - mean
    drawn = _resamples(len(values), seed)
    shift = drawn @ rest
    spreads = drawn @ (rest * rest) - shift * shift
    flat = spreads <= 1e-12 * spread
    with np.errstate(divide="ignore", invalid="ignore"):
        t = shift / np.sqrt(np.where(flat, 0.0, spreads))
    t[np.isnan(t)] = 0.0
    t.partition((_LAST, RESAMPLES - 1 - _LAST), axis=0)
    size = np.sqrt(spread)
    alike = np.ptp(values, axis=0) <= ROUNDING
    low = np.where(alike, -np.inf, mean - t[RESAMPLES - 1 - _LAST] * size)
    return low, np.where(alike, np.inf, mean - t[_LAST] * size)


def _bounds(
    values: np.ndarray, lowest: np.ndarray, highest: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Ends (P,) that hold for all values within the limits."""
    count = len(values)
    weights = _weights(count, seed)
    middle = weights[:, :count] @ values
    lows, highs = middle + weights[:, count:] * lowest, middle + weights[:, count:] * highest
    lows.partition(_LAST, axis=0)
    highs.partition(RESAMPLES - 1 - _LAST, axis=0)
    low, high = lows[_LAST], highs[RESAMPLES - 1 - _LAST]
    alike = np.ptp(values, axis=0) <= ROUNDING
    share, value = other_share(count, TAIL), values[0]
    low = np.where(alike, value - share * (value - lowest), low)
    high = np.where(alike, value + share * (highest - value), high)
    at_limits = (values == lowest) | (values == highest)
    for column in np.flatnonzero(at_limits.all(axis=0) & ~alike):
        hits = int((values[:, column] == highest[column]).sum())
        exact = stats.beta.ppf(
            [TAIL, 1.0 - TAIL], [hits, hits + 1], [count - hits + 1, count - hits]
        )
        low[column], high[column] = lowest[column] + exact * (highest[column] - lowest[column])
    return low, high


def other_share(count: int, tail: float) -> float:
    """The share of targets that may differ where `count` do not (exact binomial)."""
    return float(1.0 - tail ** (1.0 / count))
