"""Parts of a model that its file does not fill: allowed only where the embedding needs none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from depara_bench.errors import InputError
from depara_bench.loaders.fit_keys import Fit, expected, first_few

if TYPE_CHECKING:
    from torch import nn

    from depara_bench.zoo import AnySpec


def poison(model: nn.Module, names: Sequence[str]) -> None:
    """Make parts of a model no numbers (nan), so that nothing they reach can pass for a result."""
    import torch

    own = expected(model)
    with torch.no_grad():
        for name in names:
            if own[name].is_floating_point():
                own[name].fill_(torch.nan)


def check_unfilled(model: nn.Module, fit: Fit, path: Path, name: str, spec: AnySpec | None) -> None:
    """Refuse a file that lacks what the embedding needs: see what an image gives without it."""
    own = expected(model)
    kept = [key for key in fit.missing if key in own]  # a head can have been taken off since
    whole = [key for key in kept if not own[key].is_floating_point()]
    if whole or (kept and not _is_finite(model, spec, path, name)):
        raise InputError(
            f"model '{name}': {path} does not fit the architecture: {fit.problems()}; the embedding"
            f" needs what is lacking: give a file that has it, or another 'embedding'"
        )


def _is_finite(model: nn.Module, spec: AnySpec | None, path: Path, name: str) -> bool:
    """Whether the embedding of one image is all numbers."""
    import numpy as np
    import torch

    from depara_bench.extract import embed, find_embedding
    from depara_bench.preprocess import to_input

    if spec is None:
        return False
    node = find_embedding(model.eval(), spec.embedding, name)
    height, width = spec.input.height_width
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    try:
        with torch.no_grad():
            return bool(embed(model, node, to_input([noise], spec.input), name).isfinite().all())
    except Exception:  # of the model's own code: what is lacking is the first to be told
        return False


def tell_lazy(model: nn.Module, where: str) -> None:
    """Refuse layers whose size only a first image would give: they hold no weights yet."""
    from torch.nn.parameter import is_lazy

    if lazy := [name for name, value in expected(model).items() if is_lazy(value)]:
        raise InputError(
            f"{where}: {first_few('the sizes of lazy layers are not known', lazy)}; give them"
            f" their sizes (nn.Linear(512, 10), say, not nn.LazyLinear(10))"
        )
