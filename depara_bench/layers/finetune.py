"""One training of a chain whose lower part is frozen: tensors and images in, a network out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from depara_bench.config import Strict
from depara_bench.layers.data import Images
from depara_bench.preprocess import fit, resized, to_input
from depara_bench.zoo import InputSpec

_KEPT = 1 << 30  # bytes of frozen outputs that are kept
_AT_ONCE = 125  # images of a forward pass without training


class Recipe(Strict):
    """Stochastic gradient descent with momentum.

    schedule: of the learning rate: "cosine" down to 0, or "steps": a tenth after each of the epochs
    `drops`. augment: random crops (where the input is cropped) and mirrored images in training.
    """

    batch: int = Field(default=32, ge=2, le=100_000)
    learning_rate: float = Field(gt=0, lt=10)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=0.0005, ge=0, lt=1)
    schedule: Literal["cosine", "steps"] = "steps"
    drops: tuple[int, ...] = ()
    augment: bool = False


def train_above(
    frozen: nn.Sequential,
    rest: nn.Sequential,
    images: Images,
    rows: NDArray[np.int64],
    spec: InputSpec,
    recipe: Recipe,
    *,
    epochs: int,
    seed: int,
    device: str,
) -> None:
    """Train `rest` in place, on what `frozen` gives for the images `rows`; cross-entropy.

    The order of the images, and what augmentation and dropout draw, are functions of `seed`. What
    is frozen is computed once, unless images are augmented or it is larger than 1 GiB.
    """
    labels = torch.from_numpy(images.labels[rows]).to(device)
    frozen.to(device).to(memory_format=torch.channels_last)
    rest.to(device).to(memory_format=torch.channels_last).train()
    parameters = [parameter for parameter in rest.parameters() if parameter.requires_grad]
    optimiser = torch.optim.SGD(
        parameters,
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )
    kept = None if recipe.augment else _kept(frozen, images, rows, spec, device)
    random = np.random.default_rng(seed)
    steps = math.ceil(len(rows) / recipe.batch) * epochs
    step = 0
    with torch.random.fork_rng([device] if device.startswith("cuda") else []):
        torch.manual_seed(seed)
        for epoch in range(epochs):
            for places in _batches(len(rows), recipe.batch, random):
                for group in optimiser.param_groups:
                    group["lr"] = _rate(recipe, epoch, step / steps)
                if kept is not None:
                    inputs = kept[torch.from_numpy(places)]
                else:
                    drawn = random if recipe.augment else None
                    inputs = frozen(_inputs(images, rows[places], spec, drawn, device))
                loss = nn.functional.cross_entropy(rest(inputs), labels[torch.from_numpy(places)])
                optimiser.zero_grad(set_to_none=True)
                torch.autograd.backward(loss)
                optimiser.step()
                step += 1


def accuracy(
    frozen: nn.Sequential, rest: nn.Sequential, images: Images, spec: InputSpec, device: str
) -> float:
    """Share of all the images that are put into their class: hits over images, not a mean of
    batches.
    """
    rest.eval()
    hits = 0
    for rows in _in_order(np.arange(len(images.labels))):
        with torch.no_grad():
            logits = rest(frozen(_inputs(images, rows, spec, None, device)))
        hits += int((logits.argmax(dim=1).cpu().numpy() == images.labels[rows]).sum())
    return hits / len(images.labels)


def _rate(recipe: Recipe, epoch: int, done: float) -> float:
    if recipe.schedule == "cosine":
        return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
    drops = sum(epoch >= drop for drop in recipe.drops)
    return recipe.learning_rate * math.pow(0.1, drops)


def _batches(count: int, size: int, random: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """One epoch: shuffled places in batches of nearly one size, so that none holds one image
    alone, of which there are no statistics.
    """
    yield from np.array_split(random.permutation(count), math.ceil(count / size))


def _in_order(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [rows[start : start + _AT_ONCE] for start in range(0, len(rows), _AT_ONCE)]


def _kept(
    frozen: nn.Sequential, images: Images, rows: NDArray[np.int64], spec: InputSpec, device: str
) -> Tensor | None:
    """What is frozen, of all rows; None where it is too much to keep."""
    parts: list[Tensor] = []
    for part in _in_order(rows):
        parts.append(frozen(_inputs(images, part, spec, None, device)))
        if parts[0][0].numel() * parts[0].element_size() * len(rows) > _KEPT:
            return None
    return torch.cat(parts)


def _inputs(
    images: Images,
    rows: NDArray[np.int64],
    spec: InputSpec,
    random: np.random.Generator | None,
    device: str,
) -> Tensor:
    prepare: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] = lambda image: (  # noqa: E731
        fit(image, spec) if random is None else _augmented(image, spec, random)
    )
    batch = to_input([prepare(images.read(int(row))) for row in rows], spec)
    return batch.to(device, memory_format=torch.channels_last)


def _augmented(
    image: NDArray[np.uint8], spec: InputSpec, random: np.random.Generator
) -> NDArray[np.uint8]:
    """A random crop, where the input's specification crops at all, mirrored every other time."""
    height, width = spec.height_width
    whole = resized(image, spec)
    rows, columns = whole.shape[:2]
    if spec.resize is None or rows < height or columns < width:
        found = fit(image, spec)
    else:
        top, left = random.integers(0, [rows - height + 1, columns - width + 1])
        found = whole[top : top + height, left : left + width]
    return np.ascontiguousarray(found[:, ::-1]) if random.random() < 0.5 else found
