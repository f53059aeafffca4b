"""Progress where no terminal shows a bar, as lines: one at the end of a stage, and while it goes on
one at least every half minute.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EVERY_S = 30.0
"""Seconds between two lines of a stage that goes on."""


class Tally:
    """What is done of a stage, told in lines that are never further apart than `every` seconds.

    total: of what there is to do; 0: not known. detail: more words, of what is done. since: when
    anything was said before. clock: tells seconds.
    """

    def __init__(
        self,
        stage: str,
        total: int,
        unit: str,
        say: Callable[[str], None],
        *,
        detail: Callable[[], str] | None = None,
        every: float = EVERY_S,
        since: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stage, self._total, self._unit = stage, total, unit
        self._say, self._detail, self._every, self._clock = say, detail, every, clock
        self._done = self._lines = 0
        self._start = clock()
        self._told = self._start if since is None else since

    def advance(self, count: int) -> None:
        """So many more are done."""
        self._done += count
        self.beat()

    def wait(self) -> float:
        """Seconds until the next line is due, 0 where it is."""
        return max(0.0, self._told + self._every - self._clock())

    def beat(self) -> None:
        """Tell how far the stage is, where that is due."""
        if self.wait() > 0:
            return
        self._lines += 1
        self._told = now = self._clock()
        seconds = now - self._start
        parts = [f"{span(seconds)} so far"]
        if self._total:
            parts = [f"{self._done:,} of {self._total:,} {self._unit}".rstrip(), *self._more()]
            if self._done:
                left = seconds * (self._total - self._done) / self._done
                parts += [self._rate(seconds), f"{span(left)} left"]
            else:
                parts.append(f"{span(seconds)} so far")
        self._say(f"{self._stage}: {', '.join(parts)}")

    def last(self) -> str | None:
        """What the stage did; None of one of unknown extent of which no line was told."""
        seconds = self._clock() - self._start
        if self._total:
            done = [f"{self._done:,} {self._unit}".rstrip() + f" in {span(seconds)}", *self._more()]
            return f"{self._stage}: {', '.join([*done, self._rate(seconds)])}"
        return f"{self._stage}: {span(seconds)}" if self._lines else None

    def _more(self) -> list[str]:
        return [self._detail()] if self._detail else []

    def _rate(self, seconds: float) -> str:
        rate = self._done / max(seconds, 1e-3)
        number = f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
        return f"{number} {self._unit}/s"


def span(seconds: float) -> str:
    """A time in words: "45 s", "12 min", "3.4 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


@contextmanager
def beating(tally: Tally) -> Iterator[Tally]:
    """Have the tally tell its lines in time, also while nothing gets done."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(tally.wait()):
            tally.beat()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield tally
    finally:
        over.set()
        thread.join()
