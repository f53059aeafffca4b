"""Models of timm by their name: a local checkpoint, or random by seed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from depara_bench.config import nearest
from depara_bench.errors import InputError
from depara_bench.loaders import weights
from depara_bench.loaders.classes import check_classes
from depara_bench.loaders.libraries import need, offline, one_line
from depara_bench.loaders.locate import locate
from depara_bench.loaders.seeded import seeded
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
        model = _build(spec, where)
    else:
        path = locate(spec, base)
        content = weights.read_bytes(path, spec.sha256, spec.name)
        model = _build(spec, where)
        state = weights.state_dict(content, path, spec.name)
        check_classes(model, state, spec.classes or model.num_classes, path, spec.name)
        weights.fill(model, state, path, spec.name)
    if spec.embedding is None:
        model.reset_classifier(0)
    built: nn.Module = model
    return built


def _build(spec: TimmSpec, where: str) -> Any:
    """Build without a download and without touching the global random state."""
    timm = need("timm", where)
    options = {} if spec.classes is None else {"num_classes": spec.classes}
    # The size that the manifest gives is the size that a transformer's positions are made for.
    with seeded(spec.seed), offline():
        for sized in ({"img_size": spec.input.height_width}, {}):
            try:
                return timm.create_model(spec.architecture, pretrained=False, **options, **sized)
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
