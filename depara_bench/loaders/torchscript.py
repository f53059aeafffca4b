"""TorchScript archives: a program, which is run. Only where the user allows it."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from depara_bench.errors import InputError
from depara_bench.loaders import weights
from depara_bench.loaders.libraries import one_line
from depara_bench.loaders.locate import locate
from depara_bench.zoo import TorchscriptSpec


def load(spec: TorchscriptSpec, base: Path, allow_code: bool) -> nn.Module:
    """The archive's program, whose output is the embedding."""
    path = locate(spec, base)
    where = f"model '{spec.name}': {path}"
    if not allow_code:
        raise InputError(
            f"{where} is a program that would be run, which is off; if you trust the file, allow it"
            f" for this run with --allow-code"
        )
    content = weights.read_bytes(path, spec.sha256, spec.name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch would rather have other archives written
            script: nn.Module = torch.jit.load(  # type: ignore[no-untyped-call]
                io.BytesIO(content), map_location="cpu"
            )
    except Exception as error:  # torch raises of many kinds on what is no archive
        raise InputError(
            f"{where} is no TorchScript archive ({one_line(error)}); write it with torch.jit.save"
        ) from error
    return _Scripted(script.float())  # some are of half or double precision


class _Scripted(nn.Module):
    """A script as an ordinary module: scripts take no hooks."""

    def __init__(self, script: nn.Module) -> None:
        super().__init__()
        self.script = script

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.script(x)
        return output
