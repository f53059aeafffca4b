"""Which files of the user's code a model was made by: those that are part of what it is."""

from __future__ import annotations

import ast
import hashlib
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

_THIS = __name__.partition(".")[0]
_INSTALLED = ("site-packages", "dist-packages")


def below(base: Path) -> list[str]:
    """Names of the loaded modules whose files lie below a folder, installed packages apart."""
    found = []
    for name, module in list(sys.modules.items()):
        file = _file(module)
        if file is None or name == "__main__" or name.partition(".")[0] == _THIS:
            continue
        if base in file.parents and not _is_installed(file):
            found.append(name)
    return found


def digest(factory: str, model: nn.Module, base: Path) -> str:
    """SHA-256 of the code of a model: of the factory's module, of those that the classes of the
    model's parts come from, and of all that these import, file by file as they are now. Of
    installed packages their versions count, unless the factory is in one.
    """
    start = factory.partition(":")[0]
    own = start.partition(".")[0]
    waiting = [start, *(type(part).__module__ for part in model.modules())]
    seen: set[str] = set()
    lines: list[str] = []
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        top = name.partition(".")[0]
        file = _located(name, base)
        if file is None or top in sys.stdlib_module_names:
            continue
        if (_is_installed(file) and top != own) or (top == _THIS and name != start):
            lines.append(f"{top} {_version(top)}")
            continue
        content = file.read_bytes()
        lines.append(f"{name} {hashlib.sha256(content).hexdigest()}")
        if top != _THIS:
            waiting += _parents(name)
            waiting += _imported(content, name, is_package=file.name == "__init__.py")
            waiting += _held(sys.modules.get(name))
    return hashlib.sha256("\n".join(sorted(set(lines))).encode()).hexdigest()


def _file(module: ModuleType | None) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if isinstance(file, str) else None


def _is_installed(file: Path) -> bool:
    if any(part in _INSTALLED for part in file.parts):
        return True
    return Path(sysconfig.get_path("stdlib")).resolve() in file.parents


def _located(name: str, base: Path) -> Path | None:
    """The file of a module, as it was loaded, or as it would be found; nothing is run."""
    if name in sys.modules:
        return _file(sys.modules[name])
    places: list[str] | None = [str(base), *sys.path]
    spec: ModuleSpec | None = None
    walked = ""
    for part in name.split("."):
        walked = f"{walked}.{part}" if walked else part
        spec = PathFinder.find_spec(walked, places)
        if spec is None:
            return None
        places = list(spec.submodule_search_locations or ())
    file = Path(spec.origin).resolve() if spec is not None and spec.origin else None
    return file if file is not None and file.is_file() else None


@cache
def _version(package: str) -> str:
    """Versions of the installed distributions that a package to import comes from."""
    names = _distributions().get(package, [])
    return " ".join(sorted({f"{name} {metadata.version(name)}" for name in names}))


@cache
def _distributions() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _imported(content: bytes, name: str, *, is_package: bool) -> Iterator[str]:
    """Names of all modules that a source may import, wherever in it that stands."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):  # compiled code has no names to read
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = name.split(".") if is_package else name.split(".")[:-1]
            kept = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*kept, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)  # it may be a module
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = ast.unparse(node.func).rpartition(".")[2]
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.args[0].value


def _held(module: ModuleType | None) -> Iterator[str]:
    """Modules of what a module holds, however it was imported."""
    for value in list(vars(module).values()) if module is not None else ():
        if isinstance(value, ModuleType):
            yield value.__name__
        elif isinstance(origin := getattr(value, "__module__", None), str):
            yield origin
