"""Weight files: found, hashed, and their tensors put into a model."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depara_bench.errors import InputError, path_errors
from depara_bench.files import check_size, is_file, read_file, size_of
from depara_bench.loaders import checkpoints
from depara_bench.loaders.choose import Translate, choose, unchanged
from depara_bench.loaders.fit_keys import Fit, first_few
from depara_bench.loaders.libraries import one_line
from depara_bench.loaders.readings import states
from depara_bench.loaders.unfilled import check_unfilled, poison, tell_lazy

if TYPE_CHECKING:
    import torch
    from torch import nn

    from depara_bench.zoo import AnySpec


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
        if is_file(path):
            return path
        fetched = cache() / path.name
        there = is_file(fetched)
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
        content = read_file(path)
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and found != sha256:
        raise InputError(
            f"model '{name}': {path} has SHA-256 {found[:12]}..., the manifest says"
            f" {sha256[:12]}...; fetch the file again or correct 'sha256'"
        )
    checkpoints.check_unfolded(content, f"model '{name}': {path}")
    return content


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hex. Raises InputError where it cannot be read."""
    with path_errors(f"{path}"):
        check_size(size_of(path))  # that of a sparse file may take years to read
    with path_errors(f"{path}"), path.open("rb") as stream:
        return (
            hashlib.file_digest(stream, "sha256").hexdigest()
            if hasattr(hashlib, "file_digest")
            else hashlib.sha256(stream.read()).hexdigest()
        )


def state_dict(content: bytes, path: Path, name: str) -> Mapping[str, Any]:
    """What a file of safetensors, or a checkpoint of torch, holds: tensors by name, or entries that
    hold them. Nothing in the file is run.

    Tensors that a network cannot be filled with as they are (sparse, quantized, complex, without
    values) are refused.
    """
    where = f"model '{name}': {path}"
    held = checkpoints.read(content, path, name)
    found = states(held)
    if not found:
        raise InputError(f"{where} holds no state dict (names and tensors){_instead(held)}")
    odd = [
        [key for key, value in state.items() if not _is_plain(value)] for state in found.values()
    ]
    if all(odd):
        raise InputError(
            f"{where} {first_few('holds other than plain real numbers in', odd[0])};"
            f" save dense tensors of the ordinary types"
        )
    plain: Mapping[str, Any] = held
    return plain


def _instead(held: Any) -> str:
    """What a file without a state dict holds, as far as it is of use to know."""
    entries = held.items() if isinstance(held, Mapping) else [("", held)]
    objects = {key: v for key, v in entries if isinstance(v, checkpoints.StandIn)}
    for key, value in objects.items():
        entry = f"as '{key}' " if key else ""
        return (
            f" but {entry}an object of {value.stands_for}, which is not made from a file: what is"
            f" loaded are plain tensors; save model.state_dict() as safetensors"
        )
    return "; save model.state_dict()"


def _is_plain(tensor: torch.Tensor) -> bool:
    import torch

    if tensor.layout != torch.strided or tensor.is_nested:
        return False
    return not (tensor.is_meta or tensor.is_quantized or tensor.is_complex())


def fill(
    model: nn.Module,
    held: Mapping[str, Any],
    path: Path,
    name: str,
    *,
    spec: AnySpec | None = None,
    translate: Translate = unchanged,
) -> None:
    """Fill `model`, made one of float32, from what a file holds, in the only way that fits.

    spec: says which entry and prefix are meant, and what the embedding is: of what does not
    influence that, the file may lack anything. translate: what the model's library does to the
    names and sizes of older files. Raises InputError where nothing fits, or more than one way does.
    """
    fit = put(model, held, path, name, spec=spec, translate=translate)
    check_unfilled(model, fit, path, name, spec)


def put(
    model: nn.Module,
    held: Mapping[str, Any],
    path: Path,
    name: str,
    *,
    spec: AnySpec | None = None,
    translate: Translate = unchanged,
) -> Fit:
    """Fill as `fill` does, and return what the file lacks and adds, for `check_unfilled`."""
    where = f"model '{name}': {path}"
    model.float()
    reading, fit = choose(model, held, where, spec, translate)
    own = model.state_dict()
    state: Any = OrderedDict((key, reading.tensors[key]) for key in own if key in reading.tensors)
    state._metadata = getattr(own, "_metadata", None)  # the names are those of this version
    try:
        model.load_state_dict(state, strict=False)  # what is missing is known
    except Exception as error:  # a module may refuse what it is given in its own way
        raise InputError(
            f"{where} cannot be loaded into the architecture ({one_line(error)});"
            f" save model.state_dict() of it again"
        ) from error
    tell_lazy(model, where)
    poison(model, fit.missing)
    return fit
