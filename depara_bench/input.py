"""What a model takes: how an image becomes its input, as a manifest says."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_serializer,
    model_validator,
)

from depara_bench.config import Strict


def _told_as(words: str) -> WrapValidator:
    """One mistake where the kinds of value that a field takes would each tell one of its own."""

    def check(value: Any, kinds: ValidatorFunctionWrapHandler) -> Any:
        try:
            return kinds(value)
        except ValidationError as error:
            raise ValueError(f"must be {words}, not {value!r}") from error

    return WrapValidator(check)


MOST_PIXELS_A_SIDE = 2048
"""Of a model's input, of maps, of what an image is resized to."""

Positive = Annotated[int, Field(ge=1, le=MOST_PIXELS_A_SIDE)]
Level = Annotated[int, Field(ge=0, le=255)]
Sides = _told_as("a whole number of pixels, or [height, width]")
Colour = _told_as("a level in 0..255, or [red, green, blue]")


class InputSpec(Strict):
    """How an 8-bit RGB image becomes a model's input.

    The image is brought to `size` (height, width): stretched, or resized as `resize` and `fit` say
    and its centre cropped. What of the crop lies outside the image gets the colour `border`.
    Channels are put into the model's order; values, as fractions of 255, are clipped to `clip`
    where it is given, mapped from 0..1 to `range`, then normalised as (x - mean) / std per channel.

    resize: the shorter side is resized to it, or, of two numbers, the image stretched to that
    (height, width). fit: "cover" and "contain" keep the image's proportions, so that it just covers
    or just fits into `resize` (or `size`); "keep" does not resize it. crop: where the centre
    begins when its margins cannot be equal: the half rounded (to even, as torchvision does), or
    down. layout: how the model wants its batch.
    """

    size: Annotated[int | tuple[int, int], Sides]
    resize: Annotated[Positive | tuple[Positive, Positive] | None, Sides] = None
    fit: Literal["cover", "contain", "keep"] | None = None
    crop: Literal["round", "floor"] = "round"
    border: Annotated[Level | tuple[Level, Level, Level] | None, Colour] = None
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"] = (
        "bilinear"
    )
    channels: Literal["rgb", "bgr", "grey"] = "rgb"
    layout: Literal["nchw", "nhwc"] = "nchw"
    clip: tuple[float, float] | None = None
    range: tuple[float, float] = (0.0, 1.0)
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @property
    def height_width(self) -> tuple[int, int]:
        """Size of the input as (height, width)."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one image at the input, (channels, height, width) whatever the layout."""
        return (1 if self.channels == "grey" else 3, *self.height_width)

    @property
    def own_shape(self) -> tuple[int, int, int]:
        """Shape of one image as the model itself takes it."""
        channels, height, width = self.shape
        return (height, width, channels) if self.layout == "nhwc" else self.shape

    @property
    def crops(self) -> bool:
        """Whether an image smaller than the input is enlarged, to be cropped to it."""
        return isinstance(self.resize, int) or self.fit == "cover"

    @model_validator(mode="after")
    def _sane(self) -> InputSpec:
        if min(self.height_width) < 1 or max(self.height_width) > MOST_PIXELS_A_SIDE:
            raise ValueError(f"size must lie in 1..{MOST_PIXELS_A_SIDE}")
        if self.clip is not None and not 0 <= self.clip[0] < self.clip[1] <= 1:
            raise ValueError("clip must be [low, high] with 0 <= low < high <= 1")
        if self.range[0] >= self.range[1]:
            raise ValueError("range must be [low, high] with low < high")
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std go together")
        if self.std is not None and min(self.std, default=1) <= 0:
            raise ValueError("std must be above 0")
        if self.fit == "keep" and self.resize is not None:
            raise ValueError("fit: keep does not resize; leave 'resize' out")
        return self

    @model_validator(mode="after")
    def _one_value_a_channel(self) -> InputSpec:
        channels = self.shape[0]
        for field, values in (("mean", self.mean), ("std", self.std)):
            if values is None or len(values) == channels:
                continue
            other = "grey" if len(values) == 1 else "rgb" if len(values) == 3 else None
            mend = f"; or is it a model of 'channels: {other}'?" if other else ""
            raise ValueError(
                f"{field} has length {len(values)}, the model's channels ({self.channels}) need"
                f" {channels} value{'s' if channels > 1 else ''}{mend}"
            )
        return self

    @model_validator(mode="after")
    def _nothing_without_colour(self) -> InputSpec:
        if self.border is not None:
            return self
        if self.fit in ("contain", "keep"):
            raise ValueError(
                f"fit: {self.fit} can leave borders; give their colour, as in 'border: 0' (black)"
            )
        sides = (self.resize, self.resize) if isinstance(self.resize, int) else self.resize
        height, width = self.height_width
        if sides is not None and (sides[0] < height or sides[1] < width):
            raise ValueError(
                "resize must not be smaller than size, which is cropped from it; or give the"
                " colour of the borders that it leaves, as in 'border: 0' (black)"
            )
        return self

    @model_serializer(mode="wrap")
    def _as_before_there_was_a_choice(self, fields: SerializerFunctionWrapHandler) -> Any:
        """Fields that came later are left out at their defaults: what a shard was computed from is
        told by what is written here.
        """
        later = ("fit", "crop", "border", "interpolation", "channels", "layout")
        defaults = {name: type(self).model_fields[name].default for name in later}
        return {k: v for k, v in fields(self).items() if k not in later or v != defaults[k]}
