"""Models that a function of the user's own code returns. Runs only when the user allows it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depara_bench.errors import InputError
from depara_bench.loaders import weights
from depara_bench.loaders.locate import locate
from depara_bench.zoo import PythonSpec

if TYPE_CHECKING:
    from torch import nn

FOREIGN = (Exception, SystemExit)
"""What the user's code can raise; an exit() in it must not end the run as if all were well."""


def load(spec: PythonSpec, base: Path, allow_code: bool) -> nn.Module:
    """Call the factory; fill what it returns from the checkpoint where there is one."""
    from torch import nn

    where = f"model '{spec.name}': factory '{spec.factory}'"
    if not allow_code:
        raise InputError(
            f"{where} runs code from the manifest, which is off;"
            " read that code, then allow it for this run with --allow-code"
        )
    factory = _factory(spec.factory, base.resolve(), where)
    try:
        model = factory()
    except FOREIGN as error:
        raise InputError(f"{where} failed ({_line(error)}); mend the function") from error
    if not isinstance(model, nn.Module):
        raise InputError(
            f"{where} returned {type(model).__name__}; it must return a torch.nn.Module"
        )
    if spec.weights is not None:
        path = locate(spec, base)
        content = weights.read_bytes(path, spec.sha256, spec.name)
        weights.fill(model, weights.state_dict(content, path, spec.name), path, spec.name)
    return model


def _factory(reference: str, base: Path, where: str) -> Any:
    module_name, _, function = reference.partition(":")
    _check_not_shadowed(module_name.partition(".")[0], base, where)
    try:
        with _first_on_path(base):
            module = importlib.import_module(module_name)
        factory = getattr(module, function, None)
    except FOREIGN as error:
        raise InputError(
            f"{where}: '{module_name}' cannot be imported ({_line(error)});"
            f" mend it, or put it beside the manifest in {base}"
        ) from error
    if not callable(factory):
        raise InputError(
            f"{where}: '{module_name}' has no function '{function}'; correct 'factory'"
        )
    return factory


def _check_not_shadowed(package: str, base: Path, where: str) -> None:
    """Refuse to take a module of the same name from elsewhere, e.g. from another zoo."""
    importlib.invalidate_caches()
    found = PathFinder.find_spec(package, [str(base)])
    loaded = getattr(sys.modules.get(package), "__spec__", None)
    if package not in sys.modules or found is None or found.origin is None:
        return
    if getattr(loaded, "origin", None) != found.origin:
        raise InputError(
            f"{where}: a module '{package}' from elsewhere is already loaded; rename {found.origin}"
        )


@contextmanager
def _first_on_path(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
