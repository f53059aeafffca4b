"""What a model computes on its way to the embedding, operation by operation, and where: so that a
method with rules can say what it has none for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from depara_bench.attribution.batch import Batch

# Operations that copy values from one place to another, or ask about shapes.
ROUTES = frozenset(
    "__get__ __getitem__ __len__ adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d alias"
    " broadcast_to cat channel_shuffle chunk clone concat contiguous copy detach dim dropout"
    " dropout1d dropout2d dropout3d expand expand_as feature_dropout flatten flip float"
    " is_floating_point max_pool1d max_pool2d max_pool3d movedim narrow ndimension numel pad"
    " permute pixel_shuffle pixel_unshuffle repeat requires_grad reshape select shape size slice"
    " split squeeze stack swapaxes t to transpose type unbind unflatten unsqueeze view"
    " view_as".split()
)

# Operations that are linear, or affine, in the one input of theirs that depends on the image.
_LINEAR = frozenset(
    "__add__ __iadd__ __isub__ __mul__ __neg__ __radd__ __rmul__ __rsub__ __sub__ __truediv__"
    " _native_batch_norm_legit_no_training adaptive_avg_pool1d adaptive_avg_pool2d"
    " adaptive_avg_pool3d add addmm avg_pool1d avg_pool2d avg_pool3d batch_norm bmm conv1d conv2d"
    " conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution cumsum div einsum fold"
    " interpolate linear matmul mean mm mul multiply neg roll rsub sub subtract sum true_divide"
    " unfold upsample upsample_bilinear2d upsample_nearest2d".split()
)
# ... and of these, the ones that multiply, should both sides depend on it.
_PRODUCTS = frozenset(
    "__mul__ __rmul__ __truediv__ addmm bmm div einsum matmul mm mul multiply true_divide".split()
)


@dataclass(frozen=True)
class Operation:
    """name: as torch calls it, without a trailing underscore. modules: paths of the modules that
    were running, outermost first ("" is the model). data: how many of its operands depend on the
    image.
    """

    name: str
    modules: tuple[str, ...]
    data: int

    @property
    def linear(self) -> bool:
        """Whether it is linear or affine in the image's share of its operands, or only copies."""
        if self.name in _PRODUCTS:
            return self.data < 2
        return self.name in _LINEAR or self.name in ROUTES


def operation_name(function: Callable[..., Any]) -> str:
    """One name for the forms of an operation: relu of torch.relu_, F.relu and aten::relu."""
    schema = getattr(function, "_schema", None)
    name = getattr(function, "__name__", "") if schema is None else schema.name.split("::")[-1]
    return name if name.endswith("__") else str(name).rstrip("_")


def operations(batch: Batch) -> list[Operation]:
    """All operations up to the embedding of the batch's first image that its value passes through,
    in their order. Those that a function of `torch.nn.functional` is made of count as that one.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    found: list[Operation] = []

    class Recorder(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
        ) -> Any:
            kwargs = kwargs or {}
            data = sum(_depends(value) for value in [*args, *kwargs.values()])
            if data:
                found.append(Operation(operation_name(func), tuple(running), data))
            return func(*args, **kwargs)

    with _running(batch.model) as running, torch.enable_grad():
        leaf = batch.inputs[:1].detach().requires_grad_(True)
        with Recorder():
            batch.embed(leaf)
    return found


def _depends(value: Any) -> bool:
    import torch

    if isinstance(value, (list, tuple)):
        return any(_depends(part) for part in value)
    return isinstance(value, torch.Tensor) and value.requires_grad


@contextmanager
def _running(model: nn.Module) -> Iterator[list[str]]:
    """The paths of the modules that are running, outermost first."""
    stack: list[str] = []
    handles = []
    try:
        for path, module in model.named_modules():
            handles.append(module.register_forward_pre_hook(lambda *_, p=path: stack.append(p)))
            handles.append(module.register_forward_hook(lambda *_: (stack.pop(), None)[1]))
        yield stack
    finally:
        for handle in handles:
            handle.remove()


def told(found: Sequence[Operation], covered: Collection[str] = ()) -> tuple[str, ...]:
    """Operations as "path (name)", each once; those inside the modules `covered` left out."""
    return tuple(
        dict.fromkeys(
            f"{(operation.modules or ('',))[-1] or 'model'} ({operation.name})"
            for operation in found
            if not any(path in covered for path in operation.modules)
        )
    )
