"""A truth: what transferring from each source to each target was worth.

On disk (contract C6) a table `source, target, value`, CSV or Parquet, higher is better, with an
optional `loss` (of the transfer, lower is better), and beside it a header `<table>.yaml` that says
where it comes from. Where the truth was measured with several seeds, `<table>.seeds.csv` beside it
has the value under each: `source, target, seed, value`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from depara_bench.config import nearest, read_yaml
from depara_bench.embedded import embedded
from depara_bench.errors import InputError, path_errors


@dataclass(frozen=True)
class Truth:
    """value (T, S) float64, higher is better; loss (T, S) float64 or None, lower is better.
    NaN where nothing was measured. origin: in words, with the citation. seeds (R, T, S) float64 or
    None: the value under each of R seeds.
    """

    name: str
    targets: tuple[str, ...]
    sources: tuple[str, ...]
    value: np.ndarray
    loss: np.ndarray | None
    origin: str
    seeds: np.ndarray | None = None

    def restrict(self, targets: Sequence[str], sources: Sequence[str]) -> Truth:
        """The truth for these targets and sources, in this order; NaN for pairs that it lacks.

        Raises InputError naming a target or source that is not in it.
        """
        if not {*targets, *sources} & {*self.targets, *self.sources}:
            raise InputError(
                f"truth '{self.name}': names no model of this run (it has {_some(self.sources)};"
                f" the run has {_some(sources)}); give another --truth"
            )
        for role, wanted, known in (
            ("target", targets, self.targets),
            ("source", sources, self.sources),
        ):
            for name in wanted:
                if name not in known and not (role == "source" and tuple(targets) == (name,)):
                    raise InputError(
                        f"truth '{self.name}': has no {role} '{name}' of this run; nearest:"
                        f" {nearest(name, known)}; give another --truth, or fewer models"
                    )
        rows = [self.targets.index(name) for name in targets]
        # A sole target may stand among the sources and not be a source of the truth: a self pair.
        columns = [self.sources.index(s) if s in self.sources else -1 for s in sources]
        unknown = np.array([column < 0 for column in columns])

        def take(matrix: np.ndarray) -> np.ndarray:
            return np.where(unknown, np.nan, matrix[..., rows, :][..., columns])

        value = take(self.value)
        loss = None if self.loss is None else take(self.loss)
        seeds = None if self.seeds is None else take(self.seeds)
        return Truth(self.name, tuple(targets), tuple(sources), value, loss, self.origin, seeds)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def from_table(table: pd.DataFrame, name: str, origin: str, where: str) -> Truth:
    """A truth from rows `source, target, value` and perhaps `loss`.

    Raises InputError for a missing column, a pair given twice, or a value that is not finite.
    """
    for column in ("source", "target", "value"):
        if column not in table.columns:
            raise InputError(
                f"{where}: has no column '{column}'; a truth has source, target and value"
            )
    if table.empty:
        raise InputError(f"{where}: holds no rows")
    table = table.assign(source=table["source"].astype(str), target=table["target"].astype(str))
    twice = table.duplicated(["source", "target"])
    if twice.any():
        row = table[twice].iloc[0]
        raise InputError(f"{where}: the pair {row['source']} -> {row['target']} is given twice")
    targets = tuple(dict.fromkeys(table["target"]))
    sources = tuple(dict.fromkeys(table["source"]))
    matrices: dict[str, np.ndarray] = {}
    for column in ("value", "loss"):
        if column not in table.columns:
            continue
        numbers = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=np.float64)
        bad = ~np.isfinite(numbers)
        if bad.any():
            row = table[bad].iloc[0]
            raise InputError(
                f"{where}: {column} of {row['source']} -> {row['target']} is"
                f" '{row[column]}', not a finite number"
            )
        matrix = np.full((len(targets), len(sources)), np.nan)
        rows = [targets.index(target) for target in table["target"]]
        columns = [sources.index(source) for source in table["source"]]
        matrix[rows, columns] = numbers
        matrices[column] = matrix
    return Truth(name, targets, sources, matrices["value"], matrices.get("loss"), origin)


def with_seeds(truth: Truth, table: pd.DataFrame, where: str) -> Truth:
    """The truth with its values under each seed, from rows `source, target, seed, value`.

    Raises InputError as `from_table` does, and where a pair of the truth lacks a seed.
    """
    if "seed" not in table.columns:
        raise InputError(f"{where}: has no column 'seed'; it holds source, target, seed and value")
    found = []
    for seed, rows in table.groupby("seed", sort=True):
        one = from_table(rows, truth.name, "", f"{where}, seed {seed}")
        matrix = np.full(truth.value.shape, np.nan)
        for t, target in enumerate(truth.targets):
            for s, source in enumerate(truth.sources):
                if target in one.targets and source in one.sources:
                    matrix[t, s] = one.value[one.targets.index(target), one.sources.index(source)]
                if np.isfinite(truth.value[t, s]) and source != target and np.isnan(matrix[t, s]):
                    raise InputError(
                        f"{where}: lacks the pair {source} -> {target} of seed {seed}; add it, or"
                        f" delete the file"
                    )
        found.append(matrix)
    if len(found) < 2:
        raise InputError(f"{where}: holds {len(found)} seed; agreement needs two or more")
    return replace(truth, seeds=np.stack(found))


def to_table(truth: Truth) -> pd.DataFrame:
    """Rows `source, target, value` (and `loss`) of what was measured, target by target."""
    t, s = np.nonzero(np.isfinite(truth.value))
    columns: dict[str, Any] = {
        "source": [truth.sources[i] for i in s],
        "target": [truth.targets[i] for i in t],
        "value": truth.value[t, s],
    }
    if truth.loss is not None:
        columns["loss"] = truth.loss[t, s]
    return pd.DataFrame(columns)


def find_truth(reference: str, base: Path) -> Path:
    """Path of a truth table: a file, or an embedded one by "zoo" or "zoo/table" ("rooms/large")."""
    path = base / reference
    if path.suffix in (".csv", ".parquet"):
        if not path.is_file():
            raise InputError(f"truth: {path} does not exist; check --truth")
        return path
    zoo, _, table = reference.partition("/")
    try:
        folder = embedded("zoo", zoo, "truth")
    except InputError as error:
        raise InputError(
            f"truth: '{reference}' is no embedded truth; name one, or give a .csv or .parquet file"
        ) from error
    if not table:
        header = read_yaml(folder / "default.yaml")
        table = str(header.get("table", ""))
    path = folder / f"{table}.csv"
    if not path.is_file():
        known = sorted(p.stem for p in folder.glob("*.csv") if not p.stem.endswith(".seeds"))
        raise InputError(f"truth: zoo '{zoo}' has no table '{table}'; it has {', '.join(known)}")
    return path


def read_truth(reference: str, base: Path) -> Truth:
    """The truth table at a path, or embedded. Raises InputError naming file and pair."""
    with path_errors(f"truth: {reference}", "check --truth"):
        path = find_truth(reference, base)
    header = path.with_suffix(".yaml")
    origin = str(read_yaml(header).get("origin", "")) if header.is_file() else ""
    truth = from_table(_read(path), path.stem, origin, str(path))
    seeds = path.with_suffix(".seeds.csv")
    return with_seeds(truth, _read(seeds), str(seeds)) if seeds.is_file() else truth


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except Exception as error:  # the readers raise a dozen kinds for a file that is no table
        raise InputError(f"{path}: is not a readable table ({type(error).__name__})") from error


def write_truth(truth: Truth, path: Path) -> None:
    """The table and, beside it, its header and its seeds. Raises InputError: an unknown ending."""
    table = to_table(truth)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        table.to_parquet(path, index=False)
    elif path.suffix == ".csv":
        path.write_text(table.to_csv(index=False, lineterminator="\n"), encoding="utf-8")
    else:
        raise InputError(f"--out {path}: must end in .csv or .parquet")
    header = {"origin": truth.origin, "rows": len(table), "higher": "is better"}
    path.with_suffix(".yaml").write_text(yaml.safe_dump(header, sort_keys=False), encoding="utf-8")
    if truth.seeds is not None:
        seeds = pd.concat(
            to_table(replace(truth, value=value, loss=None)).assign(seed=seed)
            for seed, value in enumerate(truth.seeds)
        )
        text = seeds[["source", "target", "seed", "value"]].to_csv(index=False, lineterminator="\n")
        path.with_suffix(".seeds.csv").write_text(text, encoding="utf-8")
