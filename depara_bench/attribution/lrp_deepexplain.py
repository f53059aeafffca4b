"""epsilon-LRP as DeepExplain has it (Ancona et al., 2018), which the attributions of Song et al.
(NeurIPS 2019) were computed with: the gradient, but with f(z) / z for the slope of every
nonlinearity, times the input.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic import Field

from depara_bench.attribution.batch import Batch, forward_backward
from depara_bench.attribution.method import Attribution
from depara_bench.attribution.operations import operation_name, operations, told

if TYPE_CHECKING:
    from torch import Tensor

_ACTIVATIONS = frozenset(
    "celu elu gelu hardsigmoid hardswish hardtanh leaky_relu log_sigmoid logsigmoid mish prelu relu"
    " relu6 selu sigmoid silu softplus softsign tanh".split()
)


class LrpDeepExplain(Attribution):
    """x * ds/dx with the slope of each activation f at z taken as f(z) / (z + epsilon sign(z)),
    where sign(0) = 1.

    Everything linear, batch normalisation and max pooling keep their gradient. As epsilon goes to 0
    it equals `lrp_epsilon`, biases or not (the relevance of z over z is this gradient), and where
    all activations are ReLU or leaky ReLU, whose slope is f(z) / z, also input x gradient; it
    differs with epsilon in where that enters. 1e-4 is the original's. An activation that is not 0
    at 0 (sigmoid) has a large slope there, by this definition.
    """

    epsilon: float = Field(default=1e-4, gt=0)

    def __call__(self, batch: Batch) -> Tensor:
        """(B, C, H, W), signed; one forward and backward pass."""

        def embed(inputs: Tensor) -> Tensor:
            with _ratios(self.epsilon):
                return batch.embed(inputs)

        return batch.inputs * forward_backward(embed, batch.scalar, batch.inputs, batch.name)[1]

    def uncovered(self, batch: Batch) -> tuple[str, ...]:
        """Nonlinear operations that are none of the activations."""
        return told([o for o in operations(batch) if not o.linear and o.name not in _ACTIVATIONS])


def _ratios(epsilon: float) -> Any:
    """A context in which activations, called as modules or as functions, have the other slope."""
    import torch
    from torch.overrides import TorchFunctionMode

    class Ratio(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, z: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
            value = activation(z.clone())  # which may be changed in place
            ctx.save_for_backward(value / torch.where(z >= 0, z + epsilon, z - epsilon))
            return value

        @staticmethod
        def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor, None]:
            (ratio,) = ctx.saved_tensors
            return gradient[0] * ratio, None

    class Ratios(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
        ) -> Any:
            kwargs = dict(kwargs or {})
            if operation_name(func) not in _ACTIVATIONS:
                return func(*args, **kwargs)
            z, rest = (args[0], args[1:]) if args else (kwargs.pop("input"), ())
            value = Ratio.apply(z, lambda clone: func(clone, *rest, **kwargs))
            # What was asked to change in place may be looked at there.
            return z.copy_(value) if _in_place(func, (z, *rest), kwargs) else value

    return Ratios()


def _in_place(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    schema = getattr(function, "_schema", None)
    if isinstance(function, types.FunctionType):
        bound = inspect.signature(function).bind(*args, **kwargs)
        return bool(bound.arguments.get("inplace", False))
    return str(schema.name if schema else function.__name__).endswith("_")
