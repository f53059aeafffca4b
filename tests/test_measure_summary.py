"""Losses to a truth: win rates, affinities and self-agreement against plain versions."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

from depara_bench.rooms.measure import RANDOM, SCRATCH
from depara_bench.rooms.summary import loss_cube, measured_truth, summarise, win_table

TARGETS, SOURCES = ("a", "b"), ("a", "b", "c", "d")
SEEDS, IMAGES = 3, 40


@pytest.fixture(scope="module")
def losses() -> pd.DataFrame:
    random = np.random.default_rng(5)
    rows = []
    for target in TARGETS:
        for place, source in enumerate((*SOURCES, SCRATCH, RANDOM)):
            for size in ("large", "small"):
                for seed in range(SEEDS):
                    base = 1.0 + 0.3 * place + (size == "small")
                    for image, noise in enumerate(random.random(IMAGES)):
                        rows.append((target, source, size, seed, image, base + noise))
    table = pd.DataFrame(rows, columns=["target", "source", "size", "seed", "image", "loss"])
    return table.sample(frac=1.0, random_state=0)  # no order is relied on


def test_cube_holds_each_loss_at_its_place(losses: pd.DataFrame):
    small = losses[losses["size"] == "small"]
    cube = loss_cube(small, "b", SOURCES)
    assert cube.shape == (len(SOURCES), SEEDS, IMAGES)
    for row in small.sample(30, random_state=1).itertuples():
        if row.target == "b" and row.source in SOURCES:
            assert cube[SOURCES.index(row.source), row.seed, row.image] == row.loss


def test_affinities_are_the_eigenvector_of_clipped_win_ratios(losses: pd.DataFrame):
    truth = measured_truth(losses[losses["size"] == "large"], "large", TARGETS, SOURCES, "here")
    by = losses.set_index(["target", "source", "size", "seed", "image"])["loss"].to_dict()
    for t, target in enumerate(TARGETS):
        wins = np.empty((len(SOURCES), len(SOURCES)))
        for i, one in enumerate(SOURCES):
            for j, other in enumerate(SOURCES):
                won = 0.0
                for seed in range(SEEDS):
                    for image in range(IMAGES):
                        a, b = (by[target, s, "large", seed, image] for s in (one, other))
                        won += 1.0 if a < b else 0.5 if a == b else 0.0
                wins[i, j] = won / (SEEDS * IMAGES)
        wins = np.clip(wins, 0.001, 0.999)
        values, vectors = np.linalg.eig(wins / wins.T)
        vector = np.abs(vectors[:, values.real.argmax()].real)
        assert np.abs(truth.value[t] - vector / vector.sum()).max() < 1e-10
        every = [(seed, image) for seed in range(SEEDS) for image in range(IMAGES)]
        means = [np.mean([by[target, s, "large", r, i] for r, i in every]) for s in SOURCES]
        assert np.allclose(truth.loss[t], means, rtol=1e-12)
    assert truth.seeds.shape == (SEEDS, len(TARGETS), len(SOURCES))
    assert np.allclose(truth.seeds.sum(axis=-1), 1.0)


def test_self_agreement_is_the_mean_tau_over_pairs_of_seeds(losses: pd.DataFrame):
    truth = measured_truth(losses, "small", TARGETS, SOURCES, "here")
    table = summarise(losses, truth).set_index("target")
    for t, target in enumerate(TARGETS):
        others = [i for i, s in enumerate(SOURCES) if s != target]
        taus = [kendalltau(truth.seeds[i, t, others], truth.seeds[j, t, others]).statistic
                for i, j in combinations(range(SEEDS), 2)]  # fmt: skip
        assert table.loc[target, "agreement"] == pytest.approx(np.mean(taus))
        assert table.loc[target, "lowest"] == pytest.approx(min(taus))
    assert table.loc["a", "best"] == "b"  # not itself
    assert table.loc["b", "best"] == "a"
    assert table.loc["a", "scratch_loss"] > table.loc["a", "worst_loss"]


def test_win_rates_of_both_directions_sum_to_one(losses: pd.DataFrame):
    table = win_table(losses, "large", TARGETS, SOURCES)
    assert len(table) == len(TARGETS) * (len(SOURCES) + 2) ** 2
    rates = table.set_index(["target", "source", "other"])["rate"]
    for target, source, other in rates.index:
        assert rates[target, source, other] + rates[target, other, source] == pytest.approx(1.0)
    assert rates["a", "b", SCRATCH] > 0.9
