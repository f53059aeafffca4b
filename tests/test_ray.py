"""The Ray engine: same numbers as without it, dead workers replaced, failures named."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import Result
from test_run import largest_difference, shard_bytes, wait_for_shards

from depara_bench.engine import Resources, Slot, Task, open_engine
from depara_bench.errors import InputError

pytest.importorskip("ray")

Command = Callable[..., Result]
MakeJob = Callable[..., Path]


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:99999", "localhost:gcs"])
def test_an_address_where_nobody_listens(
    command: Command, job: MakeJob, tmp_path: Path, address: str
):
    """One line, before anything is begun."""
    out = tmp_path / "out"
    result = command("run", job(), "--out", out, "--engine", "ray", "--address", address)
    assert result.code == 2 and result.err.count("\n") == 1, result.err
    assert f"--address {address}: nobody answers" in result.err
    assert not out.exists()


def squares(count: int) -> list[Task]:
    return [Task(f"{g}/{i}", f"{g}", (g, i)) for g in range(3) for i in range(count)]


def test_both_engines_give_the_same_outcomes(ray_session: None):
    class Worker:
        def __init__(self, shared: int, slot: Slot) -> None:
            self.shared = shared

        def __call__(self, payload: tuple[int, int]) -> int:
            group, item = payload
            if (group, item) == (1, 2):
                raise ValueError("bad luck")
            return group * self.shared + item

    for name in ("local", "ray"):
        with open_engine(name) as engine:
            outcomes = list(engine.run(Worker, 100, squares(5), Resources(gpus=0)))
        assert len(outcomes) == 15
        values = {o.task.key: o.value for o in outcomes if o.error is None}
        errors = {o.task.key: o.error for o in outcomes if o.error is not None}
        assert values == {
            f"{g}/{i}": g * 100 + i for g in range(3) for i in range(5) if g != 1 or i < 2
        }, name
        assert set(errors) == {"1/2", "1/3", "1/4"} and "bad luck" in errors["1/4"]


def test_a_group_stays_with_one_worker(ray_session: None):
    class Worker:
        def __init__(self, shared: None, slot: Slot) -> None:
            self.seen: list[int] = []

        def __call__(self, payload: tuple[int, int]) -> tuple[int, list[int]]:
            self.seen.append(payload[0])
            return os.getpid(), list(self.seen)

    with open_engine("ray") as engine:
        outcomes = list(engine.run(Worker, None, squares(6), Resources(gpus=0, workers=2)))
    processes: dict[str, set[int]] = {}
    for outcome in outcomes:
        processes.setdefault(outcome.task.group, set()).add(outcome.value[0])
    assert all(len(pids) == 1 for pids in processes.values())
    assert 1 <= len({pid for pids in processes.values() for pid in pids}) <= 2


def test_a_dead_worker_is_replaced_and_its_task_done_again(ray_session: None, tmp_path: Path):
    class Worker:
        def __init__(self, shared: Path, slot: Slot) -> None:
            self.marker = shared

        def __call__(self, payload: tuple[int, int]) -> int:
            if payload == (1, 1) and not self.marker.exists():
                self.marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return payload[1]

    with open_engine("ray") as engine:
        outcomes = list(engine.run(Worker, tmp_path / "died", squares(4), Resources(gpus=0)))
    assert sorted(o.task.key for o in outcomes) == sorted(t.key for t in squares(4))
    assert all(o.error is None for o in outcomes)


def test_a_task_that_kills_every_worker_fails_alone(ray_session: None):
    class Worker:
        def __init__(self, shared: None, slot: Slot) -> None: ...

        def __call__(self, payload: tuple[int, int]) -> int:
            if payload == (0, 1):
                os.kill(os.getpid(), signal.SIGKILL)
            return payload[1]

    with open_engine("ray") as engine:
        outcomes = list(engine.run(Worker, None, squares(3), Resources(gpus=0)))
    failed = {o.task.key: o.error for o in outcomes if o.error is not None}
    assert set(failed) == {"0/1", "0/2"} and "died 3 times" in str(failed["0/1"])
    assert len(outcomes) == 9


def test_a_mistake_of_the_user_stops_everything(ray_session: None):
    class Worker:
        def __init__(self, shared: None, slot: Slot) -> None: ...

        def __call__(self, payload: Any) -> None:
            raise InputError("no space left")

    for name in ("local", "ray"):
        with open_engine(name) as engine, pytest.raises(InputError, match="no space left"):
            list(engine.run(Worker, None, squares(3), Resources(gpus=0)))


def test_workers_get_the_threads_they_take(ray_session: None):
    class Worker:
        def __init__(self, shared: None, slot: Slot) -> None:
            self.slot = slot

        def __call__(self, payload: Any) -> Slot:
            return self.slot

    with open_engine("ray") as engine:
        (outcome,) = engine.run(Worker, None, [Task("a", "a", 0)], Resources(gpus=0, cpus=2))
    assert outcome.value == Slot("cpu", 2)


@pytest.fixture
def waiter() -> type:
    class Waiter:
        """Tells its process, what was shared with it, its threads and how often it was called."""

        def __init__(self, shared: float, slot: Slot) -> None:
            self.shared, self.slot, self.calls = shared, slot, 0

        def __call__(self, payload: Any) -> tuple[int, float, int, int]:
            self.calls += 1
            time.sleep(self.shared)
            return os.getpid(), self.shared, self.slot.threads, self.calls

    return Waiter


def ends(pids: set[int]) -> bool:
    until = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_no_worker_waits_while_another_has_two_groups(ray_session: None, waiter: type):
    with open_engine("ray") as engine:
        outcomes = list(engine.run(waiter, 2.0, numbered(2), Resources(gpus=0, workers=2)))
    assert len({o.value[0] for o in outcomes}) == 2


def one_worker(cpus: int = 1) -> Resources:
    return Resources(gpus=0, cpus=cpus, workers=1)


def numbered(count: int) -> list[Task]:
    return [Task(f"{i}", f"{i}", i) for i in range(count)]


def test_processes_that_are_kept_get_a_worker_of_the_next_run(ray_session: None, waiter: type):
    """Until other resources are asked for, or the block is left."""
    with open_engine("ray") as engine:
        with engine.kept():
            found = []
            for wait, cpus in ((0.3, 1), (0.2, 1), (0.1, 2)):
                outcomes = list(engine.run(waiter, wait, numbered(2), one_worker(cpus)))
                assert {o.value[1:3] for o in outcomes} == {(wait, cpus)}
                assert [o.value[3] for o in outcomes] == [1, 2]  # a worker not called before
                found.append({o.value[0] for o in outcomes})
            assert found[0] == found[1] != found[2]
            assert ends(found[0])
        assert ends(found[2])
        (outcome,) = engine.run(waiter, 0.0, numbered(1), one_worker())
        assert ends({outcome.value[0]})


def test_what_a_worker_held_is_let_go(ray_session: None, tmp_path: Path):
    class Worker:
        def __init__(self, shared: Path, slot: Slot) -> None:
            self.shared, self.myself = shared, self  # a cycle, as models have

        def __call__(self, payload: Any) -> None: ...

        def __del__(self) -> None:
            (self.shared / f"{os.getpid()}").touch()

    with open_engine("ray") as engine, engine.kept():
        list(engine.run(Worker, tmp_path, numbered(1), one_worker()))
        until = time.monotonic() + 20
        while not list(tmp_path.iterdir()) and time.monotonic() < until:
            time.sleep(0.05)
        (pid,) = (int(path.name) for path in tmp_path.iterdir())
        assert Path(f"/proc/{pid}").exists()


def test_a_run_that_is_given_up_leaves_no_work_behind(ray_session: None, waiter: type):
    with open_engine("ray") as engine, engine.kept():
        run = engine.run(waiter, 1.0, numbered(9), one_worker())
        pid = next(run).value[0]  # it works on the next by now
        run.close()  # type: ignore[attr-defined]
        assert ends({pid})
        (outcome,) = engine.run(waiter, 0.0, numbered(1), one_worker())
        assert outcome.value[1] == 0.0


def test_a_process_in_which_something_failed_is_not_kept(ray_session: None):
    class Worker:
        def __init__(self, shared: None, slot: Slot) -> None: ...

        def __call__(self, payload: int) -> int:
            if payload == 1:
                raise ValueError("bad luck")
            return os.getpid()

    with open_engine("ray") as engine, engine.kept():
        outcomes = list(engine.run(Worker, None, numbered(2), one_worker()))
        assert [o.error is None for o in outcomes] == [True, False]
        (after,) = engine.run(Worker, None, numbered(1), one_worker())
    assert after.value != outcomes[0].value


def test_an_idle_process_that_dies_is_replaced(ray_session: None, waiter: type):
    needs = Resources(gpus=0, workers=2)
    with open_engine("ray") as engine, engine.kept():
        pids = {o.value[0] for o in engine.run(waiter, 0.5, numbered(4), needs)}
        assert len(pids) == 2
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        outcomes = list(engine.run(waiter, 0.0, numbered(4), needs))
    assert [o.error for o in outcomes] == [None] * 4
    assert not pids & {o.value[0] for o in outcomes}


def test_one_bad_process_does_not_take_the_work_of_all(ray_session: None, tmp_path: Path):
    """As on a machine that lacks something: its worker cannot be made, others can."""

    class Worker:
        def __init__(self, shared: Path, slot: Slot) -> None:
            with suppress(FileExistsError):
                shared.mkdir()  # by one process alone
                raise OSError("no such library")

        def __call__(self, payload: int) -> int:
            return payload

    needs = Resources(gpus=0, workers=2)
    with open_engine("ray") as engine:
        outcomes = list(engine.run(Worker, tmp_path / "first", numbered(8), needs))
    assert sorted(o.value for o in outcomes) == list(range(8))


def test_a_worker_that_a_machine_cannot_load_is_told(ray_session: None):
    """Its class is in a module that the other process does not have."""
    with open_engine("ray") as engine:
        outcomes = list(engine.run(Absent, None, squares(2)[:2], one_worker()))
    assert len(outcomes) == 2
    for outcome in outcomes:
        assert "tried 3 times" in str(outcome.error)
        assert "No module named 'test_ray'" in str(outcome.error)


class Absent:
    def __init__(self, shared: None, slot: Slot) -> None: ...

    def __call__(self, payload: Any) -> None: ...


def test_a_run_on_ray_equals_a_local_run(
    ray_session: None, command: Command, job: MakeJob, tmp_path: Path
):
    for engine in ("local", "ray"):
        assert command("run", job(), "--out", tmp_path / engine, "--engine", engine).code == 0
    assert largest_difference(tmp_path / "local", tmp_path / "ray") == 0
    record = json.loads((tmp_path / "ray" / "run.json").read_text())
    assert record["engine"]["name"] == "ray"


def test_the_reducer_gives_the_same_bits_on_ray(
    ray_session: None, command: Command, job: MakeJob, tmp_path: Path
):
    """Tiles of two models on workers of one thread against one tile in this process."""
    import numpy as np

    from depara_bench.reduce import reduce
    from depara_bench.storage import Folder

    out = tmp_path / "run"
    assert command("run", job(), "--out", out, "--engine", "local").code == 0
    models = ["autoencoder", "curvature", "colorization", "rgb2depth"]
    found = []
    for name, tile in (("local", 128), ("ray", 2), ("local", 1)):
        with open_engine(name) as engine:
            found.append(
                reduce(
                    Folder(str(out)),
                    models,
                    images=14,
                    blocks=4,
                    methods=["input_x_gradient"],
                    center=True,
                    engine=engine,
                    resources=Resources(gpus=0),
                    tile=tile,
                )
            )
    for other in found[1:]:
        for what, similarity in found[0].items():
            assert np.abs(similarity.matrix - other[what].matrix).max() < 1e-12
            assert similarity.zeros == other[what].zeros


def descendants(pid: int) -> dict[int, str]:
    """Titles of all processes below `pid`."""
    table = subprocess.run(
        ["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout
    children: dict[int, list[tuple[int, str]]] = {}
    for line in table.splitlines():
        child, parent, title = line.split(maxsplit=2)
        children.setdefault(int(parent), []).append((int(child), title))
    found: dict[int, str] = {}
    queue = [pid]
    while queue:
        for child, title in children.get(queue.pop(), []):
            found[child] = title
            queue.append(child)
    return found


def test_an_actor_killed_in_mid_run_is_replaced(command: Command, job: MakeJob, tmp_path: Path):
    """A cluster of its own, kill -9 of an actor that is at work: exit 0 and the same bytes."""
    path = job(
        probe={"kind": "rooms", "count": 120, "seed": 303},
        block_size=6,
        resources={"workers": 2, "cpus": 1},
    )
    out, calm = tmp_path / "killed", tmp_path / "calm"
    process = subprocess.Popen(
        [sys.executable, "-m", "depara_bench", "run", path, "--out", out, "--engine", "ray"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    wait_for_shards(out, 3, process)
    actors = [pid for pid, title in descendants(process.pid).items() if "ray::_Actor" in title]
    assert actors, "no actor to kill"
    os.kill(actors[0], signal.SIGKILL)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err.decode()
    record = json.loads((out / "run.json").read_text())
    assert record["shards"]["computed"] == 80 and record["failures"] == []
    time.sleep(0.1)
    assert command("run", path, "--out", calm, "--engine", "local").code == 0
    assert set(shard_bytes(out)) == set(shard_bytes(calm))
    assert largest_difference(out, calm) < 1e-6
