"""All methods by name: those of this package, and those that other packages register.

[project.entry-points."depara_bench.methods"]
my-method = "my_package:METHOD"               # a Method of that name
"""

from __future__ import annotations

import sys
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType

from depara_bench.config import nearest
from depara_bench.errors import InputError
from depara_bench.similarity.cca import PWCCA, SVCCA
from depara_bench.similarity.cka import CKA
from depara_bench.similarity.dds import DDS
from depara_bench.similarity.directed import RIDGE
from depara_bench.similarity.method import Family, Method
from depara_bench.similarity.pooled_nodes import NODES_POOLED
from depara_bench.similarity.procrustes import PROCRUSTES
from depara_bench.similarity.rsa import RSA, RSA_CENTRED

GROUP = "depara_bench.methods"
_BUILT_IN: tuple[Method | Family, ...] = (
    RSA, RSA_CENTRED, CKA, SVCCA, PWCCA, PROCRUSTES, RIDGE, NODES_POOLED, DDS,
)  # fmt: skip
METHODS = MappingProxyType({name: method for method in _BUILT_IN for name in method.names})


def known() -> list[str]:
    """Names of all methods; a plug-in's is known without loading it."""
    return [*METHODS, *(name for name in sorted(_plug_ins()) if name not in METHODS)]


def lookup(name: str) -> Method | Family:
    """The method of that name, or the family it is one of.

    InputError: there is none, it is registered twice, or it is a plug-in that does not give a
    `Method` of that name. A plug-in is loaded only when it is asked for.
    """
    plug_ins = _plug_ins().get(name, [])
    if len(plug_ins) > (name not in METHODS):
        owners = ", ".join(sorted(map(_owner, plug_ins)))
        rest = "this package has one of that name" if name in METHODS else "keep one of them"
        raise InputError(f"method {name!r} is registered by {owners}: {rest}; uninstall or rename")
    if plug_ins:
        return _loaded(plug_ins[0])
    if name not in METHODS:
        raise InputError(f"no method {name!r}; nearest: {nearest(name, known())}")
    return METHODS[name]


def _plug_ins() -> dict[str, list[EntryPoint]]:
    return _installed(tuple(sys.path))


@cache
def _installed(path: tuple[str, ...]) -> dict[str, list[EntryPoint]]:
    """What is registered there when first asked; to look again takes longer than a method."""
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        found.setdefault(point.name, []).append(point)
    return found


def _loaded(point: EntryPoint) -> Method:
    what = f"method {point.name!r} of {_owner(point)} ({point.value})"
    mend = "update or uninstall it"
    try:
        method = point.load()
    except Exception as error:  # whatever a foreign module raises when it is imported
        cause = " ".join(str(error).split())
        raise InputError(
            f"{what} cannot be loaded: {type(error).__name__}: {cause}; {mend}"
        ) from error
    if not isinstance(method, Method):
        raise InputError(f"{what} is a {type(method).__name__}, not a Method; {mend}")
    if method.name != point.name:
        raise InputError(f"{what} calls itself {method.name!r}; {mend}")
    return method


def _owner(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "an unknown package"
