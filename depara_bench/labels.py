"""Labels of the probe images, for the scores that need them: one answer an image for each target.

A run keeps them in labels.parquet beside its shards, so that it can be reduced again from its own
folder alone.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from depara_bench.errors import InputError
from depara_bench.storage import Folder

PATH = "labels.parquet"


@dataclass(frozen=True)
class Labels:
    """Of one target: values (N,) int64, classes; or (N, K) float64, numbers."""

    values: np.ndarray

    @property
    def classes(self) -> bool:
        """Whether they are classes."""
        return self.values.ndim == 1


def read_labels(path: Path, images: Sequence[str], targets: Sequence[str]) -> dict[str, Labels]:
    """Labels by target from a table image, target and either label (a class) or value (a number),
    CSV or Parquet. Targets that it does not name have none.

    Raises InputError naming the file and the image that is missing, twice or not a number.
    """
    try:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except Exception as error:  # the readers raise a dozen kinds for a file that is no table
        raise InputError(f"labels: {path} is not a readable table; check 'labels'") from error
    column = "label" if "label" in table.columns else "value"
    for name in ("image", "target", column):
        if name not in table.columns:
            raise InputError(f"labels: {path} has no column '{name}'; it has image, target, label")
    found = {}
    for target in targets:
        rows = table[table["target"].astype(str) == target]
        if rows.empty:
            continue
        names = rows["image"].astype(str)
        if names.duplicated().any():
            twice = names[names.duplicated()].iloc[0]
            raise InputError(f"labels: {path}: image {twice} has two labels of target '{target}'")
        given = rows.set_index(names)[column]
        absent = [image for image in images if image not in given.index]
        if absent:
            raise InputError(f"labels: {path}: image {absent[0]} has no label of target '{target}'")
        found[target] = _labels(given.loc[list(images)], column, path, target)
    if not found:
        raise InputError(f"labels: {path} names no target of this run; check 'labels'")
    return found


def _labels(given: pd.Series, column: str, path: Path, target: str) -> Labels:
    if given.isna().any():
        image = given.index[given.isna()][0]
        raise InputError(f"labels: {path}: image {image} has an empty label of target '{target}'")
    if column == "label":
        return Labels(np.unique(given.astype(str).to_numpy(), return_inverse=True)[1].astype("i8"))
    numbers = pd.to_numeric(given, errors="coerce").to_numpy(np.float64)
    if not np.isfinite(numbers).all():
        image = given.index[~np.isfinite(numbers)][0]
        raise InputError(f"labels: {path}: image {image}, target '{target}': not a finite number")
    return Labels(numbers[:, None])


def write(folder: Folder, labels: Mapping[str, Labels]) -> None:
    """Keep the labels of a run: rows target, classes, width, values (all images, one after the
    other).
    """
    rows = [
        (target, one.classes, 1 if one.classes else one.values.shape[1],
         one.values.reshape(-1).astype(np.float64))
        for target, one in labels.items()
    ]  # fmt: skip
    sink = io.BytesIO()
    pd.DataFrame(rows, columns=["target", "classes", "width", "values"]).to_parquet(sink)
    folder.write(PATH, sink.getbuffer())


def read(folder: Folder, images: int) -> dict[str, Labels]:
    """The labels of a run of so many images, by target; none where there is no file.

    Raises InputError when the file is damaged.
    """
    content = folder.read(PATH)
    if content is None:
        return {}
    try:
        table = pd.read_parquet(io.BytesIO(content))
        rows = table[["target", "classes", "width", "values"]].to_numpy()
        return {str(row[0]): _kept(*row[1:], images=images) for row in rows}
    except Exception as error:  # what is read from a damaged footer can be wrong in any way
        raise InputError(
            f"{folder.uri}/{PATH}: is damaged ({error}); run 'depara-bench run' again"
        ) from error


def _kept(classes: bool, width: int, flat: np.ndarray, *, images: int) -> Labels:
    values = np.asarray(flat, dtype=np.float64)
    if values.shape != (images * width,):
        raise ValueError(f"{values.size} labels of {images} images")
    if not np.isfinite(values).all() or (classes and (values % 1).any()):
        raise ValueError("a label is no number, or no class")
    values = values.reshape(images, width)
    return Labels(values[:, 0].astype(np.int64) if classes else values)
