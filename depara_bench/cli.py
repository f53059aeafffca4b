"""The command line: parse, call one function, print."""

from __future__ import annotations

import logging
import signal
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
import typer.core
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


class _RunsByDefault(typer.core.TyperGroup):
    """Commands of which `run` may be left out: `layers JOB` is `layers run JOB`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `run` before arguments that do not begin with a command."""
        named = args[:1] and (args[0] in self.commands or args[0] in ("-h", "--help"))
        return super().parse_args(ctx, args if named else ["run", *args])


layers_app = typer.Typer(help="Which layer to transfer from? (run)", cls=_RunsByDefault)
app.add_typer(layers_app, name="layers")

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


class Library(str, Enum):
    """Libraries whose models are known by name."""

    torchvision = "torchvision"
    timm = "timm"


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


def _write_text(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); choose --out") from error


@app.command("probe-list")
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

    names = sample(folder, each=each, total=count, seed=seed)
    _write_text(out, "".join(f"{name}\n" for name in names))
    typer.echo(f"{out}: {len(names)} images; use with 'path: {out}' and 'root: {folder}'")


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


LayersArgument = Annotated[
    str, typer.Argument(help="A layer job, or the name of an embedded one.", metavar="[JOB]")
]
LayersOut = Annotated[
    Path | None, typer.Option("--out", help="Folder. (Default: reports/<job name>-<command>.)")
]


@layers_app.command("run")
def layers_run(
    job: LayersArgument = "layers-rooms",
    out: OutOption = None,
    set_: SetOption = None,
    list_: Annotated[
        bool, typer.Option("--list", help="Only list the layers, and which are chosen.")
    ] = False,
    engine: EngineOption = "auto",
    address: AddressOption = None,
    allow_code: CodeOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """DEPARA between every layer of the sources and the target's last; judged by the truth."""
    from depara_bench.engine import open_engine
    from depara_bench.layers.job import load_layers_job
    from depara_bench.layers.run import run_layers
    from depara_bench.layers.select import listing

    terminal = Terminal(quiet, verbose)
    file = load_layers_job(job, set_ or ())
    if list_:
        table = Table("network", "depth", "layer", "chosen", box=None, header_style="bold")
        for name, layers in listing(file, allow_code=allow_code).items():
            for one in layers:
                table.add_row(name, str(one.depth), Text(one.name), "yes" if one.chosen else "")
        terminal.out.print(table)
        return
    folder = _folder(out, file.job.name)
    with open_engine(engine, address) as opened:
        found = run_layers(file, folder, opened, terminal, allow_code=allow_code)
    if not quiet and len(found):
        names = ("source", "fraction", "method", "Spearman", "regret", "layer")
        table = Table(*names, box=None, header_style="bold")
        keys = ["source", "fraction", "method"]
        for key, rows in found[found["layer"].notna()].groupby(keys, sort=False):
            by = rows.set_index("metric")["value"]
            numbers = f"{by['spearman']:.3f}", f"{by['regret']:.4f}", rows["layer"].iloc[0]
            table.add_row(*map(Text, (*key, *numbers)))
        terminal.out.print(table)
    terminal.out.print(Text(f"report: {folder.uri}/report.html"), soft_wrap=True)


@layers_app.command("measure")
def layers_measure(
    job: LayersArgument = "layers-rooms",
    out: LayersOut = None,
    set_: SetOption = None,
    engine: EngineOption = "auto",
    address: AddressOption = None,
    allow_code: CodeOption = False,
    quiet: QuietOption = False,
) -> None:
    """Freeze each source up to each layer, train the rest, tell the accuracy. Resumable."""
    from depara_bench.engine import open_engine
    from depara_bench.layers.job import load_layers_job
    from depara_bench.layers.measuring import measure_to

    terminal = Terminal(quiet)
    file = load_layers_job(job, set_ or ())
    place = out or Path("reports") / f"{file.job.name}-measure"
    with open_engine(engine, address) as opened:
        found = measure_to(file, place, opened, terminal, allow_code=allow_code)
    if not quiet:
        table = Table("source", "depth", "layer", "fraction", "accuracy", "over seeds", box=None)
        keys = ["source", "depth", "layer", "fraction"]
        for key, rows in found.groupby(keys, sort=False)["accuracy"]:
            numbers = f"{rows.mean():.4f}", f"{rows.min():.4f} to {rows.max():.4f}"
            table.add_row(*(Text(str(cell)) for cell in key), *numbers)
        terminal.out.print(table)
    terminal.out.print(Text(f"accuracies: {place / 'accuracy.csv'}"), soft_wrap=True)


@layers_app.command("train")
def layers_train(
    job: LayersArgument = "layers-rooms",
    out: LayersOut = None,
    set_: SetOption = None,
    engine: EngineOption = "auto",
    address: AddressOption = None,
    allow_code: CodeOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train the networks of a layer job: the sources and the target. Resumable."""
    from depara_bench.engine import open_engine
    from depara_bench.layers.job import load_layers_job
    from depara_bench.layers.measuring import train_to

    terminal = Terminal(quiet)
    file = load_layers_job(job, set_ or ())
    place = out or Path("reports") / f"{file.job.name}-train"
    with open_engine(engine, address) as opened:
        found = train_to(file, place, opened, terminal, allow_code=allow_code)
    if not quiet:
        table = Table(*found.columns, box=None, header_style="bold")
        for row in found.itertuples(index=False):
            table.add_row(
                *(f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in row)
            )
        terminal.out.print(table)
    terminal.out.print(Text(f"networks: {place / 'zoo.yaml'}"), soft_wrap=True)


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
def zoo_check(
    zoo: ZooArgument = "rooms",
    allow_code: CodeOption = False,
    methods: Annotated[
        str, typer.Option("--methods", help="Attribution methods to try: a,b.")
    ] = "input_x_gradient,saliency",
) -> None:
    """Verify hashes, load every model, find its embedding, run two images; one table of it all,
    and what an attribution method has no rule for.
    """
    from depara_bench.check import Shared, check_models
    from depara_bench.config import validate
    from depara_bench.engine import Resources
    from depara_bench.engine.local import LocalEngine
    from depara_bench.job import AttributionSettings
    from depara_bench.zoo import find_manifest, load_zoo

    terminal = Terminal()
    manifest = find_manifest(zoo, Path())
    models = load_zoo(manifest).models
    names = [name.strip() for name in methods.split(",") if name.strip()]
    settings = validate(AttributionSettings, {"methods": names}, "--methods")
    shared = Shared(manifest.parent, allow_code, settings)
    with terminal.progress("check", len(models), "models") as advance:
        checked = check_models(models, shared, LocalEngine(), Resources(), advance)
    table = Table("model", "parameters", "features", "map", "result", box=None)
    notes: list[str] = []
    for result in checked:
        numbers = (result.parameters, result.features, result.pixels)
        cells = ["" if result.error else f"{number:,}" for number in numbers]
        table.add_row(
            Text(result.model),
            *cells,
            Text(result.error, style="red") if result.error else Text("right", style="green"),
        )
        for method, places in result.uncovered.items():
            more = f" and {len(places) - 3} more" if len(places) > 3 else ""
            notes.append(f"{result.model}: {method} has no rule for {', '.join(places[:3])}{more}")
    terminal.out.print(table)
    for note in notes:
        terminal.out.print(Text(note), soft_wrap=True)
    wrong = sum(1 for result in checked if result.error)
    if wrong:
        raise InputError(f"{manifest}: {wrong} of {len(checked)} models are not right; see above")


@zoo_app.command("init")
def zoo_init(
    library: Annotated[Library, typer.Option("--from", help="Whose models.")],
    out: Annotated[Path, typer.Option("--out", help="Manifest to write: a new .yaml file.")],
    match: Annotated[
        str, typer.Option("--match", help="Pattern of their names, e.g. 'resnet*'.")
    ] = "*",
) -> None:
    """Write a manifest of a library's models, to be edited: where your checkpoints are."""
    from depara_bench.init import manifest

    if out.exists():
        raise InputError(f"{out}: is there already; choose another --out")
    if out.suffix not in (".yaml", ".yml"):
        raise InputError(f"{out}: a manifest ends in .yaml; choose another --out")
    text, count = manifest(library.value, match, out.stem)
    _write_text(out, text)
    Terminal().out.print(Text(f"{out}: {count} models"), soft_wrap=True)


@zoo_app.command("fetch")
def zoo_fetch(
    zoo: ZooArgument,
    mirror: Annotated[
        str | None,
        typer.Option("--mirror", help="URL or folder with the files. (Default: the manifest's.)"),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option("--cache", help="Folder to fill. (Default: the one all runs look into.)"),
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Fetch the weight files of a zoo: resumable, verified by their hashes."""
    from depara_bench import fetch
    from depara_bench.loaders import weights
    from depara_bench.zoo import find_manifest, load_zoo

    terminal = Terminal(quiet)
    manifest = find_manifest(zoo, Path())
    read = load_zoo(manifest)
    source, place = mirror or read.mirror, cache or weights.cache()
    files = fetch.wanted(read, manifest.parent)
    if source is None:
        raise InputError(f"{manifest}: names no 'mirror'; give --mirror URL or FOLDER")
    found = fetch.fetch(files, source, place, terminal)
    for one in found:
        if one.error is not None:
            _complain(one.error)
        elif not quiet:
            terminal.out.print(Text(f"{one.path}"), soft_wrap=True)
    missing = [one for one in found if one.error is not None]
    if missing:
        raise RunError(
            f"{manifest}: {len(missing)} of {len(found)} files are missing; fetch again, or put"
            f" them into {place}"
        )
    if place != weights.cache() and not quiet:
        remark = f"runs look into this folder with DEPARA_BENCH_CACHE={place}"
        terminal.err.print(Text(remark), soft_wrap=True)


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
