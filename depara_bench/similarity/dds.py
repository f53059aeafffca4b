"""Duality diagram similarity (Dwivedi et al., ECCV 2020): normalise the features, compare all pairs
of images by a kernel or a distance, and take the cosine of two models' U-centred matrices.

42 methods, `dds-<f>-<normalisation>`: six f times seven normalisations. Five of the six f are read
off one Gram matrix per model and normalisation, the sixth off one matrix of L1 distances.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np

from depara_bench.similarity.gram import Gram, cosines, gram, pearsons
from depara_bench.similarity.kernels import inner, rbf, squared_distances, u_centred, upper
from depara_bench.similarity.method import Family, State

MEASURES = ("rbf", "laplacian", "linear", "pearson", "euclidean", "cosine")
NORMALISATIONS = ("none", "centering", "znorm", "group", "instance", "layer", "batch")
_CHANNELS = 8  # of the encoders that the method was published for
_EPSILON = 1e-9


def dds_states(features: np.ndarray, wanted: Collection[str]) -> Iterator[tuple[str, State]]:
    """States of features (N, F): "unit" (N(N-1)/2,) float64.

    Zeros, and similarity 0 with any model, where all pairs of images are alike, or N < 4.
    """
    for normalisation in NORMALISATIONS:
        names = {measure: f"dds-{measure}-{normalisation}" for measure in MEASURES}
        names = {measure: name for measure, name in names.items() if name in wanted}
        if names:
            rows = normalised(features, normalisation)
            matrix = gram(rows, center=normalisation == "centering")
            for measure, name in names.items():
                yield name, {"unit": u_centred(measured(measure, rows, matrix))}


def normalised(features: np.ndarray, normalisation: str) -> np.ndarray:
    """Features (N, F) normalised, (N, F) float64.

    znorm: each feature to mean 0 and variance 1 over the images. group, instance, layer: the
    features of an image, cut into 2, 8 and 1 runs of neighbours, each to mean 0 and variance 1
    (over variance + 1e-9, as published). batch: the same 8 runs, each over all images at once.
    none, and centering, which is left to `gram`: as they are.

    The published features are maps of 8 channels, here flattened channel by channel: a run is 4,
    1 or all 8 of them. Any others are cut alike, as `numpy.array_split` cuts: runs differ by one
    feature at most, and there are no more runs than features.

    What has no spread (below 1e-7 of its size, which float32 does not resolve) becomes 0.
    """
    rows = np.asarray(features, dtype=np.float64)
    if normalisation in ("none", "centering"):
        return rows
    if normalisation == "znorm":
        return _standard(rows, 0, 0.0)
    runs = {"group": 2, "layer": 1}.get(normalisation, _CHANNELS)
    axis = None if normalisation == "batch" else 1
    parts = np.array_split(rows, min(runs, rows.shape[1]), axis=1)
    return np.concatenate([_standard(part, axis, _EPSILON) for part in parts], axis=1)


def measured(measure: str, rows: np.ndarray, matrix: Gram) -> np.ndarray:
    """Similarity or distance (E,) float64 of all pairs of rows (N, F) with Gram matrix `matrix`.

    For 1 - cosine and 1 - Pearson stand cosine and Pearson: U-centring drops the 1, and the sign
    is the same in all models. laplacian: exp(-L1 / F). rbf: width half the median distance.
    """
    if measure == "laplacian":
        import torch

        # Twice as fast as that of scipy, and it lets the other threads run meanwhile.
        distances: np.ndarray = torch.pdist(torch.from_numpy(rows), p=1).numpy()
        kernel: np.ndarray = np.exp(distances / -rows.shape[1])
        return kernel
    if measure == "cosine":
        return cosines(matrix)[0]
    if measure == "pearson":
        return pearsons(matrix)[0]
    products = inner(matrix)
    if measure == "linear":
        return upper(products)
    squares = squared_distances(products)
    return np.sqrt(upper(squares)) if measure == "euclidean" else upper(rbf(squares, 0.5))


def _standard(values: np.ndarray, axis: int | None, epsilon: float) -> np.ndarray:
    """Values at mean 0 and variance 1 along `axis` (None: over all), 0 where there is no spread."""
    mean = values.mean(axis=axis, keepdims=True)
    found: np.ndarray = values - mean
    variance = np.mean(found**2, axis=axis, keepdims=True)
    flat = variance <= 1e-14 * (variance + mean**2)
    found *= np.where(flat, 0.0, 1.0 / np.sqrt(np.where(flat, 1.0, variance + epsilon)))
    return found


DDS = Family(
    tuple(f"dds-{measure}-{form}" for form in NORMALISATIONS for measure in MEASURES),
    "cosine of U-centred kernel or distance matrices (Dwivedi et al., ECCV 2020)",
    dds_states,
)
