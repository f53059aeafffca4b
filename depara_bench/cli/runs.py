"""`run` and its stages, what judges a run, and what makes a probe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from depara_bench.cli.options import (
    AddressOption,
    CodeOption,
    EngineOption,
    FreshOption,
    JobArgument,
    OutOption,
    QuietOption,
    RunArgument,
    SetOption,
    VerboseOption,
    WaitOption,
    exit_for,
    run_folder,
    start_engine,
    write_text,
)
from depara_bench.terminal import Terminal


def run(
    job: JobArgument = "rooms",
    out: OutOption = None,
    set_: SetOption = None,
    engine: EngineOption = "auto",
    address: AddressOption = None,
    wait_for_nodes: WaitOption = None,
    fresh: FreshOption = False,
    allow_code: CodeOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Run a job: extract, reduce, rank, report. Started again, it continues where it was."""
    from depara_bench import run as runs
    from depara_bench.job import load_job

    terminal = Terminal(quiet, verbose)
    jobfile = load_job(job, set_ or ())
    folder = run_folder(out, jobfile.job.name)
    with start_engine(engine, address, wait_for_nodes, terminal) as opened:
        record = runs.run(jobfile, folder, opened, terminal, fresh=fresh, allow_code=allow_code)
    _show_result(record, folder, terminal)


def extract(
    job: JobArgument = "rooms",
    out: OutOption = None,
    set_: SetOption = None,
    engine: EngineOption = "auto",
    address: AddressOption = None,
    wait_for_nodes: WaitOption = None,
    fresh: FreshOption = False,
    allow_code: CodeOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Only the first stage of `run`: attribution and feature matrices, as Parquet shards."""
    from depara_bench import run as runs
    from depara_bench.job import load_job

    terminal = Terminal(quiet, verbose)
    jobfile = load_job(job, set_ or ())
    folder = run_folder(out, jobfile.job.name)
    with start_engine(engine, address, wait_for_nodes, terminal) as opened:
        record = runs.extract(jobfile, folder, opened, terminal, fresh=fresh, allow_code=allow_code)
    terminal.say(f"shards: {folder.uri}/shards")
    exit_for(record)


def reduce(
    run: RunArgument,
    engine: EngineOption = "auto",
    address: AddressOption = None,
    wait_for_nodes: WaitOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Shards to affinity.parquet and rankings.parquet, once more."""
    from depara_bench import run as runs
    from depara_bench.pipeline import check_shards
    from depara_bench.record import need_record
    from depara_bench.storage import Folder

    terminal = Terminal(quiet, verbose)
    folder = Folder(run)
    record = need_record(folder)
    with start_engine(engine, address, wait_for_nodes, terminal) as opened, runs.locked(folder):
        check_shards(folder, record, terminal)
        runs.reduce_run(folder, record, opened, terminal)
    terminal.say(f"affinity: {folder.uri}/affinity.parquet")
    exit_for(record)


def report(run: RunArgument, quiet: QuietOption = False, verbose: VerboseOption = False) -> None:
    """Write report.html, report.md and the figures of a run folder, once more."""
    from depara_bench.again import report_again
    from depara_bench.storage import Folder

    terminal = Terminal(quiet, verbose)
    folder = Folder(run)
    record = report_again(folder, terminal)
    terminal.say(f"report: {folder.uri}/report.html")
    exit_for(record)


def compare(
    run: RunArgument,
    truth: Annotated[
        str | None,
        typer.Option("--truth", help="A table, or an embedded one. (Default: the zoo's own.)"),
    ] = None,
    replicates: Annotated[
        int,
        typer.Option(
            "--replicates", min=0, max=100_000, help="Bootstrap over probe images; 0: none."
        ),
    ] = 200,
    methods: Annotated[
        str | None, typer.Option("--methods", help="Some methods only: a,b. (Default: all.)")
    ] = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Judge the rankings of a run against a truth, with error bars; rewrite its report."""
    from depara_bench import run as runs
    from depara_bench.compare import compare_run
    from depara_bench.errors import begun
    from depara_bench.record import need_record
    from depara_bench.storage import Folder

    terminal = Terminal(quiet, verbose)
    folder = Folder(run)
    record = need_record(folder)
    names = [name.strip() for name in methods.split(",") if name.strip()] if methods else None
    with runs.locked(folder):
        found = compare_run(folder, record, truth, terminal, replicates=replicates, methods=names)
        with begun():
            runs.report_run(folder, record, terminal)
    if not quiet:
        table = Table("method", "P@1", "P@5", "Spearman", box=None, header_style="bold")
        for column in table.columns[1:]:
            column.no_wrap = True
        for cells in found.summary():
            table.add_row(*map(Text, cells))
        terminal.show(table)
        if remark := found.remark():
            terminal.show(f"In brackets would stand 95 % over the targets: {remark}.")
        if sentence := found.best_two():
            terminal.show(f"By Spearman, {sentence}.")
    terminal.show(f"report: {folder.uri}/report.html")
    exit_for(record)


def probe_list(
    folder: Annotated[Path, typer.Argument(help="A folder of photographs.")],
    out: Annotated[Path, typer.Option(help="The list to write, a path a line.")],
    each: Annotated[
        int | None, typer.Option(help="Images of every folder in it (class, building).")
    ] = None,
    count: Annotated[int | None, typer.Option(help="Images in all.")] = None,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
) -> None:
    """Draw probe images from a folder, and list them, for a probe of kind 'list'."""
    from depara_bench.sample import sample

    terminal = Terminal()
    names = sample(folder, each=each, total=count, seed=seed, say=terminal.say)
    write_text(out, "".join(f"{name}\n" for name in names))
    terminal.show(f"{out}: {len(names)} images; use with 'path: {out}' and 'root: {folder}'")


def probes(
    job: Annotated[
        str, typer.Argument(help="A job on several probe sets, or the name of an embedded one.")
    ] = "rooms-probes",
    out: OutOption = None,
    set_: SetOption = None,
    engine: EngineOption = "auto",
    address: AddressOption = None,
    wait_for_nodes: WaitOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Does it matter which images are the probe? One job on several probe sets, one table."""
    from depara_bench.probes import load_probes_job, run_probes

    terminal = Terminal(quiet, verbose)
    file = load_probes_job(job, set_ or ())
    folder = run_folder(out, file.job.name)
    with start_engine(engine, address, wait_for_nodes, terminal) as opened:
        found, record = run_probes(file, folder, opened, terminal)
    if not quiet:
        rows = found[found["metric"] == "spearman"]
        table = Table("Spearman", *file.job.probes, box=None, header_style="bold")
        for method, values in rows.groupby("method", sort=False):
            by = values.set_index("probe")["value"]
            table.add_row(Text(str(method)), *(f"{by[name]:.3f}" for name in file.job.probes))
        terminal.show(table)
    terminal.show(f"report: {folder.uri}/report.html")
    exit_for(record)


def _show_result(record: dict[str, Any], folder: Any, terminal: Terminal) -> None:
    from depara_bench.pipeline import summary
    from depara_bench.tables import read_table

    best = summary(record, read_table(folder, "rankings.parquet"))
    table = Table("target", *(f"best source {rank}" for rank in best.columns), box=None)
    for target, row in best.iterrows():
        table.add_row(Text(str(target)), *(Text(str(name)) for name in row.fillna("")))
    terminal.show(table)
    terminal.show(f"report: {folder.uri}/report.html")
    exit_for(record)
