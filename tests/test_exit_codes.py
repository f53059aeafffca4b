"""Contract C7: 2 says that nothing was started; what goes wrong while working is 1."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import JOB, Result
from test_compare import make_run, truth_of, truth_rows

from depara_bench.truth.table import write_truth

Command = Callable[..., Result]


@pytest.fixture(scope="module")
def reduced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("codes")
    make_run(place / "run")
    write_truth(truth_of(truth_rows()), place / "truth.csv")
    return place


@pytest.fixture
def run(reduced: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(reduced, tmp_path / "codes")) / "run"


def arguments(name: str, run: Path) -> list[str | Path]:
    if name == "compare":
        return ["compare", run, "--truth", run.parent / "truth.csv", "--replicates", "0", "-q"]
    return [name, run, *["--engine=local"] * (name == "reduce"), "-q"]


def one_line(result: Result, code: int, *words: str) -> None:
    assert result.code == code and result.err.count("\n") == 1, result.err
    assert all(word in result.err for word in words), result.err


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("reduce", "affinity.parquet"),
        ("reduce", "rankings.parquet"),
        ("compare", "comparison/fusion.parquet"),
        ("compare", "evaluation.parquet"),
        ("compare", "report.html"),
        ("report", "report.md"),
    ],
)
def test_a_file_that_cannot_be_written_after_the_work(
    command: Command, run: Path, name: str, path: str
) -> None:
    """A folder stands in its place; once it is gone, the same command goes on."""
    (run / path).unlink(missing_ok=True)
    (run / path / "in").mkdir(parents=True)
    one_line(command(*arguments(name, run)), 1, f"{run}/{path}: cannot be written")
    shutil.rmtree(run / path)
    assert command(*arguments(name, run)).code == 0


def test_a_worker_that_cannot_write(command: Command, run: Path) -> None:
    (run / "scratch").write_text("a file")
    one_line(command(*arguments("reduce", run)), 1, f"{run}/scratch")


def test_a_run_whose_shards_cannot_be_written(
    command: Command, job: Callable[..., Path], tmp_path: Path
) -> None:
    """A worker's call to stop: the work had begun, and what is there is kept."""
    probe = {**JOB["probe"], "count": 6}  # type: ignore[dict-item]
    small = ("run", job(models=["autoencoder", "curvature"], probe=probe), "--engine", "local")
    out = tmp_path / "out"
    assert command(*small, "--out", out).code == 0
    shutil.rmtree(out / "shards" / "model=curvature")
    (out / "shards" / "model=curvature").write_text("a file")
    result = command(*small, "--out", out)
    assert result.code == 1 and "model=curvature/block=00000.parquet" in result.err, result.err
    assert "cannot be written" in result.err.splitlines()[-1]
    (out / "shards" / "model=curvature").unlink()
    assert command(*small, "--out", out).code == 0


@pytest.mark.parametrize("name", ["reduce", "compare", "report"])
def test_what_is_wrong_before_anything_is_done(command: Command, run: Path, name: str) -> None:
    (run / "run.json").write_text("{")
    one_line(command(*arguments(name, run)), 2, "run.json")
    (run / "run.json").unlink()
    one_line(command(*arguments(name, run)), 2, "holds no run")


def test_a_shard_that_is_missing_or_damaged(command: Command, run: Path) -> None:
    shard = next((run / "shards").rglob("*.parquet"))
    shard.write_bytes(shard.read_bytes()[:100])
    one_line(command(*arguments("reduce", run)), 1, shard.name, "is damaged")
    shard.unlink()
    one_line(command(*arguments("reduce", run)), 1, shard.name, "is missing")
