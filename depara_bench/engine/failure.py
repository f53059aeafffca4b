"""What an exception in a worker means, the same on every engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from depara_bench.errors import DeparaError, InputError


@dataclass(frozen=True)
class Answer:
    """A worker's answer to one payload: its value, a failure of the group, or a call to stop."""

    kind: Literal["value", "failed", "stop"]
    value: Any


def answer(worker: Callable[[Any], Any], payload: Any) -> Answer:
    """Call the worker; whatever it raises becomes words that name the cause."""
    try:
        return Answer("value", worker(payload))
    except InputError as error:
        return Answer("stop", str(error))
    except DeparaError as error:
        return Answer("failed", str(error))
    except (Exception, SystemExit) as error:  # a model may raise anything: told under its name
        first = (str(error).strip().splitlines() or [""])[0]
        return Answer("failed", f"{type(error).__name__}: {first}")
