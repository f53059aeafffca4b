"""Centred kernel alignment: cosine of two models' centred kernel matrices (Kornblith et al., ICML
2019), biased, or debiased by unbiased HSIC (Song et al., JMLR 2012; Nguyen et al., ICLR 2021).

The kernel is over all N images at once, so nothing is estimated from batches: a linear one is the
Gram matrix, which may be filled in block by block. Both kernels ignore rotations of the features
and, the width of the Gaussian being the median distance, their scale.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np

from depara_bench.similarity.gram import gram
from depara_bench.similarity.kernels import (
    centred,
    inner,
    rbf,
    squared_distances,
    u_centred,
    upper,
)
from depara_bench.similarity.method import Family, State

_NAMES = ("cka-linear", "cka-linear-debiased", "cka-rbf", "cka-rbf-debiased")


def cka_states(features: np.ndarray, wanted: Collection[str]) -> Iterator[tuple[str, State]]:
    """States of features (N, F): "unit" (N(N+1)/2,) float64, of a debiased one (N(N-1)/2,).

    Zeros, and similarity 0 with any model, where all images are alike (and, debiased, if N < 4).
    """
    products = inner(gram(features))
    for kernel in ("linear", "rbf"):
        plain, debiased = f"cka-{kernel}", f"cka-{kernel}-debiased"
        if plain in wanted or debiased in wanted:
            matrix = products if kernel == "linear" else rbf(squared_distances(products), 1.0)
            if plain in wanted:
                yield plain, {"unit": centred(matrix)}
            if debiased in wanted:
                yield debiased, {"unit": u_centred(upper(matrix))}


CKA = Family(
    _NAMES,
    "cosine of centred kernels, Gaussian width the median distance (Kornblith et al., ICML 2019)",
    cka_states,
)
