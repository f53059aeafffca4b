"""Measured transfers on a small scale: complete, repeatable, resumed transfer by transfer."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import Result

from depara_bench.embedded import embedded
from depara_bench.engine import Resources
from depara_bench.engine.local import LocalEngine
from depara_bench.errors import InputError
from depara_bench.rooms.measure import RANDOM, SCRATCH, MeasureJob, measure
from depara_bench.rooms.summary import measured_truth
from depara_bench.truth.table import read_truth

JOB = MeasureJob(
    name="tiny",
    sizes={"large": 64, "small": 16},
    steps={"large": 12, "small": 4},
    seeds=(0, 1),
    held_out=24,
    batch=16,
    width=16,
)
TARGETS = ("rgb2depth", "class_1000")
SOURCES = ("rgb2mist", "autoencoder")


def run(work: Path, job: MeasureJob = JOB) -> pd.DataFrame:
    return measure(
        job,
        embedded("zoo", "rooms"),
        work,
        LocalEngine(),
        Resources(gpus=0),
        targets=TARGETS,
        sources=SOURCES,
    )


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("measure")
    run(folder)
    return folder


def test_every_transfer_is_there_with_a_loss_for_every_image(work: Path):
    losses = run(work)
    assert list(losses.columns) == ["target", "source", "size", "seed", "image", "loss"]
    groups = losses.groupby(["target", "source", "size", "seed"])["image"]
    assert groups.ngroups == 2 * (2 + 2) * 2 * 2 and groups.size().eq(24).all()
    assert set(losses["source"]) == {*SOURCES, SCRATCH, RANDOM}
    assert np.isfinite(losses["loss"]).all() and (losses["loss"] > 0).all()


def test_finished_transfers_are_kept_and_a_missing_one_gives_the_same_numbers(work: Path):
    before = run(work)
    files = {path: path.stat().st_mtime_ns for path in work.rglob("losses/**/*.npy")}
    gone = sorted(files)[3]
    gone.unlink()
    assert run(work).equals(before)
    after = {path: path.stat().st_mtime_ns for path in work.rglob("losses/**/*.npy")}
    assert {p for p in files if files[p] != after[p]} == {gone}


def test_missing_networks_are_one_line(tmp_path: Path):
    with pytest.raises(InputError, match="rgb2mist"):
        measure(
            JOB, tmp_path, tmp_path, LocalEngine(), Resources(gpus=0), sources=SOURCES
        )  # fmt: skip


SMALL = [
    "targets=[rgb2depth, class_1000]",
    "sources=[rgb2mist, autoencoder, rgb2depth]",
    "sizes={large: 32, small: 8}",
    "steps={large: 6, small: 3}",
    "seeds=[0, 1]",
    "held_out=24",
    "batch=16",
    "width=8",
]
CHANGES = [word for change in SMALL for word in ("--set", change)]


def test_command_writes_truths_that_compare_takes(command: Callable[..., Result], tmp_path: Path):
    out = tmp_path / "out"
    result = command("measure", "--out", out, "--engine", "local", *CHANGES)
    assert result.code == 0, result.err
    assert "rgb2depth" in result.out and str(out) in result.out.replace("\n", "")
    losses = pd.read_parquet(out / "losses.parquet")
    assert len(losses) == 2 * (3 + 2) * 2 * 2 * 24
    assert not list((out / "work").glob("scenes*"))  # what was only needed on the way is gone
    truth = read_truth(str(out / "large.csv"), Path())
    assert truth.targets == ("rgb2depth", "class_1000")
    assert truth.sources == ("rgb2mist", "autoencoder", "rgb2depth")
    assert truth.seeds.shape == (2, 2, 3) and "2 seeds" in truth.origin
    expected = measured_truth(
        losses[losses["size"] == "large"], "large", truth.targets, truth.sources, ""
    )
    assert np.allclose(truth.value, expected.value, rtol=1e-12)
    summary = pd.read_csv(out / "summary.csv")
    assert list(summary["size"].unique()) == ["large", "small"]
    assert pd.read_parquet(out / "wins.parquet")["rate"].between(0, 1).all()
    # Given again nothing is trained: the same tables, and no scenes drawn.
    files = {p: p.stat().st_mtime_ns for p in out.rglob("losses/**/*.npy")}
    assert command("measure", "--out", out, "--engine", "local", *CHANGES).code == 0
    assert files == {p: p.stat().st_mtime_ns for p in out.rglob("losses/**/*.npy")}
    assert not list((out / "work").glob("scenes*"))


def test_killed_and_started_again_it_goes_on_at_the_next_transfer(
    command: Callable[..., Result], tmp_path: Path
):
    """kill -9 in the middle; then the same numbers as undisturbed, with nothing trained twice."""
    whole, out = tmp_path / "whole", tmp_path / "out"
    arguments = ["measure", "--engine", "local", *CHANGES, "--out"]
    line = [sys.executable, "-m", "depara_bench", *arguments, str(out)]
    with subprocess.Popen(line, stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 120
        while len(list(out.rglob("losses/**/*.npy"))) < 4 and time.monotonic() < until:
            assert process.poll() is None, "it was done before it could be killed"
            time.sleep(0.01)
        process.kill()
    done = {p: p.stat().st_mtime_ns for p in out.rglob("losses/**/*.npy")}
    assert 4 <= len(done) < 40
    assert not (out / "losses.parquet").exists()
    for folder in (out, whole):
        assert command(*arguments, folder).code == 0
    assert done == {p: p.stat().st_mtime_ns for p in done}
    first, second = (pd.read_parquet(f / "losses.parquet") for f in (out, whole))
    pd.testing.assert_frame_equal(first, second)


@pytest.mark.usefixtures("ray_session")
def test_ray_measures_the_same_as_this_process(work: Path, tmp_path: Path):
    from depara_bench.engine.ray import RayEngine

    with RayEngine() as engine:
        there = measure(
            JOB,
            embedded("zoo", "rooms"),
            tmp_path,
            engine,
            Resources(gpus=0),
            targets=TARGETS,
            sources=SOURCES,
        )
    here = run(work)
    assert there.drop(columns="loss").equals(here.drop(columns="loss"))
    assert (there["loss"] == here["loss"]).all()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("targets=[colorisation]", "colorisation"),
        ("seeds=[0]", "seeds"),
        ("seeds=[0, 0]", "once"),
        ("steps={large: 6}", "same names"),
        ("sizes={large: 1, small: 1}", "2 scenes"),
        ("zoo=nowhere", "nowhere"),
        ("epochs=3", "epochs"),
    ],
)
def test_mistakes_are_one_line_and_start_nothing(
    command: Callable[..., Result], tmp_path: Path, change: str, expected: str
):
    result = command("measure", "--out", tmp_path / "out", *CHANGES, "--set", change)
    assert result.code == 2
    assert len(result.err.strip().splitlines()) == 1 and expected in result.err
    assert not (tmp_path / "out").exists()
