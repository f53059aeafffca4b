"""What the loaders of optional libraries share: the library is there, and nothing is fetched."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from depara_bench.errors import InputError


def need(library: str, where: str, extra: str | None = None) -> Any:
    """The library's module. Raises InputError naming the extra (None: named as the library)."""
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise InputError(
            f"{where} needs {library}; install it: pip install 'depara-bench[{extra or library}]'"
        ) from error


@contextmanager
def offline() -> Iterator[None]:
    """Whatever asks the Hugging Face hub inside the block gets what is in its cache, or an error.

    Some configurations would otherwise fetch a backbone while a model is built.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def hub_file(repository: str, names: tuple[str, ...]) -> Path | None:
    """The first of the files that the Hugging Face cache holds of a repository, or None."""
    need("huggingface_hub", f"'{repository}'", extra="transformers")
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    for name in names:
        try:
            found = try_to_load_from_cache(repository, name)
        except HFValidationError:  # not a repository's name at all
            return None
        if isinstance(found, str):
            return Path(found)
    return None


def one_line(error: Exception) -> str:
    """The error's first 200 characters on one line."""
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
