"""Nodes and edges against a plain, slow version; what must not change them; contracts C3 and C4."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata, spearmanr

from depara_bench.engine import Engine, Resources, Slot
from depara_bench.engine.local import LocalEngine
from depara_bench.errors import RunError
from depara_bench.reduce import (
    EDGES,
    ComparePair,
    RankModels,
    Reducer,
    Shared,
    Similarity,
    affinity_table,
    rank_sources,
    reduce,
)
from depara_bench.shards import Shard, encode_shard, shard_path
from depara_bench.similarity.edges import average_ranks, correlations, edge_ranks, edges
from depara_bench.similarity.gram import cosines, gram, pearsons
from depara_bench.similarity.nodes import cosine_sum
from depara_bench.storage import Folder

SEEDS = st.integers(0, 2**32 - 1)
QUICK = settings(max_examples=25, deadline=None)


# --- the plain version -------------------------------------------------------------------------


def plain_cosine(a: Sequence[float], b: Sequence[float]) -> float:
    la, lb = (math.sqrt(math.fsum(float(x) ** 2 for x in v)) for v in (a, b))
    if la == 0.0 or lb == 0.0:
        return 0.0
    return math.fsum(float(x) * float(y) for x, y in zip(a, b, strict=True)) / la / lb


def plain_nodes(maps: Sequence[np.ndarray]) -> np.ndarray:
    """Mean over images of the cosine of two models' maps: (M, M)."""
    count = len(maps[0])
    return np.array(
        [[math.fsum(plain_cosine(a[i], b[i]) for i in range(count)) / count for b in maps]
         for a in maps]
    )  # fmt: skip


def plain_edges(features: np.ndarray, center: bool) -> list[float]:
    rows = [[float(x) for x in row] for row in features]
    n = len(rows)
    if center:
        means = [math.fsum(column) / n for column in zip(*rows, strict=True)]
        rows = [[x - m for x, m in zip(row, means, strict=True)] for row in rows]
    return [plain_cosine(rows[i], rows[j]) for i in range(n) for j in range(i + 1, n)]


def plain_ranks(values: Sequence[float]) -> list[float]:
    """Average ranks; values within 1e-9 of each other tie."""
    below = [sum(w < v - 1e-9 for w in values) for v in values]
    equal = [sum(abs(w - v) <= 1e-9 for w in values) for v in values]
    return [b + (e + 1) / 2 for b, e in zip(below, equal, strict=True)]


def plain_spearman(a: Sequence[float], b: Sequence[float]) -> float:
    ra, rb = (np.array(plain_ranks(v)) for v in (a, b))
    return plain_cosine(ra - ra.mean(), rb - rb.mean())


def plain_edge_matrix(features: Sequence[np.ndarray], center: bool) -> np.ndarray:
    found = [plain_edges(f, center) for f in features]
    return np.array([[plain_spearman(a, b) for b in found] for a in found])


# --- what is tested, through shards on disk -----------------------------------------------------


class Threads(LocalEngine):
    """The local engine with a given number of threads and no more."""

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def run(self, factory, shared, tasks, resources):  # type: ignore[no-untyped-def]
        return super().run(
            lambda s, slot: factory(s, Slot(slot.device, self.threads)), shared, tasks, resources
        )


def write(
    folder: Folder, features: Sequence[np.ndarray], maps: Sequence[np.ndarray], block: int
) -> tuple[list[str], int]:
    models = [f"m{i}" for i in range(len(features))]
    count = len(features[0])
    starts = range(0, count, block)
    for model, feature, values in zip(models, features, maps, strict=True):
        for number, start in enumerate(starts):
            index = np.arange(start, min(start + block, count), dtype=np.int32)
            columns = {
                "feature": np.asarray(feature[index], np.float32),
                "grad": np.asarray(values[index], np.float32),
            }
            shard = Shard(index, [f"i{i}" for i in index], columns)
            folder.write(shard_path(model, number), encode_shard(shard, "key"))
    return models, len(starts)


def reduced(
    path: Path,
    features: Sequence[np.ndarray],
    maps: Sequence[np.ndarray],
    *,
    block: int = 64,
    tile: int = 128,
    center: bool = True,
    engine: Engine | None = None,
) -> dict[str, Similarity]:
    folder = Folder(str(path))
    models, blocks = write(folder, features, maps, block)
    found = reduce(
        folder,
        models,
        images=len(features[0]),
        blocks=blocks,
        methods=["grad"],
        center=center,
        engine=engine or LocalEngine(),
        resources=Resources(gpus=0),
        tile=tile,
    )
    assert folder.files("scratch") == []
    return found


def edge_matrix(features: Sequence[np.ndarray], center: bool = True) -> np.ndarray:
    units = np.stack([edge_ranks(f, center=center).unit for f in features])
    return correlations(units, units)


def node_matrix(maps: Sequence[np.ndarray]) -> np.ndarray:
    with ThreadPoolExecutor(2) as pool:
        return cosine_sum(maps, None, pool).total / len(maps[0])


def random_models(seed: int, models: int, images: int, width: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(images, width)).astype(np.float32) for _ in range(models)]


# --- golden values ------------------------------------------------------------------------------


@pytest.mark.parametrize(("images", "width"), [(12, 40), (25, 3), (3, 7), (10, 1), (4, 2)])
@pytest.mark.parametrize("center", [True, False])
def test_reduced_shards_equal_the_plain_version(
    tmp_path: Path, images: int, width: int, center: bool
) -> None:
    """More features than images and fewer, three images, one feature: as computed by hand."""
    features = random_models(images, 4, images, width)
    maps = random_models(images + 1, 4, images, 30)
    found = reduced(tmp_path, features, maps, block=5, center=center)
    assert np.abs(found["grad"].matrix - plain_nodes(maps)).max() < 1e-12
    assert np.abs(found[EDGES].matrix - plain_edge_matrix(features, center)).max() < 1e-12


def test_edges_equal_scipy() -> None:
    """Correlations equal scipy's spearmanr of the edges, and ranks its rankdata."""
    features = random_models(0, 5, 30, 8)
    values = [edges(f)[0] for f in features]
    scipy = np.array([[spearmanr(a, b).statistic for b in values] for a in values])
    assert np.abs(edge_matrix(features) - scipy).max() < 1e-12
    assert np.array_equal(average_ranks(values[0]), rankdata(values[0]))


@pytest.mark.parametrize("center", [True, False])
def test_ties_of_repeated_images_and_whole_numbers(center: bool) -> None:
    """Repeated images and integer features tie on paper; their ranks are averaged as on paper."""
    rng = np.random.default_rng(5)
    features = []
    for _ in range(3):
        rows = rng.integers(-2, 3, size=(9, 3)).astype(np.float32)
        features.append(np.concatenate([rows, rows[:5]]))
    plain = plain_edge_matrix(features, center)
    assert np.abs(edge_matrix(features, center) - plain).max() < 1e-12
    untied = np.array(
        [[spearmanr(*(np.argsort(np.argsort(plain_edges(f, center))) for f in (a, b))).statistic
          for b in features] for a in features]
    )  # fmt: skip
    assert np.abs(plain - untied).max() > 1e-3  # the case tells average ranks from ordinal ones


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=60))
@QUICK
def test_average_ranks_equal_rankdata(values: list[int]) -> None:
    """Ranks with ties, of both signs, equal scipy's."""
    scaled = np.array(values) / 4
    assert np.array_equal(average_ranks(scaled), rankdata(scaled))


def test_edges_equal_on_paper_tie_whatever_rounding_did() -> None:
    """Differences of one rounding are a tie; differences that float32 features have are not."""
    base = np.array([-1.0, -0.3, 0.1, 0.7, 1.0])
    noisy = np.concatenate([base, np.nextafter(base, 2), np.nextafter(base, -2)])
    assert np.array_equal(average_ranks(noisy), rankdata(np.tile(base, 3)))
    assert np.array_equal(average_ranks(base + np.arange(5) * 1e-7), [1, 2, 3, 4, 5])


# --- zeros --------------------------------------------------------------------------------------


def test_zero_maps_have_cosine_zero_and_are_counted(tmp_path: Path) -> None:
    """A zero map adds 0 to every mean, that with itself included, and is counted."""
    maps = random_models(1, 3, 10, 6)
    maps[1][[2, 7]] = 0.0
    maps[2][:] = 0.0
    found = reduced(tmp_path, random_models(2, 3, 10, 4), maps, block=4, tile=2)["grad"]
    assert np.abs(found.matrix - plain_nodes(maps)).max() < 1e-12
    assert found.matrix[1, 1] == 0.8
    assert not found.matrix[2].any()
    assert found.zeros == {"m1": 2, "m2": 10}


def test_zero_feature_rows(tmp_path: Path) -> None:
    """An all-zero row uncentred, and a row equal to the mean centred: edges 0, counted."""
    features = random_models(3, 2, 8, 3)
    features[0][4] = 0.0
    found = reduced(tmp_path / "a", features, features, center=False)[EDGES]
    assert found.zeros == {"m0": 1}
    assert np.abs(found.matrix - plain_edge_matrix(features, False)).max() < 1e-12

    whole = np.array([[1, 5], [3, 1], [-4, -6], [0, 0], [7, 2], [-7, -2]], np.float32) + 8
    assert edge_ranks(whole).zeros == 1  # row 3 is the mean
    at = [k for k, pair in enumerate(zip(*np.triu_indices(6, 1), strict=True)) if 3 in pair]
    assert not edges(whole)[0][at].any()


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, -1e30, 3e-39])
def test_constant_features_correlate_with_nothing(tmp_path: Path, value: float) -> None:
    """All features constant: correlation 0 with every model and itself, never rounding's noise."""
    features = [*random_models(4, 1, 9, 5), np.full((9, 5), value, np.float32)]
    found = reduced(tmp_path, features, features)[EDGES]
    assert found.zeros == {"m1": 9}
    assert np.array_equal(found.matrix[1], [0.0, 0.0])
    assert edge_ranks(np.full((9, 5), value)).zeros == 9  # of float64, whose mean is rounded
    assert found.matrix[0, 0] == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("scale", [1e-30, 1e30, 2.0**-140])
def test_huge_and_tiny_numbers(scale: float) -> None:
    """Numbers near the ends of float32, subnormal ones too, are compared like any others."""
    rows = [np.rint(m * 64).astype(np.float32) for m in random_models(6, 3, 8, 5)]
    scaled = [r * np.float32(scale) for r in rows]
    assert np.abs(node_matrix(scaled) - plain_nodes(scaled)).max() < 1e-12
    assert np.abs(edge_matrix(scaled) - plain_edge_matrix(scaled, True)).max() < 1e-12
    mixed = [scaled[0], rows[1], rows[2]]
    assert np.abs(node_matrix(mixed) - plain_nodes(mixed)).max() < 1e-12


# --- properties ---------------------------------------------------------------------------------


@given(SEEDS, st.integers(3, 12), st.integers(1, 6))
@QUICK
def test_order_of_images_and_models(seed: int, images: int, width: int) -> None:
    """Another order of the images: the same matrices; of the models: rows and columns follow."""
    models = random_models(seed, 3, images, width)
    rng = np.random.default_rng(seed)
    order, names = rng.permutation(images), rng.permutation(3)
    shuffled = [m[order] for m in models]
    for matrix in (node_matrix, edge_matrix):
        before = matrix(models)
        assert np.abs(before - matrix(shuffled)).max() < 1e-12
        moved = matrix([models[i] for i in names])
        assert np.abs(before[np.ix_(names, names)] - moved).max() < 1e-12


@given(SEEDS, st.floats(1e-6, 1e6), st.integers(0, 2))
@QUICK
def test_positive_scaling(seed: int, scale: float, model: int) -> None:
    """A model's maps or features times a positive number: the same matrices."""
    models = [m.astype(np.float64) for m in random_models(seed, 3, 9, 5)]
    scaled = [m * scale if i == model else m for i, m in enumerate(models)]
    assert np.abs(node_matrix(models) - node_matrix(scaled)).max() < 1e-12
    for center in (True, False):
        assert np.abs(edge_matrix(models, center) - edge_matrix(scaled, center)).max() < 1e-5


def test_pearson_edges_from_the_gram_matrix_of_the_cosine_edges() -> None:
    random = np.random.default_rng(7)
    features = (random.standard_normal((40, 23)) + 5 * random.standard_normal((40, 1))).astype("f4")
    upper = np.triu_indices(40, 1)
    for center in (True, False):
        matrix = gram(features, center=center)
        rows = features.astype(np.float64) - (features.astype(np.float64).mean(0) if center else 0)
        assert np.abs(pearsons(matrix)[0] - np.corrcoef(rows)[upper]).max() < 1e-12
        plain = plain_edges(features, center)
        assert np.abs(cosines(matrix)[0] - plain).max() < 1e-12


def test_a_vector_of_equal_values_has_no_pearson_correlation() -> None:
    features = np.random.default_rng(8).standard_normal((6, 11)).astype("f4")
    features[2] = 0.1  # constant, not zero
    features[4] = 0.0
    values, zeros = pearsons(gram(features, center=False))
    assert zeros == 2
    rows, columns = np.triu_indices(6, 1)
    dead = np.isin(rows, (2, 4)) | np.isin(columns, (2, 4))
    assert not values[dead].any()
    assert values[~dead].all()
    assert cosines(gram(features, center=False))[1] == 1


@given(SEEDS)
@QUICK
def test_rotation_of_features_leaves_edges(seed: int) -> None:
    """Features turned, mirrored, or (when centred) moved: the same edges."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(10, 4))
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    assert np.abs(edges(features)[0] - edges(features @ turn)[0]).max() < 1e-12
    assert np.abs(edges(features)[0] - edges(features @ turn + 3.0)[0]).max() < 1e-12
    assert np.abs(edges(features)[0] - edges(features + 3.0, center=False)[0]).max() > 1e-3


@given(SEEDS, st.integers(3, 10), st.integers(1, 5))
@QUICK
def test_symmetric_with_unit_diagonal(seed: int, images: int, width: int) -> None:
    """Matrices are symmetric, within [-1, 1], and a model with itself has 1."""
    models = random_models(seed, 4, images, width)
    for matrix in (node_matrix(models), edge_matrix(models)):
        assert np.array_equal(matrix, matrix.T)
        assert np.abs(matrix).max() <= 1.0
    assert np.abs(node_matrix(models).diagonal() - 1).max() < 1e-12
    if width > 1:  # with one feature three images may give three equal edges
        assert np.abs(edge_matrix(models).diagonal() - 1).max() < 1e-12


# --- how the work is cut ------------------------------------------------------------------------


def test_tiles_and_blocks_do_not_change_the_numbers(tmp_path: Path) -> None:
    """Any tile size and any shard block size: the same matrices, to rounding, and symmetric."""
    features, maps = random_models(7, 5, 12, 6), random_models(8, 5, 12, 9000)
    whole = reduced(tmp_path / "whole", features, maps)
    assert np.abs(whole["grad"].matrix[:2, :2] - plain_nodes(maps[:2])).max() < 1e-12
    for tile, block in ((1, 12), (2, 3), (3, 1), (5, 7)):
        cut = reduced(tmp_path / f"{tile}-{block}", features, maps, tile=tile, block=block)
        for name, found in cut.items():
            assert np.abs(found.matrix - whole[name].matrix).max() < 1e-12
            assert np.array_equal(found.matrix, found.matrix.T)


def test_threads_do_not_change_a_bit(tmp_path: Path) -> None:
    """1, 2 and 5 threads: matrices identical to the last bit."""
    features, maps = random_models(9, 11, 30, 70), random_models(10, 11, 30, 500)
    runs = [
        reduced(tmp_path / str(n), features, maps, block=8, tile=4, engine=Threads(n))
        for n in (1, 2, 5)
    ]
    for run in runs[1:]:
        for name, found in run.items():
            assert found.matrix.tobytes() == runs[0][name].matrix.tobytes()


def test_models_with_features_of_very_different_widths(tmp_path: Path) -> None:
    """A model of 60,000 features and one of 3 are compared: widths of features need not agree."""
    rng = np.random.default_rng(11)
    features = [rng.normal(size=(24, f)).astype(np.float32) for f in (60_000, 3)]
    maps = random_models(12, 2, 24, 10)
    found = reduced(tmp_path, features, maps)
    assert np.abs(found["grad"].matrix - plain_nodes(maps)).max() < 1e-12
    assert np.abs(found[EDGES].matrix - edge_matrix(features)).max() < 1e-12


@pytest.mark.parametrize(("images", "width"), [(6, 5), (4, 4)])
def test_shards_that_do_not_fit_together_are_named(tmp_path: Path, images: int, width: int) -> None:
    """Maps of another width, or another number of images: one line naming the shard."""
    folder = Folder(str(tmp_path))
    write(folder, random_models(0, 2, 6, 3), random_models(0, 2, 6, 4), 6)
    maps = np.ones((images, width), np.float32)
    shard = Shard(np.arange(images, dtype=np.int32), ["x"] * images, {"grad": maps})
    folder.write(shard_path("m1", 0), encode_shard(shard, "key"))
    worker = Reducer(Shared(folder, 1, True), Slot("cpu", 1))
    with pytest.raises(RunError, match=r"model=m1/block=00000\.parquet: 'grad'") as caught:
        worker(ComparePair("grad", ("m0", "m1"), ("m0", "m1")))
    assert "\n" not in str(caught.value)


def test_a_missing_rank_vector_is_named(tmp_path: Path) -> None:
    """Edges of a model whose ranks are gone: one line naming the file and what to do."""
    folder = Folder(str(tmp_path))
    write(folder, random_models(0, 2, 6, 3), random_models(0, 2, 6, 4), 6)
    worker = Reducer(Shared(folder, 1, True), Slot("cpu", 1))
    assert worker(RankModels(("m0",))) == [0]
    with pytest.raises(RunError, match=r"model=m1\.npy: is missing; run"):
        worker(ComparePair(EDGES, ("m0",), ("m1",)))


# --- contracts C3 and C4 ------------------------------------------------------------------------

NODES = np.array([[1.0, 0.2, 0.3], [0.2, 1.0, 0.5], [0.3, 0.5, 1.0]])
SALIENCY = np.array([[1.0, 0.9, 0.7], [0.9, 1.0, 0.8], [0.7, 0.8, 1.0]])
EDGE = np.array([[1.0, 0.6, 0.1], [0.6, 1.0, -0.2], [0.1, -0.2, 1.0]])


def table(weight: float = 0.5) -> pd.DataFrame:
    return affinity_table(
        {
            EDGES: Similarity(EDGE, {}),
            "grad": Similarity(NODES, {}),
            "saliency": Similarity(SALIENCY, {}),
        },
        models=["a", "b", "c"],
        targets=["c", "a"],
        sources=["a", "b", "c"],
        methods=["grad", "saliency"],
        weight=weight,
    )


def test_affinity_holds_contract_c3() -> None:
    """Columns, types, one row per (method, target, source) with self pairs, method suffixes."""
    found = table()
    assert list(found.columns) == ["method", "target", "source", "value"]
    assert found["value"].dtype == np.float64
    assert all(isinstance(x, str) for c in ("method", "target", "source") for x in found[c])
    names = ["depara", "depara-nodes", "depara-edges", "depara:saliency", "depara-nodes:saliency"]
    assert list(dict.fromkeys(found["method"])) == names
    pairs = [(t, s) for t in "ca" for s in "abc"]
    for name in names:
        part = found[found["method"] == name]
        assert list(zip(part["target"], part["source"], strict=True)) == pairs
    values = found.set_index(["method", "target", "source"])["value"]
    assert values["depara-nodes", "c", "b"] == 0.5
    assert values["depara-nodes:saliency", "c", "b"] == 0.8
    assert values["depara-edges", "c", "b"] == -0.2
    assert values["depara", "c", "b"] == 0.5 + 0.5 * -0.2
    assert values["depara:saliency", "a", "b"] == 0.9 + 0.5 * 0.6
    assert values["depara", "a", "a"] == 1.5


def test_lambda_weighs_the_edges() -> None:
    """Lambda 0 leaves the nodes, a negative one turns the edges round."""
    for weight in (0.0, -2.0, 1e6):
        values = table(weight).set_index(["method", "target", "source"])["value"]
        for target, source in (("c", "a"), ("a", "b")):
            nodes, edge = (values[m, target, source] for m in ("depara-nodes", "depara-edges"))
            assert values["depara", target, source] == nodes + weight * edge


def test_what_is_equal_on_paper_ties() -> None:
    """Values that differ by rounding alone become one value; large ones and NaN rows stay apart."""
    noise = np.array([[0.0, 4e-16, -8e-16], [1e-15, 0.0, 3e-16], [0.0, 0.0, 0.0]])
    large = np.array([[1e300, 1e15 + 1, 1e15], [np.nan] * 3, [123.25, -1e200, 0.0]])
    found = affinity_table(
        {EDGES: Similarity(1.0 / 3 + noise, {}), "grad": Similarity(1.0 / 7 - noise, {})},
        {"constant": 1.0 - np.abs(noise), "large": large},
        models=["a", "b", "c"],
        targets=["a", "b", "c"],
        sources=["a", "b", "c"],
        methods=["grad"],
        weight=0.7,
    )
    for method, values in found.groupby("method")["value"]:
        if method == "large":
            assert values.tolist() == [*large[0], *large[2]]
        else:
            assert values.nunique() == 1
    ranks = rank_sources(found).query("method == 'constant' and target == 'b'")
    assert ranks["source"].tolist() == ["a", "c"]


def test_rankings_hold_contract_c4() -> None:
    """Falling values, ranks 1.. as int32 per method and target, self left out by name."""
    found = rank_sources(table())
    assert list(found.columns) == ["method", "target", "rank", "source", "value"]
    assert found["rank"].dtype == np.int32
    assert not (found["source"] == found["target"]).any()
    assert len(found) == 5 * 2 * 2
    rows = found[(found["method"] == "depara") & (found["target"] == "c")]
    assert rows[["rank", "source", "value"]].to_numpy().tolist() == [[1, "b", 0.4], [2, "a", 0.35]]
    for _, group in found.groupby(["method", "target"], sort=False):
        assert group["rank"].tolist() == [1, 2]
        assert group["value"].is_monotonic_decreasing


def test_ties_keep_the_order_of_the_zoo() -> None:
    """Sources of one value are ranked in zoo order, however many there are."""
    sources = [f"s{(i * 7) % 40:02d}" for i in range(40)]
    values = [1.0 if i % 3 else 2.0 for i in range(40)]
    affinity = pd.DataFrame({"method": "depara", "target": "t", "source": sources, "value": values})
    ranked = rank_sources(affinity)
    expected = [s for v in (2.0, 1.0) for s, w in zip(sources, values, strict=True) if w == v]
    assert ranked["source"].tolist() == expected
    assert ranked["rank"].tolist() == list(range(1, 41))
