"""What each quirk of the published settings does to the ranking on the embedded zoo.

    python benchmarks/quirks.py                   # ten minutes; see README.md
    python benchmarks/quirks.py --images 60       # a quick look

One setting at a time is turned from the default; every run is judged by the measured truth. The
difference to the default is paired over the targets, with its 95 % bootstrap interval.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from depara_bench.compare import judged, make_case
from depara_bench.engine import open_engine
from depara_bench.evaluate import Columns
from depara_bench.intervals import ROUNDING, Limits
from depara_bench.job import load_job
from depara_bench.judge import Case, score
from depara_bench.pipeline import read_table
from depara_bench.run import run
from depara_bench.simultaneous import paired
from depara_bench.storage import Folder
from depara_bench.terminal import Terminal
from depara_bench.truth.table import read_truth

METHODS = ("depara", "depara-nodes", "depara-edges")
SETTINGS: dict[str, list[str]] = {
    "default: sum, signed mean, centred, average ranks, λ 1": [],
    "L2 norm of the embedding (eq. 3 as printed)": ["attribution.scalar=l2norm"],
    "absolute mean over channels": ["attribution.channels=abs-mean"],
    "edges of uncentred features": ["edges.center=false"],
    "ordinal ranks": ["edges.ties=ordinal"],
    "preset cvpr-2020": ["preset=cvpr-2020"],
    "preset neurips-2019 (nodes only)": ["preset=neurips-2019"],
}


def scored(folder: Folder, truth: str) -> tuple[Case, dict[str, Columns]]:
    affinity = read_table(folder, "affinity.parquet")
    case, _ = judged(
        make_case(folder, affinity, read_truth(truth, Path()), None, 0), Terminal(True)
    )
    return case, score(case)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--truth", default="rooms")
    args = parser.parse_args()
    scores: list[dict[str, np.ndarray]] = []
    fives: list[float] = []
    with (
        tempfile.TemporaryDirectory(prefix="depara-quirks-") as place,
        open_engine("local") as engine,
    ):
        for number, (name, changes) in enumerate(SETTINGS.items()):
            common = [f"probe.count={args.images}"]
            if changes and changes[0].startswith("preset"):
                common += ["attribution={}", "edges={}", "lambda=" + _preset_lambda(changes[0])]
            else:
                common.append("attribution.methods=[input_x_gradient]")
            folder = Folder(f"{place}/{number}")
            run(load_job("rooms", [*common, *changes]), folder, engine, Terminal(quiet=True))
            case, found = scored(folder, args.truth)
            scores.append({method: found[method]["spearman", None] for method in METHODS})
            fives.append(found["depara"]["p@k", 5].mean())
            print(f"  {name}", flush=True)
    limits, flat = case.limits["spearman", None].difference, Limits(0.0, 0.0)
    differences = [one[method] - scores[0][method] for one in scores for method in METHODS]
    found = paired(
        np.stack(differences, axis=1),
        [limits if np.abs(one).max() > ROUNDING else flat for one in differences],
    )
    rows = []
    for number, name in enumerate(SETTINGS):
        cells = [name]
        for place, method in enumerate(METHODS):
            pair = number * len(METHODS) + place
            joint = found.joint(pair)
            told = joint.low > ROUNDING or joint.high < -ROUNDING
            cells.append(
                f"{scores[number][method].mean():.3f} ({found.value[pair]:+.3f}"
                f" [{found.low[pair]:+.3f}, {found.high[pair]:+.3f}]{' *' if told else ''})"
            )
        rows.append([*cells, f"{fives[number]:.3f}"])
    table = pd.DataFrame(rows, columns=["setting", *METHODS, "P@5 depara"])
    print("\n| " + " | ".join(table.columns) + " |")
    print("|" + "---|" * len(table.columns))
    for _, row in table.iterrows():
        print("| " + " | ".join(row) + " |")
    print(
        f"\nMean Spearman over {len(case.targets)} targets, {args.images} images; in brackets the"
        f" paired difference to the default with its 95 % interval; *: the interval that holds for"
        f" all of this table at once leaves out 0."
    )


def _preset_lambda(change: str) -> str:
    from depara_bench.job import PRESETS

    return str(PRESETS[change.partition("=")[2]]["lambda"])


if __name__ == "__main__":
    main()
