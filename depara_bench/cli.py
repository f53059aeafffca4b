"""The command line: parse, call one function, print."""

from __future__ import annotations

import logging
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.table import Table
from rich.text import Text

from depara_bench.errors import DeparaError, InputError, RunError
from depara_bench.terminal import Terminal

app = typer.Typer(
    name="depara-bench",
    help="Which pre-trained model should I transfer from? Label-free answers over a whole zoo.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
zoo_app = typer.Typer(help="Look at a zoo of models, and check it.", no_args_is_help=True)
rooms_app = typer.Typer(help="The embedded Taskonomy: train its networks.", no_args_is_help=True)
truth_app = typer.Typer(help="Truths: how well transfers went.", no_args_is_help=True)
app.add_typer(zoo_app, name="zoo")
app.add_typer(rooms_app, name="rooms")
app.add_typer(truth_app, name="truth")

JobArgument = Annotated[
    str, typer.Argument(help="A job file, or the name of an embedded job.", metavar="[JOB]")
]
OutOption = Annotated[
    str | None,
    typer.Option("--out", help="Run folder or its URI. (Default: reports/<job name>.)"),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a field, e.g. probe.count=200."),
]
EngineOption = Annotated[
    str, typer.Option("--engine", help="ray, local, or auto: ray where it is installed.")
]
AddressOption = Annotated[
    str | None,
    typer.Option("--address", help="A running Ray cluster: auto, or host:port."),
]
FreshOption = Annotated[bool, typer.Option("--fresh", help="Delete the earlier run there first.")]
CodeOption = Annotated[
    bool, typer.Option("--allow-code", help="Allow models that are Python factories.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Only errors.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Every step, with seconds.")]
RunArgument = Annotated[str, typer.Argument(help="A run folder.", metavar="RUN")]
ZooArgument = Annotated[str, typer.Argument(help="A manifest, or the name of an embedded zoo.")]


@app.command()
def run(
    job: JobArgument = "rooms",
    out: OutOption = None,
    set_: SetOption = None,
    engine: EngineOption = "auto",
    address: AddressOption = None,
    fresh: FreshOption = False,
    allow_code: CodeOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Run a job: extract, reduce, rank, report. Started again, it continues where it was."""
    from depara_bench import run as runs
    from depara_bench.engine import open_engine
    from depara_bench.job import load_job

    terminal = Terminal(quiet, verbose)
    jobfile = load_job(job, set_ or ())
    folder = _folder(out, jobfile.job.name)
    with open_engine(engine, address) as opened:
        record = runs.run(jobfile, folder, opened, terminal, fresh=fresh, allow_code=allow_code)
    _show_result(record, folder, terminal)


@app.command()
def extract(
    job: JobArgument = "rooms",
    out: OutOption = None,
    set_: SetOption = None,
    engine: EngineOption = "auto",
    address: AddressOption = None,
    fresh: FreshOption = False,
    allow_code: CodeOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Only the first stage of `run`: attribution and feature matrices, as Parquet shards."""
    from depara_bench import run as runs
    from depara_bench.engine import open_engine
    from depara_bench.job import load_job

    terminal = Terminal(quiet, verbose)
    jobfile = load_job(job, set_ or ())
    folder = _folder(out, jobfile.job.name)
    with open_engine(engine, address) as opened:
        record = runs.extract(jobfile, folder, opened, terminal, fresh=fresh, allow_code=allow_code)
    terminal.say(f"shards: {folder.uri}/shards")
    _exit_for(record)


@app.command()
def reduce(
    run: RunArgument,
    engine: EngineOption = "auto",
    address: AddressOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Shards to affinity.parquet and rankings.parquet, once more."""
    from depara_bench import run as runs
    from depara_bench.engine import open_engine
    from depara_bench.record import need_record
    from depara_bench.storage import Folder

    terminal = Terminal(quiet, verbose)
    folder = Folder(run)
    record = need_record(folder)
    with open_engine(engine, address) as opened, runs.locked(folder):
        runs.reduce_run(folder, record, opened, terminal)
    terminal.say(f"affinity: {folder.uri}/affinity.parquet")
    _exit_for(record)


@app.command()
def report(run: RunArgument, quiet: QuietOption = False, verbose: VerboseOption = False) -> None:
    """Write report.html, report.md and the figures of a run folder, once more."""
    from depara_bench import run as runs
    from depara_bench.record import need_record
    from depara_bench.storage import Folder

    terminal = Terminal(quiet, verbose)
    folder = Folder(run)
    record = need_record(folder)
    with runs.locked(folder):
        runs.report_run(folder, record, terminal)
    terminal.say(f"report: {folder.uri}/report.html")
    _exit_for(record)


@app.command()
def compare(
    run: RunArgument,
    truth: Annotated[
        str | None,
        typer.Option("--truth", help="A table, or an embedded one. (Default: the zoo's own.)"),
    ] = None,
    replicates: Annotated[
        int, typer.Option("--replicates", min=0, help="Bootstrap over probe images; 0: none.")
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
    from depara_bench.record import need_record
    from depara_bench.storage import Folder

    terminal = Terminal(quiet, verbose)
    folder = Folder(run)
    record = need_record(folder)
    names = [name.strip() for name in methods.split(",") if name.strip()] if methods else None
    with runs.locked(folder):
        found = compare_run(folder, record, truth, terminal, replicates=replicates, methods=names)
        runs.report_run(folder, record, terminal)
    if not quiet:
        table = Table("method", "P@1", "P@5", "Spearman", box=None, header_style="bold")
        for column in table.columns[1:]:
            column.no_wrap = True
        for cells in found.summary():
            table.add_row(*map(Text, cells))
        terminal.out.print(table)
        if sentence := found.best_two():
            terminal.out.print(Text(f"By Spearman, {sentence}."), soft_wrap=True)
    terminal.out.print(Text(f"report: {folder.uri}/report.html"), soft_wrap=True)
    _exit_for(record)


@app.command()
def probes(
    job: Annotated[
        str, typer.Argument(help="A job on several probe sets, or the name of an embedded one.")
    ] = "rooms-probes",
    out: OutOption = None,
    set_: SetOption = None,
    engine: EngineOption = "auto",
    address: AddressOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Does it matter which images are the probe? One job on several probe sets, one table."""
    from depara_bench.engine import open_engine
    from depara_bench.probes import load_probes_job, run_probes

    terminal = Terminal(quiet, verbose)
    file = load_probes_job(job, set_ or ())
    folder = _folder(out, file.job.name)
    with open_engine(engine, address) as opened:
        found = run_probes(file, folder.uri, opened, terminal)
    if not quiet:
        rows = found[found["metric"] == "spearman"]
        table = Table("Spearman", *file.job.probes, box=None, header_style="bold")
        for method, values in rows.groupby("method", sort=False):
            by = values.set_index("probe")["value"]
            table.add_row(Text(str(method)), *(f"{by[name]:.3f}" for name in file.job.probes))
        terminal.out.print(table)
    terminal.out.print(Text(f"report: {folder.uri}/report.html"), soft_wrap=True)


@app.command()
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
    quiet: QuietOption = False,
) -> None:
    """Measure the truth: train and score every transfer of the embedded zoo. Resumable."""
    from depara_bench.engine import open_engine
    from depara_bench.rooms.measuring import load_measure_job, measure_to

    wanted, zoo = load_measure_job(job, set_ or ())
    place = out or Path("reports") / wanted.name
    terminal = Terminal(quiet)
    with open_engine(engine, address) as opened:
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
        terminal.out.print(table)
    terminal.out.print(Text(f"truth: {place}"), soft_wrap=True)


@truth_app.command("import")
def truth_import(
    file: Annotated[
        Path,
        typer.Argument(
            exists=True,
            dir_okay=False,
            metavar="FILE",
            help="Taskonomy's .pkl; a .csv or .parquet: source,target,value or models x datasets.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Table to write: .csv or .parquet.")],
) -> None:
    """Read a truth of any known form and write it as a table for `compare --truth`."""
    from depara_bench.truth.imports import import_truth
    from depara_bench.truth.table import write_truth

    truth = import_truth(file)
    write_truth(truth, out)
    targets, sources = len(truth.targets), len(truth.sources)
    Terminal().out.print(Text(f"{out}: {sources} sources, {targets} targets"), soft_wrap=True)


@zoo_app.command("list")
def zoo_list() -> None:
    """The zoos that come with this installation."""
    from depara_bench.embedded import embedded
    from depara_bench.zoo import load_zoo

    table = Table("zoo", "models", "sources", "targets", box=None, header_style="bold")
    for manifest in sorted(embedded("zoo").glob("*/zoo.yaml")):
        zoo = load_zoo(manifest)
        sources, targets = (len(zoo.with_role(role)) for role in ("source", "target"))
        table.add_row(manifest.parent.name, str(len(zoo.models)), str(sources), str(targets))
    Terminal().out.print(table)


@zoo_app.command("show")
def zoo_show(zoo: ZooArgument = "rooms") -> None:
    """The models of a zoo, as its manifest says."""
    from depara_bench.zoo import find_manifest, load_zoo

    manifest = find_manifest(zoo, Path())
    table = Table(
        "model", "loader", "weights", "input", "embedding", "roles", box=None, header_style="bold"
    )
    for model in load_zoo(manifest).models:
        height, width = model.input.height_width
        table.add_row(
            Text(model.name),
            model.loader,
            Text(model.weights or "random initialisation"),
            f"{height}x{width}",
            Text(model.embedding or "(output)"),
            ", ".join(model.roles),
        )
    Terminal().out.print(table)


@zoo_app.command("check")
def zoo_check(zoo: ZooArgument = "rooms", allow_code: CodeOption = False) -> None:
    """Verify hashes, load every model, find its embedding, run two images; one table of it all."""
    from depara_bench.check import Shared, check_models
    from depara_bench.engine import Resources
    from depara_bench.engine.local import LocalEngine
    from depara_bench.job import AttributionSettings
    from depara_bench.zoo import find_manifest, load_zoo

    terminal = Terminal()
    manifest = find_manifest(zoo, Path())
    models = load_zoo(manifest).models
    shared = Shared(manifest.parent, allow_code, AttributionSettings())
    with terminal.progress("check", len(models), "models") as advance:
        checked = check_models(models, shared, LocalEngine(), Resources(), advance)
    table = Table("model", "parameters", "features", "map", "result", box=None)
    for result in checked:
        numbers = (result.parameters, result.features, result.pixels)
        cells = ["" if result.error else f"{number:,}" for number in numbers]
        table.add_row(
            Text(result.model),
            *cells,
            Text(result.error, style="red") if result.error else Text("right", style="green"),
        )
    terminal.out.print(table)
    wrong = sum(1 for result in checked if result.error)
    if wrong:
        raise InputError(f"{manifest}: {wrong} of {len(checked)} models are not right; see above")


@rooms_app.command("train")
def rooms_train(
    out: Annotated[Path, typer.Option("--out", help="Zoo folder to write.")] = Path("zoo/rooms"),
    tasks: Annotated[
        str | None, typer.Option("--tasks", help="Some tasks only: a,b,c. (Default: all 20.)")
    ] = None,
    set_: SetOption = None,
    engine: EngineOption = "auto",
    address: AddressOption = None,
    quiet: QuietOption = False,
) -> None:
    """Train a network for every task. Killed and started again, it goes on at the next task."""
    from depara_bench.engine import open_engine
    from depara_bench.rooms.shell import train_with_progress, training_settings

    names = [name.strip() for name in tasks.split(",") if name.strip()] if tasks else None
    with open_engine(engine, address) as opened:
        rows = train_with_progress(
            out, opened, training_settings(set_ or ()), names, Terminal(quiet)
        )
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
    terminal = Terminal(quiet)
    terminal.out.print(table)
    below = [row.task for row in rows if not row.passes]
    if below:
        raise RunError(f"{out}: {', '.join(below)} missed the quality gate; train longer")


def _folder(out: str | None, name: str) -> Any:
    from depara_bench.storage import Folder

    return Folder(out if out is not None else f"reports/{name}")


def _show_result(record: dict[str, Any], folder: Any, terminal: Terminal) -> None:
    from depara_bench.pipeline import read_table, summary

    best = summary(record, read_table(folder, "rankings.parquet"))
    table = Table("target", *(f"best source {rank}" for rank in best.columns), box=None)
    for target, row in best.iterrows():
        table.add_row(Text(str(target)), *(Text(str(name)) for name in row.fillna("")))
    if not terminal.quiet:
        terminal.out.print(table)
    terminal.out.print(Text(f"report: {folder.uri}/report.html"), soft_wrap=True)
    _exit_for(record)


def _exit_for(record: dict[str, Any]) -> None:
    """Contract C7: name the models that failed, and exit with 1 if there are any."""
    for failure in record["failures"]:
        _complain(f"model '{failure['model']}' failed: {failure['error']}")
    if record["failures"]:
        raise typer.Exit(1)


def _complain(text: str) -> None:
    Terminal().err.print(Text(f"depara-bench: {' '.join(text.split())}"), soft_wrap=True)


def main() -> NoReturn:
    """Run the command line; turn errors into one line and an exit code (contract C7)."""
    logging.getLogger().setLevel(logging.ERROR)
    # A polite kill cleans up as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = app(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except InputError as error:
        _complain(str(error))
        sys.exit(2)
    except RunError as error:
        _complain(str(error))
        sys.exit(1)
    except DeparaError as error:
        _complain(str(error))
        sys.exit(1)
    except (KeyboardInterrupt, typer.Abort):
        _complain("interrupted; run the same command again and it continues")
        sys.exit(130)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        # A mistake on the command line itself, as click words it.
        _complain(f"{error.format_message()} (see depara-bench --help)")
        sys.exit(2)
