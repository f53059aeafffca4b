"""The probe: an ordered list of images, each with an id, all with one content hash.

Encoded images stay encoded: they are carried to the workers as one array of bytes, once per
machine, and decoded there.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from depara_bench.config import Strict
from depara_bench.errors import InputError, path_errors
from depara_bench.files import IMAGE, read_file, size_of
from depara_bench.memory import available
from depara_bench.probe_parquet import from_parquet
from depara_bench.probe_sources import (
    MOST_IMAGES,
    Gap,
    Source,
    Sources,
    check_names,
    endings_in_words,
    from_folder,
    from_list,
)
from depara_bench.rooms.styles import StyleName

MINIMUM = 3
"""Fewest probe images: with two there is one edge, and no rank correlation."""

MOST_DRAWN = 10_000_000_000
"""Most pixels of all scenes of a probe: a core draws about half a million a second."""

# What Pillow remarks on large, odd or half-damaged images, without naming them. For the process:
# images are decoded in threads, among which a filter for a block of code does not work.
warnings.filterwarnings("ignore", module=r"PIL\.")


class RoomsProbe(Strict):
    """Scenes of the embedded Taskonomy: scene 0, 1, ... of `seed`."""

    kind: Literal["rooms"]
    count: int = Field(ge=MINIMUM, le=MOST_IMAGES)
    seed: int = Field(ge=0, lt=2**31)
    size: int = Field(default=64, ge=8, le=2048)
    style: StyleName = "plain"


class NoiseProbe(Strict):
    """Images without content: every pixel value drawn evenly from 0..255, image 0, 1, ... of
    `seed`. What a method scores on them is its floor.
    """

    kind: Literal["noise"]
    count: int = Field(ge=MINIMUM, le=MOST_IMAGES)
    seed: int = Field(ge=0, lt=2**31)
    size: int = Field(default=64, ge=1, le=4096)


class _Files(Strict):
    """count: the first so many, in order; None: all.

    on_error: an image that cannot be decoded stops the run ("fail"), or is left out for all models
    alike and named in the report ("skip").
    """

    path: str
    count: int | None = Field(default=None, ge=MINIMUM, le=MOST_IMAGES)
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
        _check_drawn(spec)
        return _rooms(spec) if isinstance(spec, RoomsProbe) else _noise(spec)
    path = base / spec.path
    with path_errors(f"probe: {path}", "check 'probe.path'"):
        if isinstance(spec, FolderProbe):
            found = from_folder(path)
        elif isinstance(spec, ListProbe):
            found = from_list(path, base / spec.root if spec.root else None)
        else:
            found = from_parquet(path, spec.column, spec.id_column, spec.count)
    given = len(found.ids)
    if given < (spec.count or MINIMUM):
        what = f"gives {given} images; at least {MINIMUM} are needed to compare"
        if spec.count:
            what = f"holds {given} images, 'count' asks for {spec.count}"
        hints = [endings_in_words()] if isinstance(spec, FolderProbe) else []
        raise InputError("; ".join([f"probe: {path} {what}", *hints, *found.remarks]))
    return _encoded(found, spec, path)


def _check_memory(need: int, what: str, mend: str) -> None:
    """Raise InputError for images that do not fit into the memory that is free here, where they are
    made or read. what: they are, in words.
    """
    if need > (free := available()):
        raise InputError(
            f"probe: {what} take {need / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB of memory are free;"
            f" {mend}"
        )


def _check_drawn(spec: RoomsProbe | NoiseProbe) -> None:
    """Raise InputError for drawn images that are too many or too large, before one is made."""
    pixels = spec.count * spec.size**2
    what = f"{spec.count} images of {spec.size} x {spec.size}"
    mend = "lower 'probe.count' or 'probe.size'"
    scenes = isinstance(spec, RoomsProbe)
    need = 3 * pixels
    if scenes:
        from depara_bench.rooms.scenes import working_memory

        need += working_memory(spec.size)
    _check_memory(need, what, mend)
    if scenes and pixels > MOST_DRAWN:
        raise InputError(
            f"probe: {what} are {pixels:,} pixels, and at most {MOST_DRAWN:,} of scenes are drawn;"
            f" {mend}"
        )


def _rooms(spec: RoomsProbe) -> Probe:
    from depara_bench.rooms.scenes import render

    images = render(spec.seed, range(spec.count), size=spec.size, style=spec.style)
    return _drawn(f"{spec.style}-{spec.seed}", images)


def _noise(spec: NoiseProbe) -> Probe:
    images = np.empty((spec.count, spec.size, spec.size, 3), dtype=np.uint8)
    for i, image in enumerate(images):
        image[:] = np.random.default_rng([spec.seed, i]).integers(
            0, 256, image.shape, dtype=np.uint8
        )
    return _drawn(f"noise-{spec.seed}", images)


def _drawn(name: str, images: np.ndarray) -> Probe:
    """Images (N, S, S, 3) uint8 that were made here, as a probe; ids are name and number."""
    count, size = images.shape[:2]
    ids = tuple(f"{name}-{i:06d}" for i in range(count))
    return Probe(
        ids=ids,
        data=images.reshape(-1),
        offsets=np.arange(count + 1, dtype=np.int64) * (size * size * 3),
        raw=(size, size),
        sha256=_hash(ids, [hashlib.sha256(image).digest() for image in images]),
    )


def _encoded(found: Sources, spec: _Files, path: Path) -> Probe:
    """Read and try every image once, here, so that a bad one is known before anything starts.

    The bytes of all are held once, and besides only those of the images that are being tried.
    """
    ids = found.ids[: spec.count]
    if len(ids) > MOST_IMAGES:
        raise InputError(
            f"probe: {path} gives {len(ids):,} images, and a probe has at most {MOST_IMAGES:,}; set"
            f" 'probe.count'"
        )
    check_names(ids, path)
    mend = "lower 'probe.count'"
    room = available()
    if isinstance(found.sources, list):
        _check_memory(_on_disk(found.sources[: spec.count]), f"the images of {path}", mend)
    data, offsets = bytearray(), [0]
    names, digests, skipped = [], [], []
    for name, (content, why) in zip(ids, _tried(found.sources), strict=False):
        if why is not None:
            if spec.on_error == "fail":
                raise InputError(
                    f"probe: image {name} of {path} cannot be decoded ({why}); replace it, or set"
                    f" 'probe.on_error: skip' to leave it out for all models"
                )
            skipped.append((name, why))
            continue
        if len(data) + len(content) > room:
            _check_memory(len(data) + len(content), f"the images of {path}", mend)
        data += content
        offsets.append(len(data))
        names.append(name)
        digests.append(hashlib.sha256(content).digest())
    if len(names) < MINIMUM:
        raise InputError(
            f"probe: {path} gives {len(names)} images; at least {MINIMUM} are needed to compare"
        )
    return Probe(
        ids=tuple(names),
        data=np.frombuffer(data, dtype=np.uint8),
        offsets=np.array(offsets, dtype=np.int64),
        raw=None,
        sha256=_hash(names, digests),
        skipped=tuple(skipped),
        remarks=(*found.remarks, *_copies(names, digests, path)),
    )


def _on_disk(sources: Sequence[Source]) -> int:
    """Bytes of the files among the sources; those that cannot be read are told of later."""
    total = 0
    for source in sources:
        with suppress(OSError, ValueError):
            total += size_of(source) if isinstance(source, Path) else 0
    return total


_TOGETHER = 16
"""Images that are read and tried at a time, and so are held twice."""


def _tried(sources: Iterable[Source]) -> Iterator[tuple[bytes, str | None]]:
    """Each source's bytes, and why they are no image (None: they are one), in order."""
    waiting: deque[Future[tuple[bytes, str | None]]] = deque()
    with ThreadPoolExecutor() as pool:
        for source in sources:
            waiting.append(pool.submit(_read, source))
            if len(waiting) >= _TOGETHER:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


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
        content = read_file(source, IMAGE) if isinstance(source, Path) else source
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
