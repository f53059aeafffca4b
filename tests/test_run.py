"""Whole runs on the embedded zoo: contracts, resuming, independence of how the work is cut."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import Result

Command = Callable[..., Result]
MakeJob = Callable[..., Path]


def matrices(run: Path) -> pd.DataFrame:
    return pd.read_parquet(run / "affinity.parquet").set_index(["method", "target", "source"])


def largest_difference(one: Path, other: Path) -> float:
    left, right = matrices(one), matrices(other)
    assert list(left.index) == list(right.index)
    return float(np.abs(left["value"] - right["value"]).max())


def shard_bytes(run: Path) -> dict[str, bytes]:
    return {str(p.relative_to(run)): p.read_bytes() for p in sorted(run.rglob("*.parquet"))}


def test_a_run_leaves_what_the_contract_says(command: Command, job: MakeJob, tmp_path: Path):
    out = tmp_path / "run"
    result = command("run", job(), "--out", out, "--engine", "local")
    assert result.code == 0, result.err
    stages = [line.split(":")[0] for line in result.err.splitlines()]
    assert stages == ["check", "extract", "reduce"], "one line a stage, and no bars"
    assert "56 images" in result.err and "4 of 4 models" in result.err
    assert "best source 1" in result.out and f"{out}/report.html" in result.out
    record = json.loads((out / "run.json").read_text())
    assert record["status"] == "done" and record["failures"] == []
    assert record["probe"]["count"] == 14 and record["shards"] == {"computed": 16, "reused": 0}
    assert set(record["seconds"]) >= {"extract", "reduce", "report"}
    affinity = pd.read_parquet(out / "affinity.parquet")
    assert list(affinity.columns) == ["method", "target", "source", "value"]
    methods = ["depara", "depara-nodes", "depara-edges", "depara:saliency", "depara-nodes:saliency"]
    assert list(dict.fromkeys(affinity["method"])) == methods
    # colorization is a source only: 3 targets x 4 sources, self pairs included.
    assert affinity.groupby("method").size().eq(12).all()
    assert "colorization" not in set(affinity["target"])
    own = affinity[affinity["target"] == affinity["source"]].set_index("method")["value"]
    assert np.allclose(own["depara-nodes"], 1) and np.allclose(own["depara"], 2)
    rankings = pq.read_table(out / "rankings.parquet")
    assert rankings.schema.names == ["method", "target", "rank", "source", "value"]
    assert str(rankings.schema.field("rank").type) == "int32"
    for file in ("report.html", "report.md"):
        assert "colorization" in (out / file).read_text()
    assert not list(out.rglob("*.tmp")) and not list((out / "scratch").rglob("*.npy"))


def test_matrices_equal_those_made_by_hand_from_the_shards(
    command: Command, job: MakeJob, tmp_path: Path
):
    """Slow, obvious nodes and edges from the shards as pandas reads them."""
    from scipy.stats import spearmanr

    out = tmp_path / "run"
    assert command("run", job(**{"lambda": 0.3}), "--out", out, "--engine", "local").code == 0
    frames = {
        folder.name.removeprefix("model="): pd.concat(
            [pd.read_parquet(file, partitioning=None) for file in sorted(folder.iterdir())]
        )
        for folder in (out / "shards").iterdir()
    }

    def edge_list(frame: pd.DataFrame) -> list[float]:
        rows = np.stack(frame["feature"].to_list()).astype(np.float64)
        rows = rows - rows.mean(axis=0)
        n = len(rows)
        return [
            rows[i] @ rows[j] / np.linalg.norm(rows[i]) / np.linalg.norm(rows[j])
            for i in range(n)
            for j in range(i + 1, n)
        ]

    found = matrices(out)["value"]
    for target, source in (("curvature", "colorization"), ("rgb2depth", "autoencoder")):
        a, b = frames[target], frames[source]
        nodes = np.mean(
            [
                np.dot(x.astype(float), y.astype(float)) / np.linalg.norm(x) / np.linalg.norm(y)
                for x, y in zip(a["input_x_gradient"], b["input_x_gradient"], strict=True)
            ]
        )
        edges = spearmanr(edge_list(a), edge_list(b)).statistic
        assert found["depara-nodes", target, source] == pytest.approx(nodes, abs=1e-6)
        assert found["depara-edges", target, source] == pytest.approx(edges, abs=1e-9)
        assert found["depara", target, source] == pytest.approx(nodes + 0.3 * edges, abs=1e-6)


def test_a_finished_run_is_not_computed_again(command: Command, job: MakeJob, tmp_path: Path):
    out = tmp_path / "run"
    assert command("run", job(), "--out", out, "--engine", "local").code == 0
    before = {path: path.stat().st_mtime_ns for path in (out / "shards").rglob("*.parquet")}
    assert command("run", job(), "--out", out, "--engine", "local").code == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert json.loads((out / "run.json").read_text())["shards"] == {"computed": 0, "reused": 16}


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone"])
def test_a_damaged_shard_is_found_and_computed_again(
    command: Command, job: MakeJob, tmp_path: Path, damage: str
):
    out = tmp_path / "run"
    assert command("run", job(), "--out", out, "--engine", "local").code == 0
    before = shard_bytes(out)
    victim = out / "shards" / "model=curvature" / "block=00001.parquet"
    content = bytearray(victim.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
        victim.write_bytes(content)
    elif damage == "gone":
        victim.unlink()
    else:
        victim.write_bytes(content[: 0 if damage == "empty" else len(content) * 2 // 3])
    assert command("run", job(), "--out", out, "--engine", "local").code == 0
    assert json.loads((out / "run.json").read_text())["shards"] == {"computed": 1, "reused": 15}
    assert shard_bytes(out) == before


def test_other_settings_make_other_shards(command: Command, job: MakeJob, tmp_path: Path):
    out = tmp_path / "run"
    assert command("run", job(), "--out", out, "--engine", "local").code == 0
    assert (
        command(
            "run", job(), "--out", out, "--engine", "local", "--set", "attribution.scalar=l2norm"
        ).code
        == 0
    )
    assert json.loads((out / "run.json").read_text())["shards"] == {"computed": 16, "reused": 0}
    # Fewer images: blocks that no longer exist are gone, so that nobody reads them by mistake.
    assert (
        command("run", job(), "--out", out, "--engine", "local", "--set", "probe.count=8").code == 0
    )
    assert len(list((out / "shards").rglob("*.parquet"))) == 8


def test_numbers_do_not_depend_on_block_and_batch_size(
    command: Command, job: MakeJob, tmp_path: Path
):
    for name, block, batch in (("a", 4, 4), ("b", 14, 14), ("c", 5, 1)):
        path = job(f"{name}.yaml", block_size=block, batch_size=batch)
        assert command("run", path, "--out", tmp_path / name, "--engine", "local").code == 0
    assert largest_difference(tmp_path / "a", tmp_path / "b") < 1e-6
    assert largest_difference(tmp_path / "a", tmp_path / "c") < 1e-6


def test_reduce_and_report_run_again_alone(command: Command, job: MakeJob, tmp_path: Path):
    out = tmp_path / "run"
    assert command("run", job(), "--out", out, "--engine", "local").code == 0
    before = (out / "affinity.parquet").read_bytes()
    for name in ("affinity.parquet", "rankings.parquet", "report.html"):
        (out / name).unlink()
    assert command("reduce", out, "--engine", "local").code == 0
    assert (out / "affinity.parquet").read_bytes() == before
    assert command("report", out).code == 0
    assert (out / "report.html").exists()


def test_extract_then_reduce_equals_run(command: Command, job: MakeJob, tmp_path: Path):
    assert command("extract", job(), "--out", tmp_path / "a", "--engine", "local").code == 0
    assert not (tmp_path / "a" / "affinity.parquet").exists()
    assert command("reduce", tmp_path / "a", "--engine", "local").code == 0
    assert command("run", job(), "--out", tmp_path / "b", "--engine", "local").code == 0
    assert largest_difference(tmp_path / "a", tmp_path / "b") == 0.0


def test_a_model_that_gives_nan_is_reported_and_the_others_complete(
    command: Command, job: MakeJob, tmp_path: Path
):
    """A network with one NaN weight, under its right hash: exit 1, named, with the image."""
    import torch
    import yaml
    from safetensors.torch import load_file, save_file

    from depara_bench.embedded import embedded

    folder = embedded("zoo", "rooms")
    zoo = yaml.safe_load((folder / "zoo.yaml").read_text())
    zoo["models"] = [m for m in zoo["models"] if m["name"] in ("curvature", "denoise", "edge2d")]
    for model in zoo["models"]:
        state = load_file(folder / model["weights"])
        if model["name"] == "denoise":
            state["encoder.0.weight"].view(-1)[0] = torch.nan
        model["weights"] = f"{model['name']}.safetensors"
        del model["sha256"]
        save_file(state, tmp_path / model["weights"])
    (tmp_path / "zoo.yaml").write_text(yaml.safe_dump(zoo))
    out = tmp_path / "run"
    result = command("run", job(zoo="zoo.yaml", models=None), "--out", out, "--engine", "local")
    assert result.code == 1
    assert "'denoise'" in result.err and "plain-303-000000" in result.err and "NaN" in result.err
    affinity = pd.read_parquet(out / "affinity.parquet")
    assert set(affinity["source"]) == {"curvature", "edge2d"}
    assert affinity["value"].notna().all()
    assert json.loads((out / "run.json").read_text())["status"] == "partial"
    assert "denoise" in (out / "report.md").read_text()


def driver(*arguments: str | Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "depara_bench", *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def wait_for_shards(out: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while len(list(out.rglob("block=*.parquet"))) < count:
        assert time.monotonic() < deadline and process.poll() is None, "the run did not get there"
        time.sleep(0.01)


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_continues_to_the_same_bytes(
    command: Command, job: MakeJob, tmp_path: Path, kill: signal.Signals
):
    """kill -9 and Ctrl-C in mid-run; then the same command: bit-identical to an undisturbed run."""
    path = job(probe={"kind": "rooms", "count": 120, "seed": 303}, block_size=6)
    out, calm = tmp_path / "killed", tmp_path / "calm"
    process = driver("run", path, "--out", out, "--engine", "local")
    wait_for_shards(out, 5, process)
    os.kill(process.pid, kill)
    code = process.wait(30)
    assert code == (130 if kill == signal.SIGINT else -9)
    done = len(list(out.rglob("block=*.parquet")))
    assert 5 <= done < 80, "the run was over before it was killed"
    assert not (out / "affinity.parquet").exists()
    if kill == signal.SIGINT:
        assert json.loads((out / "run.json").read_text())["status"] == "interrupted"
    assert command("run", path, "--out", out, "--engine", "local").code == 0
    assert json.loads((out / "run.json").read_text())["shards"]["reused"] >= done - 1
    assert command("run", path, "--out", calm, "--engine", "local").code == 0
    assert shard_bytes(out) == shard_bytes(calm)


def test_two_runs_cannot_share_a_folder(command: Command, job: MakeJob, tmp_path: Path):
    from depara_bench.run import locked
    from depara_bench.storage import Folder

    out = tmp_path / "run"
    with locked(Folder(str(out))):
        result = command("run", job(), "--out", out, "--engine", "local")
    assert result.code == 2 and "another depara-bench works in it" in result.err


def test_an_object_store_holds_a_run_as_a_disk_does(command: Command, job: MakeJob, tmp_path: Path):
    """A URI goes through `pyarrow.fs` all the way; file:// is the one every machine has."""
    out = tmp_path / "remote"
    out.mkdir()
    assert command("run", job(), "--out", f"file://{out}", "--engine", "local").code == 0
    assert command("run", job(), "--out", tmp_path / "disk", "--engine", "local").code == 0
    assert largest_difference(out, tmp_path / "disk") == 0.0
    assert (out / "report.html").exists() and (out / "figures").is_dir()
