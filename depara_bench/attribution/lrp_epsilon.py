"""Layer-wise relevance propagation by the epsilon rule in every linear layer (Bach et al., 2015),
through zennit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from depara_bench.attribution.batch import Batch
from depara_bench.attribution.method import Attribution
from depara_bench.attribution.operations import ROUTES, operations, told
from depara_bench.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

# What rounding may change of an embedding when batch normalisation is merged into layers.
_TOLERANCE = 1e-3


class LrpEpsilon(Attribution):
    """Relevance of the input values: R_i = sum_j z_ij / (z_j + epsilon sign(z_j)) R_j through every
    layer, sign(0) = 1.

    The relevance of the embedding F is F * ds/dF: F itself for the sum. Linear layers,
    convolutions, average pooling and the sums of torchvision's residual blocks follow the rule;
    batch normalisation is merged into the layer whose output it takes; activations pass relevance
    on, and max pooling gives it to the maximum. Biases keep their share of it, so that maps sum to
    s(x) without biases only. `epsilon` is in the units of the layers' outputs.
    """

    packages: ClassVar[tuple[str, ...]] = ("zennit",)

    epsilon: float = Field(default=1e-6, gt=0)

    def __call__(self, batch: Batch) -> Tensor:
        """(B, C, H, W), signed; one forward and backward pass.

        Raises InputError where the rules cannot hold: no layer of the model is one they know, or
        one is used more than once in a pass.
        """
        import torch

        with _rules(batch, self.epsilon), torch.enable_grad():
            leaf = batch.inputs.detach().requires_grad_(True)
            embedding = batch.embed(leaf)
            _check_same(embedding.detach(), batch)
            (relevance,) = torch.autograd.grad(embedding, leaf, _start(embedding.detach(), batch))
        found: Tensor = relevance
        return found

    def uncovered(self, batch: Batch) -> tuple[str, ...]:
        """Operations outside the layers that have a rule, but for those that only copy."""
        with _rules(batch, self.epsilon) as covered:
            found = operations(batch)
        routes = ROUTES | {"relu"}  # where relu is 0 no relevance comes back to it
        return told([o for o in found if o.name not in routes], covered)


def _start(embedding: Tensor, batch: Batch) -> Tensor:
    """Relevance (B, F) of the embedding (B, F): F * ds/dF."""
    import torch

    leaf = embedding.requires_grad_(True)
    (slope,) = torch.autograd.grad(batch.scalar(leaf).sum(), leaf)
    start: Tensor = embedding.detach() * slope
    return start


def _check_same(embedding: Tensor, batch: Batch) -> None:
    far = (embedding - batch.embedding).abs().max()
    if far > _TOLERANCE * max(1.0, float(batch.embedding.abs().max())):
        raise InputError(
            f"model '{batch.name}': lrp_epsilon cannot merge its batch normalisation without"
            f" changing the embedding; leave the model or the method out"
        )


@contextmanager
def _rules(batch: Batch, epsilon: float) -> Iterator[set[str]]:
    """Rules put on the model's layers, and taken off again; the paths of the layers with a rule."""
    from torch import nn
    from zennit import rules, types
    from zennit.canonizers import NamedMergeBatchNorm
    from zennit.core import Composite
    from zennit.layer import Sum
    from zennit.torchvision import ResNetBasicBlockCanonizer, ResNetBottleneckCanonizer

    covered: set[str] = set()
    merged = _merges(batch)
    norms = {norm for _, norm in merged}

    def rule(_context: Any, path: str, module: nn.Module) -> Any:
        found = None
        if isinstance(module, (types.Linear, types.AvgPool, Sum)):
            found = rules.Epsilon(epsilon)
        elif path in norms or isinstance(module, types.Activation):
            found = rules.Pass()
        if isinstance(module, nn.MultiheadAttention):
            found = None
        if found is not None:
            covered.add(path)
        return found

    canonizers = [
        NamedMergeBatchNorm([([layer], norm) for layer, norm in merged]),
        ResNetBottleneckCanonizer(),
        ResNetBasicBlockCanonizer(),
    ]
    named = dict(batch.model.named_modules())
    with Composite(rule, canonizers).context(batch.model), _no_epsilon([named[n] for n in norms]):
        yield covered


@contextmanager
def _no_epsilon(norms: Sequence[Any]) -> Iterator[None]:
    """What is left of a merged normalisation, mean 0 and variance 1, as the identity it is meant to
    be: its own epsilon would still scale the values.
    """
    before = [norm.eps for norm in norms]
    try:
        for norm in norms:
            norm.eps = 0.0
        yield
    finally:
        for norm, epsilon in zip(norms, before, strict=True):
            norm.eps = epsilon


def _merges(batch: Batch) -> list[tuple[str, str]]:
    """(path of a linear layer, path of the batch normalisation that takes its output), as a
    forward pass up to the embedding shows them: what is after the embedding must not change it.

    Raises InputError when no layer has a rule, or one with parameters runs more than once.
    """
    import torch
    from zennit import types

    made: dict[int, str] = {}  # by the identity of a tensor, which `kept` keeps from being reused
    kept: list[Tensor] = []
    times: Counter[str] = Counter()
    found: list[tuple[str, str]] = []

    def layer(path: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            times[path] += 1
            made[id(output)] = path
            kept.append(output)

        return hook

    def norm(path: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            times[path] += 1
            whole = all(
                getattr(module, part, None) is not None
                for part in ("weight", "bias", "running_mean", "running_var")
            )
            if whole and id(inputs[0]) in made:
                found.append((made[id(inputs[0])], path))

        return hook

    handles = []
    try:
        for path, module in batch.model.named_modules():
            if isinstance(module, types.Linear):
                handles.append(module.register_forward_hook(layer(path)))
            elif isinstance(module, types.BatchNorm):
                handles.append(module.register_forward_pre_hook(norm(path)))
        with torch.no_grad():
            batch.embed(batch.inputs[:1])
    finally:
        for handle in handles:
            handle.remove()
    where = f"model '{batch.name}': lrp_epsilon"
    if not kept:
        raise InputError(
            f"{where} has a rule for none of its layers (an exported model's are unknown to it);"
            f" leave the model out, or take lrp_deepexplain"
        )
    for path, count in times.items():
        if count > 1:
            raise InputError(
                f"{where} has no rule for a layer that runs {count} times ('{path}'); leave the"
                f" model out, or take lrp_deepexplain"
            )
    return found
