"""(network, images) -> what DEPARA compares of each layer, from one forward pass a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from depara_bench.errors import InputError, RunError
from depara_bench.extract import reduce_channels, scalar_of, to_grid
from depara_bench.layers.spool import spool
from depara_bench.layers.watch import outputs
from depara_bench.similarity.gram import Gram


@dataclass(frozen=True)
class LayerGraphs:
    """Of L layers and N images. grams: of the features, by layer. cosines (L, N) float64: of each
    layer's attribution maps with those it was compared with. zeros (L,): maps that are all zero.
    """

    layers: tuple[str, ...]
    grams: tuple[Gram, ...]
    cosines: np.ndarray
    zeros: np.ndarray


@dataclass(frozen=True)
class Settings:
    """See `LayersJob`; grid: (height, width) that maps are brought to."""

    activation: str
    scalar: str
    channels: str
    center: bool
    grid: tuple[int, int]
    batch_size: int


def last_layer(
    model: nn.Module,
    layer: str,
    inputs: Tensor,
    settings: Settings,
    *,
    images: Sequence[str],
    device: str,
    name: str,
) -> tuple[Gram, np.ndarray]:
    """Of one layer, a target's last one: the Gram matrix of its features, and its maps (N, D)
    float32.
    """
    maps: list[np.ndarray] = []
    graphs = layer_graphs(
        model, [layer], inputs, None, settings, images=images, device=device, name=name, keep=maps
    )
    return graphs.grams[0], np.concatenate(maps)


def layer_graphs(
    model: nn.Module,
    layers: Sequence[str],
    inputs: Tensor,
    target: np.ndarray | None,
    settings: Settings,
    *,
    images: Sequence[str],
    device: str,
    name: str,
    keep: list[np.ndarray] | None = None,
) -> LayerGraphs:
    """Graphs of all `layers` for inputs (N, 3, H, W), `batch_size` at a time.

    One forward pass a batch, and from it one backward pass a layer, each with gradients of its own:
    none are added up. target (N, D) float32: the maps that nodes are compared with (None: with
    themselves). keep: gets the maps (B, D) of the first layer. A layer's features lie in a file
    until its Gram matrix is made. Raises InputError (see `outputs`) for layers that do not depend
    on the image in a differentiable way, RunError naming layer and image for what is not finite.
    """
    model = model.to(device).eval()
    size = (inputs.shape[2], inputs.shape[3])
    cosines = np.zeros((len(layers), len(inputs)))
    zeros = np.zeros(len(layers), dtype=np.int64)
    with spool(len(inputs)) as kept:
        for start in range(0, len(inputs), settings.batch_size):
            rows = slice(start, start + settings.batch_size)
            batch = inputs[rows].to(device).requires_grad_(True)
            found = outputs(model, layers, batch, activation=settings.activation, name=name)
            if not kept.made:
                kept.make({layer: found[layer].shape[1] for layer in layers})
            for number, layer in enumerate(layers):
                features = _finite(found[layer], images[rows], "features", layer, name)
                kept.put(layer, start, features)
                gradient = _gradient(found[layer], settings.scalar, batch, layer, name)
                reduced = reduce_channels(batch.detach() * gradient, settings.channels)
                brought = to_grid(reduced, size, settings.grid)
                maps = _finite(brought, images[rows], "attribution", layer, name)
                if keep is not None and number == 0:
                    keep.append(maps)
                other = maps if target is None else target[rows]
                cosines[number, rows], zero = row_cosines(maps, other)
                zeros[number] += zero
            del found, batch
        grams = tuple(kept.gram(layer, center=settings.center) for layer in layers)
    return LayerGraphs(tuple(layers), grams, cosines, zeros)


def row_cosines(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, int]:
    """Cosine of each row of left (B, D) with that of right (B, D), (B,) float64, 0 where either is
    all zero; and how many left rows are.
    """
    one, other = left.astype(np.float64), right.astype(np.float64)
    squares = np.einsum("ij,ij->i", one, one)
    lengths = np.sqrt(squares * np.einsum("ij,ij->i", other, other))
    products = np.einsum("ij,ij->i", one, other)
    cosines = np.divide(products, lengths, out=np.zeros(len(one)), where=lengths > 0.0)
    return cosines.clip(-1.0, 1.0), int((squares == 0.0).sum())


def _gradient(features: Tensor, scalar: str, batch: Tensor, layer: str, name: str) -> Tensor:
    """Gradient (B, C, H, W) of the scalar of features (B, F), one an image, at the batch."""
    gradient = None
    if features.requires_grad:
        total = scalar_of(features, scalar).sum()
        # The graph is kept for the layers that follow; nothing is written into any `.grad`.
        (gradient,) = torch.autograd.grad(total, batch, retain_graph=True, allow_unused=True)
    if gradient is None:
        raise InputError(
            f"model '{name}': layer '{layer}' does not depend on the image in a differentiable way;"
            f" leave it out of 'layers'"
        )
    return gradient


def _finite(rows: Tensor, images: Sequence[str], what: str, layer: str, name: str) -> np.ndarray:
    """Rows (B, n) as float32 on the host, all finite."""
    values: np.ndarray = rows.detach().to("cpu", copy=True).float().numpy()
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        raise RunError(
            f"model '{name}': {what} of layer '{layer}' hold NaN or inf for image"
            f" '{images[bad[0]]}'"
        )
    return values
