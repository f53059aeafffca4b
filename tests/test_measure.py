"""Measured transfers on a small scale: complete, repeatable, resumed transfer by transfer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from depara_bench.embedded import embedded
from depara_bench.engine import Resources
from depara_bench.engine.local import LocalEngine
from depara_bench.errors import InputError
from depara_bench.rooms.measure import RANDOM, SCRATCH, MeasureJob, measure

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
