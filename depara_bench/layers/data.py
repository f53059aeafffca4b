"""Labelled images for training and measuring: scenes of a style, or photographs of a list."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from depara_bench.config import Strict
from depara_bench.errors import InputError
from depara_bench.files import IMAGE, read_file
from depara_bench.probe import decode
from depara_bench.probe_sources import is_heading, spelled
from depara_bench.rooms.data import draw_set, read_set
from depara_bench.rooms.styles import StyleName
from depara_bench.rooms.tasks import TASKS
from depara_bench.textfile import read_text


class RoomsSet(Strict):
    """Scenes 0 to count - 1 of `seed`, with the classes of `task`, in a style."""

    kind: Literal["rooms"]
    task: str
    seed: int = Field(ge=0, lt=2**31)
    count: int = Field(ge=2, le=1_000_000)
    style: StyleName = "plain"

    @field_validator("task")
    @classmethod
    def _classifies(cls, task: str) -> str:
        known = [name for name, row in TASKS.items() if row.classifies and len(row.shape) == 1]
        if task not in known:
            raise ValueError(f"'{task}' is not one of {', '.join(known)}")
        return task


class PhotoSet(Strict):
    """Part of a list of photographs, one "path label" a line, the label a number from 0.

    root: folder of the paths; none: the list's own. share: from where to where, in an order in
    which every stretch holds the classes in the proportions of the whole, by `seed`.
    """

    kind: Literal["photos"]
    list: str
    root: str | None = None
    share: tuple[float, float] = (0.0, 1.0)
    seed: int = Field(default=0, ge=0, lt=2**31)

    @field_validator("share")
    @classmethod
    def _ordered(cls, share: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= share[0] < share[1] <= 1:
            raise ValueError("must be [from, to] with 0 <= from < to <= 1")
        return share


SetSpec = Annotated[RoomsSet | PhotoSet, Field(discriminator="kind")]


@dataclass(frozen=True)
class Images:
    """names: of the N images. labels (N,) int64, below `classes`. read: image i (H, W, 3) uint8."""

    names: tuple[str, ...]
    labels: NDArray[np.int64]
    classes: int
    read: Callable[[int], NDArray[np.uint8]]


def prepare(
    spec: RoomsSet | PhotoSet, work: Path, advance: Callable[[int, int], None] | None = None
) -> None:
    """Draw scenes into the work folder, once; photographs need nothing."""
    if isinstance(spec, RoomsSet):
        draw_set(_scenes(spec, work), spec.seed, spec.count, [spec.task], advance, style=spec.style)


def open_set(spec: RoomsSet | PhotoSet, base: Path, work: Path | None) -> Images:
    """The images of a set; paths are read against `base`.

    work: where `prepare` has drawn the scenes; where they are not, they are drawn again, which
    gives the same. Raises InputError naming list and line.
    """
    if isinstance(spec, PhotoSet):
        return _photos(spec, base)
    folder = None if work is None else _scenes(spec, work)
    images, labels = read_set(folder, spec.seed, spec.count, spec.task, spec.style)
    return Images(
        names=tuple(f"{spec.style}-{spec.seed}-{i:06d}" for i in range(spec.count)),
        labels=np.asarray(labels).astype(np.int64),
        classes=TASKS[spec.task].shape[0],
        read=lambda row: np.asarray(images[row]),
    )


def _scenes(spec: RoomsSet, work: Path) -> Path:
    return work / f"scenes-{spec.style}-{spec.task}-{spec.seed}-{spec.count}"


def _photos(spec: PhotoSet, base: Path) -> Images:
    path = base / spec.list
    root = base / spec.root if spec.root else path.parent
    names: list[str] = []
    labels: list[int] = []
    lines = read_text(path, "check 'list'").splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip() or (not names and is_heading(line)):
            continue
        # A label stands behind a blank, a tab, a comma or a semicolon, and so may a name's parts.
        found_both = re.fullmatch(r"(.*\S)[\s,;]\s*(\d+)", line.strip())
        if found_both is None:
            raise InputError(
                f"{path}:{number}: must read 'path label', the label a number from 0, not {line!r}"
            )
        names.append(spelled(found_both[1].rstrip(" \t,;"), root))
        labels.append(int(found_both[2]))
    if not names:
        raise InputError(f"{path}: holds no image")
    found = np.array(labels, dtype=np.int64)
    order = stratified_order(found, spec.seed)
    start, stop = (round(end * len(names)) for end in spec.share)
    rows = order[start:stop]
    if len(rows) < 2:
        raise InputError(f"{path}: share {list(spec.share)} holds {len(rows)} images; widen it")
    files = [root / names[row] for row in rows]
    return Images(
        names=tuple(names[row] for row in rows),
        labels=found[rows],
        classes=int(found.max()) + 1,
        read=lambda row: _read(files[row]),
    )


def _read(path: Path) -> NDArray[np.uint8]:
    try:
        return decode(read_file(path, IMAGE))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as an image ({error})") from error


def stratified_order(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """All rows of labels (N,) in an order of which every stretch, from its start above all, has the
    classes in nearly the proportions of the whole: (N,) int64, a permutation by `seed`.

    Image j of the n of a class, shuffled, comes at (j + u) / n of the whole, u in [0, 1) the
    class's own.
    """
    random = np.random.default_rng(seed)
    place = np.empty(len(labels))
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == label))
        place[rows] = (np.arange(len(rows)) + random.random()) / len(rows)
    order: NDArray[np.int64] = np.argsort(place, kind="stable").astype(np.int64)
    return order


def draw_share(labels: NDArray[np.int64], share: float, seed: int) -> NDArray[np.int64]:
    """Rows of a share of labels (N,), stratified, sorted: at least 2."""
    count = max(2, round(share * len(labels)))
    return np.sort(stratified_order(labels, seed)[:count])


def missing_photos(spec: RoomsSet | PhotoSet, base: Path) -> Sequence[str]:
    """Files of the set that do not exist."""
    if isinstance(spec, RoomsSet):
        return []
    images = _photos(spec, base)
    root = base / spec.root if spec.root else (base / spec.list).parent
    return [str(root / name) for name in images.names if not (root / name).is_file()]
