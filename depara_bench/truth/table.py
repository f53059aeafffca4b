"""A truth: what transferring from each source to each target was worth.

On disk (contract C6) a table `source, target, value`, CSV or Parquet, higher is better, with an
optional `loss` (of the transfer, lower is better), and beside it a header `<table>.yaml` that says
where it comes from. Where the truth was measured with several seeds, `<table>.seeds.csv` beside it
has the value under each: `source, target, seed, value`. Where there is no header, the comments at
the top of the table are its origin.
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
from depara_bench.files import is_file
from depara_bench.user_tables import ENDINGS, Rows, of_frame, read_rows

_COLUMNS = ("source", "target", "value")


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


def from_table(table: Rows | pd.DataFrame, name: str, origin: str, where: str) -> Truth:
    """A truth from rows `source, target, value` and perhaps `loss`. A row whose value is empty is
    as one that is not there.

    Raises InputError for a missing column, a pair given twice, or a value that is not finite.
    """
    rows = table if isinstance(table, Rows) else of_frame(table, where)
    rows.need(_COLUMNS, "a truth has source, target and value")
    if not len(rows):
        raise InputError(f"{where}: holds no rows")
    pairs = list(zip(rows.filled("source"), rows.filled("target"), strict=True))

    def told(row: int) -> str:
        return " -> ".join(pairs[row])

    rows.once(("source", "target"), lambda row: f"the pair {told(row)} is given twice")
    values = {"value": rows.numbers("value", gaps=True, told=told)}
    missing = np.isnan(values["value"])
    if missing.all():
        raise InputError(f"{where}: column 'value' is empty in all rows")
    if "loss" in rows.cells:
        values["loss"] = rows.numbers("loss", gaps=True, told=told)
        for row in np.flatnonzero(np.isnan(values["loss"]) & ~missing)[:1]:
            raise rows.wrong(row, "loss", "is empty, no finite number", told(row))
        values["loss"][missing] = np.nan
    targets = {target: t for t, target in enumerate(dict.fromkeys(rows.cells["target"]))}
    sources = {source: s for s, source in enumerate(dict.fromkeys(rows.cells["source"]))}
    place = [targets[t] for _, t in pairs], [sources[s] for s, _ in pairs]
    matrices: dict[str, np.ndarray] = {}
    for column, numbers in values.items():
        matrices[column] = np.full((len(targets), len(sources)), np.nan)
        matrices[column][place] = numbers
    return Truth(
        name, tuple(targets), tuple(sources), matrices["value"], matrices.get("loss"), origin
    )


def with_seeds(truth: Truth, table: Rows | pd.DataFrame, where: str) -> Truth:
    """The truth with its values under each seed, from rows `source, target, seed, value`.

    Raises InputError as `from_table` does, and where a pair of the truth lacks a seed.
    """
    rows = table if isinstance(table, Rows) else of_frame(table, where)
    rows.need(("source", "target", "seed", "value"), "seeds have source, target, seed and value")
    found = []
    rows.filled("seed")
    by_seed = rows.groups("seed")
    for seed in sorted(by_seed, key=lambda seed: (len(seed), seed)):
        one = from_table(by_seed[seed], truth.name, "", f"{where}, seed {seed}")
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
    if path.suffix.lower() in ENDINGS:
        if not is_file(path):
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
    rows = read_rows(path, str(path), "check --truth")
    origin = " ".join(rows.comments)
    if header.exists():
        origin = str(read_yaml(header).get("origin", "")) or origin
    truth = from_table(rows, path.stem, origin, str(path))
    seeds = path.with_suffix(".seeds.csv")
    if not seeds.exists():
        return truth
    return with_seeds(truth, read_rows(seeds, str(seeds), "delete the file"), str(seeds))


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
