"""NCE: minus the conditional entropy of the labels given the source's predicted class
(Tran et al., ICCV 2019).
"""

from __future__ import annotations

import numpy as np

from depara_bench.labelled.labels import indexed, one_hot
from depara_bench.labelled.leep import prepare
from depara_bench.labelled.score import Score
from depara_bench.similarity.method import State


def classes(state: State, labels: np.ndarray) -> float:
    """-H(Y|Z), at most 0, with Z the class of the largest probability (the first of equals)."""
    probabilities = state["probabilities"]
    index, _ = indexed(labels, len(probabilities))
    _, predicted = np.unique(probabilities.argmax(axis=1), return_inverse=True)
    joint = np.dot(one_hot(index).T, one_hot(predicted))
    conditional = joint / joint.sum(axis=0)
    return float(np.log(conditional[index, predicted]).mean())


SCORE = Score(
    "nce",
    "negative conditional entropy of labels given source classes (Tran et al., ICCV 2019)",
    ("labels", "source probabilities"),
    prepare,
    classes,
)
