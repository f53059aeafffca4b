"""A narrow VGG-11 with batch normalisation, for scenes of 64 x 64 pixels.

Configuration A of Simonyan and Zisserman (ICLR 2015), laid out and named as torchvision has it:
`features` and `classifier`, whose convolutions and linear layers are the 11 layers that can be
measured. There is no dropout: a network of 300,000 numbers does not need it.
"""

from __future__ import annotations

from torch import Tensor, nn

from depara_bench.rooms.tasks import TASKS

SIZE = 64
_WIDTHS = (16, 0, 24, 0, 48, 48, 0, 64, 64, 0, 96, 96, 0)  # of the convolutions; 0: pooling
_HIDDEN = 128


class Vgg(nn.Module):
    """Images (N, 3, 64, 64) in [-1, 1] to class logits (N, classes)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in _WIDTHS:
            if width == 0:
                layers.append(nn.MaxPool2d(2))
                continue
            # The normalisation has a shift of its own; the bias is there as VGG has it.
            layers += [
                nn.Conv2d(channels, width, 3, padding=1),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            channels = width
        self.features = nn.Sequential(*layers)
        side = SIZE // 2 ** _WIDTHS.count(0)
        self.classifier = nn.Sequential(
            nn.Linear(channels * side**2, _HIDDEN),
            nn.ReLU(inplace=True),
            nn.Linear(_HIDDEN, _HIDDEN),
            nn.ReLU(inplace=True),
            nn.Linear(_HIDDEN, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        logits: Tensor = self.classifier(self.features(images).flatten(start_dim=1))
        return logits


def subject() -> Vgg:
    """Untrained, for the kind of the salient object (task class_1000): a factory for manifests."""
    return Vgg(TASKS["class_1000"].shape[0])


def place() -> Vgg:
    """Untrained, for the kind of room (task class_places): a factory for manifests."""
    return Vgg(TASKS["class_places"].shape[0])
