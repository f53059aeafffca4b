"""Where the zoos and jobs that come with the package lie: beside it in a checkout, in it when
installed from a wheel.
"""

from __future__ import annotations

from pathlib import Path

from depara_bench.errors import InputError, path_errors


def embedded(*parts: str) -> Path:
    """Path of an embedded file, e.g. ``embedded("zoo", "rooms", "zoo.yaml")``.

    Raises InputError where this installation does not hold it.
    """
    if odd := next((part for part in parts if Path(part).is_absolute() or ".." in part), None):
        raise InputError(f"{odd}: is no name of what comes with this installation; give a path")
    package = Path(__file__).resolve().parent
    for root in (package.parent, package / "_embedded"):
        path = root.joinpath(*parts)
        with path_errors("/".join(parts)):
            if path.exists():
                return path
    raise InputError(f"{'/'.join(parts)}: does not come with this installation; give a path")
