"""Work on Ray: scheduling, retries, replacement of dead workers; nothing of the science.

The only module that imports Ray.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

# Read by Ray when it is imported. A driver started by `uv run` would otherwise make every worker
# resolve the environment again; usage statistics would go out to the network.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
from ray.exceptions import RayActorError, RayError

from depara_bench.engine import Engine, Outcome, Resources, Slot, Task, Worker
from depara_bench.engine.failure import Answer, answer
from depara_bench.errors import InputError

ATTEMPTS = 3
"""Times a worker may die under one task before the task's group counts as failed."""

_IN_FLIGHT = 2
"""Tasks given to a worker at a time: one it works on, one that waits, so that it never idles."""


class _Actor:
    """One worker in a process of its own. It keeps what it has loaded from task to task."""

    def __init__(
        self, factory: Callable[[Any, Slot], Worker], shared: Any, gpus: float, threads: int
    ) -> None:
        # The device comes from what was assigned, never from what could be seen: a worker
        # without a GPU may see all of the machine's.
        self._worker = factory(shared, Slot("cuda" if gpus > 0 else "cpu", threads))

    def run(self, payload: Any) -> Answer:
        return answer(self._worker, payload)


@dataclass
class _Group:
    """Tasks that go to one worker, in order; those lost with a dead worker return to the front."""

    name: str
    tasks: deque[Task]


@dataclass
class _Seat:
    """A worker's place: its actor, the group it works on, what it has been given."""

    actor: Any
    group: _Group | None = None
    given: dict[Any, Task] = field(default_factory=dict)


class RayEngine:
    """Workers are actors; one takes the next group from the queue when it is done with its own.

    `address` None starts a cluster on this machine and stops it at the end; otherwise the running
    one at "auto" or "host:port" is joined, and left running.
    """

    name = "ray"

    def __init__(self, address: str | None = None) -> None:
        self.address = address
        self._started = False

    def __enter__(self) -> Engine:
        return self

    def _connect(self) -> None:
        """Start or join the cluster, when there is first something to do on it."""
        if ray.is_initialized():
            return
        try:
            ray.init(
                address=self.address,
                include_dashboard=False if self.address is None else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=True,
            )
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            where = f"--address {self.address}" if self.address else "engine"
            first = str(error).strip().splitlines()[0]
            raise InputError(
                f"{where}: Ray cannot be reached or started ({first}); start it with 'ray start"
                f" --head', or use --engine local"
            ) from error
        self._started = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._started:
            ray.shutdown()
            self._started = False

    def run(
        self,
        factory: Callable[[Any, Slot], Worker],
        shared: Any,
        tasks: Sequence[Task],
        resources: Resources,
    ) -> Iterator[Outcome]:
        """See `Engine.run`."""
        if not tasks:
            return
        self._connect()
        groups: dict[str, _Group] = {}
        for task in tasks:
            groups.setdefault(task.group, _Group(task.group, deque())).tasks.append(task)
        need = _fit(resources, len(groups), own=self._started and self.address is None)
        queue = _Queue(factory, ray.put(shared), need, deque(groups.values()))
        try:
            yield from queue.outcomes()
        finally:
            queue.close()


@dataclass(frozen=True)
class _Need:
    """What was decided from Resources and the cluster: per worker, and how many workers."""

    gpus: float
    cpus: int
    workers: int


def _fit(resources: Resources, groups: int, *, own: bool) -> _Need:
    """How many workers fit. Raises InputError when none does and the cluster cannot grow."""
    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    gpus = resources.gpus
    if gpus is None:
        gpus = 1.0 if total.get("GPU", 0) >= 1 else 0.0
    fits = int(total.get("CPU", 0) // resources.cpus)
    if gpus > 0:
        fits = min(fits, int(total.get("GPU", 0) / gpus + 1e-9))
    if fits < 1:
        if own:
            raise InputError(
                f"resources: a worker takes {resources.cpus} CPUs and {gpus:g} GPUs, this machine"
                f" has {total.get('CPU', 0):g} and {total.get('GPU', 0):g}; ask for less"
            )
        fits = 1  # a cluster that scales brings nodes when somebody waits for them
    wanted = resources.workers or fits
    if own:
        wanted = min(wanted, fits)
    return _Need(gpus, resources.cpus, max(1, min(wanted, groups)))


class _Queue:
    """The groups still to be done and the workers that do them."""

    def __init__(
        self,
        factory: Callable[[Any, Slot], Worker],
        shared: Any,
        need: _Need,
        waiting: deque[_Group],
    ) -> None:
        self._factory = factory
        self._shared = shared
        self._need = need
        self._waiting = waiting
        self._deaths: dict[str, int] = {}
        self._seats: list[_Seat] = []

    def outcomes(self) -> Iterator[Outcome]:
        self._seats = [_Seat(self._hire()) for _ in range(self._need.workers)]
        for seat in self._seats:
            self._feed(seat)
        while any(seat.given for seat in self._seats):
            owner = {ref: seat for seat in self._seats for ref in seat.given}
            done, _ = ray.wait(list(owner), num_returns=1)
            yield from self._settle(owner[done[0]], done[0])

    def close(self) -> None:
        """End the workers of this queue; their memory, also a GPU's, is free when they are gone."""
        for seat in self._seats:
            with suppress(RayError):
                ray.kill(seat.actor)

    def _hire(self) -> Any:
        actor = ray.remote(_Actor).options(
            num_cpus=self._need.cpus, num_gpus=self._need.gpus, max_restarts=0
        )
        return actor.remote(self._factory, self._shared, self._need.gpus, self._need.cpus)

    def _feed(self, seat: _Seat) -> None:
        """Give a worker tasks until enough are in flight; take a new group when its own is out."""
        while len(seat.given) < _IN_FLIGHT:
            if seat.group is None or not seat.group.tasks:
                if not self._waiting:
                    return
                seat.group = self._waiting.popleft()
                continue
            task = seat.group.tasks.popleft()
            seat.given[seat.actor.run.remote(task.payload)] = task

    def _settle(self, seat: _Seat, ref: Any) -> Iterator[Outcome]:
        try:
            reply: Answer = ray.get(ref)
        except RayActorError as error:
            yield from self._replace(seat, error)
            return
        except RayError as error:  # the answer was lost or could not be sent: the task's own fault
            reply = Answer("failed", f"{type(error).__name__}: {str(error).splitlines()[0]}")
        task = seat.given.pop(ref)
        if reply.kind == "stop":
            raise InputError(reply.value)
        if reply.kind == "failed":
            yield Outcome(task, error=reply.value)
            yield from self._give_up(seat, task.group, reply.value)
        else:
            yield Outcome(task, value=reply.value)
        self._feed(seat)

    def _give_up(self, seat: _Seat, name: str, error: str) -> Iterator[Outcome]:
        """Drop what remains of a failed group: what the worker was given ahead, and what waits."""
        for ref, task in list(seat.given.items()):
            if task.group == name:
                del seat.given[ref]
                yield Outcome(task, error=error)
        for group in (seat.group, *self._waiting):
            if group is not None and group.name == name:
                dropped = list(group.tasks)
                group.tasks.clear()
                for task in dropped:
                    yield Outcome(task, error=error)

    def _replace(self, seat: _Seat, error: RayActorError) -> Iterator[Outcome]:
        """A worker died: keep what it had answered, put the rest back, hire another."""
        for ref in list(seat.given):
            if _answered(ref):
                yield from self._settle(seat, ref)
        lost = list(seat.given.values())
        seat.given.clear()
        if lost:
            # Calls run in the order they were given: only the first can have been the cause.
            culprit = lost[0]
            self._deaths[culprit.key] = self._deaths.get(culprit.key, 0) + 1
            for task in reversed(lost):
                self._return(seat, task)
            if self._deaths[culprit.key] >= ATTEMPTS:
                reason = (
                    f"its worker died {ATTEMPTS} times ({str(error).strip().splitlines()[0]});"
                    f" it may need more memory than the machine has"
                )
                yield from self._give_up(seat, culprit.group, reason)
        seat.actor = self._hire()
        self._feed(seat)

    def _return(self, seat: _Seat, task: Task) -> None:
        """Put a task back in front of its group: the seat's own, or one that waits."""
        for group in (seat.group, *self._waiting):
            if group is not None and group.name == task.group:
                group.tasks.appendleft(task)
                return
        self._waiting.appendleft(_Group(task.group, deque([task])))


def _answered(ref: Any) -> bool:
    """Whether a call's answer is there and is one (not the news that the worker died)."""
    ready, _ = ray.wait([ref], timeout=0)
    if not ready:
        return False
    try:
        ray.get(ref)
    except RayError:
        return False
    return True
