"""Any attribution class of captum that takes inputs only: `captum:DeepLift`, `captum:GradientShap`.

Where it wants a baseline and the job gives none, it gets the black image.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from depara_bench.attribution.batch import Batch
from depara_bench.attribution.method import MOST_PASSES, Attribution, require
from depara_bench.attribution.operations import operations, told
from depara_bench.config import nearest
from depara_bench.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

# Classes that draw nothing at random and treat each image of a batch by itself. Any other is given
# one image at a time, with random numbers that are seeded by the image.
_EACH_ALONE = frozenset(
    "DeepLift Deconvolution FeatureAblation GuidedBackprop InputXGradient IntegratedGradients LRP"
    " Occlusion Saliency".split()
)
_NOT_A_MAP = {"FeaturePermutation": "it shuffles the images of a batch among one another"}

# What is not for a job to give: the scalar decides the first two, the others change what comes back
# or cannot be written in a file.
_NOT_GIVEN = frozenset(
    "self inputs target additional_forward_args return_convergence_delta return_input_shape"
    " custom_attribution_func show_progress verbose kwargs forward_func model feature_mask"
    " perm_func interpretable_model similarity_func perturb_func".split()
)

# Modules that the classes with rules of their own have rules for; of nonlinear ones.
_RULES = {
    "DeepLift": ("ReLU", "ELU", "LeakyReLU", "Sigmoid", "Tanh", "Softplus", "Softmax",
                 "MaxPool1d", "MaxPool2d", "MaxPool3d"),
    "GuidedBackprop": ("ReLU",),
    "Deconvolution": ("ReLU",),
}  # fmt: skip
_RULES["DeepLiftShap"] = _RULES["DeepLift"]


class FromCaptum(Attribution):
    """kind: the class of captum.attr. arguments: of its constructor and of `attribute`, by name;
    lists are meant as tuples.
    """

    packages: ClassVar[tuple[str, ...]] = ("captum",)

    kind: str
    arguments: dict[str, Any]

    def resolved(self) -> dict[str, Any]:
        """The arguments that the job gives; captum's own defaults are captum's."""
        return self.arguments

    def __call__(self, batch: Batch) -> Tensor:
        """(B, C, H, W), as the class gives it. Raises InputError for what captum refuses."""
        import torch

        if self.kind in _EACH_ALONE:
            return self._attributed(batch)
        maps = []
        for row, seed in enumerate(batch.seeds(0)):
            with _seeded(seed):
                maps.append(self._attributed(batch.image(row)))
        return torch.cat(maps)

    def _attributed(self, batch: Batch) -> Tensor:
        import captum.attr
        import torch

        cls = getattr(captum.attr, self.kind)
        given = {key: _tuples(value) for key, value in self.arguments.items()}
        first = _parameters(cls.__init__)
        made = cls(
            _scored(batch) if "model" in first else batch.score,
            **{key: value for key, value in given.items() if key in first},
        )
        options = {key: value for key, value in given.items() if key not in first}
        if "baselines" in _parameters(cls.attribute):
            options.setdefault("baselines", batch.black.expand(batch.inputs[:1].shape).clone())
        try:
            with torch.enable_grad(), _not_in_place(batch.model), warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore", UserWarning
                )  # of the hooks that it sets and removes
                found = made.attribute(batch.inputs.detach().clone(), **options)
        except (InputError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # captum asserts, and raises of every kind
            cause = " ".join(str(error).split())[:300] or type(error).__name__
            raise InputError(f"model '{batch.name}': captum:{self.kind} fails: {cause}") from error
        if not isinstance(found, torch.Tensor) or found.shape != batch.inputs.shape:
            raise InputError(f"captum:{self.kind}: gives no map of the size of the image")
        return found.detach().to(batch.inputs.dtype)

    def uncovered(self, batch: Batch) -> tuple[str, ...]:
        """Nonlinear operations outside the modules that the class has a rule for."""
        rules = _RULES.get(self.kind)
        if rules is None:
            return ()
        modules = batch.model.named_modules()
        covered = {path for path, module in modules if type(module).__name__ in rules}
        routed = [o for o in operations(batch) if not o.linear]
        return told(routed, covered)


def captum_class(kind: str) -> Any:
    """The class of captum.attr. Raises InputError when captum is missing or has no such class, or
    the class is not one that a job can have.
    """
    name = f"captum:{kind}"
    require(name, FromCaptum.packages)
    import captum.attr

    usable = [known for known in dir(captum.attr) if _usable(getattr(captum.attr, known))]
    if kind in usable:
        return getattr(captum.attr, kind)
    why = _NOT_A_MAP.get(kind, "captum.attr has no such class")
    if kind not in _NOT_A_MAP and hasattr(captum.attr, kind):
        why = "it is no attribution of the inputs alone"
    raise InputError(f"'{name}' cannot be used: {why}; nearest: {nearest(kind, usable)}")


def from_captum(kind: str, arguments: Mapping[str, Any]) -> FromCaptum:
    """The method of a class with its arguments.

    Raises InputError as `captum_class` does, and for arguments that it does not take, or lacks.
    """
    cls, name = captum_class(kind), f"captum:{kind}"
    known = {**_parameters(cls.__init__), **_parameters(cls.attribute)}
    allowed = [key for key in known if key not in _NOT_GIVEN]
    for argument in arguments:
        if argument not in allowed:
            near = nearest(argument, allowed)
            raise InputError(f"'{name}' takes no '{argument}'; nearest: {near}")
    for argument in allowed:
        needed = known[argument].default is inspect.Parameter.empty and argument != "baselines"
        if needed and argument not in arguments:
            raise InputError(f"'{name}' needs '{argument}'; give it beside the name")
    for argument, value in arguments.items():
        _check_whole(value, known[argument].default, f"'{name}': {argument}")
    return FromCaptum(kind=kind, arguments=dict(arguments))


def _check_whole(value: Any, default: Any, where: str) -> None:
    """Raise InputError for whole numbers that are passes, sizes or steps out of all measure, and
    for what is no whole number where captum has one.
    """
    parts = [value]
    while parts:
        part = parts.pop()
        if isinstance(part, (list, tuple)):
            parts += part
        elif isinstance(part, dict):
            parts += part.values()
        elif isinstance(part, int) and abs(part) > MOST_PASSES:
            raise InputError(f"{where}: must be at most {MOST_PASSES:,}, not {part:,}")
    if type(default) is int and type(value) is not int and not isinstance(value, (list, tuple)):
        raise InputError(f"{where}: must be a whole number, not {value!r}")


def _usable(cls: Any) -> bool:
    """Whether it is made of a model, or a function, alone, and attributes inputs."""
    from captum.attr import Attribution as Base

    if not inspect.isclass(cls) or not issubclass(cls, Base) or cls.__name__ in _NOT_A_MAP:
        return False
    first = _parameters(cls.__init__)
    needed = [key for key, value in first.items() if value.default is value.empty]
    attribute = getattr(cls, "attribute", None)
    return (
        needed in (["model"], ["forward_func"])
        and attribute is not None
        and "inputs" in _parameters(attribute)
    )


def _parameters(function: Any) -> dict[str, inspect.Parameter]:
    parameters = dict(inspect.signature(function).parameters)
    parameters.pop("self", None)
    return parameters


def _tuples(value: Any) -> Any:
    return tuple(_tuples(part) for part in value) if isinstance(value, (list, tuple)) else value


def _scored(batch: Batch) -> nn.Module:
    """The model with the scalar behind it, as one module."""
    from torch import nn

    class Scored(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = batch.model

        def forward(self, inputs: Tensor) -> Tensor:
            return batch.score(inputs)

    return Scored().eval()


@contextmanager
def _not_in_place(model: nn.Module) -> Iterator[None]:
    """Activations that do not overwrite what captum's hooks have seen."""
    changed = [m for m in model.modules() if getattr(m, "inplace", False) is True]
    try:
        for module in changed:
            module.inplace = False  # type: ignore[assignment]
        yield
    finally:
        for module in changed:
            module.inplace = True  # type: ignore[assignment]


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """The random numbers of torch and of numpy's and Python's common generators, by seed; as they
    were, afterwards.
    """
    import random

    import numpy as np
    import torch

    before, drawn = random.getstate(), np.random.get_state()  # noqa: NPY002 - captum's
    try:
        with torch.random.fork_rng():
            random.seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
            torch.manual_seed(seed)
            yield
    finally:
        random.setstate(before)
        np.random.set_state(drawn)  # noqa: NPY002
