"""Resampled nodes and edges against the plain way: draw the images, compute everything anew."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata, spearmanr

from depara_bench.similarity.edges import correlations, edge_ranks
from depara_bench.similarity.gram import gram
from depara_bench.similarity.nodes import image_cosines
from depara_bench.similarity.resample import (
    bootstrap_counts,
    edge_matrices,
    edge_matrix,
    node_matrices,
    subset_counts,
    weighted_ranks,
)


def zoo(seed: int, images: int, width: int = 7, models: int = 3) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.normal(3, 1, (images, width)).astype(np.float32) for _ in range(models)]


def slow_edges(features: np.ndarray, drawn: np.ndarray) -> list[float]:
    """Edges of the drawn images, one by one; pairs of an image with itself drop out."""
    rows = features[drawn].astype(np.float64)
    rows = rows - rows.mean(axis=0)
    return [
        float(rows[i] @ rows[j] / np.linalg.norm(rows[i]) / np.linalg.norm(rows[j]))
        for i in range(len(drawn))
        for j in range(i + 1, len(drawn))
        if drawn[i] != drawn[j]
    ]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(5, 14))
def test_edges_of_a_resample_equal_those_computed_anew(seed: int, images: int):
    features = zoo(seed, images)
    counts = bootstrap_counts(images, 1, seed)[0]
    drawn = np.repeat(np.arange(images), counts)
    if (counts > 0).sum() < 4:
        return
    found = edge_matrix([gram(f).products for f in features], counts)
    lists = [np.round(slow_edges(f, drawn), 10) for f in features]
    for a in range(3):
        for b in range(3):
            assert found[a, b] == pytest.approx(spearmanr(lists[a], lists[b]).statistic, abs=1e-9)


def test_nodes_of_a_resample_equal_the_mean_over_drawn_images():
    random = np.random.default_rng(0)
    maps = [random.normal(size=(9, 20)).astype(np.float32) for _ in range(4)]
    cosines = np.stack([image_cosines(maps, None, image)[0] for image in range(9)])
    counts = bootstrap_counts(9, 5, seed=1)
    found = node_matrices(cosines, counts)
    for row, matrix in zip(counts, found, strict=True):
        drawn = np.repeat(np.arange(9), row)
        assert np.allclose(matrix, cosines[drawn].mean(axis=0), atol=1e-15)


def test_every_image_once_is_the_affinity_itself():
    features = zoo(3, 30)
    ranks = np.stack([edge_ranks(f).unit for f in features])
    found = edge_matrix([gram(f).products for f in features], np.ones(30, dtype=int))
    assert np.allclose(found, correlations(ranks, ranks), atol=1e-12)


def test_a_subset_is_the_affinity_of_those_images_alone():
    features = zoo(4, 25)
    counts = subset_counts(25, 10, 3, seed=0)
    assert (counts.sum(axis=1) == 10).all()
    with ThreadPoolExecutor(2) as pool:
        found = edge_matrices([gram(f).products for f in features], counts, pool)
    for row, matrix in zip(counts, found, strict=True):
        ranks = np.stack([edge_ranks(f[row == 1]).unit for f in features])
        assert np.allclose(matrix, correlations(ranks, ranks), atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(1, 4)), min_size=1, max_size=30))
def test_weighted_ranks_are_ranks_of_the_repeated_values(pairs: list[tuple[int, int]]):
    values = np.array([value / 4 for value, _ in pairs])
    times = np.array([count for _, count in pairs])
    repeated = rankdata(np.repeat(values, times))
    expected = repeated[np.cumsum(times) - 1]
    assert np.array_equal(weighted_ranks(values, times.astype(float)), expected)


def test_degenerate_resamples_have_an_answer():
    features = zoo(5, 6)
    features[0][:] = 1.0
    matrices = [gram(f).products for f in features]
    assert np.array_equal(edge_matrix(matrices, np.array([6, 0, 0, 0, 0, 0])), np.zeros((3, 3)))
    found = edge_matrix(matrices, np.ones(6, dtype=int))
    assert np.isfinite(found).all() and (found[0] == 0).all()
