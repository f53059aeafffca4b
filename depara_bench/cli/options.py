"""What several commands share: their options, and how they end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from depara_bench.addresses import scrubbed
from depara_bench.errors import InputError, without_model
from depara_bench.terminal import Terminal

if TYPE_CHECKING:
    from depara_bench.engine import Engine

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
WaitOption = Annotated[
    float | None,
    typer.Option(
        "--wait-for-nodes",
        metavar="SECONDS",
        min=0,
        help="How long to wait, on a cluster, for a node to work on. (Default: 900.)",
    ),
]
FreshOption = Annotated[bool, typer.Option("--fresh", help="Delete the earlier run there first.")]
CodeOption = Annotated[
    bool, typer.Option("--allow-code", help="Allow models that are Python factories.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Only errors.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Every step, with seconds.")]
RunArgument = Annotated[str, typer.Argument(help="A run folder.", metavar="RUN")]


def run_folder(out: str | None, name: str) -> Any:
    """Where a job of this name is run, as a Folder."""
    from depara_bench.storage import Folder

    return Folder(out if out is not None else f"reports/{name}")


def start_engine(name: str, address: str | None, wait: float | None, terminal: Terminal) -> Engine:
    """The engine of a command; what it waits for is said on the terminal."""
    from depara_bench.engine import open_engine

    return open_engine(name, address, say=terminal.say, patience=wait)


def exit_for(record: dict[str, Any]) -> None:
    """Contract C7: name the models that failed, and exit with 1 if there are any."""
    for failure in record["failures"]:
        why = without_model(failure["error"], failure["model"])
        complain(f"model '{failure['model']}' failed: {why}")
    if record["failures"]:
        raise typer.Exit(1)


def complain(text: str) -> None:
    """One line on stderr, in which no address tells its user and password."""
    line = scrubbed(" ".join(text.split()))
    Terminal().err.print(Text(f"depara-bench: {line}"), soft_wrap=True)


def write_text(path: Path, text: str) -> None:
    """Write a file that the user named with --out."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); choose --out") from error
