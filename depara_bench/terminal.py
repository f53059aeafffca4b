"""Progress on a terminal; silence elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

Advance = Callable[[int], None]


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        unit = task.fields.get("unit", "")
        return Text(f"{speed:,.0f} {unit}/s" if speed else "", style="cyan")


@dataclass(frozen=True)
class Terminal:
    """Where a run speaks. `quiet`: only results and errors. `verbose`: also what each step does.

    Progress and remarks go to stderr, results to stdout, so that results can be piped.
    """

    quiet: bool = False
    verbose: bool = False

    @property
    def out(self) -> Console:
        """Standard output, for results."""
        return Console(file=sys.stdout, highlight=False)

    @property
    def err(self) -> Console:
        """Standard error, for progress, remarks and errors."""
        return Console(file=sys.stderr, highlight=False)

    def say(self, text: str) -> None:
        """A remark a user wants to see, unless quiet."""
        if not self.quiet:
            self.err.print(Text(text))

    def detail(self, text: str) -> None:
        """A remark for `--verbose`."""
        if self.verbose:
            self.err.print(Text(text, style="dim"))

    @contextmanager
    def progress(self, stage: str, total: int, unit: str) -> Iterator[Advance]:
        """A bar with throughput and time left; `advance(n)` moves it. Nothing off a terminal."""
        console = self.err
        if self.quiet or not console.is_terminal or total == 0:
            yield lambda _: None
            return
        columns = (
            TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), _Rate(),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(*columns, console=console) as progress:
            task = progress.add_task(stage, total=total, unit=unit)
            yield lambda n: progress.advance(task, n)

    @contextmanager
    def stages(self) -> Iterator[Callable[[str, int, int], None]]:
        """Bars of stages that come one after the other: `show(stage, done, total)`."""
        with ExitStack() as stack:
            bars: dict[str, tuple[Advance, list[int]]] = {}

            def show(stage: str, done: int, total: int) -> None:
                if stage not in bars:
                    stack.close()  # a terminal shows one bar at a time
                    bar = stack.enter_context(self.progress(stage, total, stage))
                    bars[stage] = (bar, [0])
                advance, before = bars[stage]
                advance(done - before[0])
                before[0] = done

            yield show
