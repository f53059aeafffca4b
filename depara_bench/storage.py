"""Files of a run folder, on a local disk or in an object store (`pyarrow.fs` URIs), written whole
or not at all.
"""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from depara_bench.errors import InputError, cause, path_errors

if TYPE_CHECKING:
    import pyarrow.fs as pafs


@dataclass(frozen=True, repr=False)
class Folder:
    """A folder by URI ("s3://bucket/run", "file:///data/run") or by local path. Cheap to send to a
    worker.

    Paths given to its methods are relative to it, with forward slashes. Its address may hold a
    secret, and is never shown: `uri` is.
    """

    address: str

    @property
    def uri(self) -> str:
        """The address for eyes: without user, password and tokens."""
        return masked(self.address)

    def __repr__(self) -> str:
        return f"Folder({self.uri!r})"

    def __reduce__(self) -> tuple[type[Folder], tuple[str]]:
        """Sent elsewhere, a local folder is told by its whole path: others stand elsewhere."""
        place = None if "://" in self.address else Path(self.address)
        return Folder, (self.address if place is None else str(place.absolute()),)

    def below(self, name: str) -> Folder:
        """The folder of this name in it."""
        path, mark, query = self.address.partition("?")
        return Folder(f"{path.rstrip('/')}/{name}{mark}{query}")

    @property
    def local(self) -> Path | None:
        """The folder as a local path; None in an object store."""
        if self.address.startswith("file://"):
            with path_errors(self.uri):
                return Path(url2pathname(urlsplit(self.address).path))
        return None if "://" in self.address else Path(self.address)

    def open(self) -> tuple[pafs.FileSystem, str]:
        """The file system and the folder's path on it. Raises InputError for a bad URI."""
        import pyarrow.fs as pafs

        with path_errors(self.uri):
            if self.local is not None:
                return pafs.LocalFileSystem(), str(self.local.resolve())
        try:
            filesystem, path = pafs.FileSystem.from_uri(self.address)
        except Exception as error:  # whose words may hold the address
            raise InputError(
                f"{self.uri}: is no address that can be opened ({_without(self.address, error)});"
                f" correct it: special characters of a key are written %2F for / and %40 for @"
            ) from None
        return filesystem, path

    def write(self, path: str, content: bytes | memoryview) -> None:
        """Write a file so that a reader sees either all of it or what was there before.

        Locally: a temporary file in the same folder, synced, then renamed. In an object store an
        object appears when its upload is complete. Raises InputError when there is no space left
        or the place cannot be written.
        """
        with storage_errors(f"{self.uri}/{path}"):
            if self.local is None:
                filesystem, root = self.open()
                with filesystem.open_output_stream(f"{root}/{path}") as stream:
                    stream.write(content)
                return
            final = self.local / path
            final.parent.mkdir(parents=True, exist_ok=True)
            temporary = final.with_name(f".{final.name}.{os.getpid()}{TEMPORARY}")
            try:
                with temporary.open("wb") as stream:
                    stream.write(content)
                    stream.flush()
                    os.fsync(stream.fileno())
                temporary.replace(final)
            except BaseException:
                with contextlib.suppress(OSError):
                    temporary.unlink()
                raise

    def read(self, path: str) -> bytes | None:
        """Content of a file; None where there is none. Raises InputError for one not readable."""
        filesystem, root = self.open()
        with path_errors(f"{self.uri}/{path}"):
            try:
                with filesystem.open_input_stream(f"{root}/{path}") as stream:
                    return bytes(stream.read())
            except FileNotFoundError:
                return None

    def files(self, path: str = "") -> list[str]:
        """Relative paths of all files below `path`, sorted; empty where there is no such folder.
        Raises InputError where they cannot be listed.
        """
        import pyarrow.fs as pafs

        filesystem, root = self.open()
        place = f"{root}/{path}".rstrip("/")
        selector = pafs.FileSelector(place, recursive=True, allow_not_found=True)
        with path_errors(f"{self.uri}: what is in it", "choose another --out"):
            try:
                infos = filesystem.get_file_info(selector)
                files = [info.path for info in infos if info.type == pafs.FileType.File]
            except NotADirectoryError as error:
                raise InputError(
                    f"{self.uri}: is a file, not a folder; choose another --out"
                ) from error
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{self.uri}: holds a file whose name is not UTF-8; rename it, or choose"
                    f" another --out"
                ) from error
        return sorted(file[len(root) + 1 :] for file in files)

    def delete(self, paths: list[str]) -> None:
        """Delete files, where they are there. Raises InputError, before the first is deleted, where
        a folder on the way is a symbolic link: what lies behind it is not this folder's.
        """
        self._refuse_links({parent for path in paths for parent in PurePosixPath(path).parents})
        filesystem, root = self.open()
        for path in paths:
            with storage_errors(f"{self.uri}/{path}"), contextlib.suppress(FileNotFoundError):
                filesystem.delete_file(f"{root}/{path}")

    def _refuse_links(self, folders: Iterable[PurePosixPath]) -> None:
        if self.local is None:
            return
        for folder in sorted(folders):
            if folder != PurePosixPath() and (self.local / folder).is_symlink():
                raise InputError(
                    f"{self.uri}/{folder}: is a symbolic link, through which nothing is deleted;"
                    f" remove it, or choose another --out"
                )

    def delete_folder(self, path: str) -> None:
        """Delete a folder and all that is in it, where it is there; links as for `delete`."""
        self._refuse_links({PurePosixPath(path), *PurePosixPath(path).parents})
        filesystem, root = self.open()
        with storage_errors(f"{self.uri}/{path}"), contextlib.suppress(FileNotFoundError):
            filesystem.delete_dir(f"{root}/{path}")


_SHOWN = ("region", "scheme", "endpoint_override", "allow_bucket_creation")
"""Parts of an address's query that are no secrets."""


def masked(address: str) -> str:
    """An address without what opens it: user and password, keys and tokens in its query."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        return address
    place, mark, query = rest.partition("?")
    user, at, path = place.rpartition("@")
    container = scheme.startswith("abfs") and ":" not in user  # container@account
    if at and not container and (":" in user or "/" not in user):  # else part of a path's name
        place = f"***@{path}"
    pairs = (part.partition("=") for part in query.split("&"))
    kept = [f"{key}={value if key in _SHOWN else '***'}" for key, _, value in pairs]
    return f"{scheme}://{place}" + (mark + "&".join(kept) if mark else "")


def _without(address: str, error: Exception) -> str:
    """What was raised, the address and its parts masked."""
    text = " ".join(str(error).split())
    rest = address.partition("://")[2]
    place, _, query = rest.partition("?")
    user = place.rpartition("@")[0]
    values = (part.partition("=")[::2] for part in query.split("&"))
    secrets = [address, rest, user, *user.split(":"), *(v for k, v in values if k not in _SHOWN)]
    for secret in sorted({*secrets, *map(unquote, secrets)}, key=len, reverse=True):
        if secret:
            text = text.replace(secret, "***")
    return text


TEMPORARY = ".tmp"
"""Ending of files being written; what a killed process left of them is swept at the next start."""


@contextlib.contextmanager
def storage_errors(where: str) -> Iterator[None]:
    """Turn the file system's errors into one line that names the place and the fix."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                f"{where}: no space left on the disk; free some and run again, it will continue"
            ) from error
        raise InputError(
            f"{where}: cannot be written ({cause(error)}); choose another --out"
        ) from error


if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
