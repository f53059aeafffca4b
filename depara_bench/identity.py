"""What a model is, as far as its numbers go: the part of a shard's fingerprint that names it."""

from __future__ import annotations

from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from depara_bench.errors import path_errors
from depara_bench.loaders.locate import config_file, locate
from depara_bench.loaders.python import FOREIGN
from depara_bench.loaders.torchvision import transforms_input
from depara_bench.loaders.weights import file_sha256
from depara_bench.zoo import AnySpec, PythonSpec, TimmSpec, TorchvisionSpec, TransformersSpec


def model_identity(spec: AnySpec, base: Path) -> dict[str, Any]:
    """JSON values that change whenever the model's outputs could: weights by hash, architecture,
    input, embedding. Its name, roles and where its file lies do not count.

    A random initialisation is told by its seed and the versions that draw it; a factory by its
    source file. Raises InputError when the weights are missing.
    """
    left_out = {"name", "roles", "weights", "sha256", "transform_input"}
    identity = spec.model_dump(mode="json", exclude=left_out)
    if isinstance(spec, TorchvisionSpec) and transforms_input(spec, base):
        identity["transform_input"] = True
    if identity["input"]["clip"] is None:
        del identity["input"]["clip"]  # as it was before there was a choice
    if spec.weights is not None:
        path = locate(spec, base)
        identity["sha256"] = spec.sha256 or file_sha256(path)
    if isinstance(spec, (TorchvisionSpec, TimmSpec, TransformersSpec)) and spec.seed is not None:
        identity["versions"] = [metadata.version("torch"), metadata.version(spec.loader)]
    if isinstance(spec, TransformersSpec) and (config := config_file(spec.architecture, base)):
        identity["architecture"] = file_sha256(config)
    if isinstance(spec, PythonSpec):
        identity["source"] = _source_sha256(spec.factory.partition(":")[0], base)
    return identity


def _source_sha256(module: str, base: Path) -> str:
    """SHA-256 of a module's source file, beside the manifest or installed; "" if it has none."""
    beside = base.joinpath(*module.split(".")).with_suffix(".py")
    with path_errors(f"{beside}", "correct 'factory'"):
        if beside.is_file():
            return file_sha256(beside)
    try:
        found = find_spec(module)
    except FOREIGN:  # looking into a package runs it; told when the model is loaded
        return ""
    origin = found.origin if found is not None else None
    if origin is None or not Path(origin).is_file():
        return ""
    return file_sha256(Path(origin))
