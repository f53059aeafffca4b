"""What a model takes for large images, found out without computing anything: its operations are
gone through with tensors that have shapes and no values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from depara_bench.errors import InputError
from depara_bench.extract import embed
from depara_bench.memory import available
from depara_bench.trial import Trial

if TYPE_CHECKING:
    from torch import Tensor

_SMALL = 512 * 512
"""Pixels of an input up to which nothing is asked: it takes what any model takes."""

_MOST_FLOPS = {"cpu": 5e12, "cuda": 5e13}
"""Floating-point operations of one image in the forward pass; a ViT-H of 14 x 14 patches has 2e12
at 518 x 518.
"""

_HELD = 6
"""Times that what is computed for one image is held at the peak of a trial: of two images, with
their gradients, in two precisions.
"""


@dataclass(frozen=True)
class Need:
    """Of one image: bytes of all that is computed on the way to the embedding, which the backward
    pass needs again; floating-point operations of the forward pass.
    """

    size: int
    flops: int


def check_need(trial: Trial) -> None:
    """Raise InputError where the two images that a model is tried on, if they are large, take more
    memory or work than there is. A model that cannot be gone through without values is not judged.
    """
    _, height, width = trial.spec.input.shape
    if height * width <= _SMALL:
        return
    try:
        need = needed(trial)
    except Exception:  # of foreign code, which looks at values
        return
    most = _MOST_FLOPS["cuda" if trial.device.startswith("cuda") else "cpu"]
    where = f"model '{trial.spec.name}': an image of {height} x {width} takes"
    if need.flops > most:
        raise InputError(
            f"{where} {need.flops:.1e} operations, and at most {most:.0e} are done; lower"
            f" 'input.size'"
        )
    if trial.device == "cpu" and (taken := _HELD * need.size) > (free := available()):
        raise InputError(
            f"{where} {taken / 1e9:,.1f} GB to be tried, and {free / 1e9:,.1f} GB of memory are"
            f" free; lower 'input.size'"
        )


def needed(trial: Trial) -> Need:
    """What one image takes. Raises whatever the model does when it looks at values."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import FlopCounterMode

    made: dict[int, tuple[Any, int]] = {}  # with the storage, whose identity stays its own

    def note(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            storage = value.untyped_storage()
            made[storage._cdata] = storage, storage.nbytes()
        elif isinstance(value, (list, tuple)):
            for part in value:
                note(part)

    class Sizes(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            result = func(*args, **(kwargs or {}))
            note(result)
            return result

    flops = FlopCounterMode(display=False)
    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True), flops, Sizes():  # type: ignore[no-untyped-call]
        inputs: Tensor = torch.zeros(1, *trial.spec.input.shape, device=trial.device)
        embed(trial.model, trial.node, inputs, trial.spec.name)
    return Need(sum(size for _, size in made.values()), flops.get_total_flops())
