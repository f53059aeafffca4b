"""Tables of accuracies: of `layers measure`, and DEPARA's published one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from depara_bench.errors import InputError
from depara_bench.layers.job import SCRATCH

_COLUMNS = ("source", "layer", "fraction", "seed", "accuracy")


def read_accuracies(path: Path) -> pd.DataFrame:
    """A table source, layer, fraction, seed, accuracy, as `layers measure` writes it (.csv).

    Raises InputError naming the file and what is wrong with it.
    """
    try:
        table = pd.read_csv(path, keep_default_na=False)
    except OSError as error:
        raise InputError(
            f"truth: {path} cannot be read ({error.strerror}); measure it with 'depara-bench layers"
            f" measure', or set 'truth: null'"
        ) from error
    except ValueError as error:
        raise InputError(f"truth: {path} is not a table ({error}); measure again") from error
    missing = [column for column in _COLUMNS if column not in table.columns]
    if missing:
        raise InputError(f"truth: {path} has no column '{missing[0]}'; it needs {_COLUMNS}")
    for column in ("fraction", "seed", "accuracy"):
        table[column] = pd.to_numeric(table[column], errors="coerce")
        if not np.isfinite(table[column]).all():
            raise InputError(f"truth: {path}: column '{column}' holds what is no number; mend it")
    return table


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
