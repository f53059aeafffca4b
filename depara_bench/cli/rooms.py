"""`measure`, `rooms train`: the embedded zoo made anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from depara_bench.cli.options import (
    AddressOption,
    EngineOption,
    QuietOption,
    SetOption,
    WaitOption,
    start_engine,
)
from depara_bench.errors import RunError
from depara_bench.terminal import Terminal


def measure(
    job: Annotated[
        str, typer.Argument(help="A measuring job, or the name of an embedded one.")
    ] = "measure-rooms",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder. (Default: reports/<job name>.)")
    ] = None,
    set_: SetOption = None,
    engine: EngineOption = "auto",
    address: AddressOption = None,
    wait_for_nodes: WaitOption = None,
    quiet: QuietOption = False,
) -> None:
    """Measure the truth: train and score every transfer of the embedded zoo. Resumable."""
    from depara_bench.rooms.measuring import load_measure_job, measure_to

    wanted, zoo = load_measure_job(job, set_ or ())
    place = out or Path("reports") / wanted.name
    terminal = Terminal(quiet)
    with start_engine(engine, address, wait_for_nodes, terminal) as opened:
        summary = measure_to(wanted, zoo, place, opened, terminal)
    if not quiet:
        names = ("size", "target", "agreement", "best source", "its loss", "scratch", "untrained")
        table = Table(*names, box=None, header_style="bold")
        for _, row in summary.iterrows():
            numbers = ("best_loss", "scratch_loss", "random_loss")
            cells = (f"{row[name]:.4f}" for name in numbers)
            table.add_row(
                row["size"], row["target"], f"{row['agreement']:.2f}", row["best"], *cells
            )
        terminal.show(table)
    terminal.show(f"truth: {place}")


def train(
    out: Annotated[Path, typer.Option("--out", help="Zoo folder to write.")] = Path("zoo/rooms"),
    tasks: Annotated[
        str | None, typer.Option("--tasks", help="Some tasks only: a,b,c. (Default: all 20.)")
    ] = None,
    set_: SetOption = None,
    engine: EngineOption = "auto",
    address: AddressOption = None,
    wait_for_nodes: WaitOption = None,
    quiet: QuietOption = False,
) -> None:
    """Train a network for every task. Killed and started again, it goes on at the next task."""
    from depara_bench.rooms.shell import train_with_progress, training_settings

    names = [name.strip() for name in tasks.split(",") if name.strip()] if tasks else None
    terminal = Terminal(quiet)
    with start_engine(engine, address, wait_for_nodes, terminal) as opened:
        rows = train_with_progress(out, opened, training_settings(set_ or ()), names, terminal)
    table = Table("task", "error", "of best constant", "accuracy", "passes", box=None)
    for row in rows:
        accuracy = "" if row.accuracy is None else f"{row.accuracy:.3f}"
        table.add_row(
            row.task,
            f"{row.error:.4f}",
            f"{row.ratio:.3f}",
            accuracy,
            "yes" if row.passes else "NO",
        )
    Terminal(quiet).show(table)
    below = [row.task for row in rows if not row.passes]
    if below:
        raise RunError(f"{out}: {', '.join(below)} missed the quality gate; train longer")
