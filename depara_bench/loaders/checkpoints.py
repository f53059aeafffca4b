"""Checkpoint files, read without running anything that is in them.

A checkpoint of torch is a pickle: a small program that may import and call anything. Torch's own
unpickler for weights calls nothing but what makes tensors, and refuses a file that asks for more.
Training scripts put more beside the tensors (arguments, schedulers, numpy scalars), so what such
names stand for is replaced here by an empty object of this module. The name is never looked up.
"""

from __future__ import annotations

import io
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from depara_bench.errors import InputError
from depara_bench.loaders.libraries import one_line
from depara_bench.memory import available


def read(content: bytes, path: Path, name: str) -> Any:
    """What a file of safetensors, or a checkpoint of torch, holds: mappings, values, tensors.

    What is no plain value or tensor is a `StandIn`. Raises InputError.
    """
    where = f"model '{name}': {path}"
    if path.suffix == ".safetensors" or content[8:9] == b"{":
        return _safetensors(content, where)
    _check_kind(content, where)
    try:
        return _unpickled(content, {})
    except Exception as error:  # a hostile pickle can make the unpickler raise anything
        refused = error
    foreign = _foreign(content)
    # Objects of most classes are made, then given their state; those of a kind of dict are filled.
    for kind in (StandIn, _StandInDict) if foreign else ():
        stand_ins = {full: type(full, (kind,), {"stands_for": full}) for full in foreign}
        try:
            return _unpickled(content, stand_ins)
        except Exception as error:
            refused = error
    classes = f" but of objects of {', '.join(foreign[:3])}" if foreign else ""
    raise InputError(
        f"{where} is not a checkpoint of plain tensors{classes}, and nothing else is loaded from"
        f" it; save model.state_dict() as safetensors"
    ) from refused


class StandIn:
    """In place of an object that is not made. stands_for: the class or function that it wanted."""

    stands_for = ""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        """Ignore what the real one would be made of."""
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """Ignore what the real one would hold."""


class _StandInDict(StandIn):
    """In place of an object that is filled as a dict is; numpy's are given a state."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        """Take an ordinary dict, or a StandIn for what is none."""
        return super().__new__(cls) if cls.stands_for.startswith("numpy.") else OrderedDict()


def _safetensors(content: bytes, where: str) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(content)
    except (SafetensorError, KeyError) as error:  # KeyError: of a type that torch does not have
        raise InputError(
            f"{where} is not a safetensors file ({one_line(error)}); fetch it again"
        ) from error


def _unpickled(content: bytes, stand_ins: Mapping[str, type]) -> Any:
    import torch

    known: list[Any] = [(kind, full) for full, kind in stand_ins.items()]
    with warnings.catch_warnings(), torch.serialization.safe_globals(known):
        warnings.simplefilter("ignore")  # torch would rather have it written in another way
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _check_kind(content: bytes, where: str) -> None:
    """Name the loader of a file that holds a whole program, not a state dict."""
    members = _members(content)
    if any(member.endswith("models/model.json") for member in members):
        raise InputError(f"{where} is a torch.export archive, with its program; load it with"
                         f" 'loader: exported'")  # fmt: skip
    if any(member.partition("/")[2] in ("constants.pkl", "model.json") for member in members):
        raise InputError(
            f"{where} is a TorchScript archive: a program, not a state dict; load it with"
            f" 'loader: torchscript', or save model.state_dict()"
        )


def check_unfolded(content: bytes, where: str) -> None:
    """Raise InputError for an archive that unfolds to more than fits into memory. Torch compresses
    nothing; another program may have, to any size.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as opened:
            size = sum(member.file_size for member in opened.infolist())
    except Exception:  # no zip, or one that is made to break its reader
        return
    if size > (free := available()):
        raise InputError(
            f"{where} unfolds to {size / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB of memory are free;"
            f" save the model without compression"
        )


def _members(content: bytes) -> list[str]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as opened:
            return opened.namelist()
    except Exception:  # no zip, or one that is made to break its reader
        return []


_PICKLES = 5
"""Of the format before torch 1.6: three that describe it, the object, the keys of its tensors."""


def _foreign(content: bytes) -> list[str]:
    """Full names of what a checkpoint would have made, apart from what makes tensors."""
    from torch import _weights_only_unpickler as own
    from torch.serialization import get_unsafe_globals_in_checkpoint

    try:
        if _members(content):
            return sorted(get_unsafe_globals_in_checkpoint(io.BytesIO(content)))
        stream = io.BytesIO(content)
        named = [own.get_globals_in_pkl(stream) for _ in range(_PICKLES)]
        return sorted(set().union(*named) - set(own._get_allowed_globals()))
    except Exception:  # whatever it is, it is no checkpoint
        return []
