"""k-NN: each image's label predicted from those of the 5 images of most similar features."""

from __future__ import annotations

import numpy as np

from depara_bench.labelled.labels import accuracy, indexed, one_hot, r_squared, varying
from depara_bench.labelled.score import Score
from depara_bench.labelled.spectrum import checked
from depara_bench.similarity.method import State

_NEIGHBOURS = 5
_RESOLUTION = 2.0**-30


def prepare(features: np.ndarray) -> State:
    """near (N, N) bool: row i marks the 5 other images of largest cosine similarity to image i.

    Cosines are those of the features as they are, not centred; that of a zero vector is 0. Images
    that tie with the fifth (within 2^-30) are all marked, so that the order of images is
    immaterial. With fewer than 6 images all others are marked.
    """
    rows = checked(features)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0.0)
    cosines = np.dot(rows, rows.T)
    np.fill_diagonal(cosines, -2.0)
    rank = min(_NEIGHBOURS, len(rows) - 1)
    last = np.partition(cosines, -rank, axis=1)[:, -rank]
    return {"near": cosines >= last[:, None] - _RESOLUTION}


def classes(state: State, labels: np.ndarray) -> float:
    """Leave-one-out accuracy of the majority vote, in [0, 1]; m classes that tie count 1/m each."""
    near = state["near"]
    index, _ = indexed(labels, len(near))
    return accuracy(np.dot(near.astype(np.float64), one_hot(index)), index)


def regression(state: State, targets: np.ndarray) -> float:
    """Leave-one-out R2 of the neighbours' mean, at most 1, mean over columns of targets (N, K).

    Columns that do not vary are left out.
    """
    near = state["near"].astype(np.float64)
    values = varying(targets, len(near))
    return r_squared(values, np.dot(near, values) / near.sum(axis=1, keepdims=True))


SCORE = Score(
    "knn",
    "leave-one-out 5-nearest-neighbour accuracy or R2, cosine",
    ("labels",),
    prepare,
    classes,
    regression,
)
