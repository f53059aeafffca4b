"""The one family of errors a user can cause.

InputError   bad job, manifest, probe, file or folder: nothing was started  (exit 2)
RunError     the run went wrong part-way and cannot give a result           (exit 1)

Everything else that is raised is a bug of this package and keeps its traceback.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


class DeparaError(Exception):
    """Base of the errors shown to the user as one line: what, where, how to mend."""


class InputError(DeparaError):
    """What the user gave cannot be worked with; nothing has been started."""


class RunError(DeparaError):
    """Something that only showed while running; what is complete on disk stays valid."""


class StopError(InputError):
    """What a worker found that the user has to mend; the work had begun, or was being tried."""


@contextmanager
def begun(kind: type[InputError] = InputError) -> Iterator[None]:
    """Turn what the user has to mend into a RunError: the work has begun, and something of it may
    be there. kind: only such errors.
    """
    try:
        yield
    except kind as error:
        raise RunError(str(error)) from error


@contextmanager
def path_errors(where: str, mend: str = "check the path") -> Iterator[None]:
    """Turn what reading from a path can raise into one line that names the place and the fix: also
    a name with a null byte in it (ValueError), and the home folder of nobody (RuntimeError).
    """
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{where}: cannot be read ({cause(error)}); {mend}") from error


def without_model(error: object, name: str) -> str:
    """What is wrong with a model, for a line that names the model already."""
    return str(error).removeprefix(f"model '{name}': ")


def cause(error: Exception) -> str:
    """What a path raised, without the path itself, which is told already."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not a text file in UTF-8"
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number) if number else str(error)
