"""(model, batch of inputs) -> features and attribution maps. Pure torch: no files, no Ray.

One forward and one backward pass are shared by all methods; those that need more do them. Gradients
are taken anew for every batch with `torch.autograd.grad`, so nothing accumulates anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from depara_bench.attribution.batch import Batch, forward_backward
from depara_bench.attribution.method import Attribution
from depara_bench.config import nearest
from depara_bench.errors import InputError, RunError
from depara_bench.loaders.libraries import one_line
from depara_bench.misfit import Shape, misfit
from depara_bench.preprocess import to_input
from depara_bench.zoo import InputSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from torch import Tensor, nn


@dataclass(frozen=True)
class Extracted:
    """features (N, F) float32; attributions: by method, each (N, D) float32, D = height * width
    of the maps.
    """

    features: np.ndarray
    attributions: Mapping[str, np.ndarray]


class _Reached(Exception):
    """Raised by the hook at the embedding, so that nothing after it is computed."""


def find_embedding(model: nn.Module, embedding: str | None, name: str) -> nn.Module:
    """The module called `embedding`; the model itself when None.

    Raises InputError with the nearest names when there is none.
    """
    if embedding is None:
        return model
    modules: dict[str, nn.Module] = dict(model.named_modules())
    modules.pop("", None)
    if embedding not in modules:
        raise InputError(
            f"model '{name}': no module is called '{embedding}'; nearest:"
            f" {nearest(embedding, list(modules))}; correct 'embedding' in the manifest"
        )
    return modules[embedding]


def embed(model: nn.Module, node: nn.Module, inputs: Tensor, name: str) -> Tensor:
    """Output of `node` for `inputs` (B, C, H, W), flattened: (B, F), still in the graph.

    The first call of the node in the forward pass counts. The forward pass ends there: what
    follows is not computed, and no later in-place operation can change the embedding.
    Raises InputError when the model cannot take such images, or the node is never reached or does
    not give one row per image.
    """
    import torch

    try:
        caught = _output(model, node, inputs)
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        shape = (inputs.shape[1], inputs.shape[2], inputs.shape[3])
        mend = misfit(model, partial(_runs, model, node, inputs), shape, error)
        if mend is None:
            raise
        raise InputError(
            f"model '{name}': it cannot take images of {' x '.join(map(str, shape))}"
            f" ({one_line(error)}); {mend}"
        ) from error
    if not caught:
        raise InputError(f"model '{name}': its forward pass never reaches the embedding module")
    output: Any = caught[0]
    if not isinstance(output, torch.Tensor):
        raise InputError(
            f"model '{name}': the embedding module gives {type(output).__name__}, not a tensor;"
            f" name another module as 'embedding'"
        )
    rows = output.ndim > 0 and output.shape[0] == inputs.shape[0] and output.numel() > 0
    if not rows or not output.is_floating_point():
        raise InputError(
            f"model '{name}': the embedding has shape {tuple(output.shape)} and type {output.dtype}"
            f" for {inputs.shape[0]} images; name a module that gives one row of floats per image"
        )
    flat: Tensor = output.reshape(len(output), -1)
    return flat


def _output(model: nn.Module, node: nn.Module, inputs: Tensor) -> list[Any]:
    """What the first call of `node` gives; empty when it is never called."""
    caught: list[Any] = []

    def catch(_module: nn.Module, _inputs: Any, output: Any) -> None:
        caught.append(output)
        raise _Reached

    handle = node.register_forward_hook(catch)
    try:
        # A copy, so that a model whose first operation is in place does not meet a leaf.
        model(inputs.clone())
    except _Reached:
        pass
    finally:
        handle.remove()
    return caught


def _runs(model: nn.Module, node: nn.Module, like: Tensor, shape: Shape) -> bool:
    """Whether the model reaches `node` for one image of a shape (C, H, W)."""
    import torch

    try:
        with torch.no_grad():
            return bool(_output(model, node, like.new_zeros((1, *shape))))
    except Exception:  # foreign code, given what it may not be made for
        return False


def scalar_of(embedding: Tensor, scalar: str) -> Tensor:
    """One scalar per image from an embedding (B, F): its sum, or its L2 norm (DEPARA eq. 3).

    The norm's gradient at an all-zero embedding is taken as 0, as torch defines it.
    """
    import torch

    if scalar == "l2norm":
        norms: Tensor = torch.linalg.vector_norm(embedding, dim=1)
        return norms
    return embedding.sum(dim=1)


def reduce_channels(maps: Tensor, channels: str) -> Tensor:
    """Maps (B, C, H, W) -> (B, H * W): mean over the channels, of signed or absolute values."""
    if channels == "abs-mean":
        maps = maps.abs()
    return maps.mean(dim=1).flatten(start_dim=1)


def to_grid(maps: Tensor, size: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Maps (B, H * W) of `size` (H, W) -> (B, h * w) of `grid` (h, w), by area: each new value is
    the mean of the map over the rectangle that it covers, pixels counted by the part that lies in
    it. A map of the grid's size stays as it is.
    """
    if size == grid:
        return maps
    rows, columns = (_shares(n, m).to(maps) for n, m in zip(size, grid, strict=True))
    brought: Tensor = (rows @ maps.reshape(-1, *size) @ columns.T).flatten(start_dim=1)
    return brought


def _shares(pixels: int, cells: int) -> Tensor:
    """(cells, pixels) float64: which share of each of the cells, laid over as long a line, is in
    each of the pixels.
    """
    import torch

    # In units of which a pixel has `cells` and a cell has `pixels`, all ends are whole.
    pixel = torch.arange(pixels)[None, :] * cells
    cell = torch.arange(cells)[:, None] * pixels
    overlap = torch.minimum(pixel + cells, cell + pixels) - torch.maximum(pixel, cell)
    return overlap.clamp(min=0).double() / pixels


def pixel_ends(spec: InputSpec) -> tuple[Tensor, Tensor]:
    """A black pixel (0) and a white one (255) in a model's units: (3, 1, 1) float32 each."""
    black, white = to_input([np.full((1, 1, 3), v, np.uint8) for v in (0, 255)], spec)
    return black, white


def prepare(
    model: nn.Module,
    node: nn.Module,
    inputs: Tensor,
    *,
    scalar: str,
    ends: tuple[Tensor, Tensor],
    name: str,
) -> Batch:
    """The shared passes over one batch of inputs (B, 3, H, W), on the device of the model.

    Raises InputError when the embedding does not depend on the input in a differentiable way.
    """
    up_to_node = partial(_embed, model, node, name)
    summed = partial(scalar_of, scalar=scalar)
    embedding, gradient = forward_backward(up_to_node, summed, inputs, name)
    black, white = (end.to(inputs) for end in ends)
    return Batch(
        inputs.detach(), embedding, gradient, model, up_to_node, summed, black, white, name
    )


def _embed(model: nn.Module, node: nn.Module, name: str, inputs: Tensor) -> Tensor:
    return embed(model, node, inputs, name)


def extract(
    model: nn.Module,
    node: nn.Module,
    inputs: Tensor,
    *,
    methods: Mapping[str, Attribution],
    scalar: str,
    channels: str,
    grid: tuple[int, int] | None = None,
    ends: tuple[Tensor, Tensor],
    batch_size: int,
    device: str,
    name: str,
) -> Extracted:
    """Features and attributions of `inputs` (N, 3, H, W), `batch_size` images at a time.

    methods: by the name that their maps get. grid: (height, width) that maps are brought to, see
    `to_grid`; None: they stay. ends: what a black and a white pixel are in the units of the inputs,
    each (3, 1, 1). When the device's memory does not hold a batch, it is halved and tried again.
    Raises InputError (see `embed`, and the methods) and, when one image alone does not fit,
    RunError.
    """
    import torch

    size = (inputs.shape[2], inputs.shape[3])
    grid = grid or size
    parts: list[Extracted] = []
    start = 0
    while start < len(inputs):
        rows = inputs[start : start + batch_size].to(device)
        try:
            batch = prepare(model, node, rows, scalar=scalar, ends=ends, name=name)
            maps = {
                method: _numpy(to_grid(reduce_channels(attribute(batch), channels), size, grid))
                for method, attribute in methods.items()
            }
        except torch.OutOfMemoryError as error:
            if batch_size == 1:
                raise RunError(f"model '{name}': one image does not fit in memory") from error
            batch_size = max(1, min(batch_size, len(rows)) // 2)
            torch.cuda.empty_cache()
            continue
        parts.append(Extracted(_numpy(batch.embedding), maps))
        start += len(rows)
    return Extracted(
        features=np.concatenate([part.features for part in parts]),
        attributions={
            method: np.concatenate([part.attributions[method] for part in parts])
            for method in methods
        },
    )


def check_finite(extracted: Extracted, images: Sequence[str], name: str) -> None:
    """Raise RunError naming model, image and what is not finite, if anything is not."""
    for what, rows in {"features": extracted.features, **extracted.attributions}.items():
        bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if len(bad):
            raise RunError(
                f"model '{name}': {what} of image '{images[bad[0]]}' hold NaN or inf"
                f" ({len(bad)} of {len(images)} images in this block)"
            )


@contextmanager
def exact_arithmetic(threads: int) -> Iterator[None]:
    """Full float32 on every device, the same kernels in every run, `threads` CPU threads."""
    import torch

    before = (
        torch.get_num_threads(),
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.allow_tf32,
        torch.backends.cuda.matmul.allow_tf32,
    )
    torch.set_num_threads(threads)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.backends.cudnn.deterministic = before[1]
        torch.backends.cudnn.benchmark = before[2]
        torch.backends.cudnn.allow_tf32 = before[3]
        torch.backends.cuda.matmul.allow_tf32 = before[4]


def _numpy(rows: torch.Tensor) -> np.ndarray:
    """A copy on the host: on a CPU, `.numpy()` alone would share memory with the model."""
    return rows.to("cpu", copy=True).float().numpy()
