"""Labels of the probe images, for the scores that need them: one answer an image for each target.

A run keeps them in labels.parquet beside its shards, so that it can be reduced again from its own
folder alone.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from depara_bench import record as records
from depara_bench.errors import InputError
from depara_bench.storage import Folder
from depara_bench.user_tables import Rows, read_rows

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
    rows = read_rows(path, f"labels: {path}", "check 'labels'")
    column = "label" if "label" in rows.cells else "value"
    what = "labels are image, target, and label (a class) or value (a number)"
    rows.need(("image", "target", column), what)
    by_target, found = rows.groups("target"), {}
    for target in targets:
        if target not in by_target:
            continue
        own = by_target[target]
        names = own.cells["image"]
        twice = [f"image {name} has two labels of target '{target}'" for name in names]
        own.once(("image",), twice.__getitem__)
        place = {name: row for row, name in enumerate(names)}
        if absent := next((image for image in images if image not in place), None):
            raise InputError(
                f"labels: {path}: image {absent} has no label of target '{target}'; those that have"
                f" one are {names[0]}, ..."
            )
        found[target] = _labels(own, column, [place[image] for image in images])
    if not found:
        some = ", ".join([*by_target][:3]) or "none"
        raise InputError(f"labels: {path} names no target of this run, but {some}; check 'labels'")
    return found


def _labels(rows: Rows, column: str, order: Sequence[int]) -> Labels:
    """Of one target, the rows in this order."""
    if column == "value":
        about = [f"image {image}" for image in rows.cells["image"]]
        return Labels(rows.numbers(column, told=about.__getitem__)[list(order), None])
    for row, (image, cell) in enumerate(zip(rows.cells["image"], rows.cells[column], strict=True)):
        if not cell:
            raise rows.wrong(row, column, "is empty; give a class", f"image {image}")
    given = [rows.cells[column][row] for row in order]
    return Labels(np.unique(given, return_inverse=True)[1].astype("i8"))


def encode(labels: Mapping[str, Labels]) -> bytes:
    """The labels of a run as the bytes of a Parquet file: rows target, classes, width, values (all
    images, one after the other).
    """
    rows = [
        (target, one.classes, 1 if one.classes else one.values.shape[1],
         one.values.reshape(-1).astype(np.float64))
        for target, one in labels.items()
    ]  # fmt: skip
    sink = io.BytesIO()
    pd.DataFrame(rows, columns=["target", "classes", "width", "values"]).to_parquet(
        sink, write_page_checksum=True
    )
    return sink.getvalue()


def read(folder: Folder, images: int, record: Mapping[str, Any] | None = None) -> dict[str, Labels]:
    """The labels of a run of so many images, by target; none where there is no file.

    Raises InputError when the file is damaged: by itself, or by what the run's record notes of it.
    """
    content = folder.read(PATH)
    if content is None:
        return {}
    try:
        table = pd.read_parquet(io.BytesIO(content))
        rows = table[["target", "classes", "width", "values"]].to_numpy()
        found = {str(row[0]): _kept(*row[1:], images=images) for row in rows}
        records.verify(record, PATH, content)
    except Exception as error:  # what is read from a damaged footer can be wrong in any way
        raise InputError(
            f"{folder.uri}/{PATH}: is damaged ({error}); run 'depara-bench run' again"
        ) from error
    return found


def _kept(classes: bool, width: int, flat: np.ndarray, *, images: int) -> Labels:
    values = np.asarray(flat, dtype=np.float64)
    if values.shape != (images * width,):
        raise ValueError(f"{values.size} labels of {images} images")
    if not np.isfinite(values).all() or (classes and (values % 1).any()):
        raise ValueError("a label is no number, or no class")
    values = values.reshape(images, width)
    return Labels(values[:, 0].astype(np.int64) if classes else values)
