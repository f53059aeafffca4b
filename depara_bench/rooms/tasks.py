"""The 20 tasks, in DEPARA's names and order: one table of input, label, loss and output shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from depara_bench.rooms.corruption import corrupt
from depara_bench.rooms.kinds import KIND_NAMES, SEMANTIC_NAMES
from depara_bench.rooms.losses import per_image
from depara_bench.rooms.styles import PLACES

SIZE = 64
_ROOM = (1.0,) * 5 + (1.35, 1.4), (0.45,) * 5 + (0.2, 0.28)


@dataclass(frozen=True)
class RoomTask:
    """One task. A network predicts `target_of(label)`: numbers of about mean 0 and spread 1."""

    name: str
    corruption: str  # of the input: none, noise, grey, holes
    label: str  # which of labels.LABELS
    loss: str  # l1, l2, curved_l2 (curved pixels weigh 10), cross_entropy
    shape: tuple[int, ...]  # of the output: (C, 64, 64) map, (K,) numbers or logits
    transform: str = "none"  # of the label: none, log, root, ... see target_of
    centre: tuple[float, ...] = (0.0,)  # per channel, or one for all
    spread: tuple[float, ...] = (1.0,)
    effort: int = 1  # factor on the epochs: without a map to draw an epoch is cheap
    target: bool = True  # False: a source only

    @property
    def classifies(self) -> bool:
        """Are its labels classes?"""
        return self.loss == "cross_entropy"

    def inputs(self, images: NDArray[np.uint8], indices: Sequence[int], seed: int = 0) -> Tensor:
        """Input of the network (N, 3, S, S) float32 in [-1, 1] from images (N, S, S, 3) uint8;
        the corruption is a function of (seed, index).
        """
        return corrupt(self.corruption, images, indices, seed)

    def target_of(self, label: Tensor) -> Tensor:
        """Labels in their own units to what a network predicts (classes: int64 as they are)."""
        if self.classifies:
            return label.long()
        value = label.float()
        if self.transform == "log":
            value = value.log()
        elif self.transform == "log_walls":  # distances; the two heights stay as they are
            value = torch.cat([value[:, :5].log(), value[:, 5:]], dim=1)
        elif self.transform == "root":
            value = value.clamp(min=0).sqrt()
        elif self.transform == "fourth_root":
            value = value.clamp(min=0).sqrt().sqrt()
        lead = (1, -1) + (1,) * (value.ndim - 2)
        centre = torch.tensor(self.centre, device=value.device).view(lead)
        return (value - centre) / torch.tensor(self.spread, device=value.device).view(lead)

    def losses(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Loss of each image (N,) float32; `target` as `target_of` gives it."""
        return per_image(self.loss, prediction, target)


def _map(channels: int) -> tuple[int, int, int]:
    return (channels, SIZE, SIZE)


_TABLE = (
    RoomTask("autoencoder", "none", "image", "l2", _map(3), spread=(0.4,)),
    RoomTask(
        "curvature", "none", "curvature", "curved_l2", _map(2), "root", (0.0, 0.0), (1.0, 1.0)
    ),
    RoomTask("denoise", "noise", "clean_image", "l2", _map(3), spread=(0.4,)),
    RoomTask("edge2d", "none", "edge2d", "l2", _map(1), "root", (0.14,), (0.1,)),
    RoomTask("edge3d", "none", "edge3d", "l2", _map(1), "none", (0.1,), (0.2,)),
    RoomTask("keypoint2d", "none", "keypoint2d", "l2", _map(1), "fourth_root", (0.1,), (0.06,)),
    RoomTask("keypoint3d", "none", "keypoint3d", "l2", _map(1), "fourth_root", (0.14,), (0.14,)),
    RoomTask("colorization", "grey", "chroma", "l2", _map(2), spread=(0.06,), target=False),
    RoomTask("reshade", "none", "shading", "l1", _map(1), "none", (0.7,), (0.2,)),
    RoomTask("rgb2depth", "none", "depth", "l1", _map(1), "log", (0.9,), (0.45,)),
    RoomTask("rgb2mist", "none", "distance", "l1", _map(1), "log", (1.0,), (0.45,)),
    RoomTask(
        "rgb2sfnorm", "none", "normals", "l1", _map(3), "none", (0.0, 0.2, 0.6), (0.55, 0.6, 0.35)
    ),
    RoomTask("room_layout", "none", "layout", "l2", (7,), "log_walls", *_ROOM, effort=2),
    RoomTask(
        "segment25d", "none", "segments", "l1", _map(3), "none", (0.0, 0.0, 0.95), (0.13, 0.13, 0.4)
    ),
    RoomTask(
        "segment2d", "none", "regions", "l2", _map(3), "none", (0.0, 0.0, 0.4), (0.02, 0.02, 0.2)
    ),
    RoomTask(
        "vanishing_point",
        "none",
        "vanishing",
        "l2",
        (3,),
        "none",
        (0.0, 0.0, -0.2),
        (0.7, 0.7, 0.15),
        effort=2,
    ),
    RoomTask("segmentsemantic", "none", "semantic", "cross_entropy", _map(len(SEMANTIC_NAMES))),
    RoomTask("class_1000", "none", "subject", "cross_entropy", (len(KIND_NAMES),), effort=2),
    RoomTask("class_places", "none", "place", "cross_entropy", (len(PLACES),), effort=2),
    RoomTask("inpainting_whole", "holes", "image", "l2", _map(3), spread=(0.4,), target=False),
)
TASKS: dict[str, RoomTask] = {task.name: task for task in _TABLE}
SOURCES: tuple[str, ...] = tuple(TASKS)
TARGETS: tuple[str, ...] = tuple(task.name for task in _TABLE if task.target)
