"""`depara-bench layers`: training, measuring and judging on a small scale, and its mistakes."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import ROOT, SHARED, Result
from scipy import stats

from depara_bench.engine.local import LocalEngine
from depara_bench.errors import InputError
from depara_bench.layers.job import LayersFile, load_layers_job
from depara_bench.layers.measure import measure_layers
from depara_bench.layers.measuring import measure_to, train_to
from depara_bench.layers.networks import network
from depara_bench.terminal import Terminal

Command = Callable[..., Result]
PHOTOGRAPHS = SHARED / "data" / "visda200"
QUIET = Terminal(quiet=True)


def small_job(folder: Path, **fields: object) -> Path:
    """The embedded job, with few scenes and steps, on the networks of `folder`."""
    job = yaml.safe_load((ROOT / "jobs" / "layers-rooms.yaml").read_text())
    for part in (job["training"]["networks"], job["training"]["held_out"]):
        for spec in part.values():
            spec["count"] = 48
    job["training"]["epochs"] = 1
    job["measure"]["train"]["count"] = 120
    job["measure"]["held_out"]["count"] = 40
    job["measure"] |= {"epochs": {"tenth": 2, "hundredth": 1}, "seeds": [0, 1]}
    job["probe"]["count"] = 12
    job |= {"replicates": 5, "truth": None, "layers": ["features.2?", "classifier.*"]}
    job |= {"zoo": str(folder / "zoo.yaml"), **fields}
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Networks, hardly trained, their manifest, a job and its measurement."""
    folder = tmp_path_factory.mktemp("layers")
    shutil.copy(ROOT / "zoo" / "rooms-styles" / "zoo.yaml", folder)
    path = small_job(folder)
    train_to(load_layers_job(str(path)), folder, LocalEngine(), QUIET)
    measure_to(load_layers_job(str(path)), folder, LocalEngine(), QUIET)
    return folder


@pytest.fixture
def file(trained: Path) -> LayersFile:
    return load_layers_job(str(trained / "job.yaml"))


def test_training_writes_networks_and_their_manifest(trained: Path, file: LayersFile):
    assert {model.name for model in file.zoo.models} == {"plain", "places", "foreign"}
    assert all(model.weights and model.sha256 for model in file.zoo.models)
    table = pd.read_csv(trained / "training.csv")
    assert list(table["network"]) == ["plain", "places", "foreign"]
    assert list(table["classes"]) == [10, 8, 10] and table["accuracy"].between(0, 1).all()
    assert not (trained / "work" / "scenes-plain-class_1000-606-48").exists()
    model = network(file.spec("places"), trained)
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 8)


def test_training_goes_on_where_it_was_and_repeats_itself(trained: Path, tmp_path: Path):
    path = small_job(trained)
    file = load_layers_job(str(path))
    weights = trained / "weights" / "plain.safetensors"
    before, stamp = weights.read_bytes(), weights.stat().st_mtime_ns
    train_to(file, trained, LocalEngine(), QUIET)
    assert weights.stat().st_mtime_ns == stamp
    (trained / "weights" / "plain.safetensors").unlink()
    train_to(file, trained, LocalEngine(), QUIET)
    assert weights.read_bytes() == before


def test_every_transfer_is_measured(trained: Path, file: LayersFile):
    table = pd.read_csv(trained / "accuracy.csv", keep_default_na=False)
    layers = ["features.22", "features.25", "classifier.0", "classifier.2"]
    assert list(table.columns) == ["source", "layer", "depth", "fraction", "seed", "accuracy"]
    assert len(table) == (1 + 2 * 4) * 2 * 2 and table["accuracy"].between(0, 1).all()
    assert not table.duplicated(["source", "layer", "fraction", "seed"]).any()
    for source in ("plain", "places"):
        rows = table[table["source"] == source]
        assert list(dict.fromkeys(rows["layer"])) == layers
        assert sorted(set(rows["depth"])) == [7, 8, 9, 10]
    assert set(table[table["source"] == "scratch"]["layer"]) == {""}
    assert set(np.round(table["accuracy"] * 40, 4) % 1) == {0.0}  # hits over 40 images
    settings = yaml.safe_load((trained / "accuracy.yaml").read_text())
    assert settings["measure"]["seeds"] == [0, 1] and "torch" in settings["versions"]
    splits = pd.read_csv(trained / "splits.csv")
    sizes = splits.groupby(["fraction", "seed"]).size()
    assert list(sizes) == [2, 2, 12, 12]
    assert not splits.duplicated(["fraction", "seed", "image"]).any()


def test_measuring_goes_on_at_the_next_transfer(trained: Path, file: LayersFile):
    accuracies = {p: p.stat().st_mtime_ns for p in (trained / "work").rglob("*.json")}
    assert len(accuracies) == 36
    lost = sorted(accuracies)[5]
    content = lost.read_bytes()
    lost.unlink()
    before = (trained / "accuracy.csv").read_bytes()
    measure_to(file, trained, LocalEngine(), QUIET)
    assert lost.read_bytes() == content and (trained / "accuracy.csv").read_bytes() == before
    assert all(p.stat().st_mtime_ns == t for p, t in accuracies.items() if p != lost)


def test_each_layer_starts_from_the_sources_own_weights(trained: Path, tmp_path: Path):
    """Measured alone, a layer has the accuracy it has among all."""
    before = pd.read_csv(trained / "accuracy.csv", keep_default_na=False)
    alone = load_layers_job(
        str(trained / "job.yaml"),
        ["layers=[classifier.0]", "sources=[places]", "measure.seeds=[1]"],
    )
    table, _ = measure_layers(alone, tmp_path, LocalEngine())
    for _, row in table.iterrows():
        same = (before[["source", "layer", "fraction", "seed"]] == row[
            ["source", "layer", "fraction", "seed"]]).all(axis=1)  # fmt: skip
        assert before[same]["accuracy"].to_list() == [pytest.approx(row["accuracy"])]


@pytest.fixture(scope="module")
def finished(trained: Path) -> Path:
    from depara_bench.layers.run import run_layers
    from depara_bench.storage import Folder

    file = load_layers_job(str(trained / "job.yaml"), [f"truth={trained / 'accuracy.csv'}"])
    run_layers(file, Folder(str(trained / "run")), LocalEngine(), QUIET)
    return trained / "run"


def test_a_run_writes_its_tables(finished: Path):
    table = pd.read_parquet(finished / "layers.parquet")
    assert list(table.columns) == [
        "method", "source", "layer", "depth", "fraction", "lambda", "value", "low", "high",
    ]  # fmt: skip
    assert len(table) == 2 * 4 * 4 and np.isfinite(table["value"]).all()
    assert (table["low"] <= table["high"]).all()
    plain = table[table["source"] == "plain"]
    nodes, edges = (plain[plain["method"] == f"depara-{part}"] for part in ("nodes", "edges"))
    for fraction, weight in (("tenth", 1.0), ("hundredth", 10.0)):
        both = nodes["value"].to_numpy() + weight * edges["value"].to_numpy()
        rows = plain[plain["fraction"] == fraction]
        np.testing.assert_allclose(rows["value"], both)
        assert list(rows["layer"]) == list(nodes["layer"]) and set(rows["lambda"]) == {weight}
    record = json.loads((finished / "run.json").read_text())
    assert record["status"] == "done" and record["target_layer"] == "classifier.4"
    assert record["probe"]["count"] == 12


def test_the_report_is_written_again_from_the_tables(
    command: Command, finished: Path, tmp_path: Path
):
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    pages = [*(out / "figures").iterdir(), out / "report.html", out / "report.md"]
    before = {path: path.read_bytes() for path in pages}
    for path in pages:
        path.unlink()
    assert command("report", out, "-q").code == 0
    assert {path: path.read_bytes() for path in pages} == before
    assert set((out / "figures").iterdir()) == {p for p in pages if p.suffix == ".svg"}


def test_a_run_is_judged_by_the_measured_accuracies(finished: Path, trained: Path):
    found = pd.read_parquet(finished / "evaluation.parquet")
    accuracy = pd.read_csv(trained / "accuracy.csv", keep_default_na=False)
    table = pd.read_parquet(finished / "layers.parquet")
    for source in ("plain", "places"):
        here = (accuracy["source"] == source) & (accuracy["fraction"] == 0.1)
        means = accuracy[here].groupby("layer", sort=False)["accuracy"].mean()
        rows = (table["source"] == source) & (table["method"] == "depara-nodes")
        nodes = table[rows].set_index("layer")["value"]
        judged = found[(found["source"] == source) & (found["fraction"] == "tenth")]
        judged = judged.set_index(["method", "metric"])
        if np.ptp(means) > 0:
            expected = stats.spearmanr(nodes[means.index], means).statistic
            assert judged.loc[("depara-nodes", "spearman"), "value"] == pytest.approx(expected)
        best = means.max() - means[nodes.idxmax()]
        assert judged.loc[("depara-nodes", "regret"), "value"] == pytest.approx(best)
        assert ("depth", "spearman") in judged.index and ("random", "regret") in judged.index


def test_the_report_draws_similarity_and_accuracy_in_one_figure(finished: Path):
    html, text = (finished / "report.html").read_text(), (finished / "report.md").read_text()
    for source in ("plain", "places"):
        svg = (finished / "figures" / f"layers-{source}.svg").read_text()
        for curve in ("accuracy, tenth", "depara, λ = 10 (hundredth)", "nodes", "edges"):
            assert curve in svg
        assert f"figures/layers-{source}.svg" in text
    for page in (html, text):
        for word in ("depth", "self-agreement", "classifier.2", "From scratch"):
            assert word in page
        assert not re.search(r"\bnan\b", page, flags=re.IGNORECASE)
    assert html.count("<svg") == 3


def test_without_a_truth_there_are_similarities_only(
    command: Command, trained: Path, finished: Path
):
    out = trained / "again"
    shutil.copytree(finished, out)
    result = command("layers", trained / "job.yaml", "--engine", "local", "--out", out)
    assert result.code == 0 and "report:" in result.out
    left = {p.relative_to(out).as_posix() for p in out.rglob("*") if not p.name.startswith(".")}
    assert left == {
        "run.json", "layers.parquet", "report.html", "report.md", "figures",
        "figures/layers-plain.svg", "figures/layers-places.svg",
    }  # fmt: skip
    assert pd.read_parquet(out / "layers.parquet").equals(
        pd.read_parquet(finished / "layers.parquet")
    )


def test_the_layers_are_listed_without_weights(command: Command):
    result = command("layers", "layers-visda", "--list")
    rows = [line.split() for line in result.out.splitlines()[1:]]
    for source in ("imagenet", "synthetic"):
        own = [row for row in rows if row[0] == source]
        assert len(own) == 19 and [row[-1] == "yes" for row in own] == [True] * 18 + [False]
        assert [row[2] for row in own] == [
            *(f"features.{i}" for i in (0, 3, 7, 10, 14, 17, 20, 23, 27)),
            *(f"features.{i}" for i in (30, 33, 36, 40, 43, 46, 49)),
            *(f"classifier.{i}" for i in (0, 3, 6)),
        ]


MISTAKES = {
    "layers=[featurs.*]": "no layer fits 'featurs.*'; nearest: features.",
    "layers=[classifier.2]": "chooses 1 layers of 'plain'; at least 3",
    "sources=[plainn]": "has no model 'plainn'; nearest: plain",
    "sources=[plain, plain]": "sources: each at most once",
    "target=nothing": "has no model 'nothing'",
    "activation=after": "activation",
    "truth=nowhere.csv": "nowhere.csv cannot be read",
    "lambda={tenth: 1}": "'lambda' must have the names of 'measure.fractions'",
    "measure.seeds=[1, 1]": "each seed at most once",
    "measure.fractions={tenth: 1.5, hundredth: 0.1}": "at least one share above 0, up to 1",
    "measure.train.task=rgb2depth": "'rgb2depth' is not one of class_1000, class_places",
    "probe.count=2": "probe",
}


@pytest.mark.parametrize("field", MISTAKES)
def test_mistakes_are_one_line_and_nothing_is_started(command: Command, trained: Path, field: str):
    out = trained / "mistake"
    result = command(
        "layers", trained / "job.yaml", "--engine", "local", "--set", field, "--out", out
    )
    assert result.code == 2 and MISTAKES[field] in result.err
    assert len(result.err.strip().splitlines()) == 1 and not out.exists()


def changed(trained: Path, folder: Path, **fields: object) -> Path:
    """The small job on a manifest whose source 'plain' is changed."""
    manifest = yaml.safe_load((trained / "zoo.yaml").read_text())
    for model in manifest["models"]:
        model["weights"] = str(trained / model["weights"])
    plain = next(model for model in manifest["models"] if model["name"] == "plain")
    plain |= fields
    for key in [key for key, value in plain.items() if value is None]:
        del plain[key]
    (folder / "zoo.yaml").write_text(yaml.safe_dump(manifest))
    return small_job(folder)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"weights": "gone.safetensors", "sha256": None}, "gone.safetensors do not exist"),
        ({"sha256": "0" * 64}, "has SHA-256"),
        ({"factory": "depara_bench.layers.vgg:place", "sha256": None}, "has another shape for"),
        ({"input": {"size": 64, "resize": 32}}, "resize must not be smaller than size"),
        ({"factory": "os:getcwd"}, "allow it for this run with --allow-code"),
    ],
)
def test_networks_that_are_wrong_are_one_line(
    command: Command, trained: Path, tmp_path: Path, fields: dict[str, object], words: str
):
    for words_ in (["layers"], ["layers", "measure"]):
        path = changed(trained, tmp_path, **fields)
        out = tmp_path / "out"
        result = command(*words_, path, "--engine", "local", "--out", out)
        assert result.code == 2 and words in result.err, result.err
        assert len(result.err.strip().splitlines()) == 1


def test_a_checkpoint_with_other_keys_names_the_first_few(
    command: Command, trained: Path, tmp_path: Path
):
    from safetensors.torch import load_file, save_file

    state = load_file(trained / "weights" / "plain.safetensors")
    state["head.bias"] = state.pop("classifier.4.bias")
    save_file(state, tmp_path / "odd.safetensors")
    path = changed(trained, tmp_path, weights=str(tmp_path / "odd.safetensors"), sha256=None)
    result = command("layers", path, "--engine", "local", "--out", tmp_path / "out")
    assert result.code == 2 and "lacks classifier.4.bias" in result.err
    assert "adds head.bias" in result.err and not (tmp_path / "out").exists()


def test_a_truth_that_lacks_a_layer_says_which(command: Command, trained: Path, tmp_path: Path):
    table = pd.read_csv(trained / "accuracy.csv", keep_default_na=False)
    table[table["layer"] != "classifier.0"].to_csv(tmp_path / "some.csv", index=False)
    result = command(
        "layers", trained / "job.yaml", "--engine", "local", "--out", tmp_path / "out",
        "--set", f"truth={tmp_path / 'some.csv'}",
    )  # fmt: skip
    assert result.code == 2 and "lacks 'classifier.0' of 'plain'" in result.err
    assert not (tmp_path / "out").exists()


def test_training_needs_a_recipe(trained: Path, tmp_path: Path):
    file = load_layers_job(str(trained / "job.yaml"), ["training=null"])
    with pytest.raises(InputError, match="has no 'training'"):
        train_to(file, tmp_path / "out", LocalEngine(), QUIET)


def test_the_shipped_measurement_is_that_of_the_shipped_networks():
    """Complete, of the layers that the networks have, by the job's own settings."""
    file = load_layers_job("layers-rooms")
    truth = ROOT / "zoo" / "rooms-styles" / "truth"
    settings = yaml.safe_load((truth / "accuracy.yaml").read_text())
    assert settings["measure"] == file.job.measure.model_dump(mode="json")
    table = pd.read_csv(truth / "accuracy.csv", keep_default_na=False)
    sizes = table.groupby(["source", "fraction"]).size().to_dict()
    seeds = len(file.job.measure.seeds)
    for share in file.job.measure.fractions.values():
        assert sizes["scratch", share] == seeds
        assert sizes["plain", share] == sizes["places", share] == 10 * seeds
    training = pd.read_csv(truth.parent / "training.csv")
    assert (training["accuracy"] > 0.75).all()
    # The two styles and the two tasks matter: the best layer beats training from scratch.
    small_ = table[table["fraction"] == 0.01].groupby(["source", "layer"])["accuracy"].mean()
    assert small_["plain"].max() > small_["scratch"].max()


@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="needs the 200 photographs of VisDA")
def test_the_papers_job_on_some_photographs(command: Command, tmp_path: Path):
    """VGG-19 initialised at random by seeds, 8 photographs, and one epoch of transfer on 24."""
    pytest.importorskip("torchvision")
    names = (PHOTOGRAPHS / "imlist_200.txt").read_text().split()
    folder = PHOTOGRAPHS / "test200"
    (tmp_path / "probe.txt").write_text("\n".join(names[::25]))
    (tmp_path / "image_list.txt").write_text(
        "".join(f"{name} {i % 3}\n" for i, name in enumerate(names[::8][:24]))
    )
    manifest = yaml.safe_load((ROOT / "zoo" / "visda" / "zoo.yaml").read_text())
    for seed, model in enumerate(manifest["models"]):
        del model["weights"]
        model |= {"seed": seed, "input": {**model["input"], "size": 32, "resize": 36}}
    (tmp_path / "zoo.yaml").write_text(yaml.safe_dump(manifest))
    fields = [
        f"zoo={tmp_path / 'zoo.yaml'}", "replicates=10", "sources=[synthetic]",
        f"probe.path={tmp_path / 'probe.txt'}", f"probe.root={folder}",
        f"measure.train.list={tmp_path / 'image_list.txt'}", f"measure.train.root={folder}",
        f"measure.held_out.list={tmp_path / 'image_list.txt'}", f"measure.held_out.root={folder}",
    ]  # fmt: skip
    sets = [word for field in fields for word in ("--set", field)]
    out = tmp_path / "out"
    result = command("layers", "layers-visda", "--engine", "local", "--out", out, *sets)
    assert result.code == 0, result.err
    table = pd.read_parquet(out / "layers.parquet")
    nodes = table[table["method"] == "depara-nodes"]
    assert len(nodes) == 18 and list(nodes["depth"]) == list(range(1, 19))
    assert table["value"].abs().max() <= 11 and np.isfinite(table["value"]).all()
    for field in ("measure.epochs={half: 1}", "measure.fractions={half: 0.5}", "lambda={half: 1}"):
        sets += ["--set", field]
    sets += ["--set", "layers=[classifier.3]"]
    result = command("layers", "measure", "layers-visda", "--engine", "local", "--out", out, *sets)
    assert result.code == 0, result.err
    table = pd.read_csv(out / "accuracy.csv", keep_default_na=False)
    assert list(table["source"]) == ["scratch", "synthetic"]
    splits = pd.read_csv(out / "splits.csv")
    assert set(splits["image"]) <= set(names) and len(splits) == 8


def test_the_commands_of_the_page(command: Command, trained: Path, monkeypatch, tmp_path: Path):
    """With the small networks in place of the shipped ones; else to the letter."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "layers.md").read_text()
    lines = "\n".join(re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)).splitlines()
    found = [shlex.split(line, comments=True) for line in lines if line.startswith("depara-bench")]
    assert {tuple(words[1:3]) for words in found} >= {("layers", "train"), ("layers", "measure")}
    for words in found:
        words = [str(trained / "job.yaml") if word == "layers-rooms" else word for word in words]
        if "--list" not in words:
            words += ["--engine", "local"]
        if words[1:] == ["layers", "--engine", "local"]:  # the default job, shipped: few images
            words += ["--set", "probe.count=8", "--set", "replicates=3"]
        result = command(*words[1:])
        assert result.code == 0, (words, result.err)
    assert (tmp_path / "reports" / "layers-rooms" / "report.html").exists()


CUT = """
from depara_bench.layers.vgg import Vgg


class Cut(Vgg):
    def forward(self, images):
        return super().forward(images.detach())


def cut():
    return Cut(10)
"""


def test_a_layer_without_a_gradient_is_told_before_any_work(
    command: Command, trained: Path, tmp_path: Path
):
    (tmp_path / "cutting.py").write_text(CUT)
    path = changed(trained, tmp_path, factory="cutting:cut", sha256=None)
    out = tmp_path / "out"
    result = command("layers", path, "--engine", "local", "--out", out, "--allow-code")
    assert result.code == 2 and "does not depend on the image" in result.err
    assert len(result.err.strip().splitlines()) == 1 and not out.exists()
