"""Tables of accuracies: of `layers measure`, and DEPARA's published one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from depara_bench.errors import InputError
from depara_bench.layers.job import SCRATCH
from depara_bench.user_tables import read_rows

_NAMES, _NUMBERS = ("source", "layer"), ("fraction", "seed", "accuracy")


def read_accuracies(path: Path) -> pd.DataFrame:
    """A table source, layer, fraction, seed, accuracy, as `layers measure` writes it (.csv). A row
    whose accuracy is empty is as one that is not there.

    Raises InputError naming the file and what is wrong with it.
    """
    mend = "measure it with 'depara-bench layers measure', or set 'truth: null'"
    if not path.exists():
        raise InputError(f"truth: {path} cannot be read (there is no such file); {mend}")
    rows = read_rows(path, f"truth: {path}", mend)
    rows.need((*_NAMES, *_NUMBERS), f"it needs {', '.join((*_NAMES, *_NUMBERS))}")
    about = [f"{s}, layer '{name}'" for s, name in zip(*map(rows.cells.get, _NAMES), strict=True)]
    table = pd.DataFrame({name: rows.cells[name] for name in _NAMES})
    for column in _NUMBERS:
        table[column] = rows.numbers(column, gaps=column == "accuracy", told=about.__getitem__)
    twice = table.duplicated([*_NAMES, "fraction", "seed"])
    for row in np.flatnonzero(twice)[:1]:
        same = (table.iloc[:, :4] == table.iloc[row, :4]).all(axis=1)
        first = rows.places[int(np.flatnonzero(same)[0])]
        raise InputError(
            f"truth: {path}: {about[row]} is given twice for one fraction and seed ({first} and"
            f" {rows.places[row]}); keep one"
        )
    return table[table["accuracy"].notna()]


def by_layer(
    table: pd.DataFrame,
    layers: Mapping[str, Sequence[str]],
    fractions: Mapping[str, float],
    path: Path,
) -> dict[tuple[str, str], np.ndarray]:
    """Accuracies (seeds, K) of the K layers of each source, by source and name of the fraction.

    Raises InputError when a layer was not measured, or not with the same seeds as the others.
    """
    found = {}
    for source, names in layers.items():
        for fraction, share in fractions.items():
            here = (table["source"] == source) & np.isclose(table["fraction"], share)
            wide = table[here].pivot_table(index="seed", columns="layer", values="accuracy")
            lacking = [name for name in names if name not in wide.columns]
            if lacking or wide[list(names)].isna().any(axis=None):
                which = f"'{lacking[0]}'" if lacking else "every layer with every seed"
                raise InputError(
                    f"truth: {path} lacks {which} of '{source}' at {share:g} of the data; measure"
                    f" it, choose other 'layers', or set 'truth: null'"
                )
            found[source, fraction] = wide[list(names)].to_numpy(np.float64)
    return found


def from_scratch(table: pd.DataFrame, fractions: Mapping[str, float]) -> dict[str, float]:
    """Mean accuracy of training from the start, by fraction, where it was measured."""
    found = {}
    for fraction, share in fractions.items():
        rows = table[(table["source"] == SCRATCH) & np.isclose(table["fraction"], share)]
        if len(rows):
            found[fraction] = float(rows["accuracy"].mean())
    return found
