"""Work on Ray: scheduling, retries, replacement of dead workers; nothing of the science.

The only module that imports Ray.
"""

from __future__ import annotations

import errno
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from signal import SIGINT, SIGTERM
from types import TracebackType
from typing import Any

# Read by Ray when it is imported. A driver started by `uv run` would otherwise make every worker
# resolve the environment again; usage statistics would go out to the network.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")  # of a busy machine
os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # of tasks that were given up

import ray
from ray.exceptions import OutOfMemoryError, RayActorError, RayError

from depara_bench.engine import Engine, Outcome, Resources, Slot, Task, Worker
from depara_bench.engine.failure import Answer, answer
from depara_bench.errors import InputError, RunError, StopError

ATTEMPTS = 3
"""Times a worker may die under one task before the task's group counts as failed."""

PATIENCE = 900.0
"""Seconds that a run waits for a node, by default: autoscalers take minutes to bring one."""

_SLOW = 5.0
_TICK = 1.0
_FIRST_TOLD, _THEN_TOLD = 10.0, 30.0
_MEND = (
    "end what else takes this machine's memory, /dev/shm or time; or join a cluster that runs ('ray"
    " start --head', then --address auto), or use --engine local"
)

_RESUME = "run the same command again when there is, and it continues"

_GONE = (
    "Ray's process on this machine (raylet) is gone: it was killed, or memory ran out; run the same"
    " command again and it continues"
)

_IN_FLIGHT = 2
"""Tasks of a group given to a worker at a time: one it works on, one that waits, so that it never
idles. A task of another group would wait behind a worker's own while others have nothing to do."""


class _Actor:
    """A process that holds one worker, which keeps what it has loaded from task to task."""

    def __init__(self, gpus: float, threads: int) -> None:
        # The device comes from what was assigned, never from what could be seen: a worker
        # without a GPU may see all of the machine's.
        self._slot = Slot("cuda" if gpus > 0 else "cpu", threads)
        self._worker: Worker | None = None

    def begin(self, factory: Callable[[Any, Slot], Worker], shared: Any) -> None:
        """From here on tasks are for a worker of this factory."""
        self._worker = factory(shared, self._slot)

    def rest(self) -> None:
        """Let go of the worker and of what was shared with it."""
        self._worker = None
        gc.collect()

    def run(self, payload: Any, begun: None) -> Answer:
        """The answer to one task. `begun`: what `begin` returned, so that its error comes here."""
        assert self._worker is not None
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
    begun: Any
    group: _Group | None = None
    given: dict[Any, Task] = field(default_factory=dict)
    since: float = field(default_factory=time.monotonic)

    def waits(self) -> bool:
        """Whether its process is still to be made, for want of a node with room, say."""
        return not ray.wait([self.begun], timeout=0)[0]


class RayEngine:
    """Workers are actors; one takes the next group from the queue when it is done with its own.

    `address` None starts a cluster on this machine, apart from any that runs, and stops it at the
    end; otherwise the running one at "auto" or "host:port" is joined, and left running. say: takes
    remarks. patience: seconds that a run waits, while nothing is done, for a node to work on.
    """

    name = "ray"

    def __init__(
        self,
        address: str | None = None,
        say: Callable[[str], None] = lambda _: None,
        patience: float = PATIENCE,
    ) -> None:
        if address is not None:
            _knock(address)
        self.address = address
        self._say = say
        self._patience = patience
        self._started = False
        self._watch: _Watch | None = None
        self._crew = _Crew()
        self._keeps = False

    def __enter__(self) -> Engine:
        return self

    def _connect(self) -> None:
        """Start or join the cluster, when there is first something to do on it."""
        if ray.is_initialized():
            return
        place = f"the cluster at {self.address}" if self.address else "a cluster of this run's own"
        slow = threading.Timer(_SLOW, self._say, [f"waiting for Ray: {place}"])
        slow.daemon = True
        slow.start()
        _hush()
        handlers = {number: signal.getsignal(number) for number in (SIGINT, SIGTERM)}
        try:
            ray.init(
                address=self.address or "local",
                include_dashboard=False if self.address is None else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=True,
            )
        except Exception as error:  # Ray raises of many kinds, down to Exception itself
            where = f"--address {self.address}" if self.address else "engine"
            raise InputError(
                f"{where}: Ray cannot be reached or started ({_first_line(error)}); {_MEND}"
            ) from error
        finally:
            slow.cancel()
            if threading.current_thread() is threading.main_thread():
                for number, handler in handlers.items():  # Ray puts its own in their place
                    signal.signal(number, handler)
        self._started = True
        self._watch = _Watch()
        if self.address is None:
            cpus = ray.cluster_resources().get("CPU", 0)  # type: ignore[no-untyped-call]
            self._say(f"Ray: a cluster of this run's own, on this machine ({cpus:g} CPUs)")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._crew.dismiss()
        if self._started:
            if self._watch is not None:
                self._watch.end()
            ray.shutdown()
            self._started = False

    @contextmanager
    def kept(self) -> Iterator[None]:
        """See `Engine.kept`."""
        self._keeps = True
        try:
            yield
        finally:
            self._keeps = False
            self._crew.dismiss()

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
        self._crew.take(need)
        waiting = deque(groups.values())
        queue = _Queue(self._crew, factory, shared, need, waiting, self._say, self._patience)
        try:
            yield from queue.outcomes()
        finally:
            queue.close()
            if not self._keeps:
                self._crew.dismiss()


def _hush() -> None:
    """Keep two things of Ray's from being shown or kept: the arguments that a driver was started
    with, which its tables and logs name, and which may hold the key of an address; and pages of a
    raylet's log on the terminal when a node is lost, which is told in a line.
    """
    inner = ray._private
    for module, name, still in (
        (inner.utils, "get_entrypoint_name", lambda: "depara-bench"),
        (inner.worker, "print_to_stdstream", lambda *_, **__: None),
    ):
        if hasattr(module, name):  # they are Ray's own, and may go
            setattr(module, name, still)


def _raylet_listens() -> bool:
    """Whether the Ray process of the driver's own machine is there, without which nothing works;
    Ray would end the driver a quarter of a minute after it.
    """
    node = getattr(ray._private.worker.global_worker, "node", None)
    name = getattr(node, "raylet_socket_name", None)
    if not isinstance(name, str) or not name.startswith("/"):
        return True
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(10)
        return client.connect_ex(name) not in (errno.ECONNREFUSED, errno.ENOENT)


class _Watch:
    """Looks whether the raylet of this machine is there, as long as the driver needs it.

    Without it Ray's calls hang, and after a quarter of a minute Ray ends the process, with pages
    of logs and without a word of why. So the watch ends it: nobody can wake a hanging call.
    """

    def __init__(self) -> None:
        self._done = threading.Event()
        threading.Thread(target=self._look, name="raylet watch", daemon=True).start()

    def end(self) -> None:
        """Look no longer: the cluster is about to be left."""
        self._done.set()

    def _look(self) -> None:
        while not self._done.wait(_TICK):
            if not _raylet_listens() and not self._done.wait(_TICK):
                print(f"depara-bench: {_GONE}", file=sys.stderr, flush=True)  # noqa: T201
                node: Any = getattr(ray._private.worker, "_global_node", None)
                with suppress(Exception):  # of a process that is half gone
                    if node is not None:
                        node.kill_all_processes(check_alive=False, allow_graceful=False)
                os._exit(1)


def _knock(address: str) -> None:
    """Raise InputError where nobody listens at host:port: Ray would try for minutes before it says
    so, and the work would have begun.
    """
    host, colon, port = address.rpartition(":")
    if not colon or "://" in address:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, ValueError, OverflowError) as error:
        raise InputError(
            f"--address {address}: nobody answers there ({error}); give host:port of the head of a"
            f" running cluster, or 'auto' on one of its machines"
        ) from error


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


class _Crew:
    """Actors that have nothing to do, all with the same resources."""

    def __init__(self) -> None:
        self._idle: list[Any] = []
        self._kind: tuple[float, int] | None = None

    def take(self, need: _Need) -> None:
        """Serve this need from now on; actors with other resources give them back."""
        if self._kind != (need.gpus, need.cpus):
            self.dismiss()
        self._kind = (need.gpus, need.cpus)

    def hire(self) -> Any:
        """An idle actor, or a new one."""
        return self._idle.pop() if self._idle else self.new()

    def new(self) -> Any:
        """An actor that has done nothing yet."""
        assert self._kind is not None
        gpus, cpus = self._kind
        actor = ray.remote(_Actor).options(num_cpus=cpus, num_gpus=gpus, max_restarts=0)
        return actor.remote(gpus, cpus)

    def rest(self, actor: Any) -> None:
        """Take back an actor that has nothing to do any more."""
        actor.rest.remote()
        self._idle.append(actor)

    def dismiss(self) -> None:
        """End the idle actors; their memory, also a GPU's, is free when they are gone."""
        for actor in self._idle:
            _end(actor)
        self._idle = []


def _end(actor: Any) -> None:
    if ray.is_initialized():
        with suppress(RayError):
            ray.kill(actor)


class _Queue:
    """The groups still to be done and the workers that do them."""

    def __init__(
        self,
        crew: _Crew,
        factory: Callable[[Any, Slot], Worker],
        shared: Any,
        need: _Need,
        waiting: deque[_Group],
        say: Callable[[str], None],
        patience: float,
    ) -> None:
        self._crew = crew
        self._factory = factory
        self._given = shared
        self._shared = ray.put(shared)
        self._need = need
        self._waiting = waiting
        self._deaths: dict[str, int] = {}
        self._seats: list[_Seat] = []
        self._failed = False
        self._say = say
        self._patience = patience

    def outcomes(self) -> Iterator[Outcome]:
        self._seats = [self._seated(self._crew.hire()) for _ in range(self._need.workers)]
        for seat in self._seats:
            self._feed(seat)
        idle_since, told = time.monotonic(), 0.0
        while any(seat.given for seat in self._seats):
            owner = {ref: seat for seat in self._seats for ref in seat.given}
            done, _ = ray.wait(list(owner), num_returns=1, timeout=_TICK)
            if done:
                yield from self._settle(owner[done[0]], done[0])
                idle_since, told = time.monotonic(), 0.0
                continue
            self._take_over()
            if not all(seat.waits() for seat in self._seats if seat.given):
                idle_since, told = time.monotonic(), 0.0
                continue
            waited = time.monotonic() - idle_since
            if waited > self._patience:
                raise RunError(f"{self._lack()}; waited {waited:.0f} s: {_RESUME}")
            if waited > (told + _THEN_TOLD if told else _FIRST_TOLD):
                self._say(f"{self._lack()}; waiting since {waited:.0f} s")
                told = waited

    def _lack(self) -> str:
        """What there is no room for."""
        need = self._need
        total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        free: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
        there = ", ".join(f"{free.get(k, 0):g} of {total.get(k, 0):g} {k}s" for k in ("CPU", "GPU"))
        return (
            f"no worker of {need.cpus} CPUs and {need.gpus:g} GPUs has started: no node has room,"
            f" or it is busy (free in the cluster: {there})"
        )

    def _take_over(self) -> None:
        """A worker that has nothing to do takes the tasks of one that finds no place."""
        for seat in [seat for seat in self._seats if not seat.given]:
            late = [
                other
                for other in self._seats
                if other.given and time.monotonic() - other.since > _SLOW and other.waits()
            ]
            if not late:
                return
            for task in reversed(late[0].given.values()):
                self._return(late[0], task)
            if late[0].group is not None and late[0].group.tasks:
                self._waiting.append(late[0].group)
            self._seats.remove(late[0])
            _end(late[0].actor)
            self._feed(seat)

    def close(self) -> None:
        """Send the actors to rest. Those that still work, because the run was given up, are ended;
        all are when something has failed, which may have spoilt the process it failed in.
        """
        for seat in self._seats:
            if seat.given or self._failed:
                _end(seat.actor)
            else:
                self._crew.rest(seat.actor)

    def _seated(self, actor: Any) -> _Seat:
        return _Seat(actor, actor.begin.remote(self._factory, self._shared))

    def _feed(self, seat: _Seat) -> None:
        """Give a worker tasks until enough are in flight; a new group when it has done its own."""
        while len(seat.given) < _IN_FLIGHT:
            if seat.group is None or not seat.group.tasks:
                if seat.given or not self._waiting:
                    return
                seat.group = self._waiting.popleft()
                continue
            task = seat.group.tasks.popleft()
            seat.given[seat.actor.run.remote(task.payload, seat.begun)] = task

    def _settle(self, seat: _Seat, ref: Any) -> Iterator[Outcome]:
        try:
            reply: Answer = ray.get(ref)
        except (RayActorError, OutOfMemoryError) as error:
            reason = (
                f"died {ATTEMPTS} times ({_cause(error)}); it may need more memory than there is"
            )
            yield from self._replace(seat, reason)
            return
        except RayError as error:
            if _failed(seat.begun):
                if "Object" in type(error).__name__:  # it was lost with its node
                    self._shared = ray.put(self._given)
                reason = f"could not be made, tried {ATTEMPTS} times ({_cause(error)})"
                yield from self._replace(seat, reason)
                return
            # The answer was lost or could not be sent: the task's own fault.
            reply = Answer("failed", _cause(error))
        task = seat.given.pop(ref)
        if reply.kind == "stop":
            raise StopError(reply.value)
        if reply.kind == "failed":
            self._failed = True
            outcomes = [Outcome(task, error=reply.value)]
            outcomes += self._give_up(seat, task.group, reply.value)
        else:
            outcomes = [Outcome(task, value=reply.value)]
        self._feed(seat)  # first: who takes the outcomes may be busy with them
        yield from outcomes

    def _give_up(self, seat: _Seat, name: str, error: str) -> list[Outcome]:
        """Drop what remains of a failed group: what the worker was given ahead, and what waits."""
        ahead = {ref: task for ref, task in seat.given.items() if task.group == name}
        for ref in ahead:
            del seat.given[ref]
        dropped = list(ahead.values())
        for group in (seat.group, *self._waiting):
            if group is not None and group.name == name:
                dropped += group.tasks
                group.tasks.clear()
        return [Outcome(task, error=error) for task in dropped]

    def _replace(self, seat: _Seat, reason: str) -> Iterator[Outcome]:
        """A worker is of no use: keep what it had answered, put the rest back, hire another."""
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
                yield from self._give_up(seat, culprit.group, f"its worker {reason}")
        _end(seat.actor)
        fresh = self._seated(self._crew.new())
        seat.actor, seat.begun, seat.since = fresh.actor, fresh.begun, fresh.since
        self._feed(seat)

    def _return(self, seat: _Seat, task: Task) -> None:
        """Put a task back in front of its group: the seat's own, or one that waits."""
        for group in (seat.group, *self._waiting):
            if group is not None and group.name == task.group:
                group.tasks.appendleft(task)
                return
        self._waiting.appendleft(_Group(task.group, deque([task])))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _cause(error: RayError) -> str:
    """What was raised, in one line: that of the remote exception, where it is one."""
    inner = getattr(error, "cause", None) or error
    return f"{type(inner).__name__}: {_first_line(inner)}"


def _failed(ref: Any) -> bool:
    """Whether a call has ended with an error."""
    return bool(ray.wait([ref], timeout=0)[0]) and not _answered(ref)


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
