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
from urllib.parse import urlsplit
from urllib.request import url2pathname

from depara_bench.errors import InputError, cause, path_errors

if TYPE_CHECKING:
    import pyarrow.fs as pafs


@dataclass(frozen=True)
class Folder:
    """A folder by URI ("s3://bucket/run", "file:///data/run") or by local path. Cheap to send to a
    worker.

    Paths given to its methods are relative to it, with forward slashes.
    """

    uri: str

    @property
    def local(self) -> Path | None:
        """The folder as a local path; None in an object store."""
        if self.uri.startswith("file://"):
            with path_errors(self.uri):
                return Path(url2pathname(urlsplit(self.uri).path))
        return None if "://" in self.uri else Path(self.uri)

    def open(self) -> tuple[pafs.FileSystem, str]:
        """The file system and the folder's path on it. Raises InputError for a bad URI."""
        import pyarrow.fs as pafs

        with path_errors(self.uri):
            if self.local is not None:
                return pafs.LocalFileSystem(), str(self.local.resolve())
            filesystem, path = pafs.FileSystem.from_uri(self.uri)
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
