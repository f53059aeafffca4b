"""A run touches its own files alone, and trusts no shard that is not the one it wrote."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import JOB, Result

from depara_bench.owned import clear, is_left_over, is_own
from depara_bench.shards import Shard, encode_shard, shard_path
from depara_bench.storage import Folder

Command = Callable[..., Result]
MakeJob = Callable[..., Path]

SMALL = {"models": ["autoencoder", "curvature"], "probe": {**JOB["probe"], "count": 10}}  # type: ignore[dict-item]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has come to its end: two models, blocks of 4, 4 and 2 images."""
    from depara_bench.engine.local import LocalEngine
    from depara_bench.job import load_job
    from depara_bench.run import run
    from depara_bench.terminal import Terminal

    sets = ["models=[autoencoder,curvature]", "probe.count=10", "block_size=4", "name=small"]
    folder = tmp_path_factory.mktemp("done") / "run"
    run(load_job("rooms", sets), Folder(str(folder)), LocalEngine(), Terminal(quiet=True))
    return folder


@pytest.fixture
def again(done: Path, tmp_path: Path, command: Command) -> tuple[Path, Callable[..., Result]]:
    """A copy of that run, and the command that made it."""
    copy = tmp_path / "copy"
    shutil.copytree(done, copy)
    sets = ["models=[autoencoder,curvature]", "probe.count=10", "block_size=4", "name=small"]
    arguments = [part for value in sets for part in ("--set", value)]
    return copy, lambda *more: command(
        "run", "rooms", *arguments, "--engine", "local", "--out", copy, *more
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def one_line(result: Result, code: int, *words: str) -> None:
    assert result.code == code, result.err
    assert result.err.count("\n") == 1 and result.out == ""
    assert all(word in result.err for word in words), result.err


# --- the user's files ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [".git/HEAD", ".env", "figures/holiday.png", "figures/mine.svg", "shards/data.bin", "a.csv",
     "shards/model=a/block=00000.parquet", "comparison/mine.csv", "report.html"],
)  # fmt: skip
@pytest.mark.parametrize("fresh", [True, False])
def test_a_folder_of_the_user_is_refused_and_left(
    command: Command, job: MakeJob, tmp_path: Path, path: str, fresh: bool
) -> None:
    """Whatever it holds: without run.json it is no run, not even where names are those of one."""
    folder = tmp_path / "mine"
    (folder / path).parent.mkdir(parents=True)
    (folder / path).write_text("mine")
    before = contents(folder)
    result = command("run", job(**SMALL), "--out", folder, *["--fresh"] * fresh)
    one_line(result, 2, str(folder), path.split("/")[0], "--out")
    assert contents(folder) == before


def test_a_run_json_of_something_else(command: Command, job: MakeJob, tmp_path: Path) -> None:
    """It can be cleared with --fresh only where nothing else is in the folder."""
    folder = tmp_path / "mine"
    (folder / "shards").mkdir(parents=True)
    (folder / "run.json").write_text('{"mine": 1}')
    (folder / "shards" / "data.bin").write_text("mine")
    before = contents(folder)
    one_line(command("run", job(**SMALL), "--out", folder), 2, "run.json", "--fresh")
    one_line(command("run", job(**SMALL), "--out", folder, "--fresh"), 2, "shards/data.bin")
    assert contents(folder) == before


def test_fresh_keeps_what_others_put_into_a_run(again) -> None:  # type: ignore[no-untyped-def]
    """Notes beside a run stay; everything of the run is made anew, with the same numbers."""
    folder, run = again
    before = contents(folder)
    mine = ["notes.md", ".env", "figures/holiday.png", "shards/readme.txt", "comparison/my.csv"]
    for path in mine:
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text("mine")
    stale = folder / "shards/model=gone/block=00000.parquet"
    stale.parent.mkdir()
    stale.write_text("")
    left_over = folder / "figures/.tree.svg.1234.tmp"
    left_over.write_text("")
    result = run("--fresh")
    assert result.code == 0, result.err
    after = contents(folder)
    assert {path for path in after if after[path] == b"mine"} == set(mine)
    assert not stale.exists() and not left_over.exists()
    for path in ("affinity.parquet", *(p for p in before if p.startswith("shards/"))):
        assert after[path] == before[path]


def test_nothing_is_deleted_through_a_link(again, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """A folder of the run that is a link to elsewhere: one line, and what is there stays."""
    folder, run = again
    precious = tmp_path / "precious"
    shutil.move(folder / "figures", precious)
    (folder / "figures").symlink_to(precious)
    before = contents(precious)
    one_line(run("--fresh"), 2, "figures", "link")
    assert contents(precious) == before


def test_clearing_ends_with_run_json(done: Path, tmp_path: Path) -> None:
    """Stopped half-way, what is left is still the folder of a run; the lock is not touched."""
    shutil.copytree(done, tmp_path / "copy")
    (tmp_path / "copy" / ".lock").touch()
    deleted: list[str] = []

    class Listed(Folder):
        def delete(self, paths: list[str]) -> None:
            deleted.extend(paths)
            super().delete(paths)

    clear(Listed(str(tmp_path / "copy")))
    assert deleted[-1] == "run.json" and ".lock" not in deleted
    assert contents(tmp_path / "copy") == {".lock": b""}


def test_own_names() -> None:
    """Everything a run has written is its own; names near to these are not."""
    for path in ("scratch/edges/model=a.npy", "scratch/methods/rsa/model=a.npz", "labels.parquet",
                 "comparison/lambda.parquet", "comparison/about.json", "report.md"):  # fmt: skip
        folder, _, name = path.rpartition("/")
        assert is_own(path) and not is_left_over(path)
        assert is_left_over(f"{folder}/.{name}.77.tmp".lstrip("/"))
    for path in (".git/HEAD", ".env", "x/run.json", "run.json.bak", "figures/a/b.svg", ".x.1.tmp",
                 "shards/model=a/b/block=0.parquet", "shards/.mine.tmp", "run.json\n"):  # fmt: skip
        assert not is_own(path) and not is_left_over(path)


def test_all_that_a_run_writes_is_its_own(done: Path) -> None:
    assert all(is_own(path) for path in contents(done))


def test_a_refused_folder_is_left_without_a_lock(
    command: Command, job: MakeJob, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").touch()
    assert command("run", job(**SMALL), "--out", tmp_path / "mine").code == 2
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["a.txt"]


def test_a_mistake_leaves_no_folder(command: Command, job: MakeJob, tmp_path: Path) -> None:
    """Neither the run folder nor those that were made on the way to it."""
    (tmp_path / "there").mkdir()
    out = tmp_path / "there" / "reports" / "mine"
    assert command("run", job(models=["nosuch"]), "--out", out).code == 2
    assert list((tmp_path / "there").iterdir()) == []


def test_one_model_is_not_enough(command: Command, job: MakeJob, tmp_path: Path) -> None:
    """Found out before anything is computed."""
    out = tmp_path / "run"
    one_line(command("run", job(models=["autoencoder"]), "--out", out), 2, "job.yaml", "two")
    assert not out.exists()


# --- the manifest's name and place --------------------------------------------------------------

MANIFEST = """
name: mine
models:
  - {name: a, loader: torchvision, architecture: resnet18, seed: 1, embedding: avgpool,
     input: {size: 32}, roles: [source, target]}
  - {name: b, loader: rooms, weights: autoencoder.safetensors, task: autoencoder,
     embedding: encoder, input: {size: 64, range: [-1, 1]}, roles: [source, target]}
"""


def test_a_manifest_of_another_name_and_place(
    command: Command, job: MakeJob, tmp_path: Path
) -> None:
    """Its models are the same: the run goes on, and no shard is computed again."""
    import json

    from conftest import ROOT

    weights = ROOT / "zoo" / "rooms" / "weights" / "autoencoder.safetensors"
    out, probe = tmp_path / "out", {"kind": "noise", "count": 4, "seed": 1, "size": 64}
    for place in ("zoo.yaml", "models.yaml", "moved/zoo.yaml"):
        manifest = tmp_path / place
        manifest.parent.mkdir(exist_ok=True)
        manifest.write_text(MANIFEST)
        shutil.copy(weights, manifest.parent)
        file = job(zoo=place, models=None, probe=probe)
        result = command("run", file, "--out", out, "--engine", "local")
        assert result.code == 0, result.err
        shards = json.loads((out / "run.json").read_text())["shards"]
        assert shards["computed"] == (2 if place == "zoo.yaml" else 0), place
    (tmp_path / "changed.yaml").write_text(MANIFEST.replace("seed: 1", "seed: 2"))
    (tmp_path / "others.yaml").write_text(
        MANIFEST.replace("name: a", "name: c").replace("name: b", "name: d")
    )
    before = contents(out / "shards")
    for other in ("changed.yaml", "others.yaml"):
        file = job(zoo=other, models=None, probe=probe)
        one_line(
            command("run", file, "--out", out, "--engine", "local"), 2, "moved/zoo.yaml", "--out"
        )
    assert contents(out / "shards") == before


# --- shards that are not what they were ---------------------------------------------------------


@pytest.mark.parametrize("other", ["curvature/1>2", "curvature/2>1", "autoencoder/1>curvature/1"])
def test_a_shard_in_the_place_of_another(again, other: str) -> None:  # type: ignore[no-untyped-def]
    """Of another block, shorter or not, or another model: `run` makes it anew, `reduce` refuses."""
    folder, run = again
    source, _, target = other.partition(">")
    model, block = source.split("/")
    onto, number = target.split("/") if "/" in target else (model, target)
    place = folder / shard_path(onto, int(number))
    before, table = place.read_bytes(), (folder / "affinity.parquet").read_bytes()
    shutil.copy(folder / shard_path(model, int(block)), place)
    from depara_bench.errors import RunError
    from depara_bench.pipeline import check_shards
    from depara_bench.record import need_record
    from depara_bench.terminal import Terminal

    with pytest.raises(RunError, match=f"model={onto}.*belongs to another"):
        check_shards(Folder(str(folder)), need_record(Folder(str(folder))), Terminal(quiet=True))
    assert run().code == 0
    assert place.read_bytes() == before
    assert (folder / "affinity.parquet").read_bytes() == table


@pytest.mark.parametrize("column", ["feature", "input_x_gradient"])
def test_numbers_that_are_not_finite_are_never_absorbed(
    again,
    command: Command,
    column: str,  # type: ignore[no-untyped-def]
) -> None:
    """A shard that says it is the right one and holds NaN: `reduce` names model and image."""
    import pyarrow.parquet as pq

    folder, _ = again
    path = folder / shard_path("curvature", 1)
    key = pq.read_schema(path).metadata[b"depara.fingerprint"].decode()
    frame = pd.read_parquet(path)
    columns = {c: np.stack(frame[c]) for c in frame.columns if c not in ("index", "image")}
    columns[column][2, 5] = np.nan
    shard = Shard(frame["index"].to_numpy(), list(frame["image"]), columns)
    path.write_bytes(encode_shard(shard, key))
    result = command("reduce", folder, "--engine", "local")
    one_line(result, 1, "model=curvature", f"'{frame['image'][2]}'", column, "not finite")
