"""The command line: parse, call one function, print."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable
from functools import wraps
from types import FrameType
from typing import Any, NoReturn

import typer

from depara_bench.cli import layers, rooms, runs, truth, zoo
from depara_bench.cli.options import complain
from depara_bench.errors import DeparaError, InputError, RunError

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
layers_app = typer.Typer(help="Which layer to transfer from? (run)", cls=layers.RunsByDefault)
app.add_typer(zoo_app, name="zoo")
app.add_typer(rooms_app, name="rooms")
app.add_typer(truth_app, name="truth")
app.add_typer(layers_app, name="layers")

COMMANDS: dict[typer.Typer, dict[str, Callable[..., None]]] = {
    app: {
        "run": runs.run,
        "extract": runs.extract,
        "reduce": runs.reduce,
        "report": runs.report,
        "compare": runs.compare,
        "probe-list": runs.probe_list,
        "probes": runs.probes,
        "measure": rooms.measure,
    },
    layers_app: {"run": layers.run, "measure": layers.measure, "train": layers.train},
    truth_app: {"import": truth.import_},
    zoo_app: {
        "list": zoo.list_,
        "show": zoo.show,
        "check": zoo.check,
        "init": zoo.init,
        "fetch": zoo.fetch,
    },
    rooms_app: {"train": rooms.train},
}
INTERRUPTED = {signal.SIGINT: 130, signal.SIGTERM: 143}


class _Stopped(Exception):
    """A command was interrupted; its argument is the exit code."""


def _stop(number: int, _frame: FrameType | None) -> None:
    """Stop as Ctrl-C does, cleaning up on the way, and remember by which signal."""
    interrupt = KeyboardInterrupt()
    interrupt.args = (number,)
    raise interrupt


def _stoppable(command: Callable[..., None]) -> Callable[..., None]:
    """The command, whose interruption is ours to tell: typer would end in silence."""

    @wraps(command)
    def call(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except KeyboardInterrupt as interrupt:
            number = interrupt.args[0] if interrupt.args else signal.SIGINT
            raise _Stopped(INTERRUPTED[signal.Signals(number)]) from interrupt

    return call


for group, commands in COMMANDS.items():
    for name, command in commands.items():
        group.command(name)(_stoppable(command))


def main() -> NoReturn:
    """Run the command line; turn errors into one line and an exit code (contract C7)."""
    logging.getLogger().setLevel(logging.ERROR)
    for number in INTERRUPTED:
        signal.signal(number, _stop)
    try:
        code = app(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except InputError as error:
        complain(str(error))
        sys.exit(2)
    except RunError as error:
        complain(str(error))
        sys.exit(1)
    except DeparaError as error:
        complain(str(error))
        sys.exit(1)
    except _Stopped as stopped:
        complain("interrupted; run the same command again and it continues")
        sys.exit(stopped.args[0])
    except (KeyboardInterrupt, typer.Abort):
        complain("interrupted")
        sys.exit(130)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        # A mistake on the command line itself, as click words it.
        complain(f"{error.format_message()} (see depara-bench --help)")
        sys.exit(2)
