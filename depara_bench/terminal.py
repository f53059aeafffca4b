"""What a run says: results, remarks, and progress, as bars on a terminal and as lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

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
from rich.table import Table
from rich.text import Text

from depara_bench.progress import EVERY_S, Tally, beating

Advance = Callable[[int], None]

_UNBROKEN = 1_000_000  # columns: no table is wider


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        unit = task.fields.get("unit", "")
        return Text(f"{speed:,.0f} {unit}/s" if speed else "", style="cyan")


@dataclass(frozen=True)
class Terminal:
    """Where a run speaks. `quiet`: only errors. `verbose`: also what each step does. `every`: most
    seconds without a line, off a terminal.

    Progress and remarks go to stderr, results to stdout, so that results can be piped.
    """

    quiet: bool = False
    verbose: bool = False
    every: float = EVERY_S
    _held: list[str] = field(default_factory=list, init=False, repr=False, compare=False)
    """Last lines of stages, which wait for what is said next, and go unsaid where that is an error:
    what is refused is one line.
    """
    _spoke: list[float] = field(
        default_factory=lambda: [time.monotonic()], init=False, repr=False, compare=False
    )
    """When something was last said, since stages count on from there."""

    @property
    def out(self) -> Console:
        """Standard output, for results. A file or a pipe gets whole lines, however long."""
        self._release()
        width = None if sys.stdout.isatty() else _UNBROKEN
        return Console(file=sys.stdout, highlight=False, width=width)

    @property
    def err(self) -> Console:
        """Standard error, for progress, remarks and errors."""
        return Console(file=sys.stderr, highlight=False)

    def show(self, result: Table | str) -> None:
        """A result, unless quiet."""
        if not self.quiet:
            text = Text(result) if isinstance(result, str) else result
            self.out.print(text, soft_wrap=isinstance(result, str))

    def say(self, text: str) -> None:
        """A remark a user wants to see, unless quiet."""
        if not self.quiet:
            self._release()
            self._spoke[:] = [time.monotonic()]
            self.err.print(Text(text), soft_wrap=True)

    def detail(self, text: str) -> None:
        """A remark for `--verbose`."""
        if self.verbose:
            self._release()
            self.err.print(Text(text, style="dim"), soft_wrap=True)

    @contextmanager
    def progress(
        self, stage: str, total: int, unit: str, detail: Callable[[], str] | None = None
    ) -> Iterator[Advance]:
        """A bar with throughput and time left; `advance(n)` moves it. Off a terminal lines: one at
        the end, and one every so often. detail: more of what is done, for the lines.
        """
        console = self.err
        if self.quiet or total == 0:
            yield lambda _: None
            return
        if not console.is_terminal:
            with self._telling(stage, total, unit, detail) as tally:
                yield tally.advance
            return
        columns = (
            TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), _Rate(),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(*columns, console=console) as progress:
            task = progress.add_task(stage, total=total, unit=unit)
            yield lambda n: progress.advance(task, n)

    @contextmanager
    def waiting(self, stage: str) -> Iterator[None]:
        """What is done at one go, of unknown extent: a line every so often, where it takes long."""
        if self.quiet:
            yield
            return
        with self._telling(stage, 0, "", None):
            yield

    @contextmanager
    def _telling(
        self, stage: str, total: int, unit: str, detail: Callable[[], str] | None
    ) -> Iterator[Tally]:
        since = self._spoke[0]
        tally = Tally(stage, total, unit, self.say, detail=detail, every=self.every, since=since)
        with beating(tally):
            yield tally
        if line := tally.last():
            self._release()
            self._held.append(line)

    def _release(self) -> None:
        while self._held:
            self.err.print(Text(self._held.pop(0)), soft_wrap=True)

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
