"""A whole run: plan, extract, reduce, report, in one folder that only one process works in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from depara_bench import pipeline
from depara_bench import record as records
from depara_bench.engine import Engine
from depara_bench.errors import InputError, begun, path_errors
from depara_bench.job import JobFile
from depara_bench.owned import LOCK, clear, sweep
from depara_bench.plan import make_plan
from depara_bench.record import Record
from depara_bench.report import write_report
from depara_bench.storage import Folder, storage_errors
from depara_bench.terminal import Terminal

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def run(
    jobfile: JobFile,
    folder: Folder,
    engine: Engine,
    terminal: Terminal,
    *,
    fresh: bool = False,
    allow_code: bool = False,
) -> Record:
    """Run a job to its report and return the record (run.json).

    What is already there and fits the job is kept; an interrupted run continues. Models that fail
    are in record["failures"]. Raises InputError before anything is started, RunError when nothing
    can be compared.
    """
    with locked(folder):
        record = _extract(jobfile, folder, engine, terminal, fresh, allow_code)
        with begun():
            reduce_run(folder, record, engine, terminal)
            report_run(folder, record, terminal)
    return record


def extract(
    jobfile: JobFile,
    folder: Folder,
    engine: Engine,
    terminal: Terminal,
    *,
    fresh: bool = False,
    allow_code: bool = False,
) -> Record:
    """Compute the shards of a job and return the record, as `run` does before it compares."""
    with locked(folder):
        return _extract(jobfile, folder, engine, terminal, fresh, allow_code)


def _extract(
    jobfile: JobFile,
    folder: Folder,
    engine: Engine,
    terminal: Terminal,
    fresh: bool,
    allow_code: bool,
) -> Record:
    plan = make_plan(jobfile, folder, terminal, fresh=fresh, allow_code=allow_code)
    if fresh:
        clear(folder)
    try:
        record = pipeline.run_extraction(plan, engine, terminal)
    except KeyboardInterrupt:
        started = records.read_record(folder)
        if started is not None:
            records.write_record(folder, started | {"status": "interrupted"})
        raise
    with begun():
        records.write_record(folder, record)
    return record


def reduce_run(folder: Folder, record: Record, engine: Engine, terminal: Terminal) -> None:
    """Affinity and rankings of the shards in a run folder; the run is then done."""
    with pipeline.stage(record, "reduce", terminal):
        pipeline.reduce_stage(folder, record, engine, terminal)
    record["status"] = "partial" if record["failures"] else "done"
    record["finished"] = records.now()
    with begun():
        records.write_record(folder, record)


def report_run(folder: Folder, record: Record, terminal: Terminal) -> None:
    """The report of a run folder, from the tables in it."""
    with pipeline.stage(record, "report", terminal), terminal.waiting("report"):
        write_report(folder)
    with begun():
        records.write_record(folder, record)


@contextmanager
def locked(folder: Folder) -> Iterator[None]:
    """Hold a local run folder alone; it is made if it is not there, and gone again if the job
    turns out to be a mistake. The lock goes with the process, however that ends; what a killed one
    left half-written is swept.

    Raises InputError when another process holds it. Object stores have no locks: there, two runs
    of one job write the same bytes.
    """
    place = folder.local
    if place is None or fcntl is None:
        yield
        return
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
