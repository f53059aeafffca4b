"""Training resumes and repeats itself; the shipped networks are as good as their table says."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from depara_bench.engine import Engine, Outcome, Resources, Task, open_engine
from depara_bench.errors import InputError
from depara_bench.rooms import HELD_OUT_SEED, TRAIN_SEED
from depara_bench.rooms.labels import render_labelled
from depara_bench.rooms.losses import as_prediction, best_constant
from depara_bench.rooms.networks import RoomsNetwork, build, load_network
from depara_bench.rooms.quality import read_csv
from depara_bench.rooms.tasks import SOURCES, TASKS
from depara_bench.rooms.train import Settings, train_all, trained, weights_path

ZOO = Path(__file__).parents[1] / "zoo" / "rooms"
TINY = Settings(images=32, epochs=1, batch=8, held_out=16)
TWO = ["rgb2depth", "class_1000"]


class _Killed:
    """An engine that dies after some tasks, as a killed process does."""

    name = "killed"

    def __init__(self, after: int) -> None:
        self.after = after
        self.started: list[str] = []

    def run(
        self, factory: Any, shared: Any, tasks: Sequence[Task], resources: Resources
    ) -> Iterator[Outcome]:
        with open_engine("local") as engine:
            for number, outcome in enumerate(engine.run(factory, shared, tasks, resources)):
                if number == self.after:
                    raise KeyboardInterrupt
                self.started.append(outcome.task.key)
                yield outcome

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *reason: object) -> None:
        return None


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_a_killed_training_goes_on_and_repeats_itself(tmp_path: Path) -> None:
    out, work = tmp_path / "zoo", tmp_path / "work"
    killed = _Killed(after=1)
    with pytest.raises(KeyboardInterrupt):
        train_all(out, killed, TINY, TWO, work=work)
    assert killed.started == TWO[:1]
    assert trained(out, TWO[0], TINY) is not None and trained(out, TWO[1], TINY) is None
    first = weights_path(out, TWO[0]).read_bytes()
    stamp = weights_path(out, TWO[0]).stat().st_mtime_ns

    resumed = _Killed(after=9)
    rows = train_all(out, resumed, TINY, TWO, work=work)
    assert resumed.started == TWO[1:]
    assert weights_path(out, TWO[0]).stat().st_mtime_ns == stamp
    assert [row.task for row in rows] == TWO
    assert all(row.seconds is not None for row in rows)
    assert set(read_csv(out / "training.csv")) == set(TWO)
    assert [m["name"] for m in yaml.safe_load((out / "zoo.yaml").read_text())["models"]] == TWO
    assert not list(out.rglob("*.partial"))

    again = tmp_path / "again"
    with open_engine("local") as engine:
        train_all(again, engine, TINY, TWO, work=tmp_path / "elsewhere")
    for task in TWO:
        assert weights_path(again, task).read_bytes() == weights_path(out, task).read_bytes()
    assert weights_path(out, TWO[0]).read_bytes() == first


def test_another_recipe_is_trained_anew(tmp_path: Path) -> None:
    work = tmp_path / "work"
    with open_engine("local") as engine:
        train_all(tmp_path / "zoo", engine, TINY, ["class_1000"], work=work)
        before = weights_path(tmp_path / "zoo", "class_1000").read_bytes()
        other = Settings(**{**TINY.__dict__, "seed": 1})
        train_all(tmp_path / "zoo", engine, other, ["class_1000"], work=work)
    assert weights_path(tmp_path / "zoo", "class_1000").read_bytes() != before


def test_bad_requests_are_one_line_errors(tmp_path: Path) -> None:
    with open_engine("local") as engine, pytest.raises(InputError, match="rgb2sound"):
        train_all(tmp_path, engine, TINY, ["rgb2sound"])
    for bad in ({"images": 0}, {"batch": 1}, {"learning_rate": 2.0}):
        with pytest.raises(InputError, match="rooms train"):
            Settings(**bad)
    with pytest.raises(InputError, match="no such weights"):
        load_network(tmp_path / "none.safetensors", "denoise")
    (tmp_path / "bad.safetensors").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="readable"):
        load_network(tmp_path / "bad.safetensors", "denoise")
    with pytest.raises(InputError, match="not the weights"):
        load_network(weights_path(ZOO, "denoise"), "class_1000")
    with pytest.raises(InputError, match="rgb2sound"):
        build("rgb2sound")


@pytest.mark.parametrize("name", ["rgb2sfnorm", "room_layout"])
def test_networks_have_the_shapes_of_taskonomys(name: str) -> None:
    network = build(name).eval()
    assert isinstance(network, RoomsNetwork)
    assert {key.split(".")[0] for key in network.state_dict()} == {"encoder", "decoder"}
    assert network.encoder(torch.zeros(2, 3, 64, 64)).shape == (2, 8, 8, 8)
    assert network.encoder(torch.zeros(1, 3, 128, 96)).shape == (1, 8, 16, 12)
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, *TASKS[name].shape)


def test_the_shipped_table_passes_the_gate() -> None:
    rows = read_csv(ZOO / "training.csv")
    assert list(rows) == list(SOURCES)
    for row in rows.values():
        assert row.passes, row
        assert row.error <= 0.75 * row.constant_error
        assert row.ratio == pytest.approx(row.error / row.constant_error, abs=1e-3)
        if TASKS[row.task].classifies:
            assert row.accuracy is not None and row.chance is not None
            assert row.accuracy >= 2.5 * row.chance


def test_the_shipped_manifest_matches_the_files() -> None:
    zoo = yaml.safe_load((ZOO / "zoo.yaml").read_text())
    assert zoo["name"] == "rooms" and [m["name"] for m in zoo["models"]] == list(SOURCES)
    size = 0
    for model in zoo["models"]:
        content = (ZOO / model["weights"]).read_bytes()
        size += len(content)
        assert hashlib.sha256(content).hexdigest() == model["sha256"]
        assert model["roles"] == (
            ["source", "target"] if TASKS[model["name"]].target else ["source"]
        )
    assert size <= 25_000_000


@pytest.fixture(scope="module")
def scenes() -> tuple[Any, Any, Any]:
    """Held-out images and labels, and labels of training scenes for the constants."""
    images, labels = render_labelled(HELD_OUT_SEED, range(1000, 1200), list(SOURCES))
    _, train = render_labelled(TRAIN_SEED, range(200), list(SOURCES))
    return images, labels, train


@pytest.mark.parametrize("name", SOURCES)
def test_shipped_networks_beat_the_best_constant(name: str, scenes: tuple[Any, Any, Any]) -> None:
    """Measured from the weights, on scenes that took no part in training or in the table."""
    images, labels, train = scenes
    task = TASKS[name]
    network = load_network(weights_path(ZOO, name), name)
    assert not network.training
    target = task.target_of(torch.from_numpy(labels[name]))
    constant = best_constant(
        task.loss, task.target_of(torch.from_numpy(train[name])), task.shape[0]
    )
    with torch.inference_mode():
        inputs = task.inputs(images, range(1000, 1200), HELD_OUT_SEED)
        code = network.encoder(inputs)
        prediction = network.decoder(code)
    error = float(task.losses(prediction, target).mean())
    fixed = as_prediction(constant, task.shape).expand(len(target), *task.shape)
    assert error <= 0.75 * float(task.losses(fixed, target).mean())
    if task.classifies and len(task.shape) == 1:
        share = np.bincount(target.numpy()).max() / len(target)
        assert float((prediction.argmax(dim=1) == target).float().mean()) >= 2.5 * share
    # Every number of the representation is alive.
    assert float(code.flatten(1).std(dim=0).min()) > 1e-3
