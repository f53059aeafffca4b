"""The lock of a run folder in an object store, made of reading and writing whole objects alone.

Stores can write an object only if it is not there; their clients in `pyarrow.fs` cannot ask for it.
So who wants the lock writes its name as one who asks, waits, and has it if its name still stands
there. The holder renews it, and writes over whoever asks meanwhile: one that was too slow to be in
time finds the holder's name after all, since it waits longer the slower it was. What nobody renews
for `STALE_S` may be taken over, after watching it for longer than it takes to renew it once.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from depara_bench.errors import InputError, RunError
from depara_bench.storage import Folder

BEAT_S = 10.0
"""Seconds after which a holder renews its lock."""

STALE_S = 45.0
"""Seconds after which a lock that was not renewed has no holder any more."""

SETTLE_S = 2.0
"""Seconds that one who asks waits for others who do."""


@dataclass(frozen=True)
class Claim:
    """What stands in the lock: whose it is, on which machine, and when it was renewed (seconds
    since 1970, by the holder's clock). holds: not one who only asks.
    """

    token: str
    host: str
    place: str
    process: int
    since: str
    renewed: float
    holds: bool


@contextmanager
def holding(folder: Folder, path: str) -> Iterator[None]:
    """Hold the lock at `path` alone. Raises InputError when another does, RunError at the end when
    another took it meanwhile: this run had stopped renewing it (it slept, or the store was away).
    """
    claim = _acquire(folder, path)
    over, lost = threading.Event(), threading.Event()
    keeper = threading.Thread(target=_renew, args=(folder, path, claim, over, lost), daemon=True)
    keeper.start()
    try:
        yield
        if lost.is_set():
            raise RunError(
                f"{folder.uri}: another depara-bench took this folder over, since nothing was heard"
                f" of this one for {STALE_S:.0f} s; run again when it is done"
            )
    finally:
        over.set()
        keeper.join()
        with suppress(InputError):  # the store is gone: the lock ends by itself
            found = _read(folder, path)
            if found is not None and found.token == claim.token:
                folder.delete([path])


def _acquire(folder: Folder, path: str) -> Claim:
    began = time.monotonic()
    there = _read(folder, path)
    if there is not None and not _is_dead(there):
        if time.time() - there.renewed < STALE_S:
            raise _taken(folder, there)
        time.sleep(2 * BEAT_S)  # is it stale, or is only its clock another?
        began = time.monotonic()
        now = _read(folder, path)
        if now is not None and now != there:
            raise _taken(folder, now)
    claim = _claim()
    _write(folder, path, claim)
    slow = time.monotonic() - began > SETTLE_S / 2
    time.sleep(2 * BEAT_S if slow else SETTLE_S)
    found = _read(folder, path)
    if found is None or found.token != claim.token:
        raise _taken(folder, found)
    claim = replace(claim, renewed=time.time(), holds=True)
    _write(folder, path, claim)
    return claim


def _renew(
    folder: Folder, path: str, claim: Claim, over: threading.Event, lost: threading.Event
) -> None:
    """Keep the lock until it is `over`, or `lost`: another holds it."""
    while not over.wait(BEAT_S):
        with suppress(InputError):  # the store is gone for now
            found = _read(folder, path)
            if found is not None and found.holds and found.token != claim.token:
                lost.set()
                return
            if not over.is_set():
                _write(folder, path, replace(claim, renewed=time.time()))


def _taken(folder: Folder, by: Claim | None) -> InputError:
    who = f" (process {by.process} on {by.host}, since {by.since})" if by else ""
    return InputError(
        f"{folder.uri}: another depara-bench works in it{who}; wait for it, or choose another"
        f" --out; if it was killed, its lock ends by itself within {STALE_S:.0f} s"
    )


def _claim() -> Claim:
    from depara_bench.record import now

    return Claim(
        uuid.uuid4().hex, socket.gethostname(), _place(), os.getpid(), now(), time.time(), False
    )


def _place() -> str:
    """What the numbers of processes here are counted by: the machine, since it was started, and
    the container in it; "" where that is not known.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _is_dead(claim: Claim) -> bool:
    """Whether its process was on this machine, and is no more."""
    if not claim.place or claim.place != _place():
        return False
    try:
        os.kill(claim.process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _read(folder: Folder, path: str) -> Claim | None:
    """Who stands in the lock; None where nobody does, or nobody can tell."""
    content = folder.read(path)
    try:
        fields = json.loads(content or b"")
        claim = Claim(**fields)
        return replace(claim, renewed=float(claim.renewed), process=int(claim.process))
    except (ValueError, TypeError):
        return None


def _write(folder: Folder, path: str, claim: Claim) -> None:
    folder.write(path, json.dumps(asdict(claim)).encode())
