"""The probe: an ordered list of images, each with an id, all with one content hash.

Encoded images stay encoded: they are carried to the workers as one array of bytes, once per
machine, and decoded there.
"""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from depara_bench.config import Strict
from depara_bench.errors import InputError, path_errors
from depara_bench.probe_sources import (
    Gap,
    Source,
    Sources,
    check_names,
    endings_in_words,
    from_folder,
    from_list,
    from_parquet,
)

MINIMUM = 3
"""Fewest probe images: with two there is one edge, and no rank correlation."""

# What Pillow remarks on large, odd or half-damaged images, without naming them. For the process:
# images are decoded in threads, among which a filter for a block of code does not work.
warnings.filterwarnings("ignore", module=r"PIL\.")


class RoomsProbe(Strict):
    """Scenes of the embedded Taskonomy: scene 0, 1, ... of `seed`."""

    kind: Literal["rooms"]
    count: int = Field(ge=MINIMUM, le=1_000_000)
    seed: int = Field(ge=0, lt=2**31)
    size: int = Field(default=64, ge=8, le=4096)
    style: str = "plain"


class NoiseProbe(Strict):
    """Images without content: every pixel value drawn evenly from 0..255, image 0, 1, ... of
    `seed`. What a method scores on them is its floor.
    """

    kind: Literal["noise"]
    count: int = Field(ge=MINIMUM, le=1_000_000)
    seed: int = Field(ge=0, lt=2**31)
    size: int = Field(default=64, ge=1, le=4096)


class _Files(Strict):
    """count: the first so many, in order; None: all.

    on_error: an image that cannot be decoded stops the run ("fail"), or is left out for all models
    alike and named in the report ("skip").
    """

    path: str
    count: int | None = Field(default=None, ge=MINIMUM)
    on_error: Literal["fail", "skip"] = "fail"


class FolderProbe(_Files):
    """All images below a folder, links followed, in the order of their paths; hidden files and
    folders are left out.
    """

    kind: Literal["folder"]


class ListProbe(_Files):
    """A text file with one image path a line, relative to `root` or else to the list's folder;
    labels behind the paths are not read.
    """

    kind: Literal["list"]
    root: str | None = None


class ParquetProbe(_Files):
    """A Parquet file with encoded images (JPEG, PNG, ...) in a binary column.

    id_column: names of the images; None: row numbers.
    """

    kind: Literal["parquet"]
    column: str = "image"
    id_column: str | None = None


ProbeSpec = Annotated[
    RoomsProbe | NoiseProbe | FolderProbe | ListProbe | ParquetProbe, Field(discriminator="kind")
]


@dataclass(frozen=True)
class Probe:
    """Probe images, in order.

    ids: N names. data: uint8 bytes of all images, one after the other; image i is
    data[offsets[i]:offsets[i + 1]]. raw: (height, width) where the bytes are pixels already, None
    where they are an encoded file. skipped: (image, reason) of those left out.
    """

    ids: tuple[str, ...]
    data: np.ndarray
    offsets: np.ndarray
    raw: tuple[int, int] | None
    sha256: str
    skipped: tuple[tuple[str, str], ...] = ()
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def image(self, index: int) -> np.ndarray:
        """Image `index` as (H, W, 3) uint8 RGB."""
        content = self.data[self.offsets[index] : self.offsets[index + 1]]
        if self.raw is not None:
            return content.reshape(*self.raw, 3)
        return decode(content.tobytes())

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of image `index`, of which no pixel is decoded."""
        if self.raw is not None:
            return self.raw
        from PIL import Image

        content = self.data[self.offsets[index] : self.offsets[index + 1]]
        with Image.open(io.BytesIO(content.tobytes())) as image:
            return image.height, image.width

    def blocks(self, size: int) -> list[range]:
        """Positions of the images, cut into blocks of `size`, the last one shorter."""
        return [range(i, min(i + size, len(self))) for i in range(0, len(self), size)]


def decode(content: bytes) -> np.ndarray:
    """An encoded image as (H, W, 3) uint8 RGB. Raises ValueError when it is not one.

    Whatever the file's mode (grey, palette, alpha), it is converted to RGB; orientation tags are
    not applied, as in torchvision's folders. 16-bit grey is brought to 8 bits by its high byte, as
    16-bit colour is, instead of being cut off at 255. Pixels without a range (32 bits, floating
    point) are refused.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
                grey = (np.asarray(image) >> 8).astype(np.uint8)
                return np.repeat(grey[:, :, None], 3, axis=2)
            if image.mode in ("I", "F"):
                raise ValueError(f"pixels of mode {image.mode} have no fixed range")
            return np.asarray(image.convert("RGB"), dtype=np.uint8)
    except UnidentifiedImageError as error:  # its words hold a memory address
        raise ValueError("is not an image") from error
    except Exception as error:  # decoders of damaged files raise anything, down to struct.error
        raise ValueError(f"{type(error).__name__}: {error}".splitlines()[0]) from error


def load_probe(spec: ProbeSpec, base: Path) -> Probe:
    """The probe images of `spec`; relative paths are read against `base`.

    Raises InputError naming the image or file: nothing found, fewer than 3 images, an image that
    cannot be decoded (unless `on_error: skip`).
    """
    if isinstance(spec, (RoomsProbe, NoiseProbe)):
        _check_memory(spec.count, spec.size)
        return _rooms(spec) if isinstance(spec, RoomsProbe) else _noise(spec)
    path = base / spec.path
    with path_errors(f"probe: {path}", "check 'probe.path'"):
        if isinstance(spec, FolderProbe):
            found = from_folder(path)
        elif isinstance(spec, ListProbe):
            found = from_list(path, base / spec.root if spec.root else None)
        else:
            found = from_parquet(path, spec.column, spec.id_column)
    given = len(found.ids)
    if given < (spec.count or MINIMUM):
        what = f"gives {given} images; at least {MINIMUM} are needed to compare"
        if spec.count:
            what = f"holds {given} images, 'count' asks for {spec.count}"
        hints = [endings_in_words()] if isinstance(spec, FolderProbe) else []
        raise InputError("; ".join([f"probe: {path} {what}", *hints, *found.remarks]))
    return _encoded(found, spec, path)


def _check_memory(count: int, size: int) -> None:
    """Raise InputError for images that this machine, which draws them, cannot hold."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # a system that does not say
        return
    if (need := count * size * size * 3) > memory:
        raise InputError(
            f"probe: {count} images of {size} x {size} take {need / 1e9:,.0f} GB, and this machine"
            f" has {memory / 1e9:,.0f} GB; lower 'probe.count' or 'probe.size'"
        )


def _rooms(spec: RoomsProbe) -> Probe:
    from depara_bench.rooms.scenes import render

    images = render(spec.seed, range(spec.count), size=spec.size, style=spec.style)
    return _drawn(f"{spec.style}-{spec.seed}", images)


def _noise(spec: NoiseProbe) -> Probe:
    shape = (spec.size, spec.size, 3)
    images = [
        np.random.default_rng([spec.seed, i]).integers(0, 256, shape, dtype=np.uint8)
        for i in range(spec.count)
    ]
    return _drawn(f"noise-{spec.seed}", np.stack(images))


def _drawn(name: str, images: np.ndarray) -> Probe:
    """Images (N, S, S, 3) uint8 that were made here, as a probe; ids are name and number."""
    count, size = images.shape[:2]
    ids = tuple(f"{name}-{i:06d}" for i in range(count))
    return Probe(
        ids=ids,
        data=np.ascontiguousarray(images).reshape(-1),
        offsets=np.arange(count + 1, dtype=np.int64) * (size * size * 3),
        raw=(size, size),
        sha256=_hash(ids, [hashlib.sha256(image.tobytes()).digest() for image in images]),
    )


def _encoded(found: Sources, spec: _Files, path: Path) -> Probe:
    """Read and try every image once, here, so that a bad one is known before anything starts."""
    ids = found.ids[: spec.count]
    check_names(ids, path)
    with ThreadPoolExecutor() as pool:
        loaded = list(pool.map(_read, found.sources[: spec.count]))
    skipped = [(i, why) for i, (_, why) in zip(ids, loaded, strict=True) if why is not None]
    if skipped and spec.on_error == "fail":
        name, why = skipped[0]
        raise InputError(
            f"probe: image {name} of {path} cannot be decoded ({why}); replace it, or set"
            f" 'probe.on_error: skip' to leave it out for all models"
        )
    kept = [(i, content) for i, (content, why) in zip(ids, loaded, strict=True) if why is None]
    if len(kept) < MINIMUM:
        raise InputError(
            f"probe: {path} gives {len(kept)} images; at least {MINIMUM} are needed to compare"
        )
    contents = [content for _, content in kept]
    names = tuple(name for name, _ in kept)
    digests = [hashlib.sha256(content).digest() for content in contents]
    lengths = np.array([0, *map(len, contents)], dtype=np.int64)
    return Probe(
        ids=names,
        data=np.frombuffer(b"".join(contents), dtype=np.uint8),
        offsets=np.cumsum(lengths),
        raw=None,
        sha256=_hash(names, digests),
        skipped=tuple(skipped),
        remarks=(*found.remarks, *_copies(names, digests, path)),
    )


def _copies(names: Sequence[str], digests: Sequence[bytes], path: Path) -> list[str]:
    """A line that tells of images that are the same file as another; none where all differ."""
    first: dict[bytes, str] = {}
    copies = []
    for name, digest in zip(names, digests, strict=True):
        if (original := first.setdefault(digest, name)) != name:
            copies.append(f"{name} of {original}")
    if not copies:
        return []
    return [
        f"probe: {path}: {len(copies)} of {len(names)} images are copies of others, byte for byte,"
        f" and count again (first {copies[0]})"
    ]


def _read(source: Source) -> tuple[bytes, str | None]:
    try:
        if isinstance(source, Gap):
            return b"", source.why
        content = source.read_bytes() if isinstance(source, Path) else source
        decode(content)
    except OSError as error:
        return b"", error.strerror or "cannot be read"
    except ValueError as error:
        return b"", str(error)
    return content, None


def _hash(ids: Sequence[str], digests: Sequence[bytes]) -> str:
    """SHA-256 over ids and contents in order: another order or another id is another probe.

    digests: SHA-256 of the contents.
    """
    total = hashlib.sha256()
    for name, digest in zip(ids, digests, strict=True):
        total.update(hashlib.sha256(name.encode()).digest())
        total.update(digest)
    return total.hexdigest()
