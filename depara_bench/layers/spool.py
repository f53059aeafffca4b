"""Features of many layers, which fit no memory, on their way to a Gram matrix each."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from depara_bench.errors import InputError
from depara_bench.similarity.gram import Gram

_CHUNK_BYTES = 32 << 20  # of float64 columns at a time


class Spool:
    """One file a layer, filled row by row; `gram` reads it and removes it at once."""

    def __init__(self, folder: Path, count: int) -> None:
        """folder: for the files. count: images, the rows of each."""
        self.folder, self.count = folder, count
        self._files: dict[str, np.memmap[tuple[int, ...], np.dtype[np.float32]]] = {}

    def make(self, widths: Mapping[str, int]) -> None:
        """Files for the features of each layer. Raises InputError where the disk has no room."""
        needed = 4 * self.count * sum(widths.values())
        free = shutil.disk_usage(self.folder).free
        if needed > 0.95 * free:
            raise InputError(
                f"{self.folder}: features of {self.count} images take {needed / 1e9:.1f} GB, and"
                f" {free / 1e9:.1f} are free; set TMPDIR to a larger disk, or take fewer images"
            )
        for number, (layer, width) in enumerate(widths.items()):
            self._files[layer] = np.memmap(
                self.folder / f"{number}.f32", np.float32, "w+", shape=(self.count, width)
            )

    @property
    def made(self) -> bool:
        """Whether there are files."""
        return bool(self._files)

    def put(self, layer: str, start: int, rows: np.ndarray) -> None:
        """Features (B, F) float32 of the images from `start` on."""
        self._files[layer][start : start + len(rows)] = rows

    def gram(self, layer: str, *, center: bool) -> Gram:
        """The layer's Gram matrix; its features are gone then."""
        features = self._files.pop(layer)
        found = chunked_gram(features, center=center)
        Path(str(features.filename)).unlink()
        return found


@contextmanager
def spool(count: int) -> Iterator[Spool]:
    """A spool in a temporary folder, which is gone afterwards in any case."""
    with tempfile.TemporaryDirectory(prefix="depara-bench-layers-") as folder:
        yield Spool(Path(folder), count)


def chunked_gram(features: np.ndarray, *, center: bool) -> Gram:
    """`similarity.gram.gram` of features (N, F) float32, a few columns at a time in float64."""
    count, width = features.shape
    step = max(1, _CHUNK_BYTES // (8 * count))
    products, squares, sums = np.zeros((count, count)), np.zeros(count), np.zeros(count)
    for start in range(0, width, step):
        part = features[:, start : start + step].astype(np.float64)
        if center:
            squares += np.einsum("ij,ij->i", part, part)
            part -= part.mean(axis=0)
        products += np.dot(part, part.T)  # not @: it lets the other threads run meanwhile
        sums += part.sum(axis=1)
    smallest = 1e-12 * float(np.sqrt(squares.max())) if center else 0.0
    return Gram(products, sums / width, width, smallest)
