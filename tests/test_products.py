"""Inner products of maps, by BLAS and compiled, against exact sums."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depara_bench.similarity.nodes import cosine_sum
from depara_bench.similarity.products import blas_products, inner_products

Kernel = Callable[..., Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]]
Maps = list[np.ndarray]


@pytest.fixture(params=["blas", "compiled"], scope="module")
def kernel(request: pytest.FixtureRequest) -> Kernel:
    if request.param == "blas":
        return blas_products
    pytest.importorskip("numba", reason="numba, of the extra 'fast', is not installed")
    from depara_bench.similarity import compiled

    return compiled.inner_products


def random_maps(seed: int, models: int, images: int, width: int) -> Maps:
    rng = np.random.default_rng(seed)
    scale = rng.choice([1e-30, 1.0, 1e30], size=(models, images, 1))
    return list((rng.normal(size=(models, images, width)) * scale).astype(np.float32))


def exact(left: Maps, right: Maps | None, image: int) -> tuple[np.ndarray, ...]:
    """Products of float32 are exact in float64, and fsum rounds their sum once."""
    other = left if right is None else right
    rows, columns = ([m[image].astype(float) for m in maps] for maps in (left, other))
    products = np.array([[math.fsum(x * y) for y in columns] for x in rows])
    return (
        products,
        np.array([math.fsum(x * x) for x in rows]),
        np.array([math.fsum(y * y) for y in columns]),
    )


def rounding(width: int) -> float:
    """The most that a float64 sum of so many numbers errs, in any order, per sum of their sizes."""
    return width * 2.0**-53


def check(kernel: Kernel, left: Maps, right: Maps | None, images: range) -> None:
    found = list(kernel(left, right, images))
    most = rounding(left[0].shape[1])
    assert len(found) == len(images)
    for image, (products, left_squares, right_squares) in zip(images, found, strict=True):
        true, a, b = exact(left, right, image)
        lengths = np.sqrt(np.outer(a, b))
        assert (np.abs(products - true) <= most * lengths).all()
        np.testing.assert_allclose(left_squares, a, rtol=most)
        np.testing.assert_allclose(right_squares, b, rtol=most)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    models=st.integers(1, 11),
    others=st.one_of(st.none(), st.integers(1, 7)),
    width=st.one_of(st.integers(1, 40), st.integers(4090, 4110), st.just(9001)),
)
def test_products_equal_exact_sums(
    kernel: Kernel, seed: int, models: int, others: int | None, width: int
) -> None:
    """Any number of models on each side, maps shorter and longer than a block of columns."""
    left = random_maps(seed, models, 3, width)
    right = None if others is None else random_maps(seed + 1, others, 3, width)
    check(kernel, left, right, range(1, 3))


def test_ends_of_float32(kernel: Kernel) -> None:
    """Subnormal numbers, the largest ones, zeros of both signs."""
    ends = np.array([1e-45, -1e-38, 3.4e38, -3.4e38, 0.0, -0.0, 1.0, 7e-42], np.float32)
    maps = [
        np.stack([ends, ends[::-1]]),
        np.zeros((2, 8), np.float32),
        np.roll(ends, 3) * ends[6:7],
    ]
    maps[2] = np.stack([maps[2], maps[2]])
    check(kernel, maps, None, range(2))
    check(kernel, maps, maps[:2], range(2))


def test_arrays_that_are_views_or_locked(kernel: Kernel) -> None:
    """Every second value of a larger array, and one that may not be written to."""
    rng = np.random.default_rng(0)
    views = [rng.normal(size=(4, 60)).astype(np.float32)[::2, ::2] for _ in range(3)]
    views[1] = np.ascontiguousarray(views[1])
    views[1].flags.writeable = False
    check(kernel, views, None, range(2))


def test_compiled_refuses_what_it_would_read_past() -> None:
    """Addresses are read without a guard: shapes and images are looked at before."""
    pytest.importorskip("numba", reason="numba, of the extra 'fast', is not installed")
    from depara_bench.similarity import compiled

    maps = random_maps(0, 2, 3, 10)
    for left, right, images in (
        ([maps[0], maps[1][:, :9]], None, range(1)),
        ([maps[0], maps[1][:2]], None, range(1)),
        (maps, [maps[0][:, :9]], range(1)),
        (maps, None, range(2, 4)),
    ):
        with pytest.raises(ValueError, match="one shape"):
            list(compiled.inner_products(left, right, images))


def test_long_maps_with_and_without_numba() -> None:
    """Cosines of maps long enough to be compiled are those of BLAS, on any number of threads."""
    maps = random_maps(3, 5, 9, 1 << 14)
    sums = []
    for threads in (1, 3):
        with ThreadPoolExecutor(threads) as pool:
            sums.append(cosine_sum(maps, maps[:3], pool))
    assert np.array_equal(sums[0].total, sums[1].total)
    for image, ours in enumerate(inner_products(maps, None, range(9))):
        (plain,) = blas_products(maps, None, range(image, image + 1))
        lengths = np.sqrt(np.outer(plain[1], plain[2]))
        assert (np.abs(ours[0] - plain[0]) <= 2 * rounding(1 << 14) * lengths).all()


@pytest.mark.parametrize(("width", "missing"), [(1 << 14, True), (100, False)])
def test_numba_is_not_loaded_where_it_is_missing_or_not_worth_it(width: int, missing: bool) -> None:
    """Without numba, and for short maps, nothing of it is imported, and the numbers are there."""
    code = (
        "import sys, numpy as np\n"
        f"if {missing}: sys.modules['numba'] = None\n"
        "from depara_bench.similarity.nodes import image_cosines\n"
        f"maps = [np.ones((1, {width}), np.float32)] * 2\n"
        "assert image_cosines(maps, None, 0)[0].tolist() == [[1.0, 1.0], [1.0, 1.0]]\n"
        "assert sys.modules.get('numba') is None\n"
        "assert 'depara_bench.similarity.compiled' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
