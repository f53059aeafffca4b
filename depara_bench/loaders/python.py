"""Models that a function of the user's own code returns. Runs only when the user allows it.

A model must be the same in every process that builds it: generators are seeded, and the user's
modules are run anew for each model, so that nothing is left of what was built before.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from depara_bench.errors import InputError
from depara_bench.loaders import sources, weights
from depara_bench.loaders.locate import locate
from depara_bench.loaders.seeded import seeded
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
    base = base.resolve()
    with _first_on_path(base):
        factory = _factory(spec, base, where)
        try:
            with seeded(spec.seed):
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
        state = weights.state_dict(content, path, spec.name)
        weights.fill(model, state, path, spec.name, spec=spec)
    _check_values(model, where)
    return model


def _factory(spec: PythonSpec, base: Path, where: str) -> Any:
    module_name, _, function = spec.factory.partition(":")
    _check_not_shadowed(module_name.partition(".")[0], base, where)
    try:
        with seeded(spec.seed):
            module = _imported_anew(module_name, base)
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


def _imported_anew(name: str, base: Path) -> ModuleType:
    """The module, imported with all of the user's modules below `base` as in a new process: files
    may have been edited since, and what a module holds may have been used up.

    Where that fails for modules that are there already (they register something that can be
    registered once), they are taken as they are.
    """
    importlib.invalidate_caches()
    before = {found: sys.modules.pop(found) for found in sources.below(base)}
    try:
        module = importlib.import_module(name)
    except Exception:
        if name not in before or _imported.get(name) != _contents(before[name]):
            raise
        sys.modules.update(before)
        return before[name]
    finally:
        for found, kept in before.items():
            sys.modules.setdefault(found, kept)
    _imported[name] = _contents(module)
    return module


_imported: dict[str, bytes | None] = {}
"""What stood in the file of a module when it was imported last."""


def _contents(module: ModuleType) -> bytes | None:
    file = getattr(module, "__file__", None)
    return Path(file).read_bytes() if file and Path(file).is_file() else None


def _check_values(model: nn.Module, where: str) -> None:
    """Refuse parameters that have no values yet."""
    from torch.nn.parameter import is_lazy

    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if is_lazy(value):
            raise InputError(
                f"{where}: '{name}' is lazy and has no shape yet; call the model once on a batch in"
                f" the function, or give the layer its sizes"
            )
        if value.is_meta:
            raise InputError(
                f"{where}: '{name}' is on the device 'meta' and has no values; build it on the CPU,"
                f" or give 'weights'"
            )


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
