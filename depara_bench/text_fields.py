"""Texts of a certain form in files that users write: what is wrong with one is told in words."""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator

LONGEST_NAME = 100


def _name(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.\-]*", text) and len(text) <= LONGEST_NAME:
        return text
    raise ValueError(
        f"{_shown(text)} cannot be a name: letters and digits of English, and '_', '.', '-' after"
        f" the first, at most {LONGEST_NAME}; use '{usable_name(text)}'"
    )


def usable_name(text: str) -> str:
    """The name most like `text` that can be one: "facebook/dino-vits16" as facebook-dino-vits16."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    joined = re.sub(r"[^A-Za-z0-9_.]+", "-", plain).strip("-_.")
    return joined[:LONGEST_NAME] or "model-1"


def _sha256(text: str) -> str:
    if re.fullmatch(r"[0-9a-fA-F]{64}", text):
        return text.lower()
    raise ValueError(
        f"{_shown(text)} is no SHA-256: it has 64 digits 0-9 and a-f, as 'sha256sum FILE' prints"
    )


def _factory(text: str) -> str:
    module, _, function = text.partition(":")
    if all(part.isidentifier() for part in (*module.split("."), function)) and text.isascii():
        return text
    raise ValueError(
        f"{_shown(text)} names no function; write 'module:function', e.g. 'models:build' for"
        f" build() in models.py beside the manifest"
    )


def _web_address(text: str) -> str:
    if text.startswith(("http://", "https://")):
        return text
    raise ValueError(f"{_shown(text)} is no address on the web; it begins with https://")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 200 else f"{text[:200]}...")


Name = Annotated[str, AfterValidator(_name)]
"""Of models, zoos, jobs: it becomes the name of a folder."""
Sha256 = Annotated[str, AfterValidator(_sha256)]
Factory = Annotated[str, AfterValidator(_factory)]
WebAddress = Annotated[str, AfterValidator(_web_address)]
