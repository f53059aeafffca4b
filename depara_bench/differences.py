"""Method against method, target by target: how far apart they are, and whether that can be said."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd

from depara_bench.evaluate import Columns, compare_sentence
from depara_bench.intervals import ROUNDING, Limits
from depara_bench.judge import KEYS, Case
from depara_bench.simultaneous import paired


def differences(case: Case, columns: Mapping[str, Columns]) -> pd.DataFrame:
    """Every pair of methods, target by target, over the targets that both say something of: method
    - other; `low` and `high` of this pair alone; `joint_low` and `joint_high` of all pairs of the
    metric at once, and the sentence that these allow.
    """
    frames = []
    for metric, key in KEYS.items():
        pairs = [
            (one, other)
            for one, other in combinations([m for m in case.methods if key in columns[m]], 2)
            if (case.covered(one) & case.covered(other)).any()
        ]
        if not pairs:
            continue
        values = {
            name: _over_all(case, name, columns[name][key]) for pair in pairs for name in pair
        }
        found = paired(
            np.stack([values[one] - values[other] for one, other in pairs], axis=1),
            [_apart(columns[one], columns[other], case.limits[key]) for one, other in pairs],
            case.seed,
        )
        sentences = [
            compare_sentence(*pair, found.joint(place), higher=metric != "regret")
            for place, pair in enumerate(pairs)
        ]
        frames.append(
            pd.DataFrame(
                {
                    "method": [one for one, _ in pairs],
                    "other": [other for _, other in pairs],
                    "metric": metric,
                    **vars(found),
                    "sentence": sentences,
                }
            )
        )
    return pd.concat(frames, ignore_index=True) if frames else _no_differences()


def _no_differences() -> pd.DataFrame:
    words, numbers = (
        ("method", "other", "metric"),
        ("value", "low", "high", "joint_low", "joint_high"),
    )
    columns = (
        dict.fromkeys(words, object) | dict.fromkeys(numbers, np.float64) | {"sentence": object}
    )
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in columns.items()})


def _over_all(case: Case, method: str, values: np.ndarray) -> np.ndarray:
    """Values of a method over all targets (T,), NaN where it says nothing of one."""
    found = np.full(len(case.targets), np.nan)
    found[case.covered(method)] = values
    return found


def _apart(one: Columns, other: Columns, limits: Limits) -> Limits:
    """How far two methods can be apart: not at all where they rank every target alike."""
    alike = all(
        key in other
        and one[key].shape == other[key].shape
        and np.allclose(one[key], other[key], rtol=0.0, atol=ROUNDING)
        for key in one
    )
    return Limits(0.0, 0.0) if alike else limits.difference
