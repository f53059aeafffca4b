"""Representational similarity analysis: Spearman correlation of two models' (dis)similarities of
images, which are Pearson correlations of their features (Dwivedi and Roig, CVPR 2019).

Ranks of the distance 1 - r are those of r reversed, in both models, so r itself is ranked.
"""

from __future__ import annotations

import numpy as np

from depara_bench.similarity.edges import unit_ranks
from depara_bench.similarity.gram import gram, pearsons
from depara_bench.similarity.method import Method, State


def rsa_ranks(features: np.ndarray, *, center: bool) -> State:
    """State of features (N, F): "unit" (E,) float64, the centred average ranks of the correlations
    of all pairs of rows, at length 1; see `unit_ranks` for ties.

    A row whose features are all equal correlates 0 with every other. Zeros throughout, and
    similarity 0 with any model, when all correlations tie. center: subtract the mean row first.
    """
    return {"unit": unit_ranks(pearsons(gram(features, center=center))[0])}


def _plain(features: np.ndarray) -> State:
    return rsa_ranks(features, center=False)


def _centred(features: np.ndarray) -> State:
    return rsa_ranks(features, center=True)


RSA = Method(
    "rsa",
    "Spearman of Pearson correlations between images (Dwivedi and Roig, CVPR 2019)",
    _plain,
)
RSA_CENTRED = Method(
    "rsa-centred",
    "RSA on features centred over the probe, as DEPARA's code compares with (CVPR 2020)",
    _centred,
)
