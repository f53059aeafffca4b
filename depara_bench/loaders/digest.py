"""What a loaded model is, by its content: the part of a shard's fingerprint that no file's name,
no cache and no edit behind our back can make stale.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from depara_bench.loaders import sources
from depara_bench.shards import Digest
from depara_bench.zoo import AnySpec, PythonSpec

if TYPE_CHECKING:
    from torch import Tensor, nn


def digest(spec: AnySpec, model: nn.Module, base: Path) -> Digest:
    """The digest of a model as `load` gives it: the same in every process that loads the same."""
    total, settings = hashlib.sha256(), hashlib.sha256()
    for name, value in _tensors(model):
        total.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        total.update(_bytes(value))
    if not isinstance(spec, PythonSpec):
        return Digest(total.hexdigest(), "")
    total.update(sources.digest(spec.factory, model, base.resolve()).encode())
    for name, part in model.named_modules():
        settings.update(f"{name} {type(part).__qualname__} {_settings(part)}\n".encode())
    return Digest(total.hexdigest(), settings.hexdigest())


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    import torch

    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)
    for path, part in model.named_modules():
        for name, value in _attributes(part).items():
            if isinstance(value, torch.Tensor):
                yield f"{path}.{name}", value
            elif isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
                yield f"{path}.{name}", torch.from_numpy(np.ascontiguousarray(value))


def _bytes(value: Tensor) -> bytes | memoryview:
    import torch

    flat = value.detach().to("cpu").contiguous().reshape(-1)
    if flat.is_quantized or flat.layout != torch.strided:
        flat = flat.dequantize() if flat.is_quantized else flat.to_dense().reshape(-1)
    return flat.view(torch.uint8).numpy().data if flat.numel() else b""


def _attributes(part: nn.Module) -> dict[str, Any]:
    """What a part holds besides what every module does; a script's cannot be seen."""
    from torch import jit, nn

    if isinstance(part, jit.ScriptModule):
        return {}
    ours = vars(nn.Module())
    return {name: value for name, value in vars(part).items() if name not in ours}


def _settings(part: nn.Module) -> str:
    plain = {name: _plain(value) for name, value in _attributes(part).items()}
    return json.dumps({name: value for name, value in plain.items() if value is not None})


def _plain(value: Any, depth: int = 3) -> Any:
    """A number, a word, or a list or mapping of such, as JSON; None for anything else."""
    if isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)) and depth:
        return [_plain(item, depth - 1) for item in value]
    if isinstance(value, dict) and depth:
        return {str(key): _plain(item, depth - 1) for key, item in value.items()}
    return None
