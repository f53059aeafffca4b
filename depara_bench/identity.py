"""What a model is, as far as its numbers go: the part of a shard's fingerprint that names it."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

from depara_bench.loaders.locate import config_file, locate
from depara_bench.loaders.torchvision import transforms_input
from depara_bench.loaders.weights import file_sha256
from depara_bench.zoo import AnySpec, TimmSpec, TorchvisionSpec, TransformersSpec


def model_identity(spec: AnySpec, base: Path) -> dict[str, Any]:
    """JSON values that change whenever the model's outputs could: weights by hash, architecture,
    input, embedding. Its name, roles and where its file lies do not count.

    A random initialisation is told by its seed and the versions that draw it. What code a factory
    runs is told when it is loaded (`loaders.digest`). Raises InputError when the weights are
    missing.
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
    return identity
