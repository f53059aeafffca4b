"""Models of torchvision by their registered name: a local checkpoint, or random by seed."""

from __future__ import annotations

import inspect
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depara_bench.config import nearest
from depara_bench.errors import InputError
from depara_bench.loaders import weights
from depara_bench.loaders.choose import Translate, unchanged
from depara_bench.loaders.entries import entries_of, entry_of_file
from depara_bench.loaders.locate import CACHE, locate
from depara_bench.loaders.seeded import seeded
from depara_bench.zoo import TorchvisionSpec

if TYPE_CHECKING:
    from torch import nn


_TRANSFORMING = ("googlenet", "inception_v3")


def load(spec: TorchvisionSpec, base: Path, allow_code: bool) -> nn.Module:
    """Build the architecture; fill it from the checkpoint, or at random by the seed."""
    if spec.weights is None:
        return _build(spec, base)
    # Before the model is built, which can take seconds: is the file there and the right one?
    path = locate(spec, base)
    content = weights.read_bytes(path, spec.sha256, spec.name)
    held = weights.state_dict(content, path, spec.name)
    model = _build(spec, base)
    weights.fill(model, held, path, spec.name, spec=spec, translate=_translation(model))
    return model


def _translation(model: nn.Module) -> Translate:
    """What the library does to a file for the model: it interpolates the positions of a vision
    transformer that was trained at another size.
    """
    from torchvision.models import VisionTransformer
    from torchvision.models.vision_transformer import interpolate_embeddings

    if isinstance(model, VisionTransformer):
        return partial(interpolate_embeddings, model.image_size, model.patch_size)
    return unchanged


def transforms_input(spec: TorchvisionSpec, base: Path) -> bool:
    """Whether the model brings its input to another normalisation, see `TorchvisionSpec`.

    Raises InputError when the manifest does not say and the weight file is not torchvision's.
    """
    where = f"model '{spec.name}'"
    if spec.architecture not in _TRANSFORMING:
        if spec.transform_input is not None:
            raise InputError(
                f"{where}: 'transform_input' is of {' and '.join(_TRANSFORMING)} alone; remove it"
            )
        return False
    if spec.transform_input is not None or spec.weights is None:
        return bool(spec.transform_input)
    if spec.weights == CACHE:
        return True
    entries = entries_of("torchvision", spec.architecture, where)
    if entry_of_file(entries, spec.weights, base, spec.sha256, where) is None:
        raise InputError(
            f"{where}: {spec.weights} is not torchvision's own file of '{spec.architecture}', and"
            f" does not say whether the network brings its input to another normalisation; add"
            f" 'transform_input: true' (as when training began from torchvision's weights) or"
            f" 'transform_input: false' (torchvision's default without weights)"
        )
    return True


def _build(spec: TorchvisionSpec, base: Path) -> nn.Module:
    """Build without a download and without touching the global random state."""
    from torchvision.models import get_model_builder

    _check_known(spec.architecture, f"model '{spec.name}'")
    builder = get_model_builder(spec.architecture)
    options: dict[str, Any] = {"weights": None, "num_classes": spec.classes}
    if transforms_input(spec, base):
        options["transform_input"] = True
    if spec.architecture.startswith("vit_"):
        options["image_size"] = max(spec.input.height_width)  # its positions are made for a size
    if "weights_backbone" in inspect.signature(builder).parameters:
        options["weights_backbone"] = None  # its default would be downloaded
    with seeded(spec.seed), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a default for init_weights that will change some day
        try:
            model: nn.Module = builder(**options)
        except (TypeError, ValueError, AssertionError) as error:
            cause = " ".join(str(error).split())
            raise InputError(
                f"model '{spec.name}': torchvision cannot build '{spec.architecture}' with"
                f" {spec.classes} classes ({cause}); choose another architecture, 'classes' or"
                f" 'input.size'"
            ) from error
    return model


def published(architecture: str, where: str) -> Any:
    """The library's entry of the weights it takes by default for an architecture (`url`,
    `transforms`); None where it has none. Raises InputError naming the nearest architectures.
    """
    from torchvision.models import get_model_weights

    _check_known(architecture, where)
    entries = list(get_model_weights(architecture))
    return getattr(get_model_weights(architecture), "DEFAULT", entries[0]) if entries else None


def _check_known(architecture: str, where: str) -> None:
    from torchvision.models import list_models

    known = list_models()
    if architecture not in known:
        raise InputError(
            f"{where}: torchvision has no architecture '{architecture}';"
            f" nearest: {nearest(architecture, known)}"
        )
