"""Nodes and edges of a resampled probe: for error bars, and for fewer images than there are.

A resample is a vector of counts (N,): how often each image was drawn. Nodes are means over images,
so theirs are re-weighted exactly. Edges are computed anew: features are centred on the resample's
own mean (where the run centres them), an edge between images drawn a and b times counts a * b
times, pairs of an image with itself drop out, and ranks are the average ranks of that multiset.
Everything comes from one Gram matrix per model; the features are not read again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor

import numpy as np

from depara_bench.similarity.edges import levels_of


def node_matrices(cosines: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Node similarities (B, M, M) of resamples counts (B, N) from the cosines (N, M, M) of each
    image.
    """
    images, models, _ = cosines.shape
    weights = counts / counts.sum(axis=1, keepdims=True)
    mixed: np.ndarray = weights @ cosines.reshape(images, models * models)
    return mixed.reshape(-1, models, models)


def edge_matrices(
    grams: Sequence[np.ndarray],
    counts: np.ndarray,
    pool: Executor,
    *,
    center: bool = True,
    advance: Callable[[int], None] = lambda _: None,
) -> np.ndarray:
    """Edge similarities (B, M, M) of resamples counts (B, N) from the inner products (N, N) of
    each of M models' features, made with the same `center`. `advance` is called with the number of
    resamples done.
    """
    found = []
    for matrix in pool.map(lambda one: edge_matrix(grams, one, center=center), counts):
        found.append(matrix)
        advance(1)
    return np.stack(found)


def edge_matrix(
    grams: Sequence[np.ndarray], counts: np.ndarray, *, center: bool = True
) -> np.ndarray:
    """Edge similarities (M, M) of one resample counts (N,); fewer than 3 distinct images give 0."""
    drawn = np.flatnonzero(counts)
    if len(drawn) < 3:
        return np.zeros((len(grams), len(grams)))
    times = counts[drawn].astype(np.float64)
    upper = np.triu(np.ones((len(drawn), len(drawn)), dtype=bool), 1)
    multiplicity = np.outer(times, times)[upper]
    root, middle = np.sqrt(multiplicity), (multiplicity.sum() + 1.0) / 2.0
    rows = np.empty((len(grams), len(multiplicity)))
    for model, products in enumerate(grams):
        cosines = _cosines(products[np.ix_(drawn, drawn)], times, center)[upper]
        ranks = weighted_ranks(cosines, multiplicity)
        ranks -= middle
        ranks *= root
        length = np.sqrt(ranks @ ranks)
        rows[model] = ranks / length if length > 0.0 else 0.0
    matrix: np.ndarray = np.dot(rows, rows.T)  # not @: it lets the other threads run meanwhile
    return matrix.clip(-1.0, 1.0)


def _cosines(products: np.ndarray, times: np.ndarray, center: bool) -> np.ndarray:
    """Cosines (n, n) of features, around their weighted mean where `center`, from their inner
    products (n, n), which are overwritten.

    A row of zeros, or that the centring leaves (next to) nothing of, has cosine 0.
    """
    centred, smallest = products, 0.0
    if center:
        smallest = 1e-14 * max(float(products.diagonal().max()), 0.0)
        weights = times / times.sum()
        means = products @ weights
        means -= weights @ means / 2.0
        centred -= means[:, None]
        centred -= means
    squares = centred.diagonal().copy()
    zero = squares <= smallest
    scale = np.divide(1.0, np.sqrt(np.where(zero, 1.0, squares)), where=~zero,
                      out=np.zeros_like(squares))  # fmt: skip
    centred *= scale[:, None]
    centred *= scale
    return centred


def weighted_ranks(values: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Average ranks (E,) of values (E,) in [-1, 1], each of which stands `times` (E,) times."""
    count = len(values)
    packed = np.sort((levels_of(values) << 32) | np.arange(count, dtype=np.int64))
    order = packed & 0xFFFFFFFF
    levels = packed >> 32
    first = np.concatenate(([True], levels[1:] != levels[:-1]))
    sizes, tied = times[order], not first.all()
    if tied:
        starts = np.flatnonzero(first)
        sizes = np.add.reduceat(sizes, starts)
    middle = np.cumsum(sizes)
    middle -= (sizes - 1.0) / 2.0
    if tied:
        middle = np.repeat(middle, np.diff(np.append(starts, count)))
    ranks = np.empty(count)
    ranks[order] = middle
    return ranks


def bootstrap_counts(images: int, replicates: int, seed: int) -> np.ndarray:
    """Counts (replicates, images) of a bootstrap over images, by seed."""
    random = np.random.default_rng(seed)
    return random.multinomial(images, np.full(images, 1.0 / images), replicates)


def subset_counts(images: int, size: int, replicates: int, seed: int) -> np.ndarray:
    """Counts (replicates, images), `size` of them 1 and the rest 0, drawn without replacement."""
    random = np.random.default_rng([seed, size])
    counts = np.zeros((replicates, images), dtype=np.int64)
    for row in counts:
        row[random.choice(images, size, replace=False)] = 1
    return counts
