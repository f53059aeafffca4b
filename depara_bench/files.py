"""Files that a user names: regular ones, of a size that is known before anything of it is read.

A device, a pipe or a socket has no end, or waits for one that never comes; it is never opened.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from depara_bench.memory import available

TEXT = 1 << 28
"""Most bytes of a list or a table that is text."""

SETTINGS = 1 << 24
"""Most bytes of a job, a manifest, a configuration: a manifest of 10,000 models has 3 million."""

IMAGE = 1 << 30
"""Most bytes of one encoded image: more than the largest that decoders take, uncompressed."""

_KINDS = (
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)


def is_file(path: Path) -> bool:
    """Whether there is a regular file, links followed.

    Raises ValueError, as which `path_errors` tells it, for what is neither a file nor a folder.
    """
    if path.is_file():
        return True
    if path.exists():
        _check_kind(path.stat())
    return False


def size_of(path: Path) -> int:
    """Bytes of a regular file. Raises OSError where it is not there, ValueError for other kinds."""
    found = path.stat()
    _check_kind(found)
    return found.st_size


def read_file(path: Path, at_most: int | None = None) -> bytes:
    """The bytes of a regular file, so many as it is said to have.

    at_most: None: what fits into memory. Raises OSError as `open` does, and ValueError for another
    kind of file or a larger one, of which nothing is read.
    """
    check_size(size_of(path), at_most)
    # A pipe that took the file's place since is not waited for.
    with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as stream:
        found = os.fstat(stream.fileno())
        _check_kind(found)
        check_size(found.st_size, at_most)
        return stream.read(found.st_size)


def check_size(size: int, at_most: int | None = None) -> None:
    """Raise ValueError for a file of more bytes than `at_most`, or than fit into memory."""
    if at_most is not None and size > at_most:
        raise ValueError(f"it has {size:,} bytes, and at most {at_most:,} are read")
    if size > (free := available()):
        raise ValueError(
            f"it has {size / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB of memory are free"
        )


def _check_kind(found: os.stat_result) -> None:
    for is_kind, kind in _KINDS:
        if is_kind(found.st_mode):
            raise ValueError(f"it is {kind}, not a file")
