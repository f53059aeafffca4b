"""Attribution methods: what each pixel of the input contributes to a scalar of the embedding.

One file per method. All that are asked for share one forward and one backward pass (`Batch`); those
that need more do them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from depara_bench.attribution.from_captum import captum_class, from_captum
from depara_bench.attribution.input_x_gradient import InputXGradient
from depara_bench.attribution.integrated_gradients import IntegratedGradients
from depara_bench.attribution.lrp_deepexplain import LrpDeepExplain
from depara_bench.attribution.lrp_epsilon import LrpEpsilon
from depara_bench.attribution.method import Attribution, require
from depara_bench.attribution.saliency import Saliency
from depara_bench.attribution.smoothgrad import SmoothGrad
from depara_bench.config import nearest, validate
from depara_bench.errors import InputError

METHODS: dict[str, type[Attribution]] = {
    "saliency": Saliency,
    "input_x_gradient": InputXGradient,
    "integrated_gradients": IntegratedGradients,
    "smoothgrad": SmoothGrad,
    "lrp_epsilon": LrpEpsilon,
    "lrp_deepexplain": LrpDeepExplain,
}

CAPTUM = "captum_"
"""What the names of captum's classes begin with; in a job also "captum:"."""


def method_name(name: str) -> str:
    """The plain word that a method goes by in tables: captum_DeepLift for captum:DeepLift."""
    return CAPTUM + name[len(CAPTUM) :] if name.startswith("captum:") else name


def check_method(name: str) -> None:
    """Raise InputError when there is no method of this name, or its package is not installed."""
    if name.startswith(CAPTUM):
        captum_class(name.removeprefix(CAPTUM))
    elif name not in METHODS:
        raise InputError(f"no attribution method '{name}'; nearest: {nearest(name, list(METHODS))}")
    else:
        require(name, METHODS[name].packages)


def make_method(name: str, arguments: Mapping[str, Any]) -> Attribution:
    """The method called `name` (as `method_name` gives it) with its arguments.

    Raises InputError as `check_method` does, and for arguments that the method does not take.
    """
    check_method(name)
    if name.startswith(CAPTUM):
        return from_captum(name.removeprefix(CAPTUM), arguments)
    return validate(METHODS[name], arguments, f"'{name}'")
