"""The weights that torchvision and timm publish of an architecture, and whose a file is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from depara_bench.errors import InputError, path_errors
from depara_bench.files import is_file
from depara_bench.loaders.weights import file_sha256


@dataclass(frozen=True)
class Entry:
    """name: as the library has it; file: of its download, or ""; repository: on the Hugging Face
    hub, or ""; content: the library's own object, with the pictures that these weights take.
    """

    name: str
    file: str
    repository: str
    content: Any

    def is_named(self, path: Path) -> bool:
        """Whether a file's name or folder says that it holds these weights."""
        folder = f"models--{self.repository.replace('/', '--')}"
        digits = _digits(self.file)
        return (
            path.name == self.file
            or bool(digits and digits in path.name)
            or self.name in path.name
            or bool(self.repository and folder in path.parts)
        )


def entries_of(loader: str, architecture: str, where: str) -> list[Entry]:
    """All entries, the one that the library takes by default first; none where it has none.

    loader: "torchvision" or "timm". Raises InputError naming the nearest architectures.
    """
    if loader == "torchvision":
        from torchvision.models import get_model_weights

        from depara_bench.loaders.torchvision import published

        default = published(architecture, where)
        members = {} if default is None else get_model_weights(architecture).__members__
        known = {one.name: one for one in ([] if default is None else [default, *members.values()])}
        return [Entry(name, _base(one.url), "", one) for name, one in known.items()]
    return _timm_entries(architecture, where)


def _timm_entries(architecture: str, where: str) -> list[Entry]:
    from timm import get_pretrained_cfg, list_models

    from depara_bench.loaders.timm import published

    first = published(architecture, where)
    stem, _, tag = architecture.partition(".")
    found = {f"{stem}.{first.tag}" if first.tag else stem: first}
    if not tag:
        for name in list_models(f"{stem}.*", pretrained=True):
            found.setdefault(name, get_pretrained_cfg(name))
    return [
        Entry(name, _base(one.url or ""), one.hf_hub_id or "", one) for name, one in found.items()
    ]


def entry_of_file(
    entries: Sequence[Entry], weights: str, base: Path, sha256: str | None, where: str
) -> Entry | None:
    """The entry whose file `weights` is: by the file's name, or by its SHA-256, whose first digits
    the libraries put into the names of their files. None where it is none of them, or may be
    several. Raises InputError when the file must be read and cannot be.
    """
    with path_errors(f"{where}: weights {weights}"):
        path = (base / Path(weights).expanduser()).resolve()
        there = is_file(path)
    named = [entry for entry in entries if entry.is_named(path)]
    if not named and any(_digits(entry.file) for entry in entries):
        if sha256 is None and not there:
            raise InputError(f"{where}: weights {path} do not exist; put the file there")
        found = sha256 or file_sha256(path)
        named = [e for e in entries if (digits := _digits(e.file)) and found.startswith(digits)]
    # A name may begin with another one; two that do not leave it open.
    longest = max(named, key=lambda entry: len(entry.name), default=None)
    return longest if longest and all(e.name in longest.name for e in named) else None


def _base(url: str) -> str:
    return url.rpartition("/")[2]


def _digits(file: str) -> str | None:
    """The digits of its SHA-256 that a published file's name ends with."""
    found = re.search(r"-([0-9a-f]{8,})\.\w+$", file)
    return found[1] if found else None
