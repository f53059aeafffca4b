"""Methods beside DEPARA's own, in a run: as called directly, in tiles, on Ray; the league."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import JOB, Result
from scipy.stats import spearmanr

from depara_bench import methods as runs
from depara_bench.engine import Resources, open_engine
from depara_bench.engine.local import LocalEngine
from depara_bench.errors import InputError, RunError
from depara_bench.evaluate import average_ranks
from depara_bench.fusion import CANDIDATES, fuse, leave_out_fusion
from depara_bench.labelled.registry import SCORES
from depara_bench.labels import PATH, Labels, encode, read, read_labels
from depara_bench.shards import Shard, encode_shard, read_column, shard_path
from depara_bench.similarity import registry
from depara_bench.similarity.dds import MEASURES
from depara_bench.similarity.pooled_nodes import NODES_POOLED, pooled_state
from depara_bench.storage import Folder
from depara_bench.sweep import Judge

Command = Callable[..., Result]
MODELS = ("autoencoder", "class_1000", "rgb2depth", "colorization", "class_places")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Three random models on 30 images in blocks of 12."""
    folder = Folder(str(tmp_path_factory.mktemp("shards")))
    random = np.random.default_rng(0)
    shared = random.standard_normal((30, 20))
    for m in range(3):
        features = (shared + random.standard_normal((30, 20))).astype("f4")
        maps = random.standard_normal((30, 64)).astype("f4")
        for block, start in enumerate(range(0, 30, 12)):
            index = np.arange(start, min(start + 12, 30), dtype=np.int32)
            columns = {"feature": features[index], "grad": maps[index]}
            content = encode_shard(Shard(index, [f"i{i}" for i in index], columns), "key")
            folder.write(shard_path(f"m{m}", block), content)
    return folder


LABELS = {
    "m0": Labels(np.arange(30) % 3),
    "m2": Labels(np.random.default_rng(1).standard_normal((30, 2))),
}


def compute(folder: Folder, names: list[str], scores: list[str], **more: object):  # type: ignore[no-untyped-def]
    return runs.compute(
        folder,
        ["m0", "m1", "m2"],
        names,
        scores,
        blocks=3,
        attribution="grad",
        labels=LABELS,
        resources=Resources(gpus=0),
        **{"engine": LocalEngine(), **more},
    )


def test_a_run_gives_what_calling_the_method_gives(shards: Folder):
    names = ["rsa", "dds-rbf-znorm", "dds-cosine-none", "ridge-r2", "nodes-pooled"]
    found = compute(shards, names, ["logme", "knn", "parc"])
    assert list(found) == [*names, "logme", "knn", "parc"]
    for name in names:
        method = registry.lookup(name)
        column = "feature" if method.column == "feature" else "grad"
        values = [read_column(shards, f"m{m}", 3, column) for m in range(3)]
        states = [dict(method.models(v, [name]))[name] for v in values]
        assert np.abs(found[name].matrix - method.pairs(states, states)).max() < 1e-12
        assert found[name].seconds > 0
    for name in ("logme", "knn", "parc"):
        for source in range(3):
            state = SCORES[name].prepare(read_column(shards, f"m{source}", 3, "feature"))
            expected = SCORES[name].classes(state, LABELS["m0"].values)
            assert found[name].matrix[0, source] == pytest.approx(expected, rel=1e-9)
        assert np.isnan(found[name].matrix[1]).all()  # no labels
    assert np.isfinite(found["logme"].matrix[2]).all()
    assert np.isnan(found["parc"].matrix[2]).all()  # has no form for numbers
    assert not shards.files("scratch")


def test_tiles_change_nothing(shards: Folder):
    names = ["svcca", "pwcca", "ridge-r2", "cka-rbf"]
    whole = compute(shards, names, [])
    for tile in (1, 2):
        parts = compute(shards, names, [], tile=tile)
        for name in names:
            assert np.abs(whole[name].matrix - parts[name].matrix).max() < 1e-12
    assert (whole["ridge-r2"].matrix != whole["ridge-r2"].matrix.T).any()


def test_ray_gives_the_same(shards: Folder, ray_session: None):
    names = ["rsa", "ridge-r2", "dds-laplacian-layer"]
    here = compute(shards, names, ["logme"], tile=2)
    with open_engine("ray") as engine:
        there = compute(shards, names, ["logme"], tile=2, engine=engine)
    for name, found in here.items():
        np.testing.assert_allclose(there[name].matrix, found.matrix, atol=1e-12)


def test_a_degenerate_model_is_named_with_the_method(shards: Folder):
    labels = {"m0": Labels(np.zeros(30, dtype=np.int64))}
    with pytest.raises(RunError, match=r"m0.*logme.*m0|logme.*m0"):
        runs.compute(
            shards, ["m0"], [], ["logme"], blocks=3, attribution="grad", labels=labels,
            engine=LocalEngine(), resources=Resources(gpus=0),
        )  # fmt: skip


# --- names --------------------------------------------------------------------------------------


def test_patterns():
    similar, scores = runs.resolve(["dds-*-znorm", "rsa", "logme", "cka*"])
    assert similar == [
        "rsa", "cka-linear", "cka-linear-debiased", "cka-rbf", "cka-rbf-debiased",
        *(f"dds-{measure}-znorm" for measure in MEASURES),
    ]  # fmt: skip
    assert scores == ["logme"]
    similar, scores = runs.resolve(["*"])
    assert len([n for n in similar if n.startswith("dds-")]) == 42
    assert set(scores) == set(SCORES) - {"leep", "nce"}
    with pytest.raises(InputError, match="rsa"):
        runs.resolve(["rsaa"])
    with pytest.raises(InputError, match="class probabilities"):
        runs.resolve(["leep"])


# --- pooled nodes -------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [8, 10])
def test_pooled_nodes_against_loops(side: int):
    random = np.random.default_rng(side)
    maps = random.standard_normal((2, 7, side * side)).astype("f4")
    pooled = []
    for model in maps:
        cells = []
        for image in np.abs(model.reshape(7, side, side).astype(float)):
            cells.append([image[r : r + 4, c : c + 4].mean()
                          for r in range(0, side, 4) for c in range(0, side, 4)])  # fmt: skip
        cells = np.array(cells)
        pooled.append(cells - cells.mean(axis=0))
    expected = np.mean([
        a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(*pooled, strict=True)
    ])  # fmt: skip
    found = NODES_POOLED.pairs([pooled_state(maps[0])], [pooled_state(maps[1])])[0, 0]
    assert found == pytest.approx(expected, abs=1e-12)
    state = pooled_state(np.repeat(maps[0][:1], 5, axis=0))  # all images alike
    assert NODES_POOLED.pairs([state], [state])[0, 0] == 0.0
    with pytest.raises(InputError, match="square"):
        pooled_state(np.zeros((3, 12), dtype="f4"))


# --- labels -------------------------------------------------------------------------------------


def test_labels_of_a_table(tmp_path: Path):
    table = pd.DataFrame(
        {"image": ["b", "a", "c"] * 2, "target": ["t"] * 3 + ["u"] * 3, "label": list("xyxzzw")}
    )
    table.to_csv(tmp_path / "labels.csv", index=False)
    found = read_labels(tmp_path / "labels.csv", ["a", "b", "c"], ["t", "u", "v"])
    assert found["t"].values.tolist() == [1, 0, 0] and found["u"].values.tolist() == [1, 1, 0]
    assert found["t"].classes and set(found) == {"t", "u"}
    folder = Folder(str(tmp_path))
    numbers = {"n": Labels(np.arange(6.0).reshape(3, 2)), "t": found["t"]}
    folder.write(PATH, encode(numbers))
    again = read(folder, 3)
    assert (again["n"].values == numbers["n"].values).all() and not again["n"].classes
    assert (again["t"].values == found["t"].values).all() and again["t"].classes
    for change, expected in (
        (table[:-1], "image c has no label"),
        (pd.concat([table, table[:1]]), "two labels"),
        (table.rename(columns={"label": "value"}), "not a finite number"),
        (table.rename(columns={"image": "file"}), "no column 'image'"),
        (table.assign(target="w"), "names no target"),
    ):
        change.to_csv(tmp_path / "bad.csv", index=False)
        with pytest.raises(InputError, match=expected):
            read_labels(tmp_path / "bad.csv", ["a", "b", "c"], ["t", "u"])


def test_labels_of_scenes():
    from depara_bench.rooms.labels import render_labelled
    from depara_bench.rooms.probe_labels import scene_labels

    found = scene_labels(5, 6, "plain", ["class_1000", "segmentsemantic", "rgb2depth", "other"])
    assert set(found) == {"class_1000", "segmentsemantic", "rgb2depth"}
    _, plain = render_labelled(5, range(6), ["class_1000", "segmentsemantic", "rgb2depth"])
    assert (found["class_1000"].values == plain["class_1000"]).all()
    for image, main in zip(plain["segmentsemantic"], found["segmentsemantic"].values, strict=True):
        kinds, counts = np.unique(image[image >= 3], return_counts=True)
        expected = kinds[counts.argmax()] if len(kinds) else None
        assert expected is None or main == expected
    depth = np.log(plain["rgb2depth"].astype(float)).reshape(6, 4, 16, 4, 16).mean(axis=(2, 4))
    expected = (depth.reshape(6, 16) - 0.9) / 0.45
    assert np.abs(found["rgb2depth"].values - expected).max() < 1e-4


# --- fusion -------------------------------------------------------------------------------------


def test_fusion_never_sees_the_target_it_serves():
    random = np.random.default_rng(3)
    own = np.eye(6, 8, dtype=bool)
    value = random.random((6, 8))
    matrices = {name: random.random((6, 8)) for name in CANDIDATES[:4]}
    found = leave_out_fusion(matrices, own, Judge(value, own))
    for t in range(6):
        changed = value.copy()
        changed[t] = random.random(8)
        again = leave_out_fusion(matrices, own, Judge(changed, own))
        assert again.chosen[t] == found.chosen[t]
        assert (again.scores[t] == found.scores[t]).all()
    # By hand: the mean Spearman over the other targets, of every set of up to three.
    t, best, choice = 2, -np.inf, None
    from itertools import combinations

    for size in (1, 2, 3):
        for names in combinations(matrices, size):
            scores = fuse({n: matrices[n] for n in names}, own)
            mean = np.mean([
                spearmanr(scores[u, ~own[u]], value[u, ~own[u]]).statistic
                for u in range(6) if u != t
            ])  # fmt: skip
            if mean > best + 1e-12:
                best, choice = mean, names
    assert found.chosen[t] == choice
    ranks = [average_ranks(matrices[n], own) for n in choice]
    others = ~own[t]
    assert np.allclose(found.scores[t, others], -np.mean(ranks, axis=0)[t, others])


# --- a whole run --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def league(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with methods of every kind, judged against a truth drawn at random."""
    from depara_bench.cli import main

    place = tmp_path_factory.mktemp("league")
    random = np.random.default_rng(0)
    targets = [m for m in MODELS if m != "colorization"]
    pairs = [
        (s, t, random.random(), random.random() + 1) for t in targets for s in MODELS if s != t
    ]
    truth = pd.DataFrame(pairs, columns=["source", "target", "value", "loss"])
    truth.to_csv(place / "truth.csv", index=False)
    names = [
        "rsa",
        "ridge-r2",
        "nodes-pooled",
        "cka-linear",
        "logme",
        "h-score",
        "dds-cosine-znorm",
    ]
    job = {**JOB, "models": list(MODELS), "methods": names, "labels": "rooms"}
    job["probe"] = {"kind": "rooms", "count": 40, "seed": 303}
    (place / "job.yaml").write_text(yaml.safe_dump(job))
    out = str(place / "out")
    with pytest.MonkeyPatch.context() as patch:
        for words in (
            ["run", str(place / "job.yaml"), "--out", out, "--engine", "local", "-q"],
            ["compare", out, "--truth", str(place / "truth.csv"), "--replicates", "5", "-q"],
        ):
            patch.setattr("sys.argv", ["depara-bench", *words])
            with pytest.raises(SystemExit) as stop:
                main()
            assert not stop.value.code
    return place / "out"


def test_tables_hold_all_methods(league: Path):
    affinity = pd.read_parquet(league / "affinity.parquet")
    assert affinity["value"].notna().all()
    covered = affinity.groupby("method")["target"].nunique()
    assert covered["ridge-r2"] == 4 and covered["logme"] == 4
    assert covered["h-score"] == 2  # class_1000 and class_places
    ranked = pd.read_parquet(league / "rankings.parquet")
    assert set(ranked["method"]) == set(affinity["method"])
    record = json.loads((league / "run.json").read_text())
    assert set(record["methods"]) == set(affinity["method"])
    assert record["methods"]["h-score"]["needs"] == ["labels"]
    assert record["methods"]["nodes-pooled"]["needs"] == ["attribution maps"]


def test_scores_of_a_method_with_few_targets_are_of_those(league: Path):
    table = pd.read_parquet(league / "evaluation.parquet")
    rows = table[(table["method"] == "h-score") & (table["metric"] == "spearman")]
    assert set(rows["target"].dropna()) == {"class_1000", "class_places"}
    mean = rows[rows["target"].isna()]["value"].iloc[0]
    assert mean == pytest.approx(rows["value"][rows["target"].notna()].mean())
    differences = pd.read_parquet(league / "comparison" / "differences.parquet")
    row = differences[
        (differences["method"] == "rsa") & (differences["other"] == "h-score")
        & (differences["metric"] == "spearman")
    ].iloc[0]  # fmt: skip
    other = table[(table["method"] == "rsa") & (table["metric"] == "spearman")]
    by = other.dropna(subset="target").set_index("target")["value"]
    mine = rows.dropna(subset="target").set_index("target")["value"]
    assert row["value"] == pytest.approx((by[mine.index] - mine).mean())
    assert {"fusion", "logme"} <= set(table["method"])
    fused = pd.read_parquet(league / "comparison" / "fusion.parquet")
    assert len(fused) == 4


def test_report_begins_with_the_league(league: Path):
    page, text = (league / "report.html").read_text(), (league / "report.md").read_text()
    assert page.index('id="league"') < page.index('id="summary"')
    part = text[text.index("## League") : text.index("## Summary")]
    for name in ("ridge-r2", "h-score", "fusion", "random", "depara-edges"):
        assert f"| {name} |" in part
    assert "**" in part and "labels" in part


def test_reduced_again_nothing_changes(league: Path, command: Command):
    before = pd.read_parquet(league / "affinity.parquet").drop(columns=["low", "high"])
    assert command("reduce", league, "--engine", "local").code == 0
    after = pd.read_parquet(league / "affinity.parquet")
    pd.testing.assert_frame_equal(before, after)


@pytest.mark.parametrize("damage", ["cut", "fewer", "nan", "other", "gone"])
def test_damaged_labels_are_one_line_and_mended(
    league: Path, command: Command, tmp_path: Path, damage: str
):
    out = Path(shutil.copytree(league, tmp_path / "out"))
    file = out / "labels.parquet"
    whole, table = file.read_bytes(), pd.read_parquet(file)
    values = list(table["values"])
    if damage == "cut":
        file.write_bytes(whole[:-9])
    elif damage == "gone":
        file.unlink()
    elif damage == "other":
        table[["target", "width"]].to_parquet(file)
    else:
        values[-1] = values[-1][:-1] if damage == "fewer" else values[-1] * np.nan
        table.assign(values=values).to_parquet(file)
    result = command("reduce", out, "--engine", "local")
    assert result.code == 2 and result.err.count("\n") == 1, result.err
    assert "labels.parquet" in result.err and "'depara-bench run' again" in result.err
    assert (out / "affinity.parquet").read_bytes() == (league / "affinity.parquet").read_bytes()
    job = league.parent / "job.yaml"
    assert command("run", job, "--out", out, "--engine", "local").code == 0
    assert file.read_bytes() == whole


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("methods=[rsaa]", "rsa"),
        ("methods=[logme]", "needs labels"),
        ("methods=[nce]", "class probabilities"),
        ("labels=nowhere.csv", "nowhere.csv"),
    ],
)
def test_mistakes_are_one_line(
    job: Callable[..., Path], command: Command, tmp_path: Path, change: str, expected: str
):
    out = tmp_path / "out"
    result = command("run", job(), "--out", out, "--engine", "local", "--set", change)
    assert result.code == 2
    assert len(result.err.strip().splitlines()) == 1 and expected in result.err
    assert not out.exists()


def test_scenes_have_no_labels_for_photographs(
    job: Callable[..., Path], command: Command, tmp_path: Path
):
    probe = {"kind": "noise", "count": 5, "seed": 1}
    path = job(probe=probe, labels="rooms", methods=["logme"])
    result = command("run", path, "--out", tmp_path / "out", "--engine", "local")
    assert result.code == 2 and "noise" in result.err


GROWTH = """
import time

import numpy as np

from depara_bench.engine import Slot
from depara_bench.engine.cost import Costed, highest

def factory(shared, slot):
    def worker(size):
        time.sleep(0.05)
        return int(np.ones(size).sum())
    return worker

costed = Costed(factory, None, Slot("cpu", 1))
small, large = costed(10), costed(10_000_000)
assert large.value == 10_000_000
assert small.seconds >= 0.05
if large.peak is not None:  # the system tells
    assert large.peak > 70e6 and small.peak < 40e6, (large, small)
assert highest([small, large]) == large.peak
"""


def test_cost_is_the_seconds_and_the_growth_of_the_process():
    """In a process of its own: one that has freed memory before may take it from there."""
    done = subprocess.run([sys.executable, "-c", GROWTH], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
