"""Pickles of published results, read without trusting them.

A pickle is a program. This reader runs only the part of it that builds dicts, lists, tuples,
strings, numbers and numpy scalars; the name of any other function or class is refused before it
can be called.
"""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from depara_bench.errors import InputError, path_errors
from depara_bench.files import TEXT, read_file


class _Dtype:
    """A plain numpy type by its short name ("f8"), taking only a byte order as pickled state."""

    def __init__(self, kind: Any, *_flags: Any) -> None:
        if not isinstance(kind, str) or not re.fullmatch(r"[<>=|]?[biuf][1248]", kind):
            raise pickle.UnpicklingError(f"the numpy type '{str(kind)[:40]}'")
        self.dtype = np.dtype(kind)

    def __setstate__(self, state: Any) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError("a numpy type with unusual state")
        self.dtype = self.dtype.newbyteorder(order)


def _scalar(kind: Any, content: Any) -> Any:
    """A number from its bytes: what the pickle of a numpy scalar calls."""
    if not isinstance(kind, _Dtype) or not isinstance(content, (bytes, str)):
        raise pickle.UnpicklingError("a numpy scalar that is no number")
    raw = content.encode("latin1") if isinstance(content, str) else content  # Python 2 wrote text
    if len(raw) != kind.dtype.itemsize:
        raise pickle.UnpicklingError("a numpy scalar of the wrong length")
    return np.frombuffer(raw, dtype=kind.dtype)[0].item()


_ALLOWED: Mapping[tuple[str, str], Any] = {
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("_codecs", "encode"): lambda text, _encoding: str(text).encode("latin1"),
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"'{module}.{name}'")
        return _ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("a reference to something outside")


def read_numbers(path: Path) -> dict[str, float]:
    """The dict of names to numbers in a pickle.

    Raises InputError when the file is no pickle, holds anything but plain data, or something else
    than a dict of names to finite numbers.
    """
    with path_errors(f"{path}"):
        content = read_file(path, TEXT)
    try:
        loaded = _Reader(io.BytesIO(content), encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path}: refused, the pickle asks for {error}; only dicts of names to numbers are read"
        ) from error
    except Exception as error:  # a damaged pickle makes its reader raise anything
        raise InputError(f"{path}: is not a readable pickle ({type(error).__name__})") from error
    if not isinstance(loaded, dict):
        raise InputError(f"{path}: holds a {type(loaded).__name__}, not a dict of names to numbers")
    for name, value in loaded.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not isinstance(name, str) or not number:
            raise InputError(f"{path}: '{str(name)[:60]}' is not a name with a number")
    return {name: float(value) for name, value in loaded.items()}
