"""Nodes of coarse, centred maps: where a model looks more than it does on the average image.

Attribution maps of trained networks share much that says nothing of the task (every map is strong
in the middle, say), and are noisy pixel by pixel. Here the magnitudes are averaged over cells of
4 x 4 pixels, and each cell's mean over the probe images is taken off; then as DEPARA's nodes: the
mean over the images of the cosine of two models' maps.
"""

from __future__ import annotations

import math

import numpy as np

from depara_bench.errors import InputError
from depara_bench.similarity.method import Method, State

_CELL = 4


def pooled_state(maps: np.ndarray) -> State:
    """State of maps (N, D) float32, D = S * S pixels. "unit": the N pooled maps, each of length 1,
    one after the other, over sqrt(N), so that the product of two models is the mean cosine.

    A map that does not differ from the mean map has cosine 0. Cells at the edge of a size that 4
    does not divide are smaller. InputError: the maps are not square.
    """
    side = math.isqrt(maps.shape[1])
    if side * side != maps.shape[1]:
        raise InputError(
            f"nodes-pooled: maps of {maps.shape[1]} pixels are not square; leave it out"
        )
    images = np.abs(maps).reshape(len(maps), side, side)
    edges = np.arange(0, side, _CELL)
    sums = np.add.reduceat(np.add.reduceat(images, edges, 1, np.float64), edges, 2)
    sizes = np.diff(np.append(edges, side))
    cells = (sums / np.outer(sizes, sizes)).reshape(len(maps), -1)
    smallest = 1e-12 * np.sqrt((cells * cells).sum(axis=1).max())
    cells -= cells.mean(axis=0)
    lengths = np.sqrt((cells * cells).sum(axis=1, keepdims=True))
    unit = np.divide(cells, lengths, out=np.zeros_like(cells), where=lengths > smallest)
    return {"unit": unit.reshape(-1) / math.sqrt(len(maps))}


NODES_POOLED = Method(
    "nodes-pooled",
    "DEPARA's nodes of absolute maps, pooled 4 x 4 and centred over the probe images",
    pooled_state,
    column="map",
)
