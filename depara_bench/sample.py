"""A list of probe images drawn from a folder: as many of each of its folders, or of all."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from depara_bench.errors import InputError, path_errors
from depara_bench.probe import image_files


def sample(folder: Path, *, each: int | None, total: int | None, seed: int) -> list[str]:
    """Paths of images below `folder`, relative to it, sorted, drawn at random by `seed`.

    each: of every folder that lies directly in `folder`, with all that is below it, so many (of
    every class or building). total: of all images, so many. One of the two. The draw of a folder
    depends on its own images alone. Raises InputError naming a folder that has too few.
    """
    if (each is None) == (total is None):
        raise InputError("give either --each (images of every folder) or --count (images in all)")
    with path_errors(f"{folder}"):
        if not folder.is_dir():
            raise InputError(f"{folder}: is no folder; check the path")
        inner = sorted(path for path in folder.iterdir() if path.is_dir())
    if total is not None:
        return sorted(_drawn(_images(folder, folder), total, f"{seed}:", folder))
    groups = {path: names for path in inner if (names := _images(path, folder))}
    if not groups:
        raise InputError(f"{folder}: no folder in it holds images; use --count")
    found: list[str] = []
    for path, names in groups.items():
        found += sorted(_drawn(names, each or 0, f"{seed}:{path.name}", path))
    return found


def _images(path: Path, base: Path) -> list[str]:
    return sorted(file.relative_to(base).as_posix() for file in image_files(path))


def _drawn(names: Sequence[str], count: int, key: str, where: Path) -> list[str]:
    if not 1 <= count <= len(names):
        raise InputError(
            f"{where}: holds {len(names)} images, {count} are asked for; ask for fewer"
        )
    return random.Random(key).sample(names, count)
