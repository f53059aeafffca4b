"""`layers`: which layer to transfer from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core
from rich.table import Table
from rich.text import Text

from depara_bench.cli.options import (
    AddressOption,
    CodeOption,
    EngineOption,
    OutOption,
    QuietOption,
    SetOption,
    VerboseOption,
    WaitOption,
    run_folder,
    start_engine,
)
from depara_bench.terminal import Terminal


class RunsByDefault(typer.core.TyperGroup):
    """Commands of which `run` may be left out: `layers JOB` is `layers run JOB`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `run` before arguments that do not begin with a command."""
        named = args[:1] and (args[0] in self.commands or args[0] in ("-h", "--help"))
        return super().parse_args(ctx, args if named else ["run", *args])


LayersArgument = Annotated[
    str, typer.Argument(help="A layer job, or the name of an embedded one.", metavar="[JOB]")
]
LayersOut = Annotated[
    Path | None, typer.Option("--out", help="Folder. (Default: reports/<job name>-<command>.)")
]


def run(
    job: LayersArgument = "layers-rooms",
    out: OutOption = None,
    set_: SetOption = None,
    list_: Annotated[
        bool, typer.Option("--list", help="Only list the layers, and which are chosen.")
    ] = False,
    engine: EngineOption = "auto",
    address: AddressOption = None,
    wait_for_nodes: WaitOption = None,
    allow_code: CodeOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """DEPARA between every layer of the sources and the target's last; judged by the truth."""
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
    folder = run_folder(out, file.job.name)
    with start_engine(engine, address, wait_for_nodes, terminal) as opened:
        found = run_layers(file, folder, opened, terminal, allow_code=allow_code)
    if not quiet and len(found):
        names = ("source", "fraction", "method", "Spearman", "regret", "layer")
        table = Table(*names, box=None, header_style="bold")
        keys = ["source", "fraction", "method"]
        for key, rows in found[found["layer"].notna()].groupby(keys, sort=False):
            by = rows.set_index("metric")["value"]
            numbers = f"{by['spearman']:.3f}", f"{by['regret']:.4f}", rows["layer"].iloc[0]
            table.add_row(*map(Text, (*key, *numbers)))
        terminal.show(table)
    terminal.show(f"report: {folder.uri}/report.html")


def measure(
    job: LayersArgument = "layers-rooms",
    out: LayersOut = None,
    set_: SetOption = None,
    engine: EngineOption = "auto",
    address: AddressOption = None,
    wait_for_nodes: WaitOption = None,
    allow_code: CodeOption = False,
    quiet: QuietOption = False,
) -> None:
    """Freeze each source up to each layer, train the rest, tell the accuracy. Resumable."""
    from depara_bench.layers.job import load_layers_job
    from depara_bench.layers.measuring import measure_to

    terminal = Terminal(quiet)
    file = load_layers_job(job, set_ or ())
    place = out or Path("reports") / f"{file.job.name}-measure"
    with start_engine(engine, address, wait_for_nodes, terminal) as opened:
        found = measure_to(file, place, opened, terminal, allow_code=allow_code)
    if not quiet:
        table = Table("source", "depth", "layer", "fraction", "accuracy", "over seeds", box=None)
        keys = ["source", "depth", "layer", "fraction"]
        for key, rows in found.groupby(keys, sort=False)["accuracy"]:
            numbers = f"{rows.mean():.4f}", f"{rows.min():.4f} to {rows.max():.4f}"
            table.add_row(*(Text(str(cell)) for cell in key), *numbers)
        terminal.show(table)
    terminal.show(f"accuracies: {place / 'accuracy.csv'}")


def train(
    job: LayersArgument = "layers-rooms",
    out: LayersOut = None,
    set_: SetOption = None,
    engine: EngineOption = "auto",
    address: AddressOption = None,
    wait_for_nodes: WaitOption = None,
    allow_code: CodeOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train the networks of a layer job: the sources and the target. Resumable."""
    from depara_bench.layers.job import load_layers_job
    from depara_bench.layers.measuring import train_to

    terminal = Terminal(quiet)
    file = load_layers_job(job, set_ or ())
    place = out or Path("reports") / f"{file.job.name}-train"
    with start_engine(engine, address, wait_for_nodes, terminal) as opened:
        found = train_to(file, place, opened, terminal, allow_code=allow_code)
    if not quiet:
        table = Table(*found.columns, box=None, header_style="bold")
        for row in found.itertuples(index=False):
            table.add_row(
                *(f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in row)
            )
        terminal.show(table)
    terminal.show(f"networks: {place / 'zoo.yaml'}")
