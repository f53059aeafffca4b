"""A run folder is worked in by one process at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from depara_bench.errors import InputError, RunError, path_errors
from depara_bench.owned import LOCK, sweep
from depara_bench.storage import Folder, StoreError, storage_errors
from depara_bench.store_lock import holding

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def locked(folder: Folder) -> Iterator[None]:
    """Hold a run folder alone: on a disk by a lock of the system, which goes with the process,
    however that ends; in an object store by an object that is renewed (see `store_lock`).

    Raises InputError when another process holds it, or the store does not answer; RunError when it
    stops answering later.
    """
    place = folder.local
    if place is not None and fcntl is not None:
        with _locked_here(folder, place):
            yield
        return
    with holding(folder, LOCK) if place is None else nullcontext():
        try:
            yield
        except InputError as error:
            if StoreError.told(error):
                raise RunError(str(error)) from error
            raise


@contextmanager
def _locked_here(folder: Folder, place: Path) -> Iterator[None]:
    """A local folder is made if it is not there, and gone again if the job turns out to be a
    mistake.
    """
    held = False
    with path_errors(folder.uri, "choose another --out"), storage_errors(folder.uri):
        made = [path for path in (place, *place.parents) if not path.exists()]  # innermost first
        new = not (place / LOCK).exists()
        if not made and not place.is_dir():
            raise InputError(f"{folder.uri}: is a file, not a folder; choose another --out")
        place.mkdir(parents=True, exist_ok=True)
        stream = (place / LOCK).open("a")
    try:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(
                f"{folder.uri}: another depara-bench works in it; wait for it, or choose"
                f" another --out"
            ) from error
        held = True
        sweep(folder)
        yield
    except InputError:
        if held and new:
            (place / LOCK).unlink(missing_ok=True)
        for path in made:
            if any(path.iterdir()):
                break
            path.rmdir()
        raise
    finally:
        stream.close()
