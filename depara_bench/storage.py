"""Files of a run folder, on a local disk or in an object store (`pyarrow.fs` URIs), written whole
or not at all.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from depara_bench.addresses import masked, without
from depara_bench.errors import DeparaError, InputError, cause, path_errors

if TYPE_CHECKING:
    import pyarrow.fs as pafs

_STORE = re.compile(r"(s3|gs|gcs|abfss?|hdfs|viewfs|https?|file):", re.IGNORECASE)
_GONE = re.compile(
    r"NETWORK_CONNECTION|REQUEST_TIMEOUT|SLOW_DOWN|SERVICE_UNAVAILABLE|INTERNAL_FAILURE|THROTTLING"
    r"|HTTP status 5\d\d|curlCode|timed? ?out|[Cc]onnection (refused|reset)|[Cc]ould not resolve"
    r"|[Cc]ouldn't (connect|resolve)|UNAVAILABLE|DEADLINE_EXCEEDED"
)
"""What stores' clients say when there is no answer, or none of use, after their own retries."""

_REFUSED = re.compile(
    r"ACCESS_DENIED|INVALID_(ACCESS_KEY|CLIENT_TOKEN|SIGNATURE)|SIGNATURE_DOES_NOT_MATCH|EXPIRED"
    r"|UNRECOGNIZED_CLIENT|MISSING_AUTHENTICATION|HTTP status 40[13]|PERMISSION_DENIED"
)

_AWAY, _SHUT = "the store cannot be reached", "the store refuses"


class StoreError(InputError):
    """A store that does not answer, or does not let this run in. What is in it stays as it is."""

    @staticmethod
    def told(error: InputError) -> bool:
        """Whether it is one, or tells of one: a worker's errors come as their words alone."""
        return f": {_AWAY} (" in str(error) or f": {_SHUT} (" in str(error)


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
        """The address for eyes: without user, password and query. A path can be put behind it."""
        return masked(self.address)

    def __repr__(self) -> str:
        return f"Folder({self.uri!r})"

    def __reduce__(self) -> tuple[type[Folder], tuple[str]]:
        """Sent elsewhere, a local folder is told by its whole path: others stand elsewhere."""
        place = None if "://" in self.address else Path(self.address)
        return Folder, (self.address if place is None else str(place.absolute()),)

    def below(self, name: str) -> Folder:
        """The folder of this name in it."""
        if "://" not in self.address:
            return Folder(str(Path(self.address) / name))
        path, mark, query = self.address.partition("?")
        return Folder(f"{path.rstrip('/')}/{name}{mark}{query}")

    @property
    def local(self) -> Path | None:
        """The folder as a local path; None in an object store."""
        if self.address.startswith("file://"):
            with path_errors(self.uri):
                return Path(url2pathname(urlsplit(self.address).path))
        if "://" in self.address:
            return None
        if scheme := _STORE.match(self.address):
            raise InputError(f"{self.uri}: is no address; write {scheme[1]}:// in front")
        return Path(self.address)

    def open(self) -> tuple[pafs.FileSystem, str]:
        """The file system and the folder's path on it. Raises InputError for a bad URI."""
        import pyarrow.fs as pafs

        with path_errors(self.uri):
            if self.local is not None:
                return pafs.LocalFileSystem(), str(self.local.resolve())
        with self.answers():
            return _opened(self.address)

    @contextlib.contextmanager
    def answers(self) -> Iterator[None]:
        """Tell what a store raises without the keys of its address. Raises StoreError where it does
        not answer, or does not take the keys, and InputError for an address that makes no sense.
        """
        try:
            yield
        except (FileNotFoundError, DeparaError):
            raise
        except Exception as error:
            if self.local is not None:
                raise
            said = without(self.address, error)
            if _GONE.search(said):
                raise StoreError(
                    f"{self.uri}: {_AWAY} ({said}); what is in it is kept: run again when it"
                    f" answers, and it continues"
                ) from None
            if _REFUSED.search(said):
                raise StoreError(
                    f"{self.uri}: {_SHUT} ({said}); check the keys: they are taken from the"
                    f" environment or a profile, or from the address"
                ) from None
            if isinstance(error, OSError):
                raise OSError(said) from None
            raise InputError(
                f"{self.uri}: is no address that can be opened ({said}); correct it: special"
                f" characters of a key are written %2F for / and %40 for @"
            ) from None

    def write(self, path: str, content: bytes | memoryview) -> None:
        """Write a file so that a reader sees either all of it or what was there before.

        Locally: a temporary file in the same folder, synced, then renamed. In an object store an
        object appears when its upload is complete. Raises InputError when there is no space left
        or the place cannot be written.
        """
        with storage_errors(f"{self.uri}/{path}"):
            if self.local is None:
                with ThreadPoolExecutor(1) as pool:  # which no signal stops half-way
                    pool.submit(self._upload, path, content).result()
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

    def _upload(self, path: str, content: bytes | memoryview) -> None:
        """Put an object. Closing a stream publishes what was written to it, even nothing where that
        failed: such an object is taken away again.
        """
        filesystem, root = self.open()
        with self.answers():
            stream = filesystem.open_output_stream(f"{root}/{path}")
            try:
                stream.write(content)
            except BaseException:
                with contextlib.suppress(Exception):
                    stream.close()
                    filesystem.delete_file(f"{root}/{path}")
                raise
            stream.close()

    def read(self, path: str) -> bytes | None:
        """Content of a file; None where there is none. Raises InputError for one not readable."""
        filesystem, root = self.open()
        with path_errors(f"{self.uri}/{path}"), self.answers():
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
        with path_errors(f"{self.uri}: what is in it", "choose another --out"), self.answers():
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
            place = f"{self.uri}/{path}"
            with storage_errors(place), self.answers(), contextlib.suppress(FileNotFoundError):
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
        place = f"{self.uri}/{path}"
        with storage_errors(place), self.answers(), contextlib.suppress(FileNotFoundError):
            filesystem.delete_dir(f"{root}/{path}")


@lru_cache(maxsize=64)
def _opened(address: str) -> tuple[pafs.FileSystem, str]:
    """The file system of a store and the path on it. S3 is asked to put a small object whole by one
    request, so that a process that is killed leaves no unfinished upload.
    """
    import pyarrow.fs as pafs

    if address.startswith("s3://") and "allow_delayed_open" not in address:
        whole = f"{address}{'&' if '?' in address else '?'}allow_delayed_open=true"
        with contextlib.suppress(ValueError):  # a mistake in it, or a client that knows no such
            filesystem, path = pafs.FileSystem.from_uri(whole)
            return filesystem, path
    filesystem, path = pafs.FileSystem.from_uri(address)
    return filesystem, path


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
