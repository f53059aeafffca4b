"""Paired differences of many methods at once: intervals that hold for all pairs together, 95 %.

Of 60 equal methods the best and the worst always look different, and an interval for one pair does
not know that they were picked. A verdict therefore needs the interval that holds for every pair of
the league: the largest studentised mean of all pairs, with signs drawn at random for the targets,
as they are where methods are equal (max-t of the wild bootstrap), widens each interval by one
factor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import stats

from depara_bench.intervals import (
    COLUMNS,
    FEWEST,
    RESAMPLES,
    ROUNDING,
    TAIL,
    Interval,
    Limits,
    mean_intervals,
    other_share,
    rounded,
    within,
)


@dataclass(frozen=True)
class Differences:
    """Of P pairs, (P,) each: mean difference; the ends of its own interval; those of the interval
    that holds for all pairs at once. Ends are NaN where there are too few targets.
    """

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    joint_low: np.ndarray
    joint_high: np.ndarray

    def joint(self, pair: int) -> Interval:
        """What a verdict on a pair is read off."""
        found = (self.value, self.joint_low, self.joint_high)
        return Interval(*(float(numbers[pair]) for numbers in found))


@lru_cache(maxsize=4)
def _signs(count: int, seed: int) -> np.ndarray:
    """(RESAMPLES, count): a sign for each target."""
    return np.random.default_rng([seed, 2]).choice([-1.0, 1.0], (RESAMPLES, count))


def paired(differences: np.ndarray, limits: Sequence[Limits], seed: int = 0) -> Differences:
    """Mean differences (T, P), one minus other target by target, each within its limits; NaN where
    a pair does not cover a target, which each covers at least one of.

    Pairs of fewer targets have larger t by nature, and are compared with the others by their
    probability. A joint interval holds the pair's own. A difference that is the same for all
    targets has no spread: its joint interval is the exact one, of its part of the 5 %.
    """
    covered = np.isfinite(differences)
    count = covered.sum(axis=0)
    value = np.nansum(differences, axis=0) / count
    value[np.abs(value) <= ROUNDING] = 0.0
    ends = np.full((4, len(count)), np.nan)
    for mask in np.unique(covered, axis=1).T:
        pairs = np.flatnonzero((covered == mask[:, None]).all(axis=0))
        ends[:2, pairs] = mean_intervals(
            differences[np.ix_(mask, pairs)], [limits[int(pair)] for pair in pairs], seed
        )
    joint = joint_ends(differences, limits, seed)
    ends[2], ends[3] = np.fmin(ends[0], joint[0]), np.fmax(ends[1], joint[1])
    return Differences(value, *(rounded(end, value) for end in ends))


def joint_ends(
    differences: np.ndarray, limits: Sequence[Limits], seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Ends (P,) of intervals that hold for all P mean differences at once, as `paired` has them but
    for the pairs' own.
    """
    count = np.isfinite(differences).sum(axis=0)
    ends = np.full((2, len(count)), np.nan)
    judged = np.flatnonzero(count >= FEWEST)
    if len(judged):
        known, targets = differences[:, judged], count[judged]
        mean = np.nansum(known, axis=0) / targets
        lowest, highest = within(known, [limits[int(pair)] for pair in judged])
        wide, part = _halves(known, targets, seed), _part(targets, len(judged))
        flat = wide == 0.0
        down = np.where(flat, part * (mean - lowest), wide)
        up = np.where(flat, part * (highest - mean), wide)
        ends[:, judged] = np.maximum(mean - down, lowest), np.minimum(mean + up, highest)
    return ends[0], ends[1]


def _part(count: np.ndarray, pairs: int) -> np.ndarray:
    """For each pair the share of its targets that may differ where `count` (P,) do not."""
    return np.array([other_share(int(targets), TAIL / pairs) for targets in count])


def _halves(differences: np.ndarray, count: np.ndarray, seed: int) -> np.ndarray:
    """Half the widths (P,) of the joint intervals; 0 where a difference has no spread."""
    signs = _signs(len(differences), seed)
    mean, known = np.nansum(differences, axis=0) / count, np.nan_to_num(differences)
    apart = np.where(np.isfinite(differences), differences - mean, 0.0)
    apart[:, np.abs(apart).max(axis=0) <= ROUNDING] = 0.0
    size = (known * known).sum(axis=0) / count
    least = np.ones(RESAMPLES)
    for targets in np.unique(count):
        pairs = np.flatnonzero((count == targets) & (size > 0.0))
        largest = np.zeros(RESAMPLES)
        for at in range(0, len(pairs), COLUMNS):
            few = pairs[at : at + COLUMNS]
            shift = signs @ known[:, few] / targets
            shift *= shift
            shift /= np.maximum(size[few] - shift, 1e-14 * size[few])
            np.maximum(largest, shift.max(axis=1), out=largest)
        t = np.sqrt(largest * (targets - 1))
        np.minimum(least, stats.t.sf(t, targets - 1), out=least)
    tail = np.sort(least)[int(2 * TAIL * (RESAMPLES + 1)) - 1]
    error = np.sqrt((apart * apart).sum(axis=0) / count / (count - 1))
    found: np.ndarray = np.where(error > 0.0, stats.t.isf(tail, count - 1) * error, 0.0)
    return found
