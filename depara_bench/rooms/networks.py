"""One encoder for all tasks and a decoder by the shape of the output.

The encoder maps images (N, 3, S, S) in [-1, 1], S a multiple of 8, to (N, 8, S/8, S/8): 512
numbers at 64x64, as Taskonomy's 16x16x8 at 256x256. Its last layer is a normalisation without
rectifier, so that every number of the representation is alive.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from depara_bench.errors import InputError
from depara_bench.rooms.tasks import SIZE, TASKS

CHANNELS = 8  # of the representation
STRIDE = 8


def _block(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(0.1),
    ]


class Encoder(nn.Sequential):
    """Five 3x3 convolutions, three of them of stride 2: 3 x 64 x 64 to 8 x 8 x 8."""

    def __init__(self) -> None:
        super().__init__(
            *_block(3, 24, 2),
            *_block(24, 48, 2),
            *_block(48, 80, 2),
            *_block(80, 80),
            nn.Conv2d(80, CHANNELS, 3, padding=1, bias=False),
            nn.BatchNorm2d(CHANNELS),
        )


class MapDecoder(nn.Sequential):
    """8 x 8 x 8 to C x 64 x 64; convolutions at 8, 16 and 32 pixels, then pixels unfolded."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            *_block(CHANNELS, 80),
            nn.Upsample(scale_factor=2.0, mode="nearest"),
            *_block(80, 48),
            nn.Upsample(scale_factor=2.0, mode="nearest"),
            *_block(48, 24),
            nn.Conv2d(24, 4 * channels, 3, padding=1),
            nn.PixelShuffle(2),
        )


class VectorDecoder(nn.Sequential):
    """8 x 8 x 8 to K numbers or logits."""

    def __init__(self, outputs: int) -> None:
        super().__init__(
            nn.Flatten(),
            nn.Linear(CHANNELS * (SIZE // STRIDE) ** 2, 96),
            nn.LeakyReLU(0.1),
            nn.Linear(96, outputs),
        )


class RoomsNetwork(nn.Module):
    """Encoder and decoder of one task."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.decoder = MapDecoder(shape[0]) if len(shape) == 3 else VectorDecoder(shape[0])

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, 64, 64) in [-1, 1] to predictions (N, *shape)."""
        prediction: Tensor = self.decoder(self.encoder(images))
        return prediction


def build(task_name: str) -> RoomsNetwork:
    """An untrained network for a task. Raises InputError for an unknown name."""
    if task_name not in TASKS:
        raise InputError(f"rooms: task '{task_name}' is not one of {', '.join(TASKS)}")
    return RoomsNetwork(TASKS[task_name].shape)


def load_network(path: Path, task: str) -> RoomsNetwork:
    """The trained network of a task, in evaluation mode, on the CPU.

    Raises InputError when the file is missing, unreadable or not of this task.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    network = build(task)
    if not path.is_file():
        raise InputError(f"{path}: no such weights file; train it with 'depara-bench rooms train'")
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({error})") from error
    try:
        network.load_state_dict({name: value.float() for name, value in state.items()}, strict=True)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise InputError(f"{path}: not the weights of rooms task '{task}': {reason}") from error
    network.eval()
    return network
