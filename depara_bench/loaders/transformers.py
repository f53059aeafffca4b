"""Vision models of Hugging Face transformers: a local checkpoint, or random by seed.

The model's files are read here; the library is never given a name that it could fetch.
"""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from depara_bench.config import nearest
from depara_bench.errors import InputError
from depara_bench.files import SETTINGS, read_file
from depara_bench.loaders import weights
from depara_bench.loaders.choose import attempts, in_float32, misfit, pick
from depara_bench.loaders.fit_keys import Fit, expected, is_spare, is_whole
from depara_bench.loaders.libraries import need, offline, one_line
from depara_bench.loaders.locate import config_file, locate
from depara_bench.loaders.readings import State
from depara_bench.loaders.seeded import seeded
from depara_bench.loaders.unfilled import check_unfilled, poison
from depara_bench.zoo import TransformersSpec

if TYPE_CHECKING:
    from torch import Tensor, nn


def load(spec: TransformersSpec, base: Path, allow_code: bool) -> nn.Module:
    """Build the model of the configuration, fill it, and have its output be one tensor."""
    where = f"model '{spec.name}'"
    need("transformers", where)
    kind, config = _images_alone(*_class(_config(spec.architecture, base, where), where))
    with offline(), quiet():
        if spec.weights is None:
            with seeded(spec.seed):
                model = _call(kind._from_config, config, where=where)
        else:
            path = locate(spec, base)
            content = weights.read_bytes(path, spec.sha256, spec.name)
            held = weights.state_dict(content, path, spec.name)
            model, fit = _filled(kind, config, held, f"{where}: {path}", spec)
    if model.main_input_name != "pixel_values":
        raise InputError(
            f"{where}: {type(model).__name__} takes {model.main_input_name}, not images alone;"
            f" choose a vision model"
        )
    _accept_size(model, config, spec)
    _see_all(model, config, where)
    model.register_forward_hook(_pooled)
    built: nn.Module = model.float()  # some checkpoints are of half precision
    if spec.weights is not None:
        check_unfilled(built, fit, path, spec.name, spec)
    return built


def _images_alone(kind: Any, config: Any) -> tuple[Any, Any]:
    """A model's class and configuration; of one for images and text (CLIP), its image tower's."""
    mapping = need("transformers", "").MODEL_MAPPING
    tower = getattr(config, "vision_config", None) or getattr(config, "image_config", None)
    if kind.main_input_name != "pixel_values" and type(tower) in mapping:
        return mapping[type(tower)], tower
    return kind, config


def _see_all(model: Any, config: Any, where: str) -> None:
    """Have a masked autoencoder see all patches of an image, in order: it shuffles them at random,
    and leaves out most.
    """
    if config.model_type != "vit_mae":
        return
    if config.mask_ratio:
        raise InputError(
            f"{where}: hides {config.mask_ratio:.0%} of every image, at random; set 'mask_ratio: 0'"
            f" in its config.json (name the folder as 'architecture'), and it sees the whole image"
        )

    def in_order(_module: nn.Module, inputs: Any, options: dict[str, Any]) -> Any:
        batch, _, height, width = inputs[0].shape
        patches = (height // config.patch_size) * (width // config.patch_size)
        rank = inputs[0].new_tensor(range(patches)).expand(batch, -1)
        return inputs, {**options, "noise": rank}

    model.register_forward_pre_hook(in_order, with_kwargs=True)


def _accept_size(model: Any, config: Any, spec: TransformersSpec) -> None:
    """Have the model interpolate its positions to images of another size than it was trained at."""
    size = getattr(config, "image_size", None)
    own = (size, size) if isinstance(size, int) else tuple(size or ())
    option = "interpolate_pos_encoding"
    if own != spec.input.height_width and option in inspect.signature(model.forward).parameters:

        def ask(_module: Any, arguments: Any, options: dict[str, Any]) -> Any:
            return arguments, {option: True} | options

        model.register_forward_pre_hook(ask, with_kwargs=True)


def _config(architecture: str, base: Path, where: str) -> Any:
    """Configuration from the model's folder, or the default one of a type of model."""
    mapping: Any = need("transformers", where).CONFIG_MAPPING
    path = config_file(architecture, base)
    if path is None:
        known = sorted(mapping)
        if architecture not in known:
            raise InputError(
                f"{where}: '{architecture}' is no folder with a config.json, not in the Hugging"
                f" Face cache, and no type of model; nearest: {nearest(architecture, known)}"
            )
        return mapping[architecture]()
    try:
        content = json.loads(read_file(path, SETTINGS).decode("utf-8"))
        _check_depth(content, f"{where}: {path}")
        return mapping[content["model_type"]].from_dict(content)
    except InputError:
        raise
    except Exception as error:  # a file can hold anything
        raise InputError(
            f"{where}: {path} is no configuration that this transformers knows ({one_line(error)});"
            f" fetch it again"
        ) from error


_MOST_LAYERS = 1_000


def _check_depth(content: Any, where: str, field: str = "") -> None:
    """Raise InputError for a configuration of so many layers that building them has no end."""
    if isinstance(content, dict):
        for name, inner in content.items():
            _check_depth(inner, where, f"{name}")
    elif isinstance(content, list):
        for inner in content:
            _check_depth(inner, where, field)
    elif ("layers" in field or "depth" in field) and isinstance(content, int):
        if content > _MOST_LAYERS:
            raise InputError(
                f"{where}: {field} is {content:,}, and models of at most {_MOST_LAYERS:,} layers"
                f" are built; correct it"
            )


def _class(config: Any, where: str) -> tuple[Any, Any]:
    """The class that the configuration names, or the plain model of its type; and the former."""
    transformers = need("transformers", where)
    for name in config.architectures or ():
        found = getattr(transformers, name, None)
        if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
            return found, config
    mapping = transformers.MODEL_MAPPING
    if type(config) not in mapping:
        raise InputError(f"{where}: transformers has no plain model of '{config.model_type}'")
    return mapping[type(config)], config


_TOWERS = ("vision_model.", "visual.", "vision_tower.", "image_model.")
"""What the names of the image tower begin with, in a file of a model for images and text."""


def _filled(
    kind: Any, config: Any, held: Any, where: str, spec: TransformersSpec
) -> tuple[Any, Fit]:
    """The model with every tensor of the file, under the library's present names for them, and how
    the file fits.
    """
    with torch.device("meta"):
        empty = _call(kind, config, where=where)
    tried = attempts(empty, held, where, spec)
    direct = pick(tried, where)
    if direct is not None and not direct[1].missing:
        tried = [direct]
    else:  # as they are: the library knows older names
        tried = [(reading, fit) for reading, fit in tried if reading.strip == (spec.strip or "")]
    results = []
    for reading, _ in tried:
        model, fit = _from_state(kind, config, reading.tensors, where)
        if not fit.contradicts:
            poison(model, fit.missing)
            return model, fit
        results.append((reading, fit))
    raise InputError(misfit(results, where, has_classes=False))


def _from_state(kind: Any, config: Any, state: State, where: str) -> tuple[Any, Fit]:
    """What the library makes of tensors by name."""
    model, found = _call(
        kind.from_pretrained,
        None,
        config=config,
        state_dict=in_float32(state),
        dtype=torch.float32,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are told below
        where=where,
    )
    extra = sorted(found["unexpected_keys"])
    tower = next((part for part in _TOWERS if any(n.startswith(part) for n in state)), None)
    others = {name for name in extra if tower and not name.startswith(tower)}
    own = expected(model)
    shapes = [(name, tuple(its), tuple(ours)) for name, its, ours in found["mismatched_keys"]]
    fit = Fit(
        missing=tuple(sorted(found["missing_keys"])),
        extra=tuple(extra),
        spare=tuple(name for name in extra if name in others or is_spare(name)),
        shapes=tuple(sorted(shapes)),
        kinds=_whole(state, own, extra),
        matched=len(own) - len(found["missing_keys"]) - len(shapes),
    )
    return model, fit


def _whole(state: State, own: Mapping[str, Tensor], extra: Sequence[str]) -> tuple[str, ...]:
    """Names of whole numbers that went, under a present or an earlier name, where real ones belong:
    the library makes real ones of them.
    """
    return tuple(
        name
        for name, tensor in state.items()
        if not tensor.is_floating_point()
        and name not in extra
        and not is_whole(name)
        and (name not in own or own[name].is_floating_point())
    )


def _call(function: Any, *arguments: Any, where: str, **options: Any) -> Any:
    try:
        return function(*arguments, **options)
    except Exception as error:  # foreign code, of hundreds of architectures
        raise InputError(
            f"{where}: transformers cannot build it ({one_line(error)}); choose another"
        ) from error


def _pooled(_module: nn.Module, _inputs: Any, output: Any) -> Tensor | Any:
    """The pooled output of a model, its class scores where it has none, else what it gave."""
    for name in ("pooler_output", "logits"):
        value = getattr(output, name, None)
        if value is not None:
            return value
    return output


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the library from writing progress bars and tables of keys inside the block: what
    matters of them is told as an error.
    """
    own = need("transformers.utils.logging", "")
    bars, level = own.is_progress_bar_enabled(), own.get_verbosity()
    own.disable_progress_bar()
    own.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        own.set_verbosity(level)
        if bars:
            own.enable_progress_bar()
