"""A list of probe images drawn from a folder: as many of each of its folders, or of all."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

from depara_bench.errors import InputError, path_errors
from depara_bench.probe_sources import endings_in_words, image_files


def sample(
    folder: Path,
    *,
    each: int | None,
    total: int | None,
    seed: int,
    say: Callable[[str], None] = lambda _: None,
) -> list[str]:
    """Paths of images below `folder`, relative to it, sorted, drawn at random by `seed`.

    each: of every folder that lies directly in `folder`, with all that is below it, so many (of
    every class or building). total: of all images, so many. One of the two. The draw of a folder
    depends on its own images alone. say: takes a line about what was left out. Raises InputError
    naming a folder that has too few.
    """
    if (each is None) == (total is None):
        raise InputError("give either --each (images of every folder) or --count (images in all)")
    with path_errors(f"{folder}"):
        if not folder.is_dir():
            raise InputError(f"{folder}: is no folder; check the path")
        files, left_out = image_files(folder)
    if left_out:
        say(left_out)
    names = sorted(file.relative_to(folder).as_posix() for file in files)
    if total is not None:
        return sorted(_drawn(names, total, f"{seed}:", folder))
    groups: dict[str, list[str]] = {}
    for name in names:
        inner, separator, _ = name.partition("/")
        if separator:
            groups.setdefault(inner, []).append(name)
    if not groups:
        raise InputError(
            f"{folder}: no folder in it holds images; use --count; {endings_in_words()}"
        )
    found: list[str] = []
    for inner, own in sorted(groups.items()):
        found += sorted(_drawn(own, each or 0, f"{seed}:{inner}", folder / inner))
    return found


def _drawn(names: Sequence[str], count: int, key: str, where: Path) -> list[str]:
    if not 1 <= count <= len(names):
        hint = "" if names else f"; {endings_in_words()}"
        raise InputError(
            f"{where}: holds {len(names)} images, {count} are asked for; ask for fewer{hint}"
        )
    return random.Random(key).sample(names, count)
