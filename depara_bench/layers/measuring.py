"""Training and measuring as the command line runs them: what is written where."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import yaml

from depara_bench import record as records
from depara_bench.engine import Engine
from depara_bench.errors import StopError, begun
from depara_bench.layers.job import LayersFile
from depara_bench.layers.measure import measure_layers
from depara_bench.layers.train import train_networks
from depara_bench.run import locked
from depara_bench.storage import Folder
from depara_bench.terminal import Terminal

ACCURACY = "accuracy.csv"
SPLITS = "splits.csv"
SETTINGS = "accuracy.yaml"


def train_to(
    file: LayersFile, out: Path, engine: Engine, terminal: Terminal, *, allow_code: bool = False
) -> pd.DataFrame:
    """Train the job's networks into `out`, see `train_networks`; the drawn scenes are deleted."""
    with locked(Folder(str(out))), terminal.stages() as show, begun(StopError):
        table = train_networks(file, out, engine, allow_code=allow_code, advance=show)
        _forget_scenes(out)
    return table


def measure_to(
    file: LayersFile, out: Path, engine: Engine, terminal: Terminal, *, allow_code: bool = False
) -> pd.DataFrame:
    """Measure every transfer into `out`: accuracy.csv, splits.csv (which images each was trained
    on) and accuracy.yaml (how). Returns the accuracies.

    Killed and started again it goes on at the next transfer. `work`, inside `out`, must be seen by
    all workers.
    """
    out = out.absolute()  # for workers, which stand elsewhere
    folder = Folder(str(out))
    with locked(folder):
        with terminal.stages() as show:
            table, splits = measure_layers(
                file, out / "work", engine, allow_code=allow_code, advance=show
            )
        with begun():
            for name, content in ((SPLITS, splits), (ACCURACY, table)):
                text = content.to_csv(index=False, lineterminator="\n", float_format="%.6g")
                folder.write(name, text.encode())
            folder.write(SETTINGS, _settings(file).encode())
        _forget_scenes(out)
    return table


def _forget_scenes(out: Path) -> None:
    for scenes in (out / "work").glob("scenes-*"):
        shutil.rmtree(scenes, ignore_errors=True)


def _settings(file: LayersFile) -> str:
    job = file.job
    what = {
        "origin": f"'depara-bench layers measure {job.name}': each source frozen up to a layer, the"
        f" rest trained on a share of the target's images",
        "measure": job.measure.model_dump(mode="json"),
        "layers": list(job.layers),
        "versions": records.versions(),
    }
    return yaml.safe_dump(what, sort_keys=False, width=100)
