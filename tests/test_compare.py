"""`compare`: every number against a plain recomputation, honest lambda, error bars, bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import Result
from scipy import stats

from depara_bench.compare import compare
from depara_bench.engine import Resources
from depara_bench.engine.local import LocalEngine
from depara_bench.intervals import Limits, mean_interval
from depara_bench.record import keep
from depara_bench.reduce import affinity_table, rank_sources, reduce
from depara_bench.report import write_report
from depara_bench.shards import Shard, encode_shard, read_column, shard_path
from depara_bench.storage import Folder
from depara_bench.sweep import LAMBDAS, Judge
from depara_bench.tables import encode, write_table
from depara_bench.terminal import Terminal
from depara_bench.truth.table import from_table, read_truth, with_seeds, write_truth

Command = Callable[..., Result]
METHODS = ("gradient", "other")
NAMES = tuple(f"m{i}" for i in range(10))
TARGETS = NAMES[:8]  # the last two are sources only
IMAGES, BLOCK, WEIGHT = 26, 10, 0.7
QUIET = Terminal(quiet=True)
REAL = ("depara", "depara-nodes", "depara-edges", "depara:other", "depara-nodes:other")


def make_run(
    place: Path,
    *,
    names: tuple[str, ...] = NAMES,
    targets: tuple[str, ...] = TARGETS,
    images: int = IMAGES,
    center: bool = True,
    seed: int = 0,
) -> Folder:
    """A run folder: shards of random but related models, reduced as a run does."""
    folder, random = Folder(str(place)), np.random.default_rng(seed)
    base = {what: random.normal(size=(images, 12)) for what in ("feature", *METHODS)}
    for rank, name in enumerate(names):
        columns = {
            what: (values + (0.3 + rank / 4) * random.normal(size=values.shape) + 0.5).astype("f4")
            for what, values in base.items()
        }
        for block, start in enumerate(range(0, images, BLOCK)):
            rows = np.arange(start, min(start + BLOCK, images), dtype=np.int32)
            part = {what: values[rows] for what, values in columns.items()}
            shard = Shard(rows, [str(i) for i in rows], part)
            folder.write(shard_path(name, block), encode_shard(shard, "key"))
    found = reduce(
        folder, names, images=images, blocks=-(-images // BLOCK), methods=METHODS, center=center,
        engine=LocalEngine(), resources=Resources(gpus=0),
    )  # fmt: skip
    affinity = affinity_table(
        found, models=names, targets=targets, sources=names, methods=METHODS, weight=WEIGHT
    )
    write_table(folder, "affinity.parquet", affinity)
    write_table(folder, "rankings.parquet", rank_sources(affinity))
    roles = {name: ["source", "target"] if name in targets else ["source"] for name in names}
    record = {
        "schema": 1,
        "status": "done",
        "job": {
            "name": "small", "zoo": "z.yaml", "lambda": WEIGHT, "block_size": BLOCK,
            "attribution": {"methods": list(METHODS)}, "edges": {"center": center},
            "resources": {"cpus": 1},
        },
        "zoo": {
            "name": "z",
            "models": [{"name": n, "roles": roles[n], "fingerprint": "key"} for n in names],
        },
        "probe": {"count": images},
        "seconds": {},
        "failures": [],
    }  # fmt: skip
    folder.write("run.json", json.dumps(record).encode())
    return folder


def truth_rows(seed: int = 0, loss: bool = True) -> pd.DataFrame:
    """Values for all pairs but self, rounded, so that some tie; low sources are worth more."""
    random = np.random.default_rng([7, seed])
    rows = []
    for t in TARGETS:
        for s in NAMES:
            if s != t:
                value = round(3 - 0.2 * int(s[1]) + 0.5 * random.normal(), 1)
                rows.append((s, t, value + 5, 9 - value))
    table = pd.DataFrame(rows, columns=["source", "target", "value", "loss"])
    return table if loss else table.drop(columns="loss")


def truth_of(table: pd.DataFrame):
    return from_table(table, "plain", "somewhere", "plain.csv")


def record_of(folder: Folder) -> dict[str, Any]:
    content = folder.read("run.json")
    assert content is not None
    return json.loads(content)


def table_of(folder: Folder, path: str) -> pd.DataFrame:
    assert folder.local is not None
    return pd.read_parquet(folder.local / path)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory):
    """A run that was compared with a truth that has losses and seeds."""
    folder = make_run(tmp_path_factory.mktemp("run"))
    random = np.random.default_rng(3)
    seeds = pd.concat(
        truth_rows()
        .drop(columns="loss")
        .assign(seed=seed, value=lambda t: t["value"] + random.normal(size=len(t)))
        for seed in range(3)
    )
    truth = with_seeds(truth_of(truth_rows()), seeds, "plain.seeds.csv")
    found = compare(folder, record_of(folder), truth, QUIET, replicates=60)
    return folder, truth, found


def plain_scores(scores: np.ndarray, value: np.ndarray, loss: np.ndarray) -> dict[Any, float]:
    """All metrics of one target, slowly. Ties of `value` at the last relevant place share it;
    ties of `scores`: mean over random orders is exact enough only without them, so by expectation.
    """
    n = len(scores)
    fifth = sorted(value)[-5]
    above, level = (value > fifth).sum(), (value == fifth).sum()
    relevant = [1.0 if v > fifth else (5 - above) / level if v == fifth else 0.0 for v in value]
    found: dict[Any, float] = {}
    for k in range(1, n + 1):
        hits = 0.0
        for i in range(n):
            better, same = (scores > scores[i]).sum(), (scores == scores[i]).sum()
            hits += relevant[i] * min(max((k - better) / same, 0.0), 1.0)
        found["p@k", k], found["r@k", k] = hits / k, hits / 5
    first = scores == scores.max()
    found["regret", 0] = loss[first].mean() / loss.min() - 1
    found["relative_top1", 0] = value[first].mean() / value.max()
    flat = len(set(scores)) == 1
    for name, function in (
        ("spearman", stats.spearmanr), ("kendall", stats.kendalltau),
        ("weighted_tau", stats.weightedtau), ("pearson", stats.pearsonr),
    ):  # fmt: skip
        found[name, 0] = 0.0 if flat else function(scores, value).statistic
    return found


def test_every_number_of_the_evaluation(judged):
    folder, truth, _ = judged
    table = table_of(folder, "evaluation.parquet")
    schema = pq.read_schema(folder.local / "evaluation.parquet")
    assert schema.names == ["method", "truth", "metric", "k", "target", "value", "low", "high"]
    assert [str(t) for t in schema.types] == [
        "string", "string", "string", "int32", "string", "double", "double", "double",
    ]  # fmt: skip
    baselines = ["oracle", "popularity", "symmetric-ceiling", "random", "self-agreement"]
    assert list(table["method"].unique()) == [*REAL, *baselines]
    assert set(table["truth"]) == {"plain"} and table["value"].notna().all()
    affinity = table_of(folder, "affinity.parquet").set_index(["method", "target", "source"])
    rows = truth_rows().set_index(["target", "source"])
    ranks = {t: rows.loc[t]["value"].rank(ascending=False) for t in TARGETS}
    keyed = table.assign(k=table["k"].fillna(0).astype(int))
    own = keyed[keyed["target"].notna()].set_index(["method", "target", "metric", "k"])["value"]
    own = own.sort_index()
    everywhere = keyed[keyed["target"].isna()].set_index(["method", "metric", "k"])
    assert table[table["target"].notna()][["low", "high"]].isna().all(axis=None)

    def scores_of(method: str, t: str) -> pd.Series:
        others = [s for s in NAMES if s != t]
        if method == "oracle":
            return rows.loc[t]["value"].loc[others]
        if method == "popularity":
            means = {s: np.mean([ranks[u][s] for u in TARGETS if u not in (t, s)]) for s in others}
            return -pd.Series(means)
        if method == "symmetric-ceiling":
            both = {
                s: (ranks[t][s] + ranks[s][t]) / 2 if s in TARGETS else ranks[t][s] for s in others
            }
            return -pd.Series(both)
        return affinity.loc[method].loc[t]["value"].loc[others]

    per_target: dict[Any, list[float]] = {}
    for method in (*REAL, "oracle", "popularity", "symmetric-ceiling"):
        for t in TARGETS:
            scores, part = scores_of(method, t), rows.loc[t]
            value, loss = (part[c].loc[scores.index].to_numpy() for c in ("value", "loss"))
            plain = plain_scores(scores.to_numpy(), value, loss)
            assert len(own.loc[method, t]) == len(plain) == 2 * 9 + 6
            for (metric, k), expected in plain.items():
                assert own[method, t, metric, k] == pytest.approx(expected, abs=1e-12)
                per_target.setdefault((method, metric, k), []).append(expected)
    for (method, metric, k), values in per_target.items():
        row = everywhere.loc[(method, metric, k)]
        assert row["value"] == pytest.approx(np.mean(values), abs=1e-12)
        if method == "oracle":
            assert np.isnan(row["low"]) and np.isnan(row["high"])
        else:
            assert row["low"] <= row["value"] <= row["high"]
    # Random, exactly; the oracle; the interval.
    for k in range(1, 10):
        assert everywhere.loc[("random", "p@k", k), "value"] == pytest.approx(5 / 9)
        # Below it only where truths tie for the fifth place, which they then share.
        assert everywhere.loc[("oracle", "p@k", k), "value"] <= min(5, k) / k + 1e-12
    assert everywhere.loc[("oracle", "p@k", 1), "value"] == 1
    assert everywhere.loc[("random", "spearman", 0), "value"] == 0
    values = np.array(per_target["depara", "spearman", 0])
    row = everywhere.loc[("depara", "spearman", 0)]
    found = mean_interval(values, Limits(-1.0, 1.0), seed=0)
    assert [row["low"], row["high"]] == pytest.approx([found.low, found.high])
    hits = np.array(per_target["depara", "p@k", 1])
    if set(hits) <= {0.0, 1.0}:
        exact = stats.binomtest(int(hits.sum()), 8).proportion_ci(method="exact")
        row = everywhere.loc[("depara", "p@k", 1)]
        assert [row["low"], row["high"]] == pytest.approx([exact.low, exact.high])
    # Self-agreement: each seed against the mean of the others.
    t = TARGETS[2]
    others = [i for i, s in enumerate(NAMES) if s != t]
    seeds = truth.restrict(TARGETS, NAMES).seeds[:, 2][:, others]
    rest = [np.mean(np.delete(seeds, r, axis=0), axis=0) for r in range(3)]
    expected = np.mean([stats.spearmanr(seeds[r], rest[r]).statistic for r in range(3)])
    assert own["self-agreement", t, "spearman", 0] == pytest.approx(expected)


def test_differences_are_paired_and_said_in_words(judged):
    folder, _, found = judged
    table = table_of(folder, "comparison/differences.parquet")
    assert list(table.columns) == [
        "method", "other", "metric", "value", "low", "high", "joint_low", "joint_high", "sentence",
    ]  # fmt: skip
    pairs = list(combinations(REAL, 2))
    evaluation = table_of(folder, "evaluation.parquet")
    for metric, name, k in (("spearman", "spearman", 0), ("p@5", "p@k", 5), ("p@1", "p@k", 1)):
        rows = table[table["metric"] == metric].set_index(["method", "other"])
        assert list(rows.index) == pairs
        wide = evaluation[(evaluation["metric"] == name) & (evaluation["k"].fillna(0) == k)]
        wide = wide[wide["target"].notna()].pivot(index="target", columns="method", values="value")
        for one, other in pairs:
            row, apart = rows.loc[(one, other)], wide[one] - wide[other]
            assert row["value"] == pytest.approx(apart.mean(), abs=1e-12)
            assert row["joint_low"] <= row["low"] <= row["value"] <= row["high"]
            assert row["high"] <= row["joint_high"]
            if row["joint_low"] > 0 or row["joint_high"] < 0:
                better = one if row["value"] > 0 else other
                assert row["sentence"].startswith(f"{better} ranks better than ")
            else:
                assert row["sentence"] == f"{one} and {other} cannot be told apart"
    assert found.best_two() in set(table["sentence"])


def slow_affinity(features, maps, drawn: np.ndarray) -> dict[str, np.ndarray]:
    """Everything anew from the drawn images, one by one; no pair of an image with itself."""
    pairs = [(i, j) for i, j in combinations(range(len(drawn)), 2) if drawn[i] != drawn[j]]
    lists = []
    for feature in features:
        rows = feature[drawn].astype(np.float64)
        rows -= rows.mean(axis=0)
        rows /= np.linalg.norm(rows, axis=1)[:, None]
        lists.append(np.round([rows[i] @ rows[j] for i, j in pairs], 9))
    edges = np.asarray(stats.spearmanr(np.array(lists), axis=1).statistic)
    found = {"depara-edges": edges}
    for suffix, vectors in zip(("", ":other"), maps, strict=True):
        rows = np.stack([v[drawn].astype(np.float64) for v in vectors])
        rows /= np.linalg.norm(rows, axis=2)[:, :, None]
        nodes = np.einsum("aid,bid->ab", rows, rows) / len(drawn)
        found[f"depara-nodes{suffix}"] = nodes
        found[f"depara{suffix}"] = nodes + WEIGHT * edges
    return found


def test_bars_equal_a_slow_bootstrap(tmp_path: Path):
    names, images = NAMES[:5], 13
    folder = make_run(tmp_path, names=names, targets=names[:3], images=images)
    before, ranked = table_of(folder, "affinity.parquet"), folder.read("rankings.parquet")
    compare(folder, record_of(folder), truth_of(truth_rows()), QUIET, replicates=25, seed=4)
    after = table_of(folder, "affinity.parquet")
    pd.testing.assert_frame_equal(after.drop(columns=["low", "high"]), before)
    assert folder.read("rankings.parquet") == ranked
    columns = {
        what: [read_column(folder, name, 2, what) for name in names]
        for what in ("feature", *METHODS)
    }
    # The same draws as the program's: counts of a multinomial, by seed.
    counts = np.random.default_rng(4).multinomial(images, np.full(images, 1 / images), 25)
    slow = [
        slow_affinity(
            columns["feature"], [columns[m] for m in METHODS], np.repeat(range(images), row)
        )
        for row in counts
    ]
    for _, row in after.iterrows():
        t, s = names.index(row["target"]), names.index(row["source"])
        values = [one[row["method"]][t, s] for one in slow]
        assert [row["low"], row["high"]] == pytest.approx(
            np.percentile(values, [2.5, 97.5]), abs=1e-9
        )
    own = after[after["source"] == after["target"]]
    assert (own["low"] == own["value"]).all() and (own["high"] == own["value"]).all()


@pytest.mark.parametrize("center", [True, False])
def test_all_images_are_the_affinity_itself(tmp_path: Path, center: bool):
    """The check of shards against the table passes, and the last point of the curve is the run's
    score, whether edges are centred or not."""
    folder = make_run(tmp_path, center=center)
    found = compare(folder, record_of(folder), truth_of(truth_rows()), QUIET, replicates=5)
    table = found.probe_count
    assert sorted(table["images"].unique()) == [10, 20, IMAGES]
    assert (table["low"] <= table["high"]).all()
    scores = found.evaluation[found.evaluation["target"].isna()]
    for metric, name, k in (("spearman", "spearman", 0), ("p@5", "p@k", 5), ("p@1", "p@k", 1)):
        mine = table[(table["images"] == IMAGES) & (table["metric"] == metric)].set_index("method")
        rows = scores[(scores["metric"] == name) & (scores["k"].fillna(0) == k)]
        expected = rows.set_index("method")["value"]
        assert list(mine.index) == list(REAL)
        for method in REAL:
            assert mine.loc[method, "value"] == pytest.approx(expected[method], abs=1e-12)
            assert mine.loc[method, "low"] == mine.loc[method, "high"] == mine.loc[method, "value"]


def test_fewer_images_are_drawn_without_replacement(tmp_path: Path):
    folder = make_run(tmp_path)
    found = compare(folder, record_of(folder), truth_of(truth_rows()), QUIET, replicates=0)
    assert "low" not in table_of(folder, "affinity.parquet").columns
    vectors = [read_column(folder, n, 3, METHODS[0]).astype(np.float64) for n in NAMES]
    unit = np.stack([v / np.linalg.norm(v, axis=1)[:, None] for v in vectors])
    value = truth_rows().pivot(index="target", columns="source", values="value")[list(NAMES)]
    random, means = np.random.default_rng([0, 10]), []
    for _ in range(50):
        rows = np.sort(random.choice(IMAGES, 10, replace=False))
        nodes = np.einsum("aid,bid->ab", unit[:, rows], unit[:, rows]) / 10
        each = []
        for t in range(len(TARGETS)):
            others = [s for s in range(len(NAMES)) if s != t]
            truth = value.to_numpy()[t, others]
            each.append(stats.spearmanr(nodes[t, others], truth).statistic)
        means.append(np.mean(each))
    table = found.probe_count.set_index(["method", "images", "metric"])
    row = table.loc[("depara-nodes", 10, "spearman")]
    assert row["value"] == pytest.approx(np.mean(means), abs=1e-9)
    assert [row["low"], row["high"]] == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=1e-9)


def test_lambda_is_chosen_without_the_target_it_is_scored_on(judged):
    folder, _, _ = judged
    table = table_of(folder, "comparison/lambda.parquet")
    affinity = table_of(folder, "affinity.parquet").set_index(["method", "target", "source"])
    value = truth_rows().set_index(["target", "source"])["value"]

    def spearman(weight: float, t: str) -> float:
        others = [s for s in NAMES if s != t]
        nodes, edges = (
            affinity.loc[f"depara-{what}"].loc[t]["value"].loc[others]
            for what in ("nodes", "edges")
        )
        return stats.spearmanr(nodes + weight * edges, value.loc[t].loc[others]).statistic

    slow = np.array([[spearman(weight, t) for t in TARGETS] for weight in LAMBDAS])
    rows = table[(table["metric"] == "spearman") & (table["method"] == "depara")]
    swept = rows[rows["choice"] == "sweep"]
    assert np.allclose(swept["lambda"], LAMBDAS) and np.allclose(swept["value"], slow.mean(axis=1))
    assert ((swept["low"] <= swept["value"]) & (swept["value"] <= swept["high"])).all()
    job = rows[rows["choice"] == "job"].iloc[0]
    assert job["lambda"] == WEIGHT
    assert job["value"] == pytest.approx(np.mean([spearman(WEIGHT, t) for t in TARGETS]))
    assert set(rows.loc[rows["choice"] == "published", "lambda"]) == {0.25, 0.03, 0.27}
    tuned = rows[rows["choice"] == "tuned"].iloc[0]
    assert tuned["value"] == pytest.approx(slow.mean(axis=1).max())
    left_out = rows[rows["choice"] == "left-out"]
    chosen = left_out[left_out["target"].notna()].set_index("target")
    for t, target in enumerate(TARGETS):
        rest = np.round(np.delete(slow, t, axis=1).mean(axis=1), 12)
        assert rest[LAMBDAS.index(chosen.loc[target, "lambda"])] == rest.max()
        at = LAMBDAS.index(chosen.loc[target, "lambda"])
        assert chosen.loc[target, "value"] == pytest.approx(slow[at, t])
    mean = left_out[left_out["target"].isna()].iloc[0]
    assert np.isnan(mean["lambda"]) and mean["value"] == pytest.approx(chosen["value"].mean())
    assert mean["value"] <= tuned["value"] + 1e-12


def test_a_targets_truth_does_not_change_its_own_lambda(tmp_path: Path):
    folder = make_run(tmp_path)
    folder.delete([shard_path("m3", 1)])  # what shards are for is not asked here

    def choices(table: pd.DataFrame) -> pd.Series:
        found = compare(folder, record_of(folder), truth_of(table), QUIET, replicates=0).sweep
        rows = found[(found["choice"] == "left-out") & (found["metric"] == "spearman")]
        rows = rows[(rows["method"] == "depara") & rows["target"].notna()]
        return rows.set_index("target")["lambda"]

    table = truth_rows()
    before, changed = choices(table), []
    for target in TARGETS[:3]:
        other = table.copy()
        mine = other["target"] == target
        other.loc[mine, "value"] = 20 - other.loc[mine, "value"]
        after = choices(other)
        assert after[target] == before[target]
        changed.append((after != before).any())
    assert any(changed)  # it does change those of others


def test_the_quick_judge_equals_the_slow_scores():
    random = np.random.default_rng(5)
    value, scores = random.integers(0, 6, (4, 9)).astype(float), random.integers(0, 4, (4, 9)) * 1.0
    scores[1] = 2.0  # one value for all: no ranking
    own = np.eye(4, 9, dtype=bool)
    own[3] = False  # a target that is no source has one source more
    judge = Judge(value, own)
    found = judge(scores)
    assert judge.metrics == ("p@1", "p@5", "spearman")
    for t in range(4):
        plain = plain_scores(scores[t, ~own[t]], value[t, ~own[t]], np.ones((~own[t]).sum()))
        expected = [plain["p@k", 1], plain["p@k", 5], plain["spearman", 0]]
        assert found[:, t] == pytest.approx(expected, abs=1e-12)


def test_the_same_bytes_again(judged):
    folder, truth, found = judged
    paths = ["affinity.parquet", "evaluation.parquet"]
    paths += [f"comparison/{name}.parquet" for name in ("differences", "lambda", "probe_count")]
    before = [folder.read(path) for path in paths]
    compare(folder, record_of(folder), truth, QUIET, replicates=60)
    assert [folder.read(path) for path in paths] == before
    assert found.about["replicates"] == 60 and found.about["truth"] == "plain"


def test_without_shards_there_is_a_remark_and_a_judgement(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = make_run(tmp_path)
    folder.delete([shard_path("m3", 1)])
    found = compare(folder, record_of(folder), truth_of(truth_rows()), Terminal(), replicates=9)
    said = " ".join(capsys.readouterr().err.split())
    assert "without error bars" in said and "model=m3" in said
    assert found.about["replicates"] == 0 and found.probe_count.empty
    assert not found.sweep.empty and not found.evaluation.empty
    assert "low" not in table_of(folder, "affinity.parquet").columns
    write_report(folder)
    assert "Judged against a truth" in (tmp_path / "report.md").read_text()


def test_regret_and_relative_top1_need_losses_and_positive_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = make_run(tmp_path)
    table = truth_rows(loss=False).assign(value=lambda t: t["value"] - 100)
    found = compare(folder, record_of(folder), truth_of(table), Terminal(), replicates=0)
    assert not {"regret", "relative_top1"} & set(found.evaluation["metric"])
    said = " ".join(capsys.readouterr().err.split())
    assert "no source of 'm0' has a positive value; relative_top1 is left out" in said
    assert np.isfinite(found.evaluation["value"]).all()


def test_the_command_and_its_report(command: Command, tmp_path: Path):
    folder = make_run(tmp_path / "run")
    write_truth(truth_of(truth_rows()), tmp_path / "truth.csv")
    result = command("compare", tmp_path / "run", "--truth", tmp_path / "truth.csv",
                     "--replicates", "20", "--methods", "depara,depara-edges")  # fmt: skip
    assert result.code == 0, result.err
    assert "Spearman" in result.out and "popularity" in result.out
    assert "cannot be told apart" in result.out or "ranks better" in result.out
    assert set(table_of(folder, "evaluation.parquet")["method"]) == {
        "depara", "depara-edges", "oracle", "popularity", "symmetric-ceiling", "random",
    }  # fmt: skip
    record = record_of(folder)
    assert record["compare"]["replicates"] == 20 and record["compare"]["origin"] == "somewhere"
    assert record["seconds"]["compare"] > 0
    page, text = ((tmp_path / "run" / f"report.{e}").read_text() for e in ("html", "md"))
    for shown in (page, text):
        assert "Judged against a truth" in shown and "How many probe images" in shown
        assert "the paper’s published counts" in shown and "ranks" in shown
    figures = {p.stem for p in (tmp_path / "run" / "figures").iterdir()}
    assert figures >= {
        "evaluation-precision", "evaluation-recall", "evaluation-pr", "lambda-spearman",
        "lambda-p5", "probe-count-spearman", "probe-count-p5",
    }  # fmt: skip
    assert (
        "paper: depara (Taskonomy zoo)"
        in (tmp_path / "run" / "figures" / "evaluation-precision.svg").read_text()
    )
    # Other affinities than were judged: the report says so and shows no scores.
    affinity = table_of(folder, "affinity.parquet")
    halved = encode(affinity.assign(value=affinity["value"] * 0.5))
    keep(folder, record_of(folder), {"affinity.parquet": halved})
    assert command("report", tmp_path / "run").code == 0
    text = (tmp_path / "run" / "report.md").read_text()
    assert "compare` again" in text and "Method against method" not in text
    # And comparing refuses a table that the shards do not give.
    refused = command("compare", tmp_path / "run", "--truth", tmp_path / "truth.csv")
    assert refused.code == 2 and "run 'depara-bench reduce' first" in refused.err


@pytest.mark.parametrize("targets", [1, 3])
def test_few_models(tmp_path: Path, targets: int):
    """Three targets and four sources: K to 3; no intervals, and nothing is claimed."""
    folder = make_run(tmp_path, names=NAMES[:4], targets=NAMES[:targets])
    found = compare(folder, record_of(folder), truth_of(truth_rows()), QUIET, replicates=5)
    assert found.evaluation["k"].max() == 3
    assert found.evaluation[["low", "high"]].isna().all(axis=None)
    ends = ["low", "high", "joint_low", "joint_high"]
    assert found.differences[ends].isna().all(axis=None)
    assert found.differences["sentence"].str.startswith("no verdict on ").all()
    assert found.remark() == "no interval: fewer than 8 targets"
    if targets == 1:
        assert "left-out" not in set(found.sweep["choice"])
    write_report(folder)
    text = (tmp_path / "report.md").read_text()
    assert "No interval: fewer than 8 targets." in text
    assert "P&#64;K and R&#64;K say nothing here" in text or "P@K and R@K say nothing here" in text


def test_a_run_without_evaluation_has_no_such_section(tmp_path: Path):
    make_run(tmp_path)
    write_report(Folder(str(tmp_path)))
    assert "Judged" not in (tmp_path / "report.md").read_text()


def drop(table: pd.DataFrame, source: str, target: str) -> pd.DataFrame:
    return table[(table["source"] != source) | (table["target"] != target)]


def test_a_truth_with_gaps_judges_what_is_complete(command: Command, tmp_path: Path):
    """Two targets that lack a pair are left out, by name, and the others are judged as ever; the
    error bars are of all pairs.
    """
    make_run(tmp_path / "run")
    folder = Folder(str(tmp_path / "run"))
    whole = compare(folder, record_of(folder), truth_of(truth_rows()), QUIET, replicates=3)
    gappy = drop(drop(truth_rows(), "m9", "m2"), "m4", "m5")
    gappy.to_csv(tmp_path / "gaps.csv", index=False)
    result = command(
        "compare", tmp_path / "run", "--truth", tmp_path / "gaps.csv", "--replicates", "3"
    )
    assert result.code == 0, result.err
    said = (
        "truth 'gaps' lacks 2 of 72 pairs (m9 -> m2, m4 -> m5); judged are the targets that are"
        " complete: left out m2, m5"
    )
    assert said in " ".join(result.err.split())
    assert "no interval: fewer than 8 targets" in " ".join(result.out.split())  # six are left
    for page in ("report.md", "report.html"):
        text = (tmp_path / "run" / page).read_text().replace("&gt;", ">").replace("&#39;", "'")
        assert "lacks 2 of 72 pairs" in text and "left out m2, m5" in text
    keys = ["method", "metric", "k", "target"]
    own, expected = (
        table[table["target"].notna() & table["method"].isin(REAL)]
        .assign(k=table["k"].fillna(0).astype(int))
        .set_index(keys)["value"]
        for table in (table_of(folder, "evaluation.parquet"), whole.evaluation)
    )
    assert set(own.index.get_level_values("target")) == set(TARGETS) - {"m2", "m5"}
    pd.testing.assert_series_equal(own, expected[own.index])
    affinity = table_of(folder, "affinity.parquet")
    assert affinity[["low", "high"]].notna().all(axis=None)
    assert (affinity["low"] <= affinity["value"] + 0.2).all()


def test_a_source_that_many_targets_lack_is_left_out_instead(tmp_path: Path):
    folder, told = make_run(tmp_path), []
    truth = truth_rows()
    truth = truth[(truth["source"] != "m9") | (truth["target"] == "m0")]
    found = compare(folder, record_of(folder), truth_of(truth), Terminal(quiet=True), replicates=3)
    told = found.about["gaps"]
    assert "lacks 7 of 72 pairs (m9 -> m1, m9 -> m2, m9 -> m3, ...)" in told
    assert "by the sources that all of them have: left out m9" in told
    assert found.evaluation["target"].nunique() == 8 and found.evaluation["k"].max() == 8


def test_an_accuracy_table_with_empty_cells_has_gaps(command: Command, tmp_path: Path):
    (tmp_path / "wide.csv").write_text("model,x,y\na,0.1,0.5\nb,,0.25\nc,0.3, \n")
    result = command("truth", "import", tmp_path / "wide.csv", "--out", tmp_path / "out.csv")
    assert result.code == 0, result.err
    pairs = pd.read_csv(tmp_path / "out.csv")[["source", "target"]]
    assert set(map(tuple, pairs.to_numpy())) == {("a", "x"), ("c", "x"), ("a", "y"), ("b", "y")}


BAD: list[tuple[Callable[[pd.DataFrame], pd.DataFrame], list[str]]] = [
    (
        lambda t: t[[int(r.source[1]) % 3 != int(r.target[1]) % 3 for r in t.itertuples()]],
        ["lacks the pair", "no target is complete", "measure them"],
    ),
    (lambda t: t[t["target"] != "m4"], ["no target 'm4'"]),
    (lambda t: t.assign(source="x" + t["source"], target="y" + t["target"]), ["no model of this"]),
    (lambda t: pd.concat([t, t[:1]]), ["m1 -> m0", "twice"]),
    (lambda t: t.assign(value=t["value"].mask(t.index == 3, np.inf)), ["m4 -> m0", "finite"]),
    (lambda t: t.drop(columns="value").rename(columns={"loss": "cost"}), ["no column 'value'"]),
    (lambda t: t[:0], ["no rows"]),
]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("plain")
    make_run(place)
    return place


def assert_one_line(result: Result, *words: str) -> None:
    assert result.code == 2, result.err
    assert result.err.count("\n") == 1 and "Traceback" not in result.err, result.err
    for word in words:
        assert word in result.err, result.err


@pytest.mark.parametrize(("change", "words"), BAD)
def test_a_bad_truth_is_one_line(
    command: Command, plain: Path, tmp_path: Path, change: Callable[..., Any], words: list[str]
):
    change(truth_rows()).to_csv(tmp_path / "bad.csv", index=False)
    assert_one_line(command("compare", plain, "--truth", tmp_path / "bad.csv"), *words)
    assert not (plain / "evaluation.parquet").exists()


def test_other_bad_input_is_one_line(command: Command, plain: Path, tmp_path: Path):
    truth = tmp_path / "truth.csv"
    truth_rows().to_csv(truth, index=False)
    asked = command("compare", plain, "--truth", truth, "--methods", "depra")
    assert_one_line(asked, "no method 'depra'", "depara")
    assert_one_line(command("compare", plain), "zoo 'z'", "--truth")
    assert_one_line(command("compare", plain, "--truth", "nowhere"), "nowhere")
    assert_one_line(command("compare", plain, "--truth", tmp_path / "no.csv"), "does not exist")
    assert_one_line(command("compare", tmp_path / "no-run", "--truth", truth), "holds no run")
    seeds = pd.concat(truth_rows(loss=False).assign(seed=seed) for seed in (1, 2))
    seeds[3:].to_csv(tmp_path / "truth.seeds.csv", index=False)
    assert_one_line(command("compare", plain, "--truth", truth), "truth.seeds.csv", "of seed 1")
    assert not (tmp_path / "no-run").exists()


def test_seeds_are_written_and_read_again(tmp_path: Path):
    seeds = pd.concat(truth_rows(s, loss=False).assign(seed=s) for s in range(3))
    truth = with_seeds(truth_of(truth_rows()), seeds, "x")
    write_truth(truth, tmp_path / "t.csv")
    again = read_truth("t.csv", tmp_path).restrict(TARGETS, NAMES)
    assert again.seeds is not None
    np.testing.assert_array_equal(again.seeds, truth.restrict(TARGETS, NAMES).seeds)
    assert again.seeds.shape == (3, 8, 10)


def test_importing_a_truth(command: Command, tmp_path: Path):
    wide = pd.DataFrame({"model": ["a", "b", "c"], "x": [0.1, 0.2, 0.3], "y": [0.5, 0.25, 1.0]})
    wide.to_csv(tmp_path / "wide.csv", index=False)
    result = command("truth", "import", tmp_path / "wide.csv", "--out", tmp_path / "out.csv")
    assert result.code == 0, result.err
    assert "3 sources, 2 targets" in result.out
    table = pd.read_csv(tmp_path / "out.csv").set_index(["source", "target"])["value"]
    assert table["c", "y"] == 1.0 and len(table) == 6
    assert "origin" in (tmp_path / "out.yaml").read_text()
    missing = command("truth", "import", tmp_path / "no.csv", "--out", tmp_path / "o.csv")
    assert_one_line(missing, "no.csv")
    wrong = command("truth", "import", tmp_path / "wide.csv", "--out", tmp_path / "o.txt")
    assert_one_line(wrong, "must end in")
