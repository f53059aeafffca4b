"""What a label-based score is: what it needs, what it computes once per source, what per target.

    SCORE = Score("my-score", "one line, with the paper", ("labels",), prepare, classes)

The features of a source are the same for all targets: `prepare` is called once for each source and
`classes` or `regression` for each target. Scores that share one `prepare` share its State, so that
ten scores that start from the same decomposition cost one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from depara_bench.similarity.method import State


@dataclass(frozen=True)
class Score:
    """How well a source serves a target, judged from the target's labels on the probe images.

    about: one line, with the paper. needs: "labels" and, for those that read the class
    probabilities of the source's own head in place of its features, "source probabilities".
    prepare: features (N, F), or probabilities (N, Z), of one source to its State; raises InputError
    for values that are not finite. classes: State and labels (N,) int to the score. regression:
    State and targets (N, K) to the score; None where the score has no such form. Both give a finite
    number, higher is better, and raise InputError for labels that ask nothing of a source (one
    class only, constant targets).
    """

    name: str
    about: str
    needs: tuple[str, ...]
    prepare: Callable[[np.ndarray], State]
    classes: Callable[[State, np.ndarray], float] | None
    regression: Callable[[State, np.ndarray], float] | None = None
