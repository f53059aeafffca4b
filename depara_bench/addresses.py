"""Addresses, as they may be shown: what opens a store or a server is never written (C11)."""

from __future__ import annotations

import re
from urllib.parse import unquote

HIDDEN = "***"

_ADDRESS = re.compile(r"\b([a-zA-Z][\w+.-]+:/{1,2}|s3:|gs:)(\S*@\S*)")

_TOKEN = re.compile(
    r"([?&][\w.-]*(?:token|key|secret|sig|password|credential)[\w.-]*=)[^&\s]+", re.IGNORECASE
)


def masked(address: str) -> str:
    """An address for eyes: user and password hidden, and without its query, which may hold keys
    and tokens, so that a path can be put behind it.
    """
    scheme, separator, rest = address.partition("://")
    if not separator:
        return scrubbed(address)
    return f"{scheme}{separator}{_masked_user(scheme, rest).partition('?')[0]}"


def scrubbed(text: str) -> str:
    """A text in which the addresses have no user and password, and no tokens and keys."""
    text = _ADDRESS.sub(lambda found: found[1] + _masked_user(found[1], found[2]), text)
    return _TOKEN.sub(rf"\1{HIDDEN}", text)


def without(address: str, error: Exception) -> str:
    """What was raised, on one line, with no part of the address that may be a secret."""
    text = scrubbed(" ".join(str(error).split()))
    rest = address.partition("://")[2]
    secrets = []
    if _masked_user(address, rest) != rest:
        user = rest.rpartition("@")[0]
        secrets += [address, rest, user, *user.split(":")]
    pairs = (part.partition("=")[::2] for part in rest.partition("?")[2].split("&"))
    secrets += [value for key, value in pairs if key not in _SHOWN]
    for secret in sorted({*secrets, *map(unquote, secrets)}, key=len, reverse=True):
        if secret:
            text = text.replace(secret, HIDDEN)
    return text


_SHOWN = ("region", "scheme", "endpoint_override", "allow_bucket_creation", "allow_delayed_open")
"""Parts of an address's query that are no secrets."""


def _masked_user(scheme: str, rest: str) -> str:
    """What follows the scheme, up to its last @ hidden: a key that is not written as an address
    asks (with a / or a ? in it) is hidden as well. Not hidden are an @ in the name of a file, and
    the container of container@account.
    """
    user, at, path = rest.rpartition("@")
    container = scheme.startswith("abfs") and ":" not in user
    if at and not container and (":" in user or "/" not in user):
        return f"{HIDDEN}@{path}"
    return rest
