"""Truths: published results imported exactly, hostile files refused, affinities from win rates."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import SHARED
from hypothesis import given, settings
from hypothesis import strategies as st

from depara_bench.errors import InputError
from depara_bench.truth.ahp import affinities, principal_eigenvector, win_rates
from depara_bench.truth.gaps import find_gaps
from depara_bench.truth.imports import SOURCES, TARGETS, import_truth
from depara_bench.truth.pickles import read_numbers
from depara_bench.truth.table import from_table, read_truth, to_table, write_truth

DATA = SHARED / "data" / "taskonomy"
needs_data = pytest.mark.skipif(
    not DATA.is_dir(), reason="Taskonomy's published pickles are not beside this checkout"
)


def order_of(truth_name: str) -> np.ndarray:
    """Sources (18, 20) by falling value, self put first, as DEPARA's sort_gt.npy has them."""
    truth = import_truth(DATA / f"{truth_name}.pkl")
    value = truth.value.copy()
    for t, target in enumerate(TARGETS):
        value[t, SOURCES.index(target)] = np.inf
    return np.argsort(-value, axis=1, kind="stable")


@needs_data
def test_16k_affinities_give_the_papers_ranking_exactly():
    assert np.array_equal(order_of("all_affinities_16k"), np.load(DATA / "sort_gt.npy"))


@needs_data
@pytest.mark.parametrize(
    ("name", "overlap", "first", "five"),
    [
        ("all_affinities_1k", 79, 1.000, 0.878),
        ("wins_vs_pixels_16k", 82, 1.000, 0.911),
        ("wins_vs_task_16k", 83, 1.000, 0.922),
        ("wins_vs_pixels_1k", 74, 1.000, 0.822),
    ],
)
def test_other_published_truths_against_it(name: str, overlap: int, first: float, five: float):
    """Top-5 overlap of 90, P@1 and P@5 of other truths, used as rankings (papers.md 6.2)."""
    truth = np.load(DATA / "sort_gt.npy")[:, 1:6]
    other = order_of(name)[:, 1:6]
    hits = [len(set(a) & set(b)) for a, b in zip(truth, other, strict=True)]
    assert sum(hits) == overlap
    assert sum(hits) / 90 == pytest.approx(five, abs=5e-4)
    assert np.mean([b[0] in a for a, b in zip(truth, other, strict=True)]) == first


@needs_data
def test_a_published_file_that_lacks_a_task_is_read_without_it():
    value = import_truth(DATA / "all_affinities.pkl").value
    # The task's row and column, and the self pairs, which are never read.
    assert np.isnan(value[TARGETS.index("class_places")]).all()
    assert np.isnan(value[:, SOURCES.index("class_places")]).all()
    assert np.isnan(value).sum() == 18 + (20 - 1) + (18 - 1)


class Evil:
    """Pickles to a call of whatever it was given."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call


def test_a_hostile_pickle_is_refused_before_it_runs(tmp_path: Path):
    marker = tmp_path / "ran"
    import os
    import subprocess

    attacks = [
        Evil(os.system, f"touch {marker}"),
        Evil(eval, f"open({str(marker)!r}, 'w')"),
        Evil(subprocess.call, ["touch", str(marker)]),
        Evil(np.fromfile, str(marker)),
        {"a__b": Evil(Path.touch, marker)},
    ]
    for attack in attacks:
        path = tmp_path / "evil.pkl"
        path.write_bytes(pickle.dumps(attack))
        with pytest.raises(InputError, match=r"evil.pkl: refused") as caught:
            read_numbers(path)
        assert "\n" not in str(caught.value)
        assert not marker.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a pickle",
        pickle.dumps([1, 2]),
        pickle.dumps({"a__b": "text"}),
        pickle.dumps({1: 2.0}),
        pickle.dumps({"a__b": np.arange(3)}),
        pickle.dumps({"a__b": True}),
        pickle.dumps({"a__b": 1.0})[:-4],
    ],
)
def test_what_is_no_dict_of_numbers_is_one_line(tmp_path: Path, content: bytes):
    path = tmp_path / "odd.pkl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"odd.pkl") as caught:
        import_truth(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["<f8", "<f4", ">f8", "<i4", "u1"])
def test_numpy_scalars_are_read(tmp_path: Path, kind: str):
    path = tmp_path / "numbers.pkl"
    path.write_bytes(pickle.dumps({"a__b": np.dtype(kind).type(3), "c__d": 0.25}))
    assert read_numbers(path) == {"a__b": 3.0, "c__d": 0.25}


def test_csv_parquet_and_accuracy_tables(tmp_path: Path):
    table = pd.DataFrame({"source": ["a", "b"], "target": ["t", "t"], "value": [0.25, 0.5]})
    table.to_csv(tmp_path / "long.csv", index=False)
    table.to_parquet(tmp_path / "long.parquet")
    wide = pd.DataFrame({"model": ["a", "b"], "t": [0.25, 0.5]})
    wide.to_csv(tmp_path / "wide.csv", index=False)
    for name in ("long.csv", "long.parquet", "wide.csv"):
        truth = import_truth(tmp_path / name)
        assert truth.sources == ("a", "b") and truth.targets == ("t",)
        assert truth.value.tolist() == [[0.25, 0.5]]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([("a", "t", 1.0), ("a", "t", 2.0)], "a -> t is given twice"),
        ([("a", "t", np.nan)], "a -> t"),
        ([("a", "t", "high")], "'high'"),
        ([], "no rows"),
    ],
)
def test_a_bad_table_names_the_pair(rows: list[tuple[str, str, object]], words: str):
    table = pd.DataFrame(rows, columns=["source", "target", "value"])
    with pytest.raises(InputError, match=words):
        from_table(table, "x", "", "x.csv")


def test_a_run_that_the_truth_does_not_cover(tmp_path: Path):
    rows = [("a", "a", 1.0), ("b", "a", 0.5), ("a", "b", 0.5)]
    truth = from_table(pd.DataFrame(rows, columns=["source", "target", "value"]), "t", "", "t.csv")
    assert truth.restrict(["b", "a"], ["b", "a"]).value[1, 1] == 1.0
    with pytest.raises(InputError, match=r"no source 'c'"):
        truth.restrict(["a"], ["a", "c"])
    rows = [("a", "x", 1.0), ("b", "y", 0.5), ("a", "y", 0.5)]
    truth = from_table(pd.DataFrame(rows, columns=["source", "target", "value"]), "t", "", "t.csv")
    gaps = np.isnan(truth.restrict(["x", "y"], ["a", "b"]).value)
    assert gaps.tolist() == [[False, True], [False, False]]


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 6), st.integers(3, 6), st.data())
def test_what_is_judged_of_a_truth_with_gaps_has_none(targets: int, sources: int, data):
    """And the rule is the one that is told: complete targets, unless they are fewer than half."""
    bits = st.lists(st.booleans(), min_size=targets * sources, max_size=targets * sources)
    known = np.array(data.draw(bits)).reshape(targets, sources)
    own = np.eye(targets, sources, dtype=bool)
    names = [f"m{i}" for i in range(max(targets, sources))]
    found = find_gaps(known, own, names[:targets], names[:sources])
    lacks = ~known & ~own
    if found is None:
        assert lacks.any(axis=1).all()
        return
    part = np.ix_(found.targets, found.sources)
    assert not lacks[part].any() and (~own[part]).sum(axis=1).min() >= 2
    assert (found.rule is None) == (not lacks.any()) and len(found.lacking) == lacks.sum()
    complete = ~lacks.any(axis=1)
    if found.rule == "targets":
        assert (found.targets == complete).all() and found.sources.all()
    if found.rule == "sources":
        assert found.targets.all() and 2 * complete.sum() < targets
        assert (found.sources == ~lacks.any(axis=0)).all()


def test_written_and_read_again(tmp_path: Path):
    rows = [("a", "t", 0.1), ("b", "t", 1 / 3)]
    truth = from_table(
        pd.DataFrame(rows, columns=["source", "target", "value"]), "t", "somebody, 2020", "t"
    )
    for name in ("t.csv", "t.parquet"):
        write_truth(truth, tmp_path / name)
        again = read_truth(name, tmp_path)
        assert np.array_equal(again.value, truth.value) and again.origin == "somebody, 2020"
        assert to_table(again).equals(to_table(truth))


def test_win_rates_equal_counting():
    losses = np.array([[1.0, 2.0, 3.0, 0.0], [1.0, 1.0, 4.0, 0.5], [9.0, 9.0, 9.0, 9.0]])
    wins = win_rates(losses)
    for i in range(3):
        for j in range(3):
            count = sum(
                1.0 if a < b else 0.5 if a == b else 0.0
                for a, b in zip(losses[i], losses[j], strict=True)
            )
            assert wins[i, j] == count / 4
    assert np.array_equal(wins + wins.T, np.ones((3, 3)))
    with pytest.raises(InputError, match="NaN"):
        win_rates(np.array([[1.0, np.nan]]))


def test_a_matrix_whose_eigenvector_is_known():
    """A consistent ratio matrix v_i / v_j has the eigenvector v."""
    vector = np.array([0.5, 0.3, 0.15, 0.05])
    assert np.allclose(principal_eigenvector(vector[:, None] / vector), vector, atol=1e-15)
    # [[1, 2], [8, 1]]: eigenvalue 5, eigenvector (1, 2).
    assert np.allclose(principal_eigenvector(np.array([[1.0, 2.0], [8.0, 1.0]])), [1 / 3, 2 / 3])


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 12), st.integers(1, 60), st.integers(0, 10_000))
def test_affinities_are_the_real_perron_vector(count: int, images: int, seed: int):
    """Against LAPACK, which may wander off into complex numbers; ours is real by construction."""
    losses = np.random.default_rng(seed).integers(0, 6, (count, images)).astype(float)
    wins = win_rates(losses)
    found = affinities(wins)
    clipped = np.clip(wins, 0.001, 0.999)
    values, vectors = np.linalg.eig(clipped / clipped.T)
    expected = np.abs(vectors[:, np.argmax(values.real)].real)
    assert found.dtype == np.float64 and (found > 0).all()
    assert found.sum() == pytest.approx(1.0, abs=1e-12)
    assert np.allclose(found, expected / expected.sum(), rtol=1e-8)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 8), st.integers(1, 40), st.integers(0, 10_000))
def test_a_source_that_wins_more_never_gets_less(count: int, images: int, seed: int):
    """A source that is at least as good as another on every image has at least its affinity."""
    random = np.random.default_rng(seed)
    losses = random.integers(0, 8, (count, images)).astype(float)
    losses[0] = np.minimum(losses[1], losses[0])
    found = affinities(win_rates(losses))
    assert found[0] >= found[1] * (1 - 1e-12)
