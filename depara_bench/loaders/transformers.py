"""Vision models of Hugging Face transformers: a local checkpoint, or random by seed.

The model's files are read here; the library is never given a name that it could fetch.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depara_bench.config import nearest
from depara_bench.errors import InputError
from depara_bench.loaders import weights
from depara_bench.loaders.libraries import need, offline, one_line
from depara_bench.loaders.locate import config_file, locate
from depara_bench.loaders.seeded import seeded
from depara_bench.zoo import TransformersSpec

if TYPE_CHECKING:
    from torch import Tensor, nn


def load(spec: TransformersSpec, base: Path, allow_code: bool) -> nn.Module:
    """Build the model of the configuration, fill it, and have its output be one tensor."""
    where = f"model '{spec.name}'"
    need("transformers", where)
    config = _config(spec.architecture, base, where)
    with offline(), quiet():
        if spec.weights is None:
            with seeded(spec.seed):
                model = _call(_class(config, where)._from_config, config, where=where)
        else:
            path = locate(spec, base)
            content = weights.read_bytes(path, spec.sha256, spec.name)
            state = weights.state_dict(content, path, spec.name)
            model = _filled(_class(config, where), config, state, path, where)
    if model.main_input_name != "pixel_values":
        raise InputError(
            f"{where}: {type(model).__name__} takes {model.main_input_name}, not images alone;"
            f" choose a vision model"
        )
    model.register_forward_hook(_pooled)
    built: nn.Module = model.float()  # some checkpoints are of half precision
    return built


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
        content = json.loads(path.read_text(encoding="utf-8"))
        return mapping[content["model_type"]].from_dict(content)
    except Exception as error:  # a file can hold anything
        raise InputError(
            f"{where}: {path} is no configuration that this transformers knows ({one_line(error)});"
            f" fetch it again"
        ) from error


def _class(config: Any, where: str) -> Any:
    """The class that the configuration names, or the plain model of its type."""
    transformers = need("transformers", where)
    for name in config.architectures or ():
        found = getattr(transformers, name, None)
        if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
            return found
    mapping = transformers.MODEL_MAPPING
    if type(config) not in mapping:
        raise InputError(f"{where}: transformers has no plain model of '{config.model_type}'")
    return mapping[type(config)]


def _filled(kind: Any, config: Any, state: Any, path: Path, where: str) -> Any:
    """The model with every tensor of the file, under the library's present names for them."""
    model, found = _call(
        kind.from_pretrained,
        None,
        config=config,
        state_dict=dict(state),
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are told below
        where=where,
    )
    sizes = [key if isinstance(key, str) else key[0] for key in found["mismatched_keys"]]
    problems = [
        weights.first_few(what, sorted(keys))
        for what, keys in (
            ("lacks", found["missing_keys"]),
            ("adds", found["unexpected_keys"]),
            ("has another shape for", sizes),
        )
        if keys
    ]
    if problems:
        raise InputError(
            f"{where}: {path} does not fit the architecture: it {'; it '.join(problems)}"
        )
    return model


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
