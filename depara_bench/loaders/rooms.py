"""Networks of the embedded Taskonomy (`depara_bench.rooms`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from depara_bench.config import nearest
from depara_bench.errors import InputError
from depara_bench.loaders import weights
from depara_bench.loaders.locate import locate
from depara_bench.zoo import RoomsSpec

if TYPE_CHECKING:
    from torch import nn


def load(spec: RoomsSpec, base: Path, allow_code: bool) -> nn.Module:
    """The network of the task, weights from the manifest's file."""
    from depara_bench.rooms.networks import build
    from depara_bench.rooms.tasks import TASKS

    task = spec.task or spec.name
    if task not in TASKS:
        raise InputError(
            f"model '{spec.name}': no rooms task '{task}'; nearest: {nearest(task, list(TASKS))}"
        )
    path = locate(spec, base)
    content = weights.read_bytes(path, spec.sha256, spec.name)
    model: nn.Module = build(task)
    weights.fill(model, weights.state_dict(content, path, spec.name), path, spec.name, spec=spec)
    return model
