"""What an attribution method is: its arguments, as they stand in a job, and a function of a batch.

    class Mine(Attribution):
        steps: int = 10                                  # an argument, checked when a job is read

        def __call__(self, batch: Batch) -> Tensor:      # maps (B, C, H, W)
            return batch.inputs * batch.gradient

A map depends on its image alone: not on the batch it is in, nor on what was computed before.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from depara_bench.attribution.batch import Batch
from depara_bench.config import Strict
from depara_bench.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


MOST_PASSES = 10_000
"""Most passes of one method through a model: means over more change in no digit that is kept."""


class Attribution(Strict):
    """Base of the methods; the fields of a method are its arguments.

    packages: optional packages (of the extra `attribution`) that its numbers pass through.
    """

    packages: ClassVar[tuple[str, ...]] = ()

    def __call__(self, batch: Batch) -> Tensor:
        """Contribution of each input value to the scalar: (B, C, H, W), of the inputs' dtype."""
        raise NotImplementedError

    def resolved(self) -> dict[str, Any]:
        """All arguments as JSON values: what decides the numbers, besides the method."""
        return self.model_dump(mode="json")

    def uncovered(self, batch: Batch) -> tuple[str, ...]:
        """Where the model does what the method has no rule for, and takes the plain gradient:
        "path.of.module (operation)", each once, in the order of the forward pass.
        """
        return ()


def require(name: str, packages: tuple[str, ...]) -> None:
    """Raise InputError when a package that method `name` needs is not installed."""
    for package in packages:
        if find_spec(package) is None:
            raise InputError(
                f"'{name}' needs the package {package}; install depara-bench[attribution]"
            )
