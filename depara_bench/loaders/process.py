"""State of the whole process that foreign code can change while it is loaded, put back afterwards:
what one model's code does must not reach the next model.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

Switch = tuple[Callable[[], Any], Callable[[Any], Any]]


@contextmanager
def isolated() -> Iterator[None]:
    """Put back, at the end of the block, what was changed in it: torch's default type and device,
    its switches of precision and determinism, the generators of torch, numpy and random, the
    working folder, the environment, the path of imports.

    Nothing is compiled into the user's folders meanwhile: byte code of a file that is edited twice
    in a second would be taken for the later one.
    """
    import torch

    switches = _switches()
    before = [read() for read, _ in switches]
    drawn = torch.random.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    compiling, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = compiling
        for (read, write), value in zip(switches, before, strict=True):
            if read() != value:
                write(value)
        torch.random.set_rng_state(drawn[0])
        np.random.set_state(drawn[1])  # noqa: NPY002
        random.setstate(drawn[2])


def _switches() -> list[Switch]:
    import torch

    found: list[Switch] = [
        (torch.get_default_dtype, torch.set_default_dtype),
        (torch.get_default_device, _set_device),
        (torch.is_grad_enabled, torch.set_grad_enabled),
        (torch.get_num_threads, torch.set_num_threads),
        (_deterministic, lambda two: torch.use_deterministic_algorithms(two[0], warn_only=two[1])),
        (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
        (
            lambda: torch.is_autocast_enabled("cpu"),
            lambda on: torch.set_autocast_enabled("cpu", on),
        ),
        (
            lambda: torch.is_autocast_enabled("cuda"),
            lambda on: torch.set_autocast_enabled("cuda", on),
        ),
        (np.geterr, lambda kept: np.seterr(**kept)),
        (os.getcwd, os.chdir),
        (lambda: dict(os.environ), _set_environment),
        (lambda: list(sys.path), lambda kept: sys.path.__setitem__(slice(None), kept)),
        (sys.getrecursionlimit, sys.setrecursionlimit),
    ]
    for owner, name in (
        (torch.backends.cudnn, "enabled"),
        (torch.backends.cudnn, "benchmark"),
        (torch.backends.cudnn, "deterministic"),
        (torch.backends.cudnn, "allow_tf32"),
        (torch.backends.cuda.matmul, "allow_tf32"),
    ):
        found.append(_attribute(owner, name))
    return found


def _attribute(owner: Any, name: str) -> Switch:
    def read() -> Any:
        with suppress(RuntimeError):  # torch refuses to say where two of its ways were mixed
            return getattr(owner, name)
        return None

    def write(value: Any) -> None:
        if value is not None:
            setattr(owner, name, value)

    return read, write


def _deterministic() -> tuple[bool, bool]:
    import torch

    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )


def _set_device(device: Any) -> None:
    import torch

    torch.set_default_device(None if device == torch.device("cpu") else device)


def _set_environment(kept: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(kept)
