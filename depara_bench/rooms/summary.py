"""Measured losses -> a truth: win rates, affinities, and how far a measurement repeats itself.

Tables in, tables out. `losses` everywhere: target, source, size, seed, image, loss (see `measure`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from depara_bench.rooms.measure import RANDOM, SCRATCH
from depara_bench.truth.ahp import affinities, win_rates
from depara_bench.truth.table import Truth


def loss_cube(losses: pd.DataFrame, target: str, sources: Sequence[str]) -> np.ndarray:
    """Losses (S, R, n) float64 of one target and one size: source, seed, held-out image."""
    rows = losses[(losses["target"] == target) & losses["source"].isin(sources)]
    place = pd.Index(sources).get_indexer(pd.Index(rows["source"]))
    ordered = rows.assign(place=place).sort_values(["place", "seed", "image"], kind="stable")
    seeds = rows["seed"].nunique()
    return ordered["loss"].to_numpy(np.float64).reshape(len(sources), seeds, -1)


def measured_truth(
    losses: pd.DataFrame, size: str, targets: Sequence[str], sources: Sequence[str], origin: str
) -> Truth:
    """Affinities (T, S) of one training-set size, as Taskonomy normalises them: win rates over
    (seed, held-out image), ratios, principal eigenvector. With the mean losses, and the affinities
    of each seed alone. A source's transfer to its own task competes with the others.
    """
    part = losses[losses["size"] == size]
    cubes = [loss_cube(part, target, sources) for target in targets]
    value = [affinities(win_rates(cube.reshape(len(sources), -1))) for cube in cubes]
    seeds = [
        [affinities(win_rates(cube[:, seed])) for cube in cubes]
        for seed in range(cubes[0].shape[1])
    ]
    return Truth(
        name=size,
        targets=tuple(targets),
        sources=tuple(sources),
        value=np.stack(value),
        loss=np.stack([cube.mean(axis=(1, 2)) for cube in cubes]),
        origin=origin,
        seeds=np.array(seeds),
    )


def win_table(
    losses: pd.DataFrame, size: str, targets: Sequence[str], sources: Sequence[str]
) -> pd.DataFrame:
    """Rows size, target, source, other, rate: how often `source` beats `other`, over (seed, image);
    with what is no source, SCRATCH and RANDOM, among them.
    """
    part, names = losses[losses["size"] == size], [*sources, SCRATCH, RANDOM]
    frames = []
    for target in targets:
        cube = loss_cube(part, target, names)
        rates = win_rates(cube.reshape(len(names), -1))
        frames.append(
            pd.DataFrame(
                {
                    "size": size,
                    "target": target,
                    "source": np.repeat(names, len(names)),
                    "other": np.tile(names, len(names)),
                    "rate": rates.reshape(-1),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def summarise(losses: pd.DataFrame, truth: Truth) -> pd.DataFrame:
    """One row a target of one truth: the best source, what it gains, and the self-agreement.

    agreement: mean Kendall tau-b between the affinities of two seeds, over all pairs of seeds, self
    excluded (no ceiling: what is close to the mean of the seeds can agree with each by more).
    lowest: the least of them. best, median and worst loss: of sources, self excluded; own_loss:
    from the target's own network (NaN where it has none); scratch and random: of the same readout
    trained with its encoder, and on an encoder that was never trained. spread: standard deviation
    over the seeds of a source's mean loss, averaged over sources.
    """
    assert truth.seeds is not None and truth.loss is not None
    rows = []
    for t, target in enumerate(truth.targets):
        others = np.array([source != target for source in truth.sources])
        taus = _agreements(truth.seeds[:, t][:, others])
        part = losses[(losses["size"] == truth.name) & (losses["target"] == target)]
        means = part.groupby(["source", "seed"])["loss"].mean().unstack("seed")
        mean = truth.loss[t]
        best = int(np.flatnonzero(others)[mean[others].argmin()])
        rows.append(
            {
                "size": truth.name,
                "target": target,
                "agreement": float(np.mean(taus)),
                "lowest": min(taus),
                "best": truth.sources[best],
                "best_loss": mean[best],
                "median_loss": float(np.median(mean[others])),
                "worst_loss": mean[others].max(),
                "own_loss": mean[~others][0] if (~others).any() else np.nan,
                "scratch_loss": means.loc[SCRATCH].mean(),
                "random_loss": means.loc[RANDOM].mean(),
                "spread": means.loc[list(truth.sources)].std(axis=1, ddof=1).mean(),
            }
        )
    return pd.DataFrame(rows)


def _agreements(values: np.ndarray) -> list[float]:
    """Kendall tau-b of each pair of rows of values (R, n), R >= 2."""
    return [float(stats.kendalltau(a, b).statistic) for a, b in combinations(values, 2)]
