"""Where work runs. An engine takes tasks and yields outcomes; it knows nothing of the science.

A *task* has a group: tasks of one group go to one worker, one after the other, so that a worker
which has loaded what the group needs (a model) keeps it until the group is done, and then takes
the next group from the queue. A *worker* is built once per slot by ``factory(shared, slot)`` and
is then called with one task's payload at a time. `shared` is sent to each machine once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

from depara_bench.errors import InputError

Worker = Callable[[Any], Any]


@dataclass(frozen=True)
class Slot:
    """What a worker may use: torch device name and number of CPU threads."""

    device: str
    threads: int


@dataclass(frozen=True)
class Resources:
    """What each worker takes: GPUs (a fraction shares one), CPUs; and how many workers at most.

    `gpus` None: one where there are any, else none. `workers` None: as many as fit.
    """

    gpus: float | None = None
    cpus: int = 1
    workers: int | None = None


@dataclass(frozen=True)
class Task:
    """One piece of work. `key` names it in messages and is unique; `payload` is what is sent."""

    key: str
    group: str
    payload: Any


@dataclass(frozen=True)
class Outcome:
    """What became of a task: `value`, or `error` in words; then the rest of its group is given up,
    each task with an outcome of its own.
    """

    task: Task
    value: Any = None
    error: str | None = None


class Engine(Protocol):
    """Something that runs tasks. A context manager: leaving it releases workers."""

    name: str

    def run(
        self,
        factory: Callable[[Any, Slot], Worker],
        shared: Any,
        tasks: Sequence[Task],
        resources: Resources,
    ) -> Iterator[Outcome]:
        """Yield one outcome per task, in the order they finish.

        A worker that raises InputError stops everything: it is raised here. Any other exception
        is the failure of that task's group. A worker that dies is replaced.
        """
        ...

    def kept(self) -> AbstractContextManager[None]:
        """Inside, the workers' processes stay for the next `run` with the same resources, each with
        a new worker. For many short runs of our own code: a process that is kept holds its CPUs,
        and what foreign code left in it.
        """
        ...

    def __enter__(self) -> Engine: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def open_engine(
    name: str,
    address: str | None = None,
    *,
    say: Callable[[str], None] = lambda _: None,
    patience: float | None = None,
) -> Engine:
    """Engine by name: "local" (this process) or "ray" (`address` None: a cluster of its own on
    this machine; "auto" or "host:port": one that runs). "auto": ray where it is installed. say:
    takes remarks. patience: seconds that a run waits for a node of a cluster (None: the default).

    Raises InputError for an unknown name, and when Ray is asked for and not installed.
    """
    if name not in ("auto", "local", "ray"):
        raise InputError(f"--engine: '{name}' is not one of auto, local, ray")
    if name == "local" and address is not None:
        raise InputError("--address: goes with --engine ray, not local; leave one of them out")
    if name != "local":
        try:
            from depara_bench.engine.ray import PATIENCE, RayEngine
        except ImportError as error:
            if name == "ray" or address is not None:
                raise InputError(
                    "--engine: Ray is not installed here; install 'ray[default]', or use"
                    " --engine local"
                ) from error
        else:
            return RayEngine(address, say, PATIENCE if patience is None else patience)
    from depara_bench.engine.local import LocalEngine

    return LocalEngine()
