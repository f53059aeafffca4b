"""Label-free similarities against a plain version of each formula and against other libraries; what
must not change them; what they give for degenerate input; methods by name and from plug-ins."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes, sqrtm, subspace_angles
from scipy.spatial import procrustes
from scipy.stats import ortho_group, rankdata

from depara_bench.errors import InputError
from depara_bench.similarity.dds import MEASURES, NORMALISATIONS, normalised
from depara_bench.similarity.gram import gram
from depara_bench.similarity.kernels import rbf, squared_distances, u_centred
from depara_bench.similarity.method import Family, Method
from depara_bench.similarity.registry import METHODS as EVERY
from depara_bench.similarity.registry import known, lookup

METHODS = {name: method for name, method in EVERY.items() if method.column == "feature"}
SEEDS = st.integers(0, 2**32 - 1)
QUICK = settings(max_examples=10, deadline=None)
TALL, WIDE = (30, 24), (13, 30)
DDS = [f"dds-{measure}-{form}" for measure in MEASURES for form in NORMALISATIONS]
CKA = ["cka-linear", "cka-linear-debiased", "cka-rbf", "cka-rbf-debiased"]
DIRECTED = ["pwcca", "ridge-r2"]
SCORES = [name for name in METHODS if name != "ridge-r2"]  # of at most 1, which is that of oneself

Formula = Callable[[np.ndarray, np.ndarray], float]


def zoo(seed: int, shape: tuple[int, int], models: int = 3) -> list[np.ndarray]:
    """Features (N, F) float64 of models that have a part in common, around a mean of their own."""
    rng = np.random.default_rng(seed)
    common = rng.standard_normal(shape)
    return [
        common @ rng.standard_normal((shape[1], shape[1])) / 2
        + rng.standard_normal(shape)
        + rng.standard_normal(shape[1])
        for _ in range(models)
    ]


def matrix(name: str, targets: Sequence[np.ndarray], sources: Sequence[np.ndarray]) -> np.ndarray:
    method = METHODS[name]
    sides = [[dict(method.models(f, {name}))[name] for f in side] for side in (targets, sources)]
    found = method.pairs(sides[0], sides[1])
    assert found.shape == (len(targets), len(sources)) and found.dtype == np.float64
    assert np.isfinite(found).all()
    return found


def all_pairs(name: str, features: Sequence[np.ndarray]) -> np.ndarray:
    return matrix(name, features, features)


# --- the plain version -------------------------------------------------------------------------


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sum(a * b) / math.sqrt(np.sum(a * a)) / math.sqrt(np.sum(b * b)))


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    return cosine(a - a.mean(), b - b.mean())


def pairwise(rows: np.ndarray, of: Callable[[np.ndarray, np.ndarray], float]) -> np.ndarray:
    return np.array([[of(a, b) for b in rows] for a in rows])


def triangle(square: np.ndarray) -> np.ndarray:
    return square[np.triu_indices(len(square), 1)]


def around_mean(rows: np.ndarray) -> np.ndarray:
    return rows - rows.mean(axis=0)


def plain_rsa(center: bool) -> Formula:
    def similarity(target: np.ndarray, source: np.ndarray) -> float:
        sides = [around_mean(rows) if center else rows for rows in (target, source)]
        ranks = [rankdata(triangle(1 - pairwise(rows, pearson))) for rows in sides]
        return pearson(*ranks)

    return similarity


def plain_gaussian(rows: np.ndarray, fraction: float) -> np.ndarray:
    squares = pairwise(rows, lambda a, b: float(np.sum((a - b) ** 2)))
    return np.exp(-squares / (2 * fraction**2 * np.median(squares)))


def unbiased_hsic(left: np.ndarray, right: np.ndarray) -> float:
    """Song et al., JMLR 2012, eq. 5."""
    n = len(left)
    k, m = left - np.diag(np.diag(left)), right - np.diag(np.diag(right))
    mixed = k.sum() * m.sum() / (n - 1) / (n - 2) - 2 / (n - 2) * (k @ m).sum()
    return float((np.trace(k @ m) + mixed) / n / (n - 3))


def biased_hsic(left: np.ndarray, right: np.ndarray) -> float:
    n = len(left)
    h = np.eye(n) - 1 / n
    return float(np.trace(left @ h @ right @ h)) / (n - 1) ** 2


def plain_alignment(kernel: Callable[[np.ndarray], np.ndarray], debiased: bool) -> Formula:
    hsic = unbiased_hsic if debiased else biased_hsic

    def similarity(target: np.ndarray, source: np.ndarray) -> float:
        k, m = kernel(target), kernel(source)
        return hsic(k, m) / math.sqrt(hsic(k, k) * hsic(m, m))

    return similarity


def plain_normalised(rows: np.ndarray, form: str) -> np.ndarray:
    """As the published code does it for maps, with runs of features in the place of channels."""
    count, width = rows.shape
    found = rows.copy()
    if form == "centering":
        return around_mean(rows)
    if form == "znorm":
        return around_mean(rows) / rows.std(axis=0)
    if form != "none":
        runs = {"group": 2, "instance": 8, "layer": 1, "batch": 8}[form]
        for run in np.array_split(np.arange(width), runs):
            for images in [range(count)] if form == "batch" else [[i] for i in range(count)]:
                part = rows[np.ix_(images, run)]
                part = (part - part.mean()) / math.sqrt(part.var() + 1e-9)
                found[np.ix_(images, run)] = part
    return found


def plain_dds(measure: str, form: str) -> Formula:
    measures: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "rbf": lambda rows: plain_gaussian(rows, 0.5),
        "laplacian": lambda rows: np.exp(
            -pairwise(rows, lambda a, b: float(np.abs(a - b).sum())) / rows.shape[1]
        ),
        "linear": lambda rows: rows @ rows.T,
        "pearson": lambda rows: 1 - pairwise(rows, pearson),
        "euclidean": lambda rows: pairwise(rows, lambda a, b: math.sqrt(np.sum((a - b) ** 2))),
        "cosine": lambda rows: 1 - pairwise(rows, cosine),
    }
    return plain_alignment(lambda rows: measures[measure](plain_normalised(rows, form)), True)


def plain_reduced(rows: np.ndarray) -> np.ndarray:
    """Scores (N, k) on the principal components with 99 % of the variance."""
    u, s, _ = np.linalg.svd(around_mean(rows), full_matrices=False)
    count = next(k for k in range(1, len(s) + 1) if (s[:k] ** 2).sum() >= 0.99 * (s**2).sum())
    return u[:, :count] * s[:count]


def plain_svcca(target: np.ndarray, source: np.ndarray) -> float:
    angles = subspace_angles(plain_reduced(target), plain_reduced(source))
    return float(np.cos(angles).mean())


def plain_pwcca(target: np.ndarray, source: np.ndarray) -> float:
    x, y = plain_reduced(source), plain_reduced(target)
    whiten_x, whiten_y = (np.linalg.inv(sqrtm(z.T @ z).real) for z in (x, y))
    a, correlations, _ = np.linalg.svd(whiten_x @ x.T @ y @ whiten_y, full_matrices=False)
    loadings = (x @ whiten_x @ a).T @ around_mean(source)
    common = correlations > 1 - 1e-9
    # Directions in both spans: the principal ones of the source's features.
    _, sizes, principal = np.linalg.svd(loadings[common], full_matrices=False)
    loadings[common] = sizes[:, None] * principal
    return float(np.average(correlations, weights=np.abs(loadings).sum(axis=1)))


def plain_procrustes(target: np.ndarray, source: np.ndarray) -> float:
    a, b = (x / np.linalg.norm(x) for x in map(around_mean, (target, source)))
    rotation, _ = orthogonal_procrustes(a, b)
    return 1 - float(np.linalg.norm(a @ rotation - b) ** 2) / 2


def plain_ridge(target: np.ndarray, source: np.ndarray) -> float:
    """By refitting: weights of the features, five times."""
    count = len(source)
    penalty = 0.3 * (around_mean(source) ** 2).sum() / count
    error, constant = 0.0, 0.0
    for fold in np.array_split(np.random.default_rng(0).permutation(count), 5):
        rest = np.setdiff1d(np.arange(count), fold)
        x, y = source[rest], target[rest]
        centred = around_mean(x)
        weights = np.linalg.solve(
            centred.T @ centred + penalty * np.eye(x.shape[1]), centred.T @ around_mean(y)
        )
        predicted = (source[fold] - x.mean(axis=0)) @ weights + y.mean(axis=0)
        error += ((target[fold] - predicted) ** 2).sum()
        constant += ((target[fold] - y.mean(axis=0)) ** 2).sum()
    return 1 - error / constant


PLAIN: dict[str, Formula] = {
    "rsa": plain_rsa(False),
    "rsa-centred": plain_rsa(True),
    "cka-linear": plain_alignment(lambda rows: rows @ rows.T, False),
    "cka-linear-debiased": plain_alignment(lambda rows: rows @ rows.T, True),
    "cka-rbf": plain_alignment(lambda rows: plain_gaussian(rows, 1.0), False),
    "cka-rbf-debiased": plain_alignment(lambda rows: plain_gaussian(rows, 1.0), True),
    "svcca": plain_svcca,
    "pwcca": plain_pwcca,
    "procrustes": plain_procrustes,
    "ridge-r2": plain_ridge,
    **{f"dds-{m}-{form}": plain_dds(m, form) for m in MEASURES for form in NORMALISATIONS},
}


def test_every_method_has_a_plain_version() -> None:
    assert set(PLAIN) == set(METHODS) and len(DDS) == 42


@pytest.mark.parametrize("name", METHODS)
def test_the_plain_formula(name: str) -> None:
    for shape in TALL, WIDE:
        features = zoo(1, shape, models=2)
        expected = [[PLAIN[name](target, source) for source in features] for target in features]
        np.testing.assert_allclose(all_pairs(name, features), expected, rtol=0, atol=1e-9)


# --- other libraries ---------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [TALL, WIDE])
def test_rsa_and_procrustes_against_rsatoolbox(shape: tuple[int, int]) -> None:
    rsatoolbox = pytest.importorskip("rsatoolbox")
    features = zoo(2, shape)

    def compared(measure: str, how: str) -> np.ndarray:
        rdms = [
            rsatoolbox.rdm.calc_rdm(rsatoolbox.data.Dataset(rows), method=measure)
            for rows in features
        ]
        return np.array([[rsatoolbox.rdm.compare(a, b, how)[0, 0] for b in rdms] for a in rdms])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spearman = compared("correlation", "spearman")
        bures = compared("euclidean", "bures")
    np.testing.assert_allclose(all_pairs("rsa", features), spearman, rtol=0, atol=1e-9)
    np.testing.assert_allclose(all_pairs("procrustes", features), bures, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", CKA)
def test_cka_against_ckatorch(name: str) -> None:
    core = pytest.importorskip("ckatorch.core")
    features = zoo(3, (25, 40))  # an odd number, for which both take the same median
    tensors = [torch.from_numpy(rows) for rows in features]
    kernel = "rbf" if "rbf" in name else "linear"
    expected = [
        [float(core.cka_base(a, b, kernel, unbiased="debiased" in name)) for b in tensors]
        for a in tensors
    ]
    np.testing.assert_allclose(all_pairs(name, features), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("measure", MEASURES)
def test_dds_against_sklearn(measure: str) -> None:
    centre = pytest.importorskip("ckatorch.utils").center_gram_matrix
    metrics = pytest.importorskip("sklearn.metrics.pairwise")
    scaler = pytest.importorskip("sklearn.preprocessing").StandardScaler

    def gaussian(rows: np.ndarray) -> np.ndarray:
        width = 0.5 * math.sqrt(np.median(metrics.euclidean_distances(rows, squared=True)))
        return metrics.rbf_kernel(rows, gamma=1 / (2 * width**2))

    measures = {
        "rbf": gaussian,
        "laplacian": metrics.laplacian_kernel,
        "linear": metrics.linear_kernel,
        "pearson": lambda rows: 1 - np.corrcoef(rows),
        "euclidean": metrics.euclidean_distances,
        "cosine": metrics.cosine_distances,
    }
    features = zoo(4, (24, 64))
    scaled = [scaler().fit_transform(rows) for rows in features]
    flat = [
        centre(torch.from_numpy(measures[measure](rows)), unbiased=True).ravel() for rows in scaled
    ]
    expected = [[cosine(a.numpy(), b.numpy()) for b in flat] for a in flat]
    found = all_pairs(f"dds-{measure}-znorm", features)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_normalisations_are_those_of_maps() -> None:
    # 8 channels of 4 x 4 positions, flattened channel by channel.
    rows = zoo(5, (10, 128), models=1)[0]
    maps = torch.from_numpy(rows).reshape(10, 8, 4, 4)
    expected = {
        form: torch.nn.functional.group_norm(maps, groups, eps=1e-9)
        for form, groups in (("group", 2), ("instance", 8), ("layer", 1))
    }
    expected["batch"] = torch.nn.functional.batch_norm(maps, None, None, training=True, eps=1e-9)
    for form, values in expected.items():
        found = normalised(rows, form)
        np.testing.assert_allclose(found, values.reshape(10, 128).numpy(), rtol=0, atol=1e-9)


def test_procrustes_against_scipy() -> None:
    first, second = zoo(6, TALL, models=2)
    # scipy scales one side as well as rotating it, which leaves 1 - (nuclear norm)^2.
    _, _, disparity = procrustes(first, second)
    found = matrix("procrustes", [first], [second])[0, 0]
    assert 1 - found**2 == pytest.approx(disparity, abs=1e-9)


def test_ridge_against_sklearn() -> None:
    ridge = pytest.importorskip("sklearn.linear_model").Ridge
    target, source = zoo(7, WIDE, models=2)
    penalty = 0.3 * (around_mean(source) ** 2).sum() / len(source)
    predicted, constant = np.empty_like(target), np.empty_like(target)
    for fold in np.array_split(np.random.default_rng(0).permutation(len(source)), 5):
        rest = np.setdiff1d(np.arange(len(source)), fold)
        predicted[fold] = ridge(penalty).fit(source[rest], target[rest]).predict(source[fold])
        constant[fold] = target[rest].mean(axis=0)
    expected = 1 - ((target - predicted) ** 2).sum() / ((target - constant) ** 2).sum()
    assert matrix("ridge-r2", [target], [source])[0, 0] == pytest.approx(expected, abs=1e-9)


# --- batches -----------------------------------------------------------------------------------


def test_gram_from_blocks_of_images_is_the_whole() -> None:
    rows = zoo(8, (23, 11), models=1)[0]
    mean = np.sum([block.sum(axis=0) for block in np.array_split(rows, 4)], axis=0) / len(rows)
    blocks = [block - mean for block in np.array_split(rows, 4)]
    whole = np.block([[a @ b.T for b in blocks] for a in blocks])
    np.testing.assert_allclose(gram(rows).products, whole, rtol=0, atol=1e-12)


def test_linear_cka_from_sums_over_batches_is_the_whole() -> None:
    features = zoo(9, (40, 6), models=2)
    batches = np.array_split(np.arange(40), 7)

    def covariance(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        products, sums = np.zeros((6, 6)), [np.zeros(6), np.zeros(6)]
        for batch in batches:
            products += left[batch].T @ right[batch]
            sums[0] += left[batch].sum(axis=0)
            sums[1] += right[batch].sum(axis=0)
        return products - np.outer(*sums) / 40

    norms = [[np.linalg.norm(covariance(a, b)) for b in features] for a in features]
    expected = norms[0][1] ** 2 / (norms[0][0] * norms[1][1])
    found = matrix("cka-linear", features[:1], features[1:])[0, 0]
    assert found == pytest.approx(expected, abs=1e-12)


# --- what must not change them -----------------------------------------------------------------


@pytest.mark.parametrize("name", SCORES)
@given(seed=SEEDS)
@settings(max_examples=4, deadline=None)
def test_order_of_images(name: str, seed: int) -> None:
    # Fold by fold ridge-r2 sees other images when their order changes.
    features = zoo(seed, TALL)
    order = np.random.default_rng(seed).permutation(len(features[0]))
    found = all_pairs(name, [rows[order] for rows in features])
    np.testing.assert_allclose(found, all_pairs(name, features), rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", METHODS)
def test_order_and_blocks_of_models(name: str) -> None:
    features = zoo(10, TALL, models=4)
    whole = all_pairs(name, features)
    order = [2, 0, 3, 1]
    turned = all_pairs(name, [features[i] for i in order])
    np.testing.assert_allclose(turned, whole[np.ix_(order, order)], rtol=0, atol=1e-12)
    part = matrix(name, features[1:2], features[2:])
    np.testing.assert_allclose(part, whole[1:2, 2:], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", METHODS)
def test_symmetric_as_declared_and_closest_to_itself(name: str) -> None:
    found = all_pairs(name, zoo(11, TALL, models=4))
    gap = np.abs(found - found.T).max()
    if name in DIRECTED:
        assert gap > 1e-3 and not METHODS[name].symmetric
    else:
        assert gap < 1e-12 and METHODS[name].symmetric
    if name in SCORES:
        np.testing.assert_allclose(found.diagonal(), 1.0, rtol=0, atol=1e-9)
        assert (found <= 1.0).all()
    assert (found.argmax(axis=1) == np.arange(4)).all()


ROTATION = [
    *CKA, "svcca", "procrustes", "ridge-r2",
    *(f"dds-{m}-{form}" for m in ("rbf", "linear", "euclidean", "cosine")
      for form in ("none", "centering")),
]  # fmt: skip


@pytest.mark.parametrize("name", ROTATION)
@given(seed=SEEDS, wide=st.booleans())
@QUICK
def test_rotation_of_the_features(name: str, seed: int, wide: bool) -> None:
    features = zoo(seed, WIDE if wide else TALL)
    width = features[0].shape[1]
    turns = ortho_group.rvs(width, size=len(features), random_state=seed % 2**31)
    found = all_pairs(name, [rows @ turn for rows, turn in zip(features, turns, strict=True)])
    np.testing.assert_allclose(found, all_pairs(name, features), rtol=0, atol=1e-8)


def test_rotation_matters_where_it_is_not_promised() -> None:
    features = zoo(12, TALL)
    turn = ortho_group.rvs(TALL[1], random_state=0)
    turned = [features[0] @ turn, *features[1:]]
    for name in ("rsa", "rsa-centred", "pwcca", "dds-pearson-none", "dds-cosine-znorm"):
        assert np.abs(all_pairs(name, turned) - all_pairs(name, features)).max() > 1e-4, name


SCALE = [name for name in METHODS if name not in ("dds-laplacian-none", "dds-laplacian-centering")]


@pytest.mark.parametrize("name", SCALE)
@pytest.mark.parametrize("factor", [1e-2, 1e4])
def test_scale_of_the_features(name: str, factor: float) -> None:
    # The published 1e-9 beside the variance is of a size, and seen where that is small.
    atol = 1e-4 if factor < 1 else 1e-8
    features = zoo(13, TALL)
    found = all_pairs(name, [factor * features[0], *features[1:]])
    np.testing.assert_allclose(found, all_pairs(name, features), rtol=0, atol=atol)


@given(seed=SEEDS)
@QUICK
def test_what_u_centring_drops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    square, offsets = rng.standard_normal((9, 9)), rng.standard_normal(9)
    values = triangle(square + square.T)
    moved = values + triangle(offsets[:, None] + offsets)
    np.testing.assert_allclose(u_centred(moved), u_centred(values), rtol=0, atol=1e-12)


# --- degenerate input --------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("value", [0.0, 1.0, 1234.5678])
def test_images_that_are_all_alike_resemble_nothing(name: str, value: float) -> None:
    alive = [rows.astype(np.float32) for rows in zoo(14, TALL, models=2)]
    row = np.linspace(value, 1.5 * value, TALL[1], dtype=np.float32)
    dead = np.repeat(row[None], TALL[0], axis=0)
    found = all_pairs(name, [dead, *alive])
    np.testing.assert_allclose(found[0], 0.0, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found[:, 0], 0.0, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found[1:, 1:], all_pairs(name, alive), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("shape", [TALL, WIDE, (4, 1), (5, 3), (40, 1)])
def test_constant_features_zero_images_and_repeats(name: str, shape: tuple[int, int]) -> None:
    features = [rows.astype(np.float32) for rows in zoo(15, shape)]
    features[0][:, 0] = 0.1  # a constant feature
    features[0][1] = 0.0  # an image without features
    features[1][2] = 0.7  # an image whose features are all equal
    features[1][3] = features[1][0]  # an image twice
    features[2][:-1] = features[2][0]  # all but one image alike
    found = all_pairs(name, features)
    assert (found <= 1.0 + 1e-12).all()


@pytest.mark.parametrize("name", METHODS)
def test_very_few_images(name: str) -> None:
    for count in (2, 3):
        assert (all_pairs(name, zoo(16, (count, 5))) <= 1.0 + 1e-12).all()


def test_a_constant_feature_says_nothing() -> None:
    features = zoo(17, TALL)
    more = [np.hstack([rows, np.full((len(rows), 1), 1e3)]) for rows in features]
    for name in (*CKA, "svcca", "pwcca", "procrustes", "ridge-r2", "dds-rbf-none"):
        found, expected = all_pairs(name, more), all_pairs(name, features)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8, err_msg=name)


def test_a_constant_feature_is_zero_scored() -> None:
    rows = np.random.default_rng(18).standard_normal((50, 3)).astype(np.float32)
    rows[:, 1] = 0.1
    found = normalised(rows, "znorm")
    assert (found[:, 1] == 0.0).all()
    np.testing.assert_allclose(found[:, [0, 2]].std(axis=0), 1.0)


def test_repeated_images_are_at_distance_zero() -> None:
    rows = zoo(19, WIDE, models=1)[0]
    rows[4] = rows[9]
    squares = squared_distances(gram(rows).products)
    assert squares[4, 9] == 0.0 and (triangle(squares) == 0.0).sum() == 1


def test_gaussian_of_mostly_repeated_images_is_its_limit() -> None:
    squares = squared_distances(gram(np.array([[0.0], [0.0], [0.0], [1.0]])).products)
    np.testing.assert_array_equal(rbf(squares, 0.5), np.array(squares == 0.0, dtype=float))


def test_bases_that_span_everything_agree() -> None:
    rng = np.random.default_rng(20)
    features = [rng.standard_normal((10, 500)) for _ in range(2)]
    np.testing.assert_allclose(all_pairs("svcca", features), 1.0, rtol=0, atol=1e-9)
    np.testing.assert_allclose(all_pairs("pwcca", features), 1.0, rtol=0, atol=1e-9)


@given(seed=SEEDS)
@QUICK
def test_pwcca_of_bases_with_directions_in_common(seed: int) -> None:
    features = [np.random.default_rng([seed, m]).standard_normal((12, 7)) for m in range(3)]
    found = all_pairs("pwcca", features)
    np.testing.assert_allclose(all_pairs("pwcca", [f[::-1] for f in features]), found, atol=1e-9)
    assert (found[~np.eye(3, dtype=bool)] < 0.999).all()


def test_ridge_has_a_direction() -> None:
    rng = np.random.default_rng(21)
    rich = rng.standard_normal((60, 6))
    poor = rich[:, :2] @ rng.standard_normal((2, 6))
    (_, poor_from_rich), (rich_from_poor, _) = all_pairs("ridge-r2", [poor, rich])
    assert poor_from_rich > 0.8 > 0.5 > rich_from_poor
    unrelated = matrix("ridge-r2", [rich], [rng.standard_normal((60, 6))])
    assert unrelated[0, 0] < 0.05


# --- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", {id(m): name for name, m in reversed(METHODS.items())}.values())
def test_only_what_is_wanted_is_made(first: str) -> None:
    family = METHODS[first]
    rows = zoo(22, TALL, models=1)[0]
    everything = dict(family.models(rows, family.names))
    assert sorted(everything) == sorted(family.names)
    for name in family.names:
        alone = dict(family.models(rows, [name]))
        assert list(alone) == [name]
        for part, values in alone[name].items():
            np.testing.assert_array_equal(values, everything[name][part])
    assert dict(family.models(rows, ["another"])) == {}


def test_features_are_left_as_they_were() -> None:
    rows = zoo(23, TALL, models=1)[0]
    before = rows.copy()
    for family in METHODS.values():
        list(family.models(rows, family.names))
    np.testing.assert_array_equal(rows, before)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    assert isinstance(lookup("rsa"), Method) and isinstance(lookup("dds-cosine-znorm"), Family)
    with pytest.raises(InputError, match=r"'dds-cosine-zscore'.*dds-cosine-znorm"):
        lookup("dds-cosine-zscore")


PLUG_IN = """
from depara_bench.similarity.method import Method
METHOD = Method("mine", "a test", lambda features: {"unit": features[:, 0]})
NUMBER = 7
"""


def install(path: Path, package: str, points: str) -> None:
    folder = path / f"{package}-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(f"[depara_bench.methods]\n{points}\n")


def test_a_plug_in_is_a_method_like_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plugged_method.py").write_text(PLUG_IN)
    install(tmp_path, "plugged", "mine = plugged_method:METHOD")
    monkeypatch.syspath_prepend(tmp_path)
    method = lookup("mine")
    assert isinstance(method, Method) and method.about == "a test"
    assert "mine" in known() and set(METHODS) < set(known())
    assert "mine" not in METHODS


@pytest.mark.parametrize(
    ("points", "name", "message"),
    [
        ("b = no_such_module:METHOD", "b", "'b' of broken .*ModuleNotFoundError"),
        ("b = plugged_method:NOTHING", "b", "'b' of broken .*AttributeError"),
        ("b = plugged_method:NUMBER", "b", "'b' of broken .* is a int, not a Method"),
        ("b = plugged_method:METHOD", "b", "'b' of broken .* calls itself 'mine'"),
        ("rsa = plugged_method:METHOD", "rsa", "'rsa' is registered by broken"),
    ],
)
def test_a_broken_plug_in_is_one_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, points: str, name: str, message: str
) -> None:
    (tmp_path / "plugged_method.py").write_text(PLUG_IN)
    install(tmp_path, "broken", points)
    monkeypatch.syspath_prepend(tmp_path)
    assert lookup("svcca") is METHODS["svcca"]
    with pytest.raises(InputError, match=message) as error:
        lookup(name)
    assert "\n" not in str(error.value)


def test_a_name_of_two_plug_ins_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plugged_method.py").write_text(PLUG_IN)
    for package in ("first", "second"):
        install(tmp_path, package, "mine = plugged_method:METHOD")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match="'mine' is registered by first, second"):
        lookup("mine")


def test_names_are_unique_and_described() -> None:
    families = list({id(method): method for method in METHODS.values()}.values())
    names = list(itertools.chain.from_iterable(family.names for family in families))
    assert len(names) == len(set(names)) == len(METHODS)
    assert all(family.about and "\n" not in family.about for family in families)
