"""Models of timm by their name: a local checkpoint, or random by seed."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depara_bench.config import nearest
from depara_bench.errors import InputError
from depara_bench.loaders import weights
from depara_bench.loaders.libraries import need, offline, one_line
from depara_bench.loaders.locate import locate
from depara_bench.loaders.seeded import seeded
from depara_bench.loaders.unfilled import check_unfilled
from depara_bench.zoo import TimmSpec

if TYPE_CHECKING:
    from torch import nn


def load(spec: TimmSpec, base: Path, allow_code: bool) -> nn.Module:
    """Build the architecture and fill it; its output is the pooled embedding where the manifest
    names no module.
    """
    where = f"model '{spec.name}'"
    published(spec.architecture, where)
    if spec.weights is None:
        return _headless(_build(spec, where), spec)
    path = locate(spec, base)
    content = weights.read_bytes(path, spec.sha256, spec.name)
    held = weights.state_dict(content, path, spec.name)
    with _filters() as filters:
        model = _build(spec, where, filtered=True)
    translate = partial(_translated, model, filters)
    fit = weights.put(model, held, path, spec.name, spec=spec, translate=translate)
    model = _headless(model, spec)
    check_unfilled(model, fit, path, spec.name, spec)
    return model


def _headless(model: Any, spec: TimmSpec) -> nn.Module:
    """The model as it is, or without its head where the manifest names no embedding."""
    if spec.embedding is None:
        model.reset_classifier(0)
    built: nn.Module = model
    return built


@contextmanager
def _filters() -> Iterator[list[Any]]:
    """Collect what timm would do to the file of each model that is built inside of the block, in
    place of loading one: older names, positions at another size.
    """
    builder: Any = importlib.import_module("timm.models._builder")
    found: list[Any] = []

    def note(*_: Any, **options: Any) -> None:
        found.append(options.get("filter_fn"))

    original = builder.load_pretrained
    builder.load_pretrained = note
    try:
        yield found
    finally:
        builder.load_pretrained = original


def _translated(model: Any, filters: list[Any], state: dict[str, Any]) -> Any:
    """The state under the present names of the model, by the filter of its last part built."""
    function = filters[-1] if filters else None
    if function is None:
        return state
    try:
        return function(dict(state), model)
    except TypeError:  # some take the state alone
        return function(dict(state))


def _build(spec: TimmSpec, where: str, *, filtered: bool = False) -> Any:
    """Build without a download and without touching the global random state; filtered: as for a
    file, which `_filters` keeps timm from loading.
    """
    timm = need("timm", where)
    options: dict[str, Any] = {} if spec.classes is None else {"num_classes": spec.classes}
    # The size that the manifest gives is the size that a transformer's positions are made for.
    with seeded(spec.seed), offline():
        for sized in ({"img_size": spec.input.height_width}, {}):
            try:
                return timm.create_model(spec.architecture, pretrained=filtered, **options, **sized)
            except TypeError as error:
                if not sized:
                    cause = one_line(error)
            except Exception as error:  # foreign code, of more than a thousand architectures
                cause = one_line(error)
                break
    raise InputError(
        f"{where}: timm cannot build '{spec.architecture}' for images of"
        f" {spec.input.height_width} ({cause}); correct 'input.size' or choose another"
    )


def published(architecture: str, where: str) -> Any:
    """timm's own entry of an architecture: `input_size`, `mean`, `std`, `hf_hub_id`, ...

    Raises InputError naming the nearest architectures.
    """
    timm = need("timm", where)
    stem, _, _ = architecture.partition(".")
    if not timm.is_model(stem):
        raise InputError(
            f"{where}: timm has no architecture '{stem}'; nearest:"
            f" {nearest(stem, timm.list_models())}"
        )
    try:
        entry = timm.get_pretrained_cfg(architecture)
    except RuntimeError as error:
        tags = timm.list_models(f"{stem}.*", pretrained=True)
        raise InputError(
            f"{where}: timm has no weights '{architecture}'; nearest: {nearest(architecture, tags)}"
        ) from error
    if entry is None:
        raise InputError(f"{where}: timm has no metadata of '{architecture}'; choose another")
    return entry
