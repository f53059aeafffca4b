"""Weight files: found, hashed, and read without running anything that is in them."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depara_bench.errors import InputError, path_errors
from depara_bench.loaders.libraries import one_line

if TYPE_CHECKING:
    import torch
    from torch import nn


def cache() -> Path:
    """Folder of fetched weight files: DEPARA_BENCH_CACHE, or below the user's cache folder."""
    named = os.environ.get("DEPARA_BENCH_CACHE")
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    with path_errors("the cache of weight files", "correct DEPARA_BENCH_CACHE"):
        return Path(named).expanduser() if named else Path(root).expanduser() / "depara-bench"


def resolve(weights: str, base: Path, name: str, sha256: str | None = None) -> Path:
    """Path of a model's weight file: as the manifest says, or else in the cache by its file name.

    The cache is asked only for files with a hash, which `read_bytes` verifies: another file of the
    same name is never taken. Raises InputError where there is none.
    """
    with path_errors(f"model '{name}': weights {weights}"):
        path = (base / Path(weights).expanduser()).resolve()
        if path.is_file():
            return path
        fetched = cache() / path.name
        there = fetched.is_file()
    if sha256 is None:
        raise InputError(f"model '{name}': weights {path} do not exist; put the file there")
    if not there:
        raise InputError(
            f"model '{name}': weights {path} do not exist; put the file there or into"
            f" {fetched.parent} ('depara-bench zoo fetch' does)"
        )
    return fetched


def read_bytes(path: Path, sha256: str | None, name: str) -> bytes:
    """The file's bytes, after its SHA-256 has been compared with the manifest's."""
    with path_errors(f"model '{name}': weights {path}"):
        content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and found != sha256:
        raise InputError(
            f"model '{name}': {path} has SHA-256 {found[:12]}..., the manifest says"
            f" {sha256[:12]}...; fetch the file again or correct 'sha256'"
        )
    return content


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hex. Raises InputError where it cannot be read."""
    with path_errors(f"{path}"), path.open("rb") as stream:
        return (
            hashlib.file_digest(stream, "sha256").hexdigest()
            if hasattr(hashlib, "file_digest")
            else hashlib.sha256(stream.read()).hexdigest()
        )


def state_dict(content: bytes, path: Path, name: str) -> Mapping[str, torch.Tensor]:
    """Tensors by name, from safetensors or from a torch checkpoint of plain tensors.

    A checkpoint that wraps its tensors under "state_dict" or "model" is unwrapped. Tensors that a
    network cannot be filled with as they are (sparse, quantized, complex, without values) are
    refused.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load as load_safetensors

    loaded: Any
    if path.suffix == ".safetensors":
        try:
            loaded = load_safetensors(content)
        except SafetensorError as error:
            raise InputError(
                f"model '{name}': {path} is not a safetensors file ({error}); fetch it again"
            ) from error
    else:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch would rather have it written in another way
                loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except Exception as error:  # a hostile pickle can make the unpickler raise anything
            raise InputError(
                f"model '{name}': {path} is not a checkpoint of plain tensors, and nothing else is"
                f" loaded from it; save model.state_dict() as safetensors"
            ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
    if not isinstance(loaded, Mapping) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in loaded.items()
    ):
        raise InputError(f"model '{name}': {path} holds no state dict (names and tensors)")
    if odd := [key for key, value in loaded.items() if not _is_plain(value)]:
        raise InputError(
            f"model '{name}': {path} {first_few('holds other than plain real numbers in', odd)};"
            f" save dense tensors of the ordinary types"
        )
    return loaded


def _is_plain(tensor: torch.Tensor) -> bool:
    import torch

    if tensor.layout != torch.strided or tensor.is_nested:
        return False
    return not (tensor.is_meta or tensor.is_quantized or tensor.is_complex())


def first_few(what: str, keys: Sequence[str]) -> str:
    """What is wrong with the first three of `keys`, and how many there are."""
    return f"{what} {', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''} ({len(keys)} in all)"


def fill(model: nn.Module, state: Mapping[str, torch.Tensor], path: Path, name: str) -> None:
    """Load `state` into `model`, every key and shape as it must be. Raises InputError."""
    expected = model.state_dict()
    missing = [key for key in expected if key not in state]
    extra = sorted(key for key in state if key not in expected)  # safetensors keeps no order
    shapes = [k for k in expected if k in state and state[k].shape != expected[k].shape]
    problems = [
        first_few(what, keys)
        for what, keys in (("lacks", missing), ("adds", extra), ("has another shape for", shapes))
        if keys
    ]
    if problems:
        raise InputError(
            f"model '{name}': {path} does not fit the architecture: it {'; it '.join(problems)}"
        )
    try:
        model.load_state_dict(dict(state), strict=True)
    except RuntimeError as error:
        raise InputError(
            f"model '{name}': {path} cannot be loaded into the architecture ({one_line(error)});"
            f" save model.state_dict() of it again"
        ) from error
