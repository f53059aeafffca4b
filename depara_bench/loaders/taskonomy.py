"""Encoders of Taskonomy in the layout of the public PyTorch checkpoints (Zamir et al., CVPR 2018).

A ResNet-50 without pooling at its end, for images (B, 3, 256, 256) in [-1, 1]: 16 x 16 x 2048,
compressed by a 3 x 3 convolution to the representation (B, 8, 16, 16). Other than torchvision's,
a stage strides in its last block, and only stages 1 and 2 stride.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from depara_bench.loaders import weights
from depara_bench.loaders.locate import locate
from depara_bench.zoo import TaskonomySpec

_EXPANSION = 4


def load(spec: TaskonomySpec, base: Path, allow_code: bool) -> nn.Module:
    """The encoder with the weights of the manifest's file."""
    path = locate(spec, base)
    content = weights.read_bytes(path, spec.sha256, spec.name)
    model = Encoder(normalize_outputs=spec.normalize_outputs)
    weights.fill(model, weights.state_dict(content, path, spec.name), path, spec.name, spec=spec)
    return model


class Encoder(nn.Module):
    """(B, 3, H, W) -> (B, 8, H / 16, W / 16), not negative; the names are those of the files.

    normalize_outputs: normalise each of the 8 channels over its pixels, as the PyTorch port does by
    default and the networks that the papers used do not.
    """

    def __init__(self, *, normalize_outputs: bool) -> None:
        super().__init__()
        self.pad = nn.ZeroPad2d(3)
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.layer1 = _stage(64, 64, blocks=3, stride=2)
        self.layer2 = _stage(256, 128, blocks=4, stride=2)
        self.layer3 = _stage(512, 256, blocks=6, stride=1)
        self.layer4 = _stage(1024, 512, blocks=3, stride=1)
        self.compress1 = nn.Conv2d(2048, 8, 3, padding=1, bias=False)
        self.compress_bn = nn.BatchNorm2d(8)
        self.relu1 = nn.ReLU()
        self.groupnorm = nn.GroupNorm(8, 8, affine=False) if normalize_outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """The representation of a batch of images."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(self.pad(x)))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        encoded: Tensor = self.groupnorm(self.relu1(self.compress_bn(self.compress1(x))))
        return encoded


class _Block(nn.Module):
    """A bottleneck: 1 x 1, 3 x 3 with the stride, 1 x 1, added to its shortcut."""

    def __init__(self, inputs: int, planes: int, stride: int, shortcut: nn.Module | None) -> None:
        super().__init__()
        outputs = planes * _EXPANSION
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        # One each, so that rules for ReLUs can be attached to each.
        self.relu1, self.relu2, self.relu = nn.ReLU(), nn.ReLU(), nn.ReLU()
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu1(self.bn1(self.conv1(x)))
        x = self.relu2(self.bn2(self.conv2(x)))
        added: Tensor = self.relu(self.bn3(self.conv3(x)) + shortcut)
        return added


def _stage(inputs: int, planes: int, *, blocks: int, stride: int) -> nn.Sequential:
    """Blocks of one width: the first has a convolution as its shortcut, the last the stride."""
    outputs = planes * _EXPANSION
    widen = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
    # Takes every second pixel: a pooling of 1 x 1, without weights of its own.
    thin = nn.Sequential(nn.MaxPool2d(1, stride=stride)) if stride > 1 else None
    return nn.Sequential(
        _Block(inputs, planes, 1, widen),
        *(_Block(outputs, planes, 1, None) for _ in range(blocks - 2)),
        _Block(outputs, planes, stride, thin),
    )
