"""One transfer, in torch: a fresh readout trained on a frozen representation (or with its encoder).

Everything here takes and returns tensors; which transfers there are and where they are kept is
`measure.py`'s.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from depara_bench.rooms.data import label_batch
from depara_bench.rooms.networks import CHANNELS, STRIDE, Encoder
from depara_bench.rooms.tasks import SIZE, RoomTask

GRID = SIZE // STRIDE
_WEIGHT_DECAY = 0.01
_CLIP = 5.0  # standard deviations, as Taskonomy clips representations before a transfer


class Readout(nn.Module):
    """What is trained on a frozen representation (N, 8, 8, 8): a 3 x 3 convolution, and one layer.

    Maps: a 1 x 1 convolution gives the 8 x 8 pixels below every cell, unfolded by pixel shuffle.
    Vectors and classes: cells are averaged 2 x 2 and read by one linear layer. The last layer
    starts at zero: a random one adds nothing but noise to the ranking of sources.
    """

    def __init__(self, shape: tuple[int, ...], width: int) -> None:
        super().__init__()
        first = [nn.Conv2d(CHANNELS, width, 3, padding=1), nn.ReLU()]
        last: nn.Conv2d | nn.Linear
        if len(shape) == 3:
            last = nn.Conv2d(width, shape[0] * STRIDE**2, 1)
            rest = [last, nn.PixelShuffle(STRIDE)]
        else:
            last = nn.Linear(width * (GRID // 2) ** 2, shape[0])
            rest = [nn.AvgPool2d(2), nn.Flatten(), last]
        nn.init.zeros_(last.weight)
        self.layers = nn.Sequential(*first, *rest)

    def forward(self, representation: Tensor) -> Tensor:
        """Representations (N, 8, 8, 8) to predictions (N, *shape)."""
        prediction: Tensor = self.layers(representation)
        return prediction


def standardise(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Representations (N, 8, 8, 8) scaled per channel to mean 0 and spread 1 over the training
    images, then clipped to 5 standard deviations. A channel that is constant becomes 0.
    """
    mean = train.mean(dim=(0, 2, 3), keepdim=True)
    spread = train.std(dim=(0, 2, 3), keepdim=True)
    spread = torch.where(spread > 1e-6, spread, torch.inf)

    def scaled(values: Tensor) -> Tensor:
        return ((values - mean) / spread).clamp(-_CLIP, _CLIP)

    return scaled(train), scaled(test)


def represent(encoder: nn.Module, inputs: Tensor, device: str) -> Tensor:
    """Representations (N, 8, 8, 8) float32 on the CPU of inputs (N, 3, 64, 64)."""
    encoder = encoder.to(device).eval()
    with torch.inference_mode():
        parts = [encoder(part.to(device)).cpu() for part in torch.split(inputs, 256)]
    return torch.cat(parts).clone()


def random_encoder(seed: int) -> Encoder:
    """An encoder that was never trained, by seed."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return Encoder().eval()


def train_readout(
    task: RoomTask,
    train: Tensor,
    test: Tensor,
    train_labels: NDArray[np.generic],
    test_labels: NDArray[np.generic],
    *,
    steps: int,
    batch: int,
    learning_rate: float,
    width: int,
    seed: int,
    device: str,
    scratch: bool = False,
) -> NDArray[np.float32]:
    """Loss of each test image (M,) float32 after training a fresh readout.

    train, test: standardised representations (N, 8, 8, 8) and (M, 8, 8, 8); with `scratch` images
    (N, 3, 64, 64) and (M, 3, 64, 64), and an encoder is trained with the readout. Labels: as they
    are kept (`rooms.data`). AdamW with a learning rate that falls along a cosine; the order of the
    images and the initial weights are functions of `seed`.
    """
    with torch.random.fork_rng([device] if device.startswith("cuda") else []):
        torch.manual_seed(seed)
        readout: nn.Module = Readout(task.shape, width)
        model = nn.Sequential(Encoder(), readout) if scratch else readout
        model = model.to(device).train()
        optimiser = torch.optim.AdamW(
            model.parameters(), lr=learning_rate, weight_decay=_WEIGHT_DECAY
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, _falling(steps))
        train, target = train.to(device), _targets(task, train_labels).to(device)
        for rows in _batches(len(train), batch, steps, seed):
            loss = task.losses(model(train[rows]), target[rows]).mean()
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
    model.eval()
    wanted = _targets(task, test_labels)
    with torch.inference_mode():
        losses = [
            task.losses(model(part.to(device)), labels.to(device)).cpu()
            for part, labels in zip(torch.split(test, 256), torch.split(wanted, 256), strict=True)
        ]
    found: NDArray[np.float32] = torch.cat(losses).numpy().astype(np.float32)
    return found


def _targets(task: RoomTask, labels: NDArray[np.generic]) -> Tensor:
    rows = np.arange(len(labels))
    return task.target_of(torch.from_numpy(label_batch(task.name, labels, rows)))


def _falling(steps: int) -> Callable[[int], float]:
    return lambda step: 0.5 * (1.0 + math.cos(math.pi * min(step, steps) / steps))


def _batches(count: int, batch: int, steps: int, seed: int) -> list[Tensor]:
    """Rows of each step: epochs of shuffled images, `steps` batches in all."""
    order = np.random.default_rng(seed)
    per_epoch = max(1, count // batch)
    rows: list[Tensor] = []
    while len(rows) < steps:
        shuffled = order.permutation(count)
        rows += [
            torch.from_numpy(np.sort(shuffled[i * batch : (i + 1) * batch]))
            for i in range(per_epoch)
        ]
    return rows[:steps]
