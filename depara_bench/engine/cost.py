"""What a task took: a worker that also measures, for tables that show cost beside quality."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from mmap import mmap
from pathlib import Path
from typing import Any

from depara_bench.engine import Slot, Worker

_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


@dataclass(frozen=True)
class Cost:
    """What a worker gave, the seconds on its wall, and the bytes by which its process grew at its
    peak; None where the system does not tell (all but Linux).
    """

    value: Any
    seconds: float
    peak: int | None


def highest(costs: Sequence[Cost]) -> int | None:
    """The highest peak of several tasks; None where none is known."""
    known = [cost.peak for cost in costs if cost.peak is not None]
    return max(known) if known else None


class Costed:
    """A worker around another one, whose answers are `Cost`s."""

    def __init__(self, factory: Callable[[Any, Slot], Worker], shared: Any, slot: Slot) -> None:
        self._worker = factory(shared, slot)

    def __call__(self, payload: Any) -> Cost:
        """The answer of the worker to `payload`, and what it took."""
        before = _start()
        start = time.perf_counter()
        value = self._worker(payload)
        seconds = time.perf_counter() - start
        after = _memory("VmHWM")
        return Cost(value, seconds, None if before is None or after is None else after - before)


def _start() -> int | None:
    """Memory now, from where the system measures the peak anew."""
    if not _tells():
        return None
    _CLEAR.write_text("5")
    return _memory("VmRSS")


@cache
def _tells() -> bool:
    """Whether the system reports peaks: some sandboxes take the request and measure nothing."""
    size = 1 << 24
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    before = _memory("VmRSS")
    with mmap(-1, size) as block:  # never memory that the process has already
        block.write(bytes(size))
    peak = _memory("VmHWM")
    return before is not None and peak is not None and peak - before > size // 2


def _memory(name: str) -> int | None:
    """A line of the process's status, in bytes."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(found[0]) * 1024 if found else None
