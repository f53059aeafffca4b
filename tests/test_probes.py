"""One job on several probe sets: each is a run like any other, and the table says what they say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import Result
from PIL import Image

from depara_bench.intervals import Limits, mean_interval
from depara_bench.probe import NoiseProbe, RoomsProbe, load_probe

MODELS = ("autoencoder", "curvature", "rgb2depth", "colorization")


@pytest.fixture
def written(tmp_path: Path, job: Callable[..., Path]) -> Path:
    """A truth, a folder of pictures, and a job on scenes and noise."""
    random = np.random.default_rng(0)
    pairs = [(s, t, random.random()) for t in MODELS[:3] for s in MODELS if s != t]
    truth = tmp_path / "truth.csv"
    pd.DataFrame(pairs, columns=["source", "target", "value"]).to_csv(truth, index=False)
    (tmp_path / "photos").mkdir()
    for i in range(5):
        pixels = random.integers(0, 256, (70, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{i}.png")
    job()
    content = {
        "name": "sets",
        "job": "job.yaml",
        "truth": str(truth),
        "probes": {
            "plain": {"kind": "rooms", "count": 8, "seed": 1},
            "noise": {"kind": "noise", "count": 8, "seed": 1},
        },
    }
    path = tmp_path / "sets.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def test_table_is_what_each_run_says(
    written: Path, command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(written.parent)
    photos = ("--set", "probes.photos.kind=folder", "--set", "probes.photos.path=photos")
    out = written.parent / "out"
    result = command("probes", written, "--out", out, "--engine", "local", *photos)
    assert result.code == 0, result.err
    assert "photos" in result.out
    table = pd.read_parquet(out / "probes.parquet")
    assert set(table["probe"]) == {"plain", "noise", "photos"}
    own = {p: pd.read_parquet(out / p / "evaluation.parquet") for p in ("plain", "photos")}
    for row in table[table["probe"].isin(own)].itertuples():
        rows = own[row.probe]
        rows = rows[(rows["method"] == row.method) & (rows["metric"] == row.metric)]
        rows = rows[rows["k"].isna() if pd.isna(row.k) else rows["k"] == row.k]
        mean = rows[rows["target"].isna()].iloc[0]
        told = [mean[name] for name in ("value", "low", "high")]
        np.testing.assert_equal([row.value, row.low, row.high], told)
        if row.probe == "photos" and row.method == "depara-edges" and row.metric == "spearman":
            here = rows.dropna(subset="target").set_index("target")["value"]
            base = own["plain"]
            base = base[(base["method"] == row.method) & (base["metric"] == row.metric)]
            there = base.dropna(subset="target").set_index("target")["value"]
            difference = (here - there[here.index]).to_numpy()
            assert row.difference == pytest.approx(difference.mean())
            alone = mean_interval(difference, Limits(-2.0, 2.0))
            ends = [row.difference_low, row.difference_high]
            np.testing.assert_equal(ends, [alone.low, alone.high])
            assert not (row.joint_low > alone.low or alone.high > row.joint_high)
    same = table[(table["method"] == "popularity") & (table["probe"] != "plain")]
    assert (same["difference"] == 0.0).all()
    assert same["sentence"].str.contains("no verdict on").all()  # of so few targets
    for name in ("report.html", "report.md", "photos/report.html", "noise/affinity.parquet"):
        assert (out / name).is_file()
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 6 + 6 + 5
    (out / "report.html").unlink()
    assert command("report", out).code == 0
    assert (out / "report.html").read_text() == page
    # Again: nothing is computed anew.
    before = {p: p.stat().st_mtime_ns for p in out.rglob("block=*.parquet")}
    assert before
    assert command("probes", written, "--out", out, "--engine", "local", *photos).code == 0
    assert before == {p: p.stat().st_mtime_ns for p in out.rglob("block=*.parquet")}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("job=nowhere", "nowhere"),
        ("probes={plain: {kind: rooms, count: 8, seed: 1}}", "probes"),
        ("probes.noise.kind=static", "noise"),
        ("probes.noise.count=2", "count"),
        ("probes.shards={kind: noise, count: 8, seed: 1}", "shards"),
        ("prob=1", "prob"),
        ("probes.photos={kind: folder, path: nowhere}", "nowhere"),
    ],
)
def test_mistakes_are_one_line_and_start_nothing(
    written: Path, command: Callable[..., Result], change: str, expected: str
):
    out = written.parent / "out"
    result = command("probes", written, "--out", out, "--engine", "local", "--set", change)
    assert result.code == 2
    assert len(result.err.strip().splitlines()) == 1 and expected in result.err
    assert not out.exists()


def test_noise_is_the_same_for_every_count_and_has_no_content():
    few, many = (load_probe(NoiseProbe(kind="noise", count=n, seed=3), Path()) for n in (3, 6))
    assert (few.image(2) == many.image(2)).all()
    assert few.ids == many.ids[:3]
    assert few.sha256 != many.sha256
    pixels = np.stack([many.image(i) for i in range(6)]).astype(float)
    assert abs(pixels.mean() - 127.5) < 1.0
    flat = pixels.reshape(6, -1)
    flat -= flat.mean(axis=1, keepdims=True)
    assert np.abs(np.corrcoef(flat)[np.triu_indices(6, 1)]).max() < 0.05
    other = load_probe(NoiseProbe(kind="noise", count=3, seed=4), Path())
    assert (other.image(0) != few.image(0)).any()


def test_the_second_style_is_of_the_same_rooms_and_looks_clearly_different():
    plain, foreign = (
        load_probe(RoomsProbe(kind="rooms", count=16, seed=3, style=style), Path())
        for style in ("plain", "foreign")
    )
    both = [np.stack([p.image(i) for i in range(16)]).astype(float) for p in (plain, foreign)]
    assert np.abs(both[0] - both[1]).mean() > 25
