"""Several nodes on this machine: what is lost with one is done by the others, and told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray")

# In processes of their own: the session's Ray is another cluster.
LOSS = """
import sys, threading, time
from depara_bench.engine import Resources, Task, open_engine
from depara_bench.errors import RunError
import ray
from ray.cluster_utils import Cluster

class Worker:
    def __init__(self, shared, slot):
        self.shared = shared

    def __call__(self, payload):
        time.sleep(0.3)
        return payload + self.shared

mode, patience = sys.argv[1], float(sys.argv[2])
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
cluster.wait_for_nodes()
tasks = [Task(f"{g}/{i}", f"{g}", 100 * g + i) for g in range(2) for i in range(8)]
found = []

def say(line):
    print("SAID", line, flush=True)
    if mode == "all" and len(nodes) == 2:
        nodes.append(None)
        lost.set()

lost = threading.Event()

def work():
    try:
        with open_engine("ray", cluster.address, say=say, patience=patience) as engine:
            for outcome in engine.run(Worker, 1000, tasks, Resources(gpus=0, workers=2)):
                assert outcome.error is None, outcome.error
                found.append(outcome.value)
                if len(found) == 3:
                    begun.set()
        print("DONE", sorted(found) == sorted(t.payload + 1000 for t in tasks), flush=True)
    except RunError as error:
        print("ENDED", error, flush=True)

begun = threading.Event()
thread = threading.Thread(target=work)
thread.start()
begun.wait(120)
for node in nodes[: 1 if mode == "one" else 2]:
    cluster.remove_node(node)
if mode == "all":
    lost.wait(120)
    cluster.add_node(num_cpus=1)
thread.join()
"""


def lose(tmp_path: Path, mode: str, patience: float) -> str:
    script = tmp_path / "lose.py"
    script.write_text(LOSS)
    environment = {**os.environ, "RAY_ADDRESS": ""}
    done = subprocess.run(
        [sys.executable, script, mode, str(patience)],
        capture_output=True,
        text=True,
        timeout=250,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_work_of_a_lost_node_is_taken_over(tmp_path: Path) -> None:
    """Nobody brings another: the worker that is left does what the lost one had."""
    assert "DONE True" in lose(tmp_path, "one", 60)


def test_a_run_without_nodes_tells_what_it_waits_for_and_ends(tmp_path: Path) -> None:
    told = lose(tmp_path, "none", 14)
    assert "SAID no worker of 1 CPUs and 0 GPUs has started" in told
    assert "ENDED no worker of" in told and "it continues" in told


def test_a_run_goes_on_when_a_node_comes(tmp_path: Path) -> None:
    assert "DONE True" in lose(tmp_path, "all", 120)


OWN = """
import sys, time
from depara_bench.engine import Resources, Task, open_engine
import ray

class Worker:
    def __init__(self, shared, slot): ...

    def __call__(self, payload):
        time.sleep(payload)
        return payload

seconds = float(sys.argv[1])
with open_engine("ray", say=print) as engine:
    tasks = [Task("a", "a", 0), Task("b", "a", seconds)]
    for outcome in engine.run(Worker, None, tasks, Resources()):
        print("GOT", outcome.value, flush=True)
        if seconds:
            ray._private.worker._global_node.all_processes["raylet"][0].process.kill()
"""


def own(tmp_path: Path, seconds: float, **environment: str) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "own.py"
    script.write_text(OWN)
    return subprocess.run(
        [sys.executable, script, str(seconds)],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, **environment},
        check=False,
    )


def test_a_run_starts_its_own_ray_whatever_else_is_named(tmp_path: Path) -> None:
    done = own(tmp_path, 0, RAY_ADDRESS="192.0.2.1:6379")  # where nobody ever answers
    assert done.returncode == 0, done.stderr[-2000:]
    assert "a cluster of this run's own" in done.stdout and done.stdout.count("GOT") == 2


def test_the_loss_of_the_drivers_own_raylet_is_one_line(tmp_path: Path) -> None:
    done = own(tmp_path, 100)
    assert done.returncode == 1
    told = [line for line in done.stderr.splitlines() if line.startswith("depara-bench: ")]
    assert len(told) == 1 and "raylet) is gone" in told[0] and "it continues" in told[0]
    assert "state-dump" not in done.stdout + done.stderr
