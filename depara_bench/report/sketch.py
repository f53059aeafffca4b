"""By what an evaluation knows the affinities that it is of: their values, to the digits that count.

Another processor computes the same affinities with other last digits, so that neither a checksum
nor rounded values (one always lies at the edge) can tell. A few sums of the values with signs drawn
at random move by as much as the values do, in root mean square.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

_SUMS = 8
_TOLERANCE = 1e-3
"""Of the spread of a method's values. In float32 another processor moves them by 1e-6 or so; an
evaluation is printed to three digits."""

Sketch = dict[str, list[float]]


def sketch(affinity: pd.DataFrame) -> Sketch:
    """By method: number, mean and deviation of its values, then sums of them with random signs,
    over the root of their number. Contract C3 in, in any order of its rows.
    """
    found: Sketch = {}
    for method, rows in affinity.groupby("method", sort=True):
        values = rows.sort_values(["target", "source"], kind="stable")["value"].to_numpy(np.float64)
        count = len(values)
        signs = np.random.default_rng(count).choice([-1.0, 1.0], (_SUMS, count))
        sums = signs @ (values - values.mean()) / np.sqrt(count)
        found[str(method)] = [
            float(count),
            float(values.mean()),
            float(values.std()),
            *map(float, sums),
        ]
    return found


def same(noted: Any, affinity: pd.DataFrame) -> bool:
    """Whether a sketch that was noted is of these affinities, but for digits that do not count."""
    now = sketch(affinity)
    if not isinstance(noted, Mapping) or set(noted) != set(now):
        return False
    return all(_close(noted[method], numbers) for method, numbers in now.items())


def _close(noted: list[float], now: list[float]) -> bool:
    if len(noted) != len(now) or noted[0] != now[0]:
        return False
    scale = max(now[2], 1e-9 * abs(now[1]))
    far = np.abs(np.array(noted[1:]) - np.array(now[1:]))
    # The larger values are, the more of them is rounding.
    return bool((far <= _TOLERANCE * scale + 1e-12).all())
