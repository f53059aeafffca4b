"""Weight files of a zoo into the cache: from a mirror, going on where it stopped, verified."""

from __future__ import annotations

import base64
import http
import http.client
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from depara_bench.addresses import masked, without
from depara_bench.errors import DeparaError, InputError, RunError
from depara_bench.loaders.weights import file_sha256
from depara_bench.terminal import Advance, Terminal
from depara_bench.zoo import Zoo

Bar = Callable[..., AbstractContextManager[Advance]]

PARTIAL = ".part"
"""Ends the name of a file that is not whole yet."""

_CHUNK = 1 << 20
_PATIENCE_S = 30


@dataclass(frozen=True)
class File:
    """A weight file: its name, where the manifest has it, and its SHA-256."""

    name: str
    beside: Path
    sha256: str


@dataclass(frozen=True)
class Fetched:
    """path: where the file is now; None where it is not, and `error` says why."""

    file: File
    path: Path | None
    error: str | None = None


class Unreachable(RunError):
    """The mirror does not answer: there is no use in asking it for more."""


def wanted(zoo: Zoo, base: Path) -> list[File]:
    """The weight files that the models name, each once. base: the manifest's folder.

    Raises InputError when there are none with a hash: only what can be verified is fetched.
    """
    files: dict[str, File] = {}
    for model in zoo.models:
        if model.weights is not None and model.sha256 is not None:
            beside = (base / Path(model.weights).expanduser()).resolve()
            files.setdefault(beside.name, File(beside.name, beside, model.sha256))
    if not files:
        raise InputError(
            f"zoo '{zoo.name}': no model has 'weights' with a 'sha256'; there is nothing to fetch"
        )
    return list(files.values())


def fetch(files: Sequence[File], mirror: str, cache: Path, terminal: Terminal) -> list[Fetched]:
    """Have every file in `cache`, if it is not whole beside the manifest or there already.

    mirror: the folder that holds the files, as a URL or a local path. What was begun goes on. A
    file that the mirror lacks, or has with another hash, is told in its `Fetched`; the others are
    fetched. Once the mirror does not answer, it is not asked again.
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{cache}: cannot be made ({error.strerror}); choose --cache") from error
    found: list[Fetched] = []
    answers = True
    for position, file in enumerate(files, start=1):
        there = next((p for p in (file.beside, cache / file.name) if _is(p, file)), None)
        why = None
        if there is None and not answers:
            why = f"{file.name}: not asked for"
        elif there is None:
            bar = partial(terminal.progress, f"{position}/{len(files)}", unit="bytes")
            try:
                there = _obtain(file, mirror, cache, bar)
            except DeparaError as failure:
                why = str(failure)
                answers = not isinstance(failure, Unreachable)
        found.append(Fetched(file, there, why))
    return found


def _is(path: Path, file: File) -> bool:
    return path.is_file() and file_sha256(path) == file.sha256


def _obtain(file: File, mirror: str, cache: Path, bar: Bar) -> Path:
    """The file, in the cache once all of it is there and right."""
    part = cache / f"{file.name}{PARTIAL}"
    if not _is(part, file):
        try:
            if is_url(mirror):
                _download(f"{mirror.rstrip('/')}/{urllib.parse.quote(file.name)}", part, bar)
            else:
                _copy(Path(mirror).expanduser() / file.name, part)
        except OSError as error:  # of the disk: the network's are told already
            raise RunError(f"{part}: cannot be written ({error.strerror}); mend that") from error
        if not _is(part, file):
            part.unlink()
            raise RunError(
                f"{masked(mirror)} holds another {file.name} than the manifest's 'sha256' says; try"
                f" another mirror"
            )
    return part.replace(cache / file.name)


def is_url(mirror: str) -> bool:
    """Whether a mirror is on the network."""
    return mirror.startswith(("http://", "https://"))


def _copy(source: Path, part: Path) -> None:
    if not source.is_file():
        raise RunError(f"{source} does not exist; put it there")
    shutil.copyfile(source, part)


def _download(url: str, part: Path, bar: Bar) -> None:
    """Write to `part` what it lacks of the file; all of it when the server cannot go on."""
    begun = part.stat().st_size if part.is_file() else 0
    with _opened(url, begun) as response:
        going_on = response.headers.get("Content-Range", "").startswith(f"bytes {begun}-")
        if not going_on:
            begun = 0
        left = int(response.headers.get("Content-Length") or 0)
        got = 0
        with part.open("ab" if going_on else "wb") as stream, bar(total=begun + left) as advance:
            advance(begun)
            for chunk in _chunks(url, response):
                stream.write(chunk)
                got += len(chunk)
                advance(len(chunk))
    if got < left:
        raise Unreachable(
            f"{masked(url)}: the connection broke off; the same command goes on from there"
        )


def _opened(url: str, begun: int) -> Any:
    """The answer to a request for all bytes from `begun` on."""
    shown = masked(url)
    try:
        return urllib.request.urlopen(_request(url, begun), timeout=_PATIENCE_S)  # noqa: S310
    except urllib.error.HTTPError as error:
        if begun and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return _opened(url, 0)  # what is there is as long as the file, and wrong
        raise RunError(
            f"{shown}: answer {error.code} ({error.reason}); check the mirror"
        ) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        why = without(url, getattr(error, "reason", error))
        raise Unreachable(f"{shown}: no answer ({why})") from None


def _request(url: str, begun: int) -> urllib.request.Request:
    """User and password of the address go into a header of their own, for this server alone."""
    parts = urllib.parse.urlsplit(url)
    user, at, place = parts.netloc.rpartition("@")
    plain = urllib.parse.urlunsplit(parts._replace(netloc=place))
    headers = {"Range": f"bytes={begun}-"} if begun else {}
    request = urllib.request.Request(plain, headers=headers)  # noqa: S310 - it is http or https
    if at:
        code = base64.b64encode(urllib.parse.unquote_to_bytes(user)).decode()
        request.add_unredirected_header("Authorization", f"Basic {code}")
    return request


def _chunks(url: str, response: Any) -> Iterator[bytes]:
    while True:
        try:
            chunk = response.read(_CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(
                f"{masked(url)}: the connection broke off ({error}); the same command goes on from"
                f" there"
            ) from error
        if not chunk:
            return
        yield chunk
