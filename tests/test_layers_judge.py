"""Layer selection judged: the published table gives the published figures; hand-made cases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from depara_bench.layers.judge import judge, ordinal_spearman, sweep, verdicts

PUBLISHED = pd.read_csv(Path(__file__).parent.parent / "zoo" / "visda" / "published" / "layers.csv")
CASES = [
    ("ImageNet", "depara_lambda_1", "accuracy_10_percent", 0.8750, 0.8829),
    ("ImageNet", "depara_lambda_10", "accuracy_1_percent", 0.8321, 0.8472),
    ("Source", "depara_lambda_1", "accuracy_10_percent", 0.9536, 0.9414),
    ("Source", "depara_lambda_10", "accuracy_1_percent", 0.9893, 0.9884),
]


def long(source: str = "") -> tuple[pd.DataFrame, pd.DataFrame]:
    """The published table as `verdicts` takes it."""
    table = PUBLISHED.assign(layer="layer" + PUBLISHED["depth"].astype(str))
    similarity = pd.concat(
        table[["source", "layer", "depth"]].assign(method=method, value=table[column])
        for method, column in (
            ("depara-nodes", "nodes"), ("depara-edges", "edges"), ("depara", "depara_lambda_1"),
        )
    )  # fmt: skip
    accuracy = pd.concat(
        table[["source", "layer"]].assign(fraction=fraction, seed=0, accuracy=table[column])
        for fraction, column in ((0.1, "accuracy_10_percent"), (0.01, "accuracy_1_percent"))
    )
    return similarity, accuracy


@pytest.mark.parametrize(("source", "method", "accuracy", "ordinal", "average"), CASES)
def test_the_published_figures(
    source: str, method: str, accuracy: str, ordinal: float, average: float
):
    rows = PUBLISHED[PUBLISHED["source"] == source]
    found = judge(rows[method].to_numpy(), rows[accuracy].to_numpy())
    assert round(found.ordinal, 4) == ordinal and round(found.spearman, 4) == average


def test_depth_alone_beats_the_paper_on_its_imagenet_row():
    found = verdicts(*long()).set_index(["source", "fraction", "method"])
    depth = found.xs("depth", level="method")["spearman"].round(3).to_dict()
    assert depth == {
        ("ImageNet", 0.1): 0.936, ("ImageNet", 0.01): 0.996,
        ("Source", 0.1): -0.746, ("Source", 0.01): -0.136,
    }  # fmt: skip
    parts = {
        "depara-nodes": [0.414, 0.326, 0.754, 0.113],
        "depara-edges": [0.772, 0.831, 0.43, 0.989],
    }
    for name, expected in parts.items():
        assert found.xs(name, level="method")["spearman"].round(3).to_list() == expected


def test_picks_and_regret_of_the_published_table():
    found = verdicts(*long()).set_index(["source", "fraction", "method"])
    picked = found.loc[("ImageNet", 0.1, "depara")]
    assert (picked["picked"], picked["best"]) == ("layer17", "layer15")
    assert picked["regret"] == pytest.approx(0.44)
    picked = found.loc[("Source", 0.1, "depara")]
    assert (picked["picked"], picked["best"]) == ("layer3", "layer5")
    assert picked["regret"] == pytest.approx(0.80)


def test_the_sweep_holds_each_part_alone_and_the_sum():
    similarity, accuracy = long()
    found = sweep(similarity, accuracy).set_index(["source", "fraction", "lambda"])["spearman"]
    alone = verdicts(similarity, accuracy).set_index(["source", "fraction", "method"])["spearman"]
    for source in ("ImageNet", "Source"):
        assert found[source, 0.1, 0.0] == alone[source, 0.1, "depara-nodes"]
        assert found[source, 0.1, np.inf] == alone[source, 0.1, "depara-edges"]
    # Better than with the published choice of 10.
    assert found["ImageNet", 0.01, 1.0] > found["ImageNet", 0.01, 10.0] + 0.05


@given(st.permutations(range(8)), st.permutations(range(8)))
def test_without_ties_the_two_rules_agree(one: list[int], other: list[int]):
    left, right = np.array(one, dtype=float), np.array(other, dtype=float)
    assert ordinal_spearman(left, right) == pytest.approx(spearmanr(left, right).statistic)


def test_ties_and_constants():
    ties = np.array([1.0, 1.0, 2.0])
    found = judge(ties, np.array([2.0, 3.0, 9.0]))
    assert found.spearman == pytest.approx(np.corrcoef([1.5, 1.5, 3], [1, 2, 3])[0, 1])
    assert found.ordinal == pytest.approx(1 - 6 * 2 / 24)
    flat = judge(np.ones(3), np.array([3.0, 2.0, 9.0]))
    assert (flat.spearman, flat.ordinal, flat.picked, flat.regret) == (0.0, 0.0, 0, 6.0)


def test_seeds_are_averaged_and_their_range_is_told():
    layers = ["a", "b", "c"]
    similarity = pd.DataFrame(
        {
            "source": "s",
            "layer": layers,
            "depth": [1, 2, 3],
            "method": "m",
            "value": [1.0, 2.0, 3.0],
        }
    )
    accuracy = pd.DataFrame(
        [("s", layer, 0.1, seed, value) for seed, values in enumerate(([1, 2, 3], [9, 2, 1]))
         for layer, value in zip(layers, values, strict=True)],
        columns=["source", "layer", "fraction", "seed", "accuracy"],
    )  # fmt: skip
    row = verdicts(similarity, accuracy).set_index("method").loc["m"]
    assert (row["low"], row["high"]) == (-1.0, 1.0)
    assert row["spearman"] == spearmanr([1, 2, 3], [5, 2, 2]).statistic
    assert row["regret"] == 3.0 and row["best"] == "a" and row["picked"] == "c"
