"""Everything in this process, one task after the other: no Ray, easy to debug and to profile."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any

from depara_bench.engine import Engine, Outcome, Resources, Slot, Task, Worker
from depara_bench.engine.failure import answer
from depara_bench.errors import InputError, StopError


class LocalEngine:
    """One worker with the whole machine. Groups run in the order they first appear."""

    name = "local"

    def run(
        self,
        factory: Callable[[Any, Slot], Worker],
        shared: Any,
        tasks: Sequence[Task],
        resources: Resources,
    ) -> Iterator[Outcome]:
        """See `Engine.run`."""
        worker = factory(shared, Slot(device=_device(resources), threads=_threads()))
        groups: dict[str, list[Task]] = {}
        for task in tasks:
            groups.setdefault(task.group, []).append(task)
        for group in groups.values():
            failure: str | None = None
            for task in group:
                if failure is not None:
                    yield Outcome(task, error=failure)
                    continue
                reply = answer(worker, task.payload)
                if reply.kind == "stop":
                    raise StopError(reply.value)
                failure = reply.value if reply.kind == "failed" else None
                yield Outcome(task, value=None if failure else reply.value, error=failure)

    def kept(self) -> AbstractContextManager[None]:
        """See `Engine.kept`: there is but this process."""
        return nullcontext()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None


def _device(resources: Resources) -> str:
    if resources.gpus == 0:
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if resources.gpus:
        raise InputError(
            "resources.gpus: this machine has no GPU that torch can use; set it to null or 0"
        )
    return "cpu"


def _threads() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
