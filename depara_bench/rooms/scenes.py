"""Images of scenes, by seed and index."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from depara_bench.errors import InputError
from depara_bench.rooms.layout import Scenes, draw_scenes
from depara_bench.rooms.raycast import cast
from depara_bench.rooms.shading import clean_images, sensed
from depara_bench.rooms.styles import Style, style_named

_DRAWN = 256  # scenes whose parameters are drawn in one go
_PIXELS = 16 * 64 * 64  # of a chunk: what stays in cache
_BYTES = 500  # that drawing holds for each pixel of a chunk, at its peak
Result = TypeVar("Result")


def working_memory(size: int) -> int:
    """Bytes that drawing scenes of a size takes, besides the images: of the chunks that are drawn
    at the same time.
    """
    return _BYTES * max(_PIXELS, size**2) * torch.get_num_threads()


def _chunks(
    seed: int, indices: Sequence[int], size: int, style: Style
) -> Iterator[tuple[slice, Scenes]]:
    """Scenes in chunks of a fair size, each with its place in `indices`."""
    step = max(1, _PIXELS // size**2)
    for first in range(0, len(indices), _DRAWN):
        drawn = draw_scenes(seed, indices[first : first + _DRAWN], style)
        for start in range(0, len(drawn), step):
            part = drawn.part(slice(start, start + step))
            yield slice(first + start, first + start + len(part)), part


def map_chunks(
    function: Callable[[Scenes], Result],
    seed: int,
    indices: Sequence[int],
    size: int,
    style: str,
) -> Iterator[tuple[slice, Result]]:
    """`function` of the scenes, chunk by chunk, with the place of each chunk in `indices`.

    Chunks go to as many threads as torch may use, each with one thread of torch's own: small
    tensors gain nothing from being split, and lose much on a machine that others use too.
    """
    look = style_named(style)
    if size < 8:
        raise InputError(f"rooms: images of {size} pixels are too small; take 8 or more")
    if len(indices) and min(indices) < 0:
        raise InputError(f"rooms: scene {min(indices)} does not exist; count from 0")

    def work(place: slice, scenes: Scenes) -> tuple[slice, Result]:
        with torch.inference_mode():
            return place, function(scenes)

    pieces = _chunks(seed, indices, size, look)
    threads = torch.get_num_threads()
    if threads == 1 or len(indices) * size**2 <= _PIXELS:
        for place, scenes in pieces:
            yield work(place, scenes)
        return
    waiting: deque[Future[tuple[slice, Result]]] = deque()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for place, scenes in pieces:
                waiting.append(pool.submit(work, place, scenes))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    finally:
        torch.set_num_threads(threads)  # the pool's setting would be that of later threads too


def to_bytes(images: torch.Tensor) -> NDArray[np.uint8]:
    """(N, 3, S, S) uint8 on any device as (N, S, S, 3) numpy."""
    return np.asarray(images.permute(0, 2, 3, 1).cpu().numpy())


def render(
    seed: int, indices: Sequence[int], *, size: int = 64, style: str = "plain"
) -> NDArray[np.uint8]:
    """Images (N, size, size, 3) uint8 of scenes `indices` of `seed`.

    Raises InputError for an unknown style, a size below 8 or a negative index.
    """

    def draw(scenes: Scenes) -> NDArray[np.uint8]:
        return to_bytes(sensed(scenes, clean_images(scenes, cast(scenes, size))))

    images = np.empty((len(indices), size, size, 3), dtype=np.uint8)
    for place, drawn in map_chunks(draw, seed, indices, size, style):
        images[place] = drawn
    return images
