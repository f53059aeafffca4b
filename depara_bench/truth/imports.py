"""Truths from elsewhere: Taskonomy's published results, tables, models x datasets accuracies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from depara_bench.errors import InputError
from depara_bench.truth.pickles import read_numbers
from depara_bench.truth.table import Truth, from_table

SOURCES = (
    "autoencoder", "curvature", "denoise", "edge2d", "edge3d", "keypoint2d", "keypoint3d",
    "colorization", "reshade", "rgb2depth", "rgb2mist", "rgb2sfnorm", "room_layout",
    "segment25d", "segment2d", "vanishing_point", "segmentsemantic", "class_1000",
    "class_places", "inpainting_whole",
)  # fmt: skip
"""The 20 single-image Taskonomy encoders in DEPARA's order."""

TARGETS = tuple(name for name in SOURCES if name not in ("colorization", "inpainting_whole"))

# Names in the published pickles where they differ (the second is spelled so there).
_ALIASES = {
    "vanishing_point": "vanishing_point_well_defined",
    "inpainting_whole": "impainting_whole",
    "segmentsemantic": "segmentsemantic_rb",
}

CITATION = (
    "Zamir, Sax, Shen, Guibas, Malik, Savarese: Taskonomy: Disentangling Task Transfer Learning."
    " CVPR 2018; results published with the paper"
)


def import_truth(path: Path) -> Truth:
    """A truth from a file of any known form.

    .pkl: Taskonomy's `all_affinities*` or `wins_vs_*` (names "source__target" to numbers).
    .csv, .parquet: `source, target, value`; or, with a first column of another name, one row per
    model and one column of accuracies per dataset, as a general form.
    Raises InputError: not readable, hostile, or of none of these forms.
    """
    if path.suffix == ".pkl":
        return from_taskonomy(read_numbers(path), path.stem, str(path))
    if path.suffix not in (".csv", ".parquet"):
        raise InputError(f"{path}: must be a .pkl, .csv or .parquet file")
    try:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except Exception as error:  # the readers raise a dozen kinds for a file that is no table
        raise InputError(f"{path}: is not a readable table ({type(error).__name__})") from error
    if {"source", "target", "value"} <= set(table.columns):
        return from_table(table, path.stem, f"imported from {path.name}", str(path))
    return from_accuracies(table, path.stem, str(path))


def from_taskonomy(numbers: dict[str, float], name: str, where: str) -> Truth:
    """First-order values of the 20 x 18 single-image pairs out of a published pickle.

    The transfer of a task to itself ("t__t") is one from its own frozen encoder, often a poor one,
    and not what "self" means here: self pairs are left out. Pairs that are not in the file (one
    published file lacks a task) are left out too.
    Raises InputError when not one pair is found.
    """
    value = np.full((len(TARGETS), len(SOURCES)), np.nan)
    for t, target in enumerate(TARGETS):
        for s, source in enumerate(SOURCES):
            key = f"{_ALIASES.get(source, source)}__{_ALIASES.get(target, target)}"
            if source != target and key in numbers:
                value[t, s] = numbers[key]
    if not np.isfinite(value).any():
        raise InputError(f"{where}: holds no pair of Taskonomy's tasks (names 'source__target')")
    return Truth(name, TARGETS, SOURCES, value, None, CITATION)


def from_accuracies(table: pd.DataFrame, name: str, where: str) -> Truth:
    """A table with one row per model (its name in the first column) and one column per dataset. An
    empty cell was not measured.
    """
    if (
        table.shape[1] < 2
        or table.iloc[:, 0].map(lambda cell: isinstance(cell, str)).ne(True).any()
    ):
        raise InputError(
            f"{where}: is neither 'source, target, value' nor a table with model names in the first"
            f" column and one column of numbers per dataset"
        )
    first = table.columns[0]
    long = table.melt(id_vars=first, var_name="target", value_name="value")
    long = long.rename(columns={first: "source"})
    long = long[long["value"].notna() & (long["value"].astype(str).str.strip() != "")]
    return from_table(long, name, f"imported from {Path(where).name}", where)
