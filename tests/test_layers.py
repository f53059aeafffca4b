"""Layer selection: features and attribution of many layers from one pass, freezing, judging."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from depara_bench.errors import InputError, RunError
from depara_bench.layers.chain import choose, unroll, with_head
from depara_bench.layers.data import Images, PhotoSet, draw_share, open_set, stratified_order
from depara_bench.layers.extract import Settings, last_layer, layer_graphs
from depara_bench.layers.finetune import Recipe, accuracy, train_above
from depara_bench.layers.judge import Layers, evaluate, regret, spearman, sweep
from depara_bench.layers.spool import chunked_gram
from depara_bench.layers.vgg import Vgg
from depara_bench.layers.watch import outputs
from depara_bench.similarity.edges import correlations, edge_ranks, unit_ranks
from depara_bench.similarity.gram import cosines, gram
from depara_bench.zoo import InputSpec

SIZE = 16


def small(seed: int = 0, inplace: bool = True, classes: int = 5) -> nn.Module:
    """Two convolutions and two linear layers, statistics of normalisation far from 0 and 1."""
    torch.manual_seed(seed)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(
                nn.Conv2d(3, 4, 3, padding=1),
                nn.BatchNorm2d(4),
                nn.ReLU(inplace),
                nn.MaxPool2d(2),
                nn.Conv2d(4, 6, 3, padding=1),
                nn.ReLU(inplace),
                nn.MaxPool2d(2),
            )
            self.classifier = nn.Sequential(
                nn.Linear(6 * 16, 8), nn.ReLU(inplace), nn.Dropout(), nn.Linear(8, classes)
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.classifier(self.features(x).flatten(1))

    net = Net()
    net.features[1].running_mean.uniform_(-1, 1)
    net.features[1].running_var.uniform_(0.5, 2)
    return net.eval().requires_grad_(False)


LAYERS = ["features.0", "features.4", "classifier.0", "classifier.3"]


def images(count: int = 7, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def how(**changes: object) -> Settings:
    fields = {
        "activation": "pre",
        "scalar": "sum",
        "channels": "abs-mean",
        "center": False,
        "grid": (SIZE, SIZE),
        "batch_size": 3,
    }
    return Settings(**{**fields, **changes})  # type: ignore[arg-type]


def graphs(model: nn.Module, target: np.ndarray | None, layers: list[str] = LAYERS, **changes):
    x = images()
    return layer_graphs(
        model, layers, x, target, how(**changes), images=[str(i) for i in range(len(x))],
        device="cpu", name="net",
    )  # fmt: skip


def slowly(layer: str, activation: str, scalar: str, channels: str, build=small):
    """Features and maps of one layer, image by image, each with a network built anew, cut off
    after the layer: nothing that comes later, and no other layer, can have touched them."""
    features, maps = [], []
    for image in images():
        net = build(inplace=False)
        steps = [*net.features, nn.Flatten(), *net.classifier]
        names = [f"features.{i}" for i in range(7)] + ["flat"]
        names += [f"classifier.{i}" for i in range(4)]
        end = names.index(layer) + 1
        if activation == "post":
            later = range(end, len(steps))
            weighs = [i for i in later if isinstance(steps[i], (nn.Conv2d, nn.Linear))]
            relus = [i for i in later if isinstance(steps[i], nn.ReLU)]
            if relus and (not weighs or relus[0] < weighs[0]):
                end = relus[0] + 1
        x = image[None].clone().requires_grad_(True)
        y = x
        for step in steps[:end]:
            y = step(y)
        total = y.sum() if scalar == "sum" else (y**2).sum().sqrt()
        torch.autograd.backward(total)
        product = (x * x.grad).detach()[0]
        product = product.abs() if channels == "abs-mean" else product
        features.append(y.detach().flatten().numpy())
        maps.append(product.mean(0).flatten().numpy())
    return np.stack(features), np.stack(maps)


@pytest.mark.parametrize("activation", ["pre", "post"])
@pytest.mark.parametrize(
    ("scalar", "channels", "center"), [("sum", "abs-mean", False), ("l2norm", "signed-mean", True)]
)
def test_one_forward_pass_gives_what_a_fresh_network_for_each_layer_gives(
    activation: str, scalar: str, channels: str, center: bool
):
    target = np.random.default_rng(0).normal(size=(7, SIZE * SIZE)).astype(np.float32)
    found = graphs(
        small(), target, activation=activation, scalar=scalar, channels=channels, center=center
    )
    for row, layer in enumerate(LAYERS):
        features, maps = slowly(layer, activation, scalar, channels)
        expected = [a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in zip(maps, target, strict=True)]
        np.testing.assert_allclose(found.cosines[row], expected, atol=1e-5)
        rows = features.astype(np.float64)
        rows = rows - rows.mean(axis=0) if center else rows
        np.testing.assert_allclose(
            found.grams[row].products, rows @ rows.T, atol=1e-5 * np.abs(rows @ rows.T).max()
        )


def test_gradients_of_one_layer_are_not_added_to_those_of_another():
    """Each layer alone, in any order and twice over, has the maps it has among all."""
    target = np.random.default_rng(0).normal(size=(7, SIZE * SIZE)).astype(np.float32)
    net = small()
    together = graphs(net, target).cosines
    for row, layer in enumerate(LAYERS):
        np.testing.assert_array_equal(graphs(net, target, [layer]).cosines[0], together[row])
    backwards = graphs(net, target, LAYERS[::-1]).cosines[::-1]
    np.testing.assert_array_equal(backwards, together)
    # What adding up, as the published code does, would give is far from it.
    maps = [slowly(layer, "pre", "sum", "signed-mean")[1] for layer in LAYERS]
    added = [a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in zip(sum(maps), maps[-1], strict=True)]
    alone = graphs(net, maps[-1], channels="signed-mean").cosines[-1]
    np.testing.assert_allclose(alone, 1.0, atol=1e-6)
    assert np.abs(np.array(added) - 1.0).max() > 0.1
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_rectifier_in_place_does_not_reach_the_layer_before_it():
    pre = outputs(small(), LAYERS, images(), activation="pre", name="net")
    post = outputs(small(), LAYERS, images(), activation="post", name="net")
    plain = outputs(small(inplace=False), LAYERS, images(), activation="pre", name="net")
    for layer in LAYERS:
        assert torch.equal(pre[layer], plain[layer])
    for layer in ("features.4", "classifier.0"):
        assert (pre[layer] < 0).any() and torch.equal(post[layer], pre[layer].clamp(min=0))
    # Between the first convolution and its rectifier there is a normalisation; after the head
    # there is no rectifier.
    assert (post["features.0"] >= 0).all()
    assert not torch.equal(post["features.0"], pre["features.0"].clamp(min=0))
    assert torch.equal(post["classifier.3"], pre["classifier.3"])


@pytest.mark.parametrize("batch_size", [1, 2, 7, 50])
def test_the_size_of_the_batch_changes_nothing(batch_size: int):
    target = np.random.default_rng(0).normal(size=(7, SIZE * SIZE)).astype(np.float32)
    one, other = graphs(small(), target), graphs(small(), target, batch_size=batch_size)
    np.testing.assert_allclose(other.cosines, one.cosines, atol=1e-5)
    for left, right in zip(one.grams, other.grams, strict=True):
        np.testing.assert_allclose(
            right.products, left.products, atol=1e-5 * np.abs(left.products).max()
        )


def test_only_one_forward_pass_a_batch():
    net, calls = small(), []
    net.register_forward_hook(lambda *_: calls.append(1))
    graphs(net, None)
    assert len(calls) == 3  # 7 images, 3 at a time


def test_the_last_layer_of_a_target():
    matrix, maps = last_layer(
        small(), "classifier.3", images(), how(), images=list("abcdefg"), device="cpu", name="net"
    )
    features, expected = slowly("classifier.3", "pre", "sum", "abs-mean")
    np.testing.assert_allclose(maps, expected, atol=1e-6)
    np.testing.assert_allclose(matrix.products, features @ features.T, atol=1e-5)


def test_spooled_features_are_gone_and_their_graph_is_that_of_the_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = graphs(small(), None, center=True)
    assert not list(tmp_path.iterdir())
    features, _ = slowly("features.4", "pre", "sum", "abs-mean")
    one = unit_ranks(cosines(found.grams[1])[0])
    assert correlations(one[None], edge_ranks(features).unit[None])[0, 0] > 1 - 1e-9


@pytest.mark.parametrize("center", [False, True])
def test_gram_by_columns(center: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("depara_bench.layers.spool._CHUNK_BYTES", 8 * 9 * 4)  # 4 columns
    features = np.random.default_rng(3).normal(2, 1, (9, 30)).astype(np.float32)
    one, other = chunked_gram(features, center=center), gram(features, center=center)
    np.testing.assert_allclose(one.products, other.products, atol=1e-10)
    np.testing.assert_allclose(one.means, other.means, atol=1e-12)
    assert one.width == other.width and one.smallest == pytest.approx(other.smallest)


class Odd(nn.Module):
    """Layers that cannot be compared, each for a reason of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair()
        self.cut = nn.Linear(SIZE, 4)
        self.idle = nn.Linear(3, 3)
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.pair(x)
        return self.head(self.cut(x.detach().mean(dim=(1, 2))))


class Pair(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ("pair", "layer 'pair' gives tuple, not a tensor"),
        ("cut", "layer 'cut' does not depend on the image in a differentiable way"),
        ("idle", "never reaches layer 'idle'"),
    ],
)
def test_layers_that_cannot_be_compared_are_named(layer: str, words: str):
    with pytest.raises(InputError, match=words):
        graphs(Odd().eval(), None, [layer])


def test_post_needs_a_rectifier():
    with pytest.raises(InputError, match="no ReLU among its modules"):
        outputs(Odd(), ["cut"], images(), activation="post", name="net")


def test_nan_names_layer_and_image():
    net = small()
    net.classifier[0].weight[0, 0] = torch.nan
    with pytest.raises(RunError, match=r"features of layer 'classifier.0' hold NaN .* image '0'"):
        graphs(net, None)


def test_patterns_choose_layers_and_never_the_head():
    found = choose(small(), ["features.*", "classifier.?"], "net")
    assert [(one.name, one.depth, one.chosen) for one in found] == [
        ("features.0", 1, True), ("features.4", 2, True), ("classifier.0", 3, True),
        ("classifier.3", 4, False),
    ]  # fmt: skip
    assert [one.chosen for one in choose(small(), ["features.4"], "net")] == [0, 1, 0, 0]
    with pytest.raises(InputError, match=r"no layer fits 'feature\.4'; nearest: features\.4"):
        choose(small(), ["feature.4"], "net")
    # Any module, by its own name.
    named = choose(small(), ["features.1", "classifier.0"], "net")
    assert [one.name for one in named if one.chosen] == ["features.1", "classifier.0"]
    assert [one.depth for one in named] == [1, 2, 3, 4, 5]


def test_the_vgg_has_eleven_layers_and_torchvisions_names():
    found = [one.name for one in choose(Vgg(10), ["*"], "vgg")]
    # As torchvision's vgg11_bn; its linear layers have dropout between them.
    assert found[:8] == [f"features.{i}" for i in (0, 4, 8, 11, 15, 18, 22, 25)]
    assert found[8:] == [f"classifier.{i}" for i in (0, 2, 4)]
    assert Vgg(10)(torch.zeros(2, 3, 64, 64)).shape == (2, 10)


def test_what_belongs_to_a_layer_when_it_is_frozen():
    chain = unroll(small(), "net", (SIZE, SIZE))
    below = {layer: chain.names[: chain.cut_after(layer)][-1] for layer in LAYERS[:3]}
    # Normalisation, rectifier and pooling too; dropout is part of the training above it.
    assert below == {
        "features.0": "features.3", "features.4": "flatten", "classifier.0": "classifier.1",
    }  # fmt: skip


def test_a_model_that_is_no_chain_is_refused():
    class Skips(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features, self.classifier = nn.Conv2d(3, 3, 1), nn.Linear(3 * SIZE * SIZE, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.classifier((x + self.features(x)).flatten(1))

    with pytest.raises(InputError, match="is no chain of features and classifier"):
        unroll(Skips(), "net", (SIZE, SIZE))


SPEC = InputSpec(size=SIZE, range=(-1.0, 1.0))


def labelled(count: int, seed: int = 0) -> Images:
    """Two classes that differ in colour."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    pixels = random.integers(0, 120, (count, SIZE, SIZE, 3))
    pixels[labels == 1, :, :, 0] += 130
    found = pixels.astype(np.uint8)
    return Images(tuple(map(str, range(count))), labels.astype(np.int64), 2, lambda i: found[i])


def transfer(layer: str | None, recipe: Recipe, seed: int = 0, epochs: int = 2):
    net = small(classes=2)
    chain = unroll(net, "net", (SIZE, SIZE))
    torch.manual_seed(seed)
    chain = with_head(chain, 2)
    cut = chain.cut_after(layer) if layer else 0
    frozen, rest = chain.below(cut), chain.above(cut).requires_grad_(True)
    before = {k: v.clone() for k, v in nn.ModuleDict({"f": frozen, "r": rest}).state_dict().items()}
    data = labelled(40)
    train_above(
        frozen, rest, data, np.arange(1, 38), SPEC, recipe, epochs=epochs, seed=seed, device="cpu"
    )
    after = nn.ModuleDict({"f": frozen, "r": rest}).state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    return after, changed, accuracy(frozen, rest, labelled(31, 9), SPEC, "cpu")


FAST = Recipe(batch=8, learning_rate=0.05, schedule="cosine")


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize("layer", [None, *LAYERS[:3]])
def test_frozen_layers_stay_as_they_are_and_all_others_learn(layer: str | None, augment: bool):
    recipe = FAST.model_copy(update={"augment": augment})
    after, changed, right = transfer(layer, recipe, epochs=12)
    assert not any(key.startswith("f.") for key in changed)  # statistics of normalisation too
    trained = {key for key in after if key.startswith("r.")}
    assert changed == trained and trained
    if layer in (None, "features.0") and not augment:
        assert right > 0.9
    kept = [key for key in after if "running" in key and key.startswith("f.")]
    assert len(kept) == (2 if layer else 0)


def test_training_repeats_itself():
    first, _, _ = transfer("features.0", FAST, seed=5)
    again, _, _ = transfer("features.0", FAST, seed=5)
    other, _, _ = transfer("features.0", FAST, seed=6)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


def test_what_is_frozen_is_computed_once_and_kept_only_where_it_is_small(
    monkeypatch: pytest.MonkeyPatch,
):
    kept, _, _ = transfer("features.4", FAST)
    monkeypatch.setattr("depara_bench.layers.finetune._KEPT", 10)
    anew, _, _ = transfer("features.4", FAST)
    for key in kept:
        torch.testing.assert_close(kept[key], anew[key], atol=1e-4, rtol=1e-4)


def test_accuracy_is_of_images_not_of_batches(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("depara_bench.layers.finetune._AT_ONCE", 4)
    data = labelled(5)
    data.labels[:] = [0, 0, 0, 0, 1]  # batches of 4 and 1: their mean would be 1/2

    class Zero(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tensor([[1.0, 0.0]]).repeat(len(x), 1)

    assert accuracy(nn.Sequential(), nn.Sequential(Zero()), data, SPEC, "cpu") == 0.8


def test_the_learning_rate():
    from depara_bench.layers.finetune import _rate

    steps = Recipe(learning_rate=0.1, drops=(2, 4))
    assert [_rate(steps, e, 0.0) for e in range(5)] == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])
    assert [_rate(FAST, 0, d) for d in (0, 0.5, 1)] == pytest.approx([0.05, 0.025, 0.0])


@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    share=st.floats(0.02, 1),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_a_share_holds_the_classes_in_the_proportions_of_the_whole(counts, share, seed):
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(len(counts)), counts))
    order = stratified_order(labels, seed)
    assert sorted(order) == list(range(len(labels)))
    rows = draw_share(labels, share, seed)
    assert len(rows) == min(len(labels), max(2, round(share * len(labels))))
    assert (np.diff(rows) > 0).all() and np.array_equal(rows, draw_share(labels, share, seed))
    for label, count in enumerate(counts):
        expected = len(rows) * count / len(labels)
        assert abs((labels[rows] == label).sum() - expected) <= len(counts) + 1


def test_photographs_of_a_list(tmp_path: Path):
    from PIL import Image

    names = [f"with space {i}.png" for i in range(10)]
    for i, name in enumerate(names):
        Image.new("RGB", (20 + i, 20), (i, 0, 0)).save(tmp_path / name)
    (tmp_path / "list.txt").write_text("".join(f"{n} {i % 2}\n" for i, n in enumerate(names)))
    parts = [
        open_set(PhotoSet(kind="photos", list="list.txt", share=share), tmp_path, None)
        for share in ((0.0, 0.7), (0.7, 1.0))
    ]
    assert [len(part.labels) for part in parts] == [7, 3]
    assert sorted(parts[0].names + parts[1].names) == sorted(names)
    for part in parts:
        for row, name in enumerate(part.names):
            number = names.index(name)
            assert part.labels[row] == number % 2 and part.read(row)[0, 0, 0] == number
    (tmp_path / "bad.txt").write_text("a.png 0\nb.png cat\n")
    with pytest.raises(InputError, match=r"bad.txt:2: must read 'path label'"):
        open_set(PhotoSet(kind="photos", list="bad.txt"), tmp_path, None)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize(
    "lines",
    [
        ["sub/a b.png 0", "b.png 1", "c.png 0"],
        ["sub\\a b.png\t0", "b.png\t1", "c.png\t0"],
        ["path,label", "sub/a b.png,0", "b.png, 1", '"c.png",0'],
        ["sub/a b.png;0", "", "b.png;1", "c.png;0"],
    ],
)
def test_forms_of_a_list_of_photographs(tmp_path: Path, encoding: str, lines: list[str]):
    (tmp_path / "l.txt").write_bytes("\r\n".join(lines).encode(encoding))
    found = open_set(PhotoSet(kind="photos", list="l.txt"), tmp_path, None)
    labels = dict(zip(found.names, found.labels.tolist(), strict=True))
    assert labels == {"sub/a b.png": 0, "b.png": 1, "c.png": 0}


def published() -> pd.DataFrame:
    return pd.read_csv(ROOT / "zoo" / "visda" / "published" / "layers.csv")


CASES = [("imagenet", "tenth"), ("imagenet", "hundredth"),
         ("synthetic", "tenth"), ("synthetic", "hundredth")]  # fmt: skip


def test_the_published_correlations_by_the_published_rule_for_ties():
    found = []
    for source, fraction in CASES:
        rows = published()[published()["source"] == source]
        pair = (rows[f"{fraction}_{what}"].to_numpy() for what in ("similarity", "accuracy"))
        found.append(round(spearman(*pair, "ordinal"), 4))
    assert found == [0.8750, 0.8321, 0.9536, 0.9893]


def test_depth_alone_beats_the_published_method_on_its_imagenet_row():
    depth, method = [], []
    for source, fraction in CASES:
        rows = published()[published()["source"] == source]
        accuracy_ = rows[f"{fraction}_accuracy"].to_numpy()
        depth.append(round(spearman(rows["depth"].to_numpy(float), accuracy_), 3))
        method.append(round(spearman(rows[f"{fraction}_similarity"].to_numpy(), accuracy_), 3))
    assert depth == [0.936, 0.996, -0.746, -0.136]
    assert method == [0.883, 0.847, 0.941, 0.988]


@given(left=st.lists(st.integers(-3, 3), min_size=3, max_size=20), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_spearman_with_average_ranks_is_scipys(left, seed):
    one = np.array(left, dtype=np.float64)
    other = np.random.default_rng(seed).integers(-2, 3, len(one)).astype(np.float64)
    found = spearman(one, other)
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        assert found == 0.0
    else:
        assert found == pytest.approx(stats.spearmanr(one, other).statistic, abs=1e-12)
    distinct = np.argsort(np.random.default_rng(seed).random(len(one))).astype(float)
    straight = np.arange(len(one), dtype=float)
    assert spearman(straight, distinct, "ordinal") == pytest.approx(spearman(straight, distinct))


def case(replicates: int = 3) -> tuple[Layers, np.ndarray]:
    random = np.random.default_rng(0)
    nodes, edges = np.array([0.1, 0.4, 0.2, 0.3]), np.array([0.9, 0.0, 0.1, 0.2])
    drawn = (side + random.normal(0, 0.05, (replicates, 4)) for side in (nodes, edges))
    layers = Layers(("a", "b", "c", "d"), (1, 2, 3, 5), nodes, edges, *drawn)
    return layers, np.array([[0.5, 0.6, 0.7, 0.8], [0.5, 0.8, 0.7, 0.9], [0.3, 0.4, 0.8, 0.7]])


def test_the_evaluation_is_what_its_columns_say():
    layers, seeds = case()
    found = evaluate({"s": layers}, {("s", "tenth"): seeds}, {"tenth": 2.0}).set_index(
        ["method", "metric"]
    )
    mean = seeds.mean(axis=0)
    similarity = layers.nodes + 2.0 * layers.edges
    row = found.loc["depara", "spearman"]
    assert row["value"] == pytest.approx(stats.spearmanr(similarity, mean).statistic)
    single = [stats.spearmanr(similarity, one).statistic for one in seeds]
    assert (row["seed_low"], row["seed_high"]) == pytest.approx((min(single), max(single)))
    drawn = layers.drawn_nodes + 2.0 * layers.drawn_edges
    values = [stats.spearmanr(one, mean).statistic for one in drawn]
    assert (row["low"], row["high"]) == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])))
    assert row["lambda"] == 2.0 and row["layer"] == "a"
    assert found.loc["depara", "regret"]["value"] == pytest.approx(mean.max() - mean[0])
    assert found.loc["depth", "regret"]["value"] == pytest.approx(mean.max() - mean[3])
    assert found.loc["depth", "regret"]["layer"] == "d"
    assert np.isnan(found.loc["depth", "spearman"]["low"])
    assert found.loc["random", "regret"]["value"] == pytest.approx(mean.max() - mean.mean())
    pairs = [stats.spearmanr(seeds[i], seeds[j]).statistic for i, j in ((0, 1), (0, 2), (1, 2))]
    assert found.loc["self-agreement", "spearman"]["value"] == pytest.approx(np.mean(pairs))


def test_no_resamples_no_interval():
    layers, seeds = case(0)
    found = evaluate({"s": layers}, {("s", "x"): seeds[:1]}, {"x": 1.0})
    assert found["low"].isna().all() and found["value"].notna().all()
    assert "self-agreement" not in set(found["method"])


def test_the_sweep_over_lambda():
    layers, seeds = case()
    found = sweep({"s": layers}, {("s", "x"): seeds}, [0.0, 0.3, 5.0])
    for weight in (0.0, 0.3, 5.0):
        similarity, mean = layers.nodes + weight * layers.edges, seeds.mean(axis=0)
        rows = found[found["lambda"] == weight].set_index("metric")["value"]
        assert rows["spearman"] == pytest.approx(stats.spearmanr(similarity, mean).statistic)
        assert rows["regret"] == pytest.approx(mean.max() - mean[similarity.argmax()])


def test_regret_of_a_tie_is_the_mean():
    assert regret(np.array([1.0, 1.0, 0.0]), np.array([0.5, 0.7, 0.9])) == pytest.approx(0.3)


def test_the_published_table_is_cited():
    text = (ROOT / "zoo" / "visda" / "published" / "layers.yaml").read_text()
    assert re.search(r"CVPR\s+2020", text)
