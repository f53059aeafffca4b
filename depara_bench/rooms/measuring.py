"""The measurement as the command line runs it: a job file in, losses and truth tables out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from depara_bench.config import apply_overrides, read_yaml, validate
from depara_bench.embedded import embedded
from depara_bench.engine import Engine, Resources
from depara_bench.errors import InputError, StopError, begun
from depara_bench.job import find_job
from depara_bench.rooms.measure import MeasureJob, clean, measure
from depara_bench.rooms.summary import measured_truth, summarise, win_table
from depara_bench.rooms.tasks import SOURCES, TARGETS
from depara_bench.run import locked
from depara_bench.storage import Folder
from depara_bench.tables import write_table
from depara_bench.terminal import Terminal
from depara_bench.truth.table import write_truth

LOSSES = "losses.parquet"
SUMMARY = "summary.csv"
WINS = "wins.parquet"


def load_measure_job(reference: str, overrides: Sequence[str] = ()) -> tuple[MeasureJob, Path]:
    """A checked measuring job with `--set` applied, and the folder of its zoo.

    Raises InputError naming file and field.
    """
    path = find_job(reference)
    content = apply_overrides(read_yaml(path), overrides)
    job = validate(MeasureJob, content, str(path))
    for name, known in (("targets", TARGETS), ("sources", SOURCES)):
        for task in getattr(job, name) or ():
            if task not in known:
                raise InputError(f"{path}: {name}: '{task}' is not one of {', '.join(known)}")
    local = path.parent / job.zoo
    return job, local if local.is_dir() else embedded("zoo", job.zoo)


def measure_to(
    job: MeasureJob, zoo: Path, out: Path, engine: Engine, terminal: Terminal
) -> pd.DataFrame:
    """Measure every transfer and write into `out`: losses.parquet, a truth table for each size (the
    job's first one is `default`), wins.parquet and summary.csv. Returns the summary.

    Killed and started again it goes on at the next transfer. `work`, inside `out`, must be seen by
    all workers.
    """
    targets, sources = job.targets or TARGETS, job.sources or SOURCES
    out = out.absolute()  # for workers, which stand elsewhere
    folder, work = Folder(str(out)), out / "work"
    with locked(folder):
        with terminal.stages() as show, begun(StopError):
            losses = measure(
                job, zoo, work, engine, Resources(), targets=targets, sources=sources, advance=show
            )
        with begun():
            summary = _write(job, folder, out, losses, targets, sources)
        clean(job, zoo, work, sources)
    return summary


def _write(
    job: MeasureJob,
    folder: Folder,
    out: Path,
    losses: pd.DataFrame,
    targets: Sequence[str],
    sources: Sequence[str],
) -> pd.DataFrame:
    """The tables and truths; returns the summary."""
    write_table(folder, LOSSES, losses)
    origin = _origin(job)
    summaries, wins = [], []
    for size in job.sizes:
        truth = measured_truth(losses, size, targets, sources, f"{origin}, size '{size}'")
        write_truth(truth, out / f"{size}.csv")
        summaries.append(summarise(losses, truth))
        wins.append(win_table(losses, size, targets, sources))
    write_table(folder, WINS, pd.concat(wins, ignore_index=True))
    summary = pd.concat(summaries, ignore_index=True)
    text = summary.to_csv(index=False, lineterminator="\n", float_format="%.6g")
    folder.write(SUMMARY, text.encode())
    folder.write("default.yaml", f"table: {next(iter(job.sizes))}\n".encode())
    return summary


def _origin(job: MeasureJob) -> str:
    sizes = ", ".join(f"{name} {count}" for name, count in job.sizes.items())
    return (
        f"transfers measured on the embedded Taskonomy ('depara-bench measure {job.name}'):"
        f" training scenes {sizes}; {len(job.seeds)} seeds; {job.held_out} held-out scenes; AHP of"
        f" win rates as in Taskonomy (Zamir et al., CVPR 2018)"
    )
