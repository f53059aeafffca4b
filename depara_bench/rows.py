"""Is a row its image's own? Of a model that draws random numbers, or whose rows depend on the other
images of a batch, the numbers look like any others; so it is refused before they are made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from depara_bench.errors import InputError, RunError
from depara_bench.extract import Extracted
from depara_bench.need import check_need
from depara_bench.preprocess import to_input
from depara_bench.rounding import check_resolved
from depara_bench.trial import Trial, two_images, watched

if TYPE_CHECKING:
    from torch import Tensor

# Rows of an image computed twice, or in other company, differ by rounding: by about 1e-6 of their
# size, in maps of deep networks by up to 1e-3. What depends on chance or company moves them more.
_FEATURES_MOVE = 1e-3
_MAPS_MOVE = 1e-2

# Passes that are tried where a model draws random numbers: what it does rarely must show.
_DRAWS = 8


def try_out(trial: Trial) -> Extracted:
    """Features and maps of the two images, if they can be trusted.

    Raises InputError, with the likely cause and what to do, for a model whose rows depend on chance
    or on the other images of a batch, or whose maps or features are rounding noise.
    """
    check_need(trial)
    inputs = to_input(two_images(*trial.spec.input.height_width), trial.spec.input)
    with watched() as drawn:
        first = trial.run(inputs)
    for _ in range(_DRAWS if drawn else 0):
        other = trial.run(inputs, methods=("saliency",), arguments={})
        _compare(first.features, other.features, trial, _by_chance(drawn))
    again, alone = trial.run(inputs), _alone(trial, inputs)
    _compare(first.features, again.features, trial, _by_chance(drawn))
    _compare(first.features, alone.features, trial, _by_company())
    check_resolved(trial, inputs, first)
    for name, maps in first.attributions.items():
        _compare(maps, again.attributions[name], trial, _by_chance(drawn), name)
        _compare(maps, alone.attributions[name], trial, _by_company(), name)
    return first


def _alone(trial: Trial, inputs: Tensor) -> Extracted:
    """Both images, each in a batch of its own."""
    try:
        parts = [trial.run(inputs[row : row + 1]) for row in range(len(inputs))]
    except RunError:
        raise
    except Exception as error:  # foreign code; it took two images at once
        cause = " ".join(str(error.__cause__ or error).split())[:200]
        raise InputError(
            f"model '{trial.spec.name}': takes two images and not one alone ({cause});"
            f" {_by_company()}"
        ) from error
    return Extracted(
        np.concatenate([part.features for part in parts]),
        {
            name: np.concatenate([part.attributions[name] for part in parts])
            for name in parts[0].attributions
        },
    )


def _compare(
    one: np.ndarray, other: np.ndarray, trial: Trial, cause: str, method: str = ""
) -> None:
    """Raise InputError where rows (N, W) that ought to be equal differ by more than rounding."""
    # NaN and inf are told of as such, by the image.
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return
    moved = float(_moved(one, other).max())
    if moved > (_MAPS_MOVE if method else _FEATURES_MOVE):
        what = f"its '{method}' maps" if method else "its features"
        raise InputError(
            f"model '{trial.spec.name}': {what} of one image differ by {100 * moved:.2g} % of their"
            f" size from pass to pass; {cause}"
        )


def _moved(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Length of the difference of rows (N, W), in lengths of the rows: (N,)."""
    left, right = one.astype(np.float64), other.astype(np.float64)
    size = np.maximum(np.linalg.norm(left, axis=1), np.linalg.norm(right, axis=1))
    moved: np.ndarray = np.linalg.norm(left - right, axis=1) / np.where(size > 0, size, 1)
    return moved


def _by_chance(drawn: list[str]) -> str:
    what = f" ({', '.join(dict.fromkeys(drawn))})" if drawn else ""
    return (
        f"it draws random numbers{what}: dropout that eval() does not reach, a random mask or"
        f" noise; switch it off (of a model of transformers, in its config.json), export it in eval"
        f" mode, or have it draw from a generator that it seeds itself at each pass"
    )


def _by_company() -> str:
    return (
        "its rows depend on the other images of the batch: batch normalisation without running"
        " statistics, or a mean over the batch; compute them for each image alone, or give the"
        " layer its statistics"
    )
