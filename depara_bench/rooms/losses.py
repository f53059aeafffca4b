"""Losses as one number per image, and the best constant prediction under each of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CURVED_WEIGHT = 10.0  # of a curved pixel beside a flat one


def weights(loss: str, target: Tensor) -> Tensor:
    """Weights of the elements of `target` (N, ...), which sum to 1 in each image."""
    weight = torch.ones_like(target, dtype=torch.float32)
    if loss == "curved_l2":
        weight = 1.0 + (CURVED_WEIGHT - 1.0) * (target[:, :1] != 0).float().expand_as(target)
    return weight / weight.flatten(1).sum(1).view(-1, *[1] * (target.ndim - 1))


def per_image(loss: str, prediction: Tensor, target: Tensor) -> Tensor:
    """Loss of each image (N,): mean absolute or squared difference, or mean cross-entropy in nats
    (prediction: logits (N, K) or (N, K, S, S)).
    """
    if loss == "cross_entropy":
        return (
            F.cross_entropy(prediction, target, reduction="none").flatten(1).mean(1)
            if target.ndim > 1
            else F.cross_entropy(prediction, target, reduction="none")
        )
    difference = prediction - target
    size = difference.abs() if loss == "l1" else difference * difference
    if loss == "curved_l2":
        return (size * weights(loss, target)).flatten(1).sum(1)
    return size.flatten(1).mean(1)


def best_constant(loss: str, target: Tensor, classes: int) -> Tensor:
    """The constant (C,) per channel that is best on `target` (N, C, ...) under the loss: weighted
    mean, median, or log-frequencies of the classes (with one count added to each).
    """
    if loss == "cross_entropy":
        counts = torch.bincount(target.flatten(), minlength=classes).double() + 1
        return (counts / counts.sum()).log().float()
    by_channel = target.transpose(0, 1).flatten(1)
    if loss == "l1":
        return by_channel.median(dim=1).values
    weight = weights(loss, target).transpose(0, 1).flatten(1).double()
    return ((by_channel * weight).sum(1) / weight.sum(1)).float()


def as_prediction(constant: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A constant (C,) as predictions for images whose output has `shape` (C, ...)."""
    return constant.view(1, -1, *[1] * (len(shape) - 1)).expand(1, *shape)
