"""Are a model's maps more than rounding? Where the scalar is the same for every image, its gradient
is zero on paper and a rounding error in float32, which ranks as if it meant something.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from depara_bench.attribution.batch import forward_backward
from depara_bench.errors import InputError
from depara_bench.extract import Extracted, scalar_of
from depara_bench.trial import Trial, watched

if TYPE_CHECKING:
    from torch import Tensor, nn

T = TypeVar("T")

# Maps whose cosine with those of float64 is lower than this hold rounding, or much of it.
_RESOLVED = 0.99

# A gradient smaller than this, in sizes of what it is a sum of, is made of rounding errors (1e-7).
_SMALL = 1e-5


def check_resolved(trial: Trial, inputs: Tensor, found: Extracted) -> None:
    """Raise InputError where maps, or what tells the images apart in the features, are not those
    that exact arithmetic gives.
    """
    apart = np.diff(_features(trial, inputs), axis=0)
    exactly = _exactly(trial, inputs, _features)
    if exactly is not None and _cosine(apart, np.diff(exactly, axis=0))[0] < _RESOLVED:
        raise InputError(
            f"model '{trial.spec.name}': its features of two images differ by rounding alone; the"
            f" embedding does not depend on the image: check the weights, or choose another"
            f" 'embedding'"
        )
    exact = _exactly(trial, inputs, Trial.run)
    if exact is None:
        _check_size(trial, inputs)
        return
    for name, maps in found.attributions.items():
        cosine = _lowest(maps, exact.attributions[name])
        if cosine < _RESOLVED and not _draws_alone(trial, inputs, name):
            raise InputError(
                f"model '{trial.spec.name}': its '{name}' maps are rounding noise (cosine"
                f" {cosine:.2f} with those of double precision): {_why(trial, inputs)}"
            )


def _check_size(trial: Trial, inputs: Tensor) -> None:
    """Raise InputError where the scalar's gradient is a rounding error in size, for a model that
    does not compute in float64 (its types are written out).
    """
    size = _relative_size(trial, inputs, trial.settings.scalar)
    if size < _SMALL:
        raise InputError(
            f"model '{trial.spec.name}': its maps are rounding noise (their gradient is {size:.0e}"
            f" of that of other sums of the embedding): {_why(trial, inputs)}"
        )


def _relative_size(trial: Trial, inputs: Tensor, scalar: str) -> float:
    """Length of the scalar's gradient, in lengths of that of the same weights with random signs."""
    import torch

    inputs = inputs.to(trial.device)
    signs = torch.Generator().manual_seed(0)

    def mixed(rows: Tensor) -> Tensor:
        drawn = 2.0 * torch.randint(0, 2, rows.shape[1:], generator=signs).to(rows) - 1.0
        weights = rows.detach() / rows.detach().norm(dim=1, keepdim=True)
        return (rows * (drawn * weights if scalar == "l2norm" else drawn)).sum(dim=1)

    own, other = (
        float(forward_backward(trial.embed, score, inputs, trial.spec.name)[1].norm())
        for score in (partial(scalar_of, scalar=scalar), mixed)
    )
    return own / other if other > 0 else 1.0


def _features(trial: Trial, inputs: Tensor) -> np.ndarray:
    """Features (N, F) float64, of the precision that the model computes in."""
    import torch

    with torch.no_grad():
        rows = trial.embed(inputs.to(trial.device))
    found: np.ndarray = rows.cpu().double().numpy()
    return found


def _draws_alone(trial: Trial, inputs: Tensor, method: str) -> bool:
    """A method that draws numbers, of a model whose gradient is sound: it drew others."""
    arguments = {name: v for name, v in trial.settings.arguments.items() if name == method}
    with watched() as drawn:
        trial.run(inputs, methods=(method,), arguments=arguments)
    return bool(drawn) and _is_resolved(trial, inputs, trial.settings.scalar)


def _lowest(one: np.ndarray, other: np.ndarray) -> float:
    """The lowest cosine of rows that are not both zero; 1 where all are."""
    cosines = _cosine(one, other)
    return float(min(cosines[np.isfinite(cosines)], default=1.0))


def _cosine(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Cosines of rows (N, W): (N,); NaN where both are zero or one is not finite."""
    left, right = one.astype(np.float64), other.astype(np.float64)
    sizes = np.linalg.norm(left, axis=1), np.linalg.norm(right, axis=1)
    both = sizes[0] * sizes[1]
    cosines = (left * right).sum(axis=1) / np.where(both > 0, both, 1)
    known = np.isfinite(both) & ((sizes[0] > 0) | (sizes[1] > 0))
    return np.where(known, cosines, np.nan)


def _exactly(trial: Trial, inputs: Tensor, what: Callable[..., T], **changed: Any) -> T | None:
    """What `what` finds in float64; None of a model that does not compute in it."""
    import torch

    before = torch.get_default_dtype()
    for made_of in (before, torch.float64):  # what a forward pass makes of its own
        with suppress(Exception), _double(trial.model):  # foreign code raises anything
            torch.set_default_dtype(made_of)
            try:
                return what(trial, inputs.double(), **changed)
            finally:
                torch.set_default_dtype(before)
    return None


@contextmanager
def _double(model: nn.Module) -> Iterator[None]:
    """The model in float64 inside the block; float32 values come back as they were."""
    try:
        model.double()
        yield
    finally:
        model.float()


def _why(trial: Trial, inputs: Tensor) -> str:
    """What is likely behind a gradient of zero, and what to do."""
    features = _features(trial, inputs)
    spread = {
        "sum": (features.sum(axis=1), np.abs(features).sum(axis=1)),
        "l2norm": (np.linalg.norm(features, axis=1),) * 2,
    }
    value, size = spread[trial.settings.scalar]
    constant = np.ptp(value) <= 1e-5 * size.max()
    name = {"sum": "sum", "l2norm": "length"}[trial.settings.scalar]
    cause = (
        f"the {name} of its embedding is the same for every image, as behind a softmax or a"
        f" normalisation"
        if constant
        else f"the {name} of its embedding hardly depends on the image"
    )
    other = "l2norm" if trial.settings.scalar == "sum" else "sum"
    mend = "choose another 'embedding', the module before that one say"
    if _is_resolved(trial, inputs, other):
        mend += f", or set attribution.scalar: {other} in the job"
    if trial.spec.loader == "taskonomy":
        mend += ", or leave out 'normalize_outputs'"
    return f"{cause}; {mend}"


def _is_resolved(trial: Trial, inputs: Tensor, scalar: str) -> bool:
    """Is the gradient of this scalar more than rounding?"""
    changed = {"methods": ("saliency",), "arguments": {}, "scalar": scalar}
    exact = _exactly(trial, inputs, Trial.run, **changed)
    if exact is None:
        return _relative_size(trial, inputs, scalar) >= _SMALL
    plain = trial.run(inputs, **changed).attributions["saliency"]
    return _lowest(plain, exact.attributions["saliency"]) >= _RESOLVED
