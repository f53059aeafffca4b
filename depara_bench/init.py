"""A manifest to start from: models that a library knows, by a pattern of their names."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from depara_bench.config import nearest
from depara_bench.errors import InputError
from depara_bench.loaders.libraries import need
from depara_bench.loaders.metadata import library_input

if TYPE_CHECKING:
    from torch import nn

_HEAD = """\
# Models of {library} that match '{match}', initialised at random: they run, and say nothing yet.
# For each, put your checkpoint in place of its seed:
#   weights: FILE     relative to this manifest; or the word cache, for what {library} has fetched
# 'roles' say what a model may be ranked as (source), and for (target). 'embedding' is the module
# whose output is compared; left out, it is the model's own output{pooled}.
"""


def known(library: str) -> list[str]:
    """Names of the library's image classifiers, sorted. library: "torchvision" or "timm"."""
    if library == "timm":
        names: list[str] = need("timm", "'--from timm'").list_models()
        return sorted(names)
    import torchvision

    return sorted(torchvision.models.list_models(module=torchvision.models))


def manifest(library: str, match: str, name: str) -> tuple[str, int]:
    """A manifest, as text, of all the library's models whose names match the pattern; how many.

    Models are random, by seeds 0, 1, ...; inputs are the library's own. Raises InputError with the
    nearest names when nothing matches.
    """
    names = known(library)
    found = [one for one in names if fnmatchcase(one, match)]
    if not found:
        raise InputError(
            f"--match '{match}': {library} has no such model; nearest:"
            f" {nearest(match.replace('*', ''), names)}"
        )
    entries: list[dict[str, Any]] = []
    unsaid: list[str] = []
    for one in found:
        try:
            entries.append(_entry(library, one, len(entries)))
        except InputError:
            unsaid.append(one)
    if not entries:
        raise InputError(f"--match '{match}': {library} says of none what images it takes")
    head = _HEAD.format(
        library=library, match=match, pooled=", pooled" if library == "timm" else ""
    )
    if unsaid:
        head += (
            f"# Left out, as {library} does not say what images they take: {', '.join(unsaid)}\n"
        )
    return f"{head}name: {name}\nmodels:\n" + "".join(map(_text, entries)), len(entries)


def _entry(library: str, architecture: str, seed: int) -> dict[str, Any]:
    taken = library_input(library, architecture, Path(), f"--match: '{architecture}'")
    entry = {
        "name": architecture,
        "loader": library,
        "architecture": architecture,
        "seed": seed,
        "input": taken,
    }
    if library == "torchvision" and (module := before_head(architecture, taken["size"])):
        entry["embedding"] = module
    return {**entry, "roles": ["source", "target"]}


def _text(entry: dict[str, Any]) -> str:
    lines = []
    for key, value in entry.items():
        flow = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1000)
        lines.append(f"{key}: {flow.splitlines()[0]}\n")
    return "  - " + "    ".join(lines)


def before_head(architecture: str, size: int) -> str | None:
    """Name of the module whose output a torchvision classifier's last linear layer is given, for
    images of `size`; None where there is none, or it cannot be found by a forward pass that
    computes nothing.
    """
    import torch
    from torchvision.models import get_model

    order: list[tuple[str, nn.Module]] = []
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a default for init_weights that will change some day
            model = get_model(architecture, weights=None)
            for name, module in model.named_modules():
                if not any(module.children()):
                    module.register_forward_hook(
                        lambda module, _i, _o, name=name: order.append((name, module))
                    )
            model.eval()(torch.empty(1, 3, size, size))
    except (NotImplementedError, AssertionError):
        return None  # it needs values while it is built (regnets), or another size
    return _last_before_linear(order)


def _last_before_linear(order: Sequence[tuple[str, nn.Module]]) -> str | None:
    from torch import nn

    heads = [i for i, (_, module) in enumerate(order) if isinstance(module, nn.Linear)]
    if not heads:
        return None
    passing = (nn.Dropout, nn.Flatten, nn.Identity)  # whose outputs hold the same values
    before = [name for name, module in order[: heads[-1]] if not isinstance(module, passing)]
    return before[-1] if before else None
