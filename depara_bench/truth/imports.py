"""Truths from elsewhere: Taskonomy's published results, tables, models x datasets accuracies."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from depara_bench.errors import InputError
from depara_bench.truth.pickles import read_numbers
from depara_bench.truth.table import Truth, from_table
from depara_bench.user_tables import ENDINGS, Rows, read_rows

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
    A table, CSV or Parquet: `source, target, value`; or one row per model, its name in the first
    column, and one column of accuracies per dataset, as a general form.
    Raises InputError: not readable, hostile, or of none of these forms.
    """
    if path.suffix == ".pkl":
        return from_taskonomy(read_numbers(path), path.stem, str(path))
    if path.suffix.lower() not in ENDINGS:
        raise InputError(f"{path}: must be a .pkl file, or a table: {', '.join(ENDINGS)}")
    rows = read_rows(path, str(path), "give a table")
    if {"source", "target", "value"} <= set(rows.cells):
        return from_table(rows, path.stem, _origin(rows), str(path))
    return from_accuracies(rows, path.stem)


def _origin(rows: Rows) -> str:
    return " ".join([f"imported from {Path(rows.where).name}", *rows.comments])


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


def from_accuracies(rows: Rows, name: str) -> Truth:
    """A table with one row per model (its name in the first column) and one column per dataset; an
    index of numbers before the names, which has no name itself, is none of them.
    """
    columns = list(rows.cells)
    if len({"source", "target", "value"} & {name.lower() for name in columns}) > 1:
        rows.need(("source", "target", "value"), "a truth has source, target and value")
    if len(columns) > 2 and _is_index(rows, columns[0], columns[1]):
        columns = columns[1:]
    models, *datasets = columns
    if not datasets or not len(rows):
        raise InputError(
            f"{rows.where}: has {len(rows)} rows and the columns {', '.join(map(repr, columns))},"
            f" and is neither 'source, target, value' nor a table with model names in the first"
            f" column and one column of numbers per dataset"
        )
    names = rows.filled(models)
    rows.once((models,), lambda row: f"model '{names[row]}' has two rows")
    numbers = [rows.numbers(dataset, gaps=True, told=names.__getitem__) for dataset in datasets]
    long = Rows(
        where=rows.where,
        cells={
            "source": names * len(datasets),
            "target": [dataset for dataset in datasets for _ in names],
            "value": ["" if np.isnan(value) else str(value) for value in np.concatenate(numbers)],
        },
        places=rows.places * len(datasets),
    )
    return from_table(long, name, _origin(rows), rows.where)


def _is_index(rows: Rows, first: str, second: str) -> bool:
    """Whether the first column, without a name, counts the rows, and the second has the names."""
    counts = [[str(row + start) for row in range(len(rows))] for start in (0, 1)]
    return not first and rows.cells[first] in counts and not rows.are_numbers(second)
