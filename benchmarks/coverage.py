"""How often intervals hold what they promise: few targets, and many methods.

    python benchmarks/coverage.py              # a few minutes; see README.md
    python benchmarks/coverage.py --draws 200  # a quick look

First table: how often the 95 % interval of a mean over T targets holds the true mean; beside it
what the percentile interval would, on the same draws. Second: how often, among 60 equal methods,
any pair is told apart.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import combinations

import numpy as np

from depara_bench.intervals import RESAMPLES, ROUNDING, Limits, mean_intervals
from depara_bench.simultaneous import joint_ends

METHODS = 60
TARGETS = (8, 12, 18, 30)
Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]
SHARE, CORRELATION, REGRET = Limits(0.0, 1.0), Limits(-1.0, 1.0), Limits(0.0, 12.0)


def normal(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return random.normal(0.5, 0.1, shape)


def leaning(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Near the top, with a tail below, as correlations of good methods are."""
    return 1.0 - 0.8 * random.beta(1.5, 8.0, shape)


def hits(share: float, of: int) -> Draw:
    return lambda random, shape: random.binomial(of, share, shape) / of


def mixed_hits(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """P@5 where targets differ in how hard they are."""
    return random.binomial(5, random.beta(4.0, 1.0, shape)) / 5.0


def regret(zeros: float, spread: float) -> Draw:
    """Zero for a share of the targets, the others log-normal, at most 12."""

    def draw(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        some = np.minimum(random.lognormal(-1.0, spread, shape), REGRET.high)
        return np.where(random.random(shape) < zeros, 0.0, some)

    return draw


CASES: dict[str, tuple[Draw, Limits]] = {
    "smooth, normal": (normal, CORRELATION),
    "smooth, leaning": (leaning, CORRELATION),
    "P@1 of .50": (hits(0.5, 1), SHARE),
    "P@1 of .80": (hits(0.8, 1), SHARE),
    "P@1 of .95": (hits(0.95, 1), SHARE),
    "P@5 of .80": (hits(0.8, 5), SHARE),
    "P@5 of .97": (hits(0.97, 5), SHARE),
    "P@5, targets unlike": (mixed_hits, SHARE),
    "regret, 40 % zeros": (regret(0.4, 0.8), REGRET),
    "regret, 60 % zeros": (regret(0.6, 0.8), REGRET),
    "regret, 80 % zeros": (regret(0.8, 0.8), REGRET),
    "regret, 60 % zeros, long tail": (regret(0.6, 1.2), REGRET),
}
EQUAL = (
    "smooth, normal", "smooth, leaning", "P@1 of .50", "P@1 of .80", "P@5 of .80",
    "regret, 60 % zeros",
)  # fmt: skip


def percentile(values: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Ends of the percentile interval of each column of values (T, P)."""
    count = len(values)
    drawn = random.multinomial(count, np.full(count, 1 / count), RESAMPLES) / count
    return tuple(np.percentile(drawn @ values, [2.5, 97.5], axis=0))


def held(mean: float, ends: tuple[np.ndarray, ...]) -> float:
    low, high = ends
    return float(((low <= mean + ROUNDING) & (mean - ROUNDING <= high)).mean())


def coverage(draws: int) -> None:
    print("| values | " + " | ".join(f"{t} targets" for t in TARGETS) + " |")
    print("|---|" + "---|" * len(TARGETS))
    for name, (draw, limits) in CASES.items():
        mean = float(draw(np.random.default_rng(1), (1, 4_000_000)).mean())
        cells = []
        for targets in TARGETS:
            random = np.random.default_rng([2, targets])
            values = draw(random, (targets, draws))
            ours = held(mean, mean_intervals(values, [limits] * draws))
            plain = held(mean, percentile(values, random))
            cells.append(f"{ours:.3f} ({plain:.3f})")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def verdicts(leagues: int) -> None:
    one, other = np.array(list(combinations(range(METHODS), 2))).T
    counts = (8, 18, 30)
    print("| values | " + " | ".join(f"{t} targets" for t in counts) + " |")
    print("|---|" + "---|" * len(counts))
    for name in EQUAL:
        draw, limits = CASES[name]
        cells = []
        for targets in counts:
            random, told = np.random.default_rng([3, targets]), 0
            for _ in range(leagues):
                values = draw(random, (targets, METHODS))
                apart = values[:, one] - values[:, other]
                low, high = joint_ends(apart, [limits.difference] * len(one))
                told += bool(((low > ROUNDING) | (high < -ROUNDING)).any())
            cells.append(f"{told / leagues:.3f}")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000, help="sets of targets for each cell")
    parser.add_argument("--leagues", type=int, help="leagues for each cell (default: draws / 10)")
    args = parser.parse_args()
    start = time.perf_counter()
    print(f"\nHow often an interval of 95 % holds the true mean, of {args.draws} sets of targets;")
    print("in brackets the percentile interval.\n")
    coverage(args.draws)
    leagues = args.leagues or max(args.draws // 10, 1)
    print(f"\nHow often any of {METHODS} equal methods are told apart, of {leagues} leagues")
    print(
        "(by the joint intervals before they are made to hold each pair's own: at most so often).\n"
    )
    verdicts(leagues)
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
