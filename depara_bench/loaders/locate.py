"""Where a model's weight file is: where the manifest says, or in the cache of its library."""

from __future__ import annotations

from pathlib import Path

from depara_bench.errors import InputError, path_errors
from depara_bench.files import SETTINGS, check_size, is_file, size_of
from depara_bench.loaders import weights
from depara_bench.loaders.libraries import hub_file
from depara_bench.zoo import AnySpec, TimmSpec, TorchvisionSpec, TransformersSpec

CACHE = "cache"
"""In place of a file's path: the file that the library itself keeps."""

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def locate(spec: AnySpec, base: Path) -> Path:
    """Path of the weight file of `spec`, which has one. Raises InputError where it is not there."""
    assert spec.weights is not None
    if spec.weights != CACHE:
        return weights.resolve(spec.weights, base, spec.name, spec.sha256)
    where = f"model '{spec.name}'"
    if isinstance(spec, TorchvisionSpec):
        return _torchvision_file(spec.architecture, where)
    if isinstance(spec, TimmSpec):
        return _timm_file(spec.architecture, where)
    if isinstance(spec, TransformersSpec):
        return _transformers_file(spec.architecture, base, where)
    return weights.resolve(spec.weights, base, spec.name, spec.sha256)


def config_file(architecture: str, base: Path, name: str = "config.json") -> Path | None:
    """A file that says what a model of transformers is: in a folder (relative to the manifest), or
    in the Hugging Face cache; None where there is neither.
    """
    with path_errors(f"architecture '{architecture}'", "correct 'architecture'"):
        file = base / Path(architecture).expanduser() / name
        if is_file(file):
            check_size(size_of(file), SETTINGS)
            return file
    return hub_file(architecture, (name,)) if "/" in architecture else None


def _torchvision_file(architecture: str, where: str) -> Path:
    from depara_bench.loaders.torchvision import published

    entry = published(architecture, where)
    if entry is None:
        raise InputError(f"{where}: torchvision has no weights of '{architecture}'; give a file")
    return _downloaded(entry.url, where)


def _timm_file(architecture: str, where: str) -> Path:
    from depara_bench.loaders.timm import published

    entry = published(architecture, where)
    if entry.hf_hub_id and (found := hub_file(entry.hf_hub_id, _WEIGHTS)):
        return found
    if not entry.url:
        raise InputError(
            f"{where}: timm has no weights of '{architecture}' in its cache; give a file"
        )
    return _downloaded(entry.url, where)


def _transformers_file(architecture: str, base: Path, where: str) -> Path:
    config = config_file(architecture, base)
    with path_errors(f"{where}: weights of '{architecture}'"):
        for file in map(config.with_name, _WEIGHTS) if config is not None else ():
            if is_file(file):
                return file
    raise InputError(
        f"{where}: neither the folder nor the Hugging Face cache holds weights of '{architecture}';"
        f" put {' or '.join(_WEIGHTS)} beside its config.json"
    )


def _downloaded(url: str, where: str) -> Path:
    """The file that torch.hub has fetched from `url` earlier."""
    import torch

    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not path.is_file():
        raise InputError(
            f"{where}: 'weights: cache', and the library's cache does not hold {path}; fetch it"
            f" with the library, or give a file"
        )
    return path
