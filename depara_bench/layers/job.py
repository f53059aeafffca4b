"""What a layer selection is: jobs/layers-*.yaml, checked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from depara_bench.config import Strict, apply_overrides, nearest, read_yaml, validate
from depara_bench.errors import InputError, path_errors
from depara_bench.job import EdgeSettings, Finite, find_job
from depara_bench.layers.data import SetSpec
from depara_bench.layers.finetune import Recipe
from depara_bench.probe import ProbeSpec
from depara_bench.zoo import AnySpec, Name, Zoo, find_manifest, load_zoo

SCRATCH = "scratch"
"""Not a source: the target's network, trained from the start on the same few images."""


MOST_EPOCHS = 100_000
MOST_SEEDS = 10_000


class Training(Strict):
    """How the networks themselves are trained (`layers train`): on which images, each.

    held_out: the images, by the same names, on which their accuracy is told.
    """

    networks: dict[Name, SetSpec]
    held_out: dict[Name, SetSpec]
    epochs: int = Field(ge=1, le=MOST_EPOCHS)
    seed: int = Field(default=0, ge=0, lt=2**31)
    recipe: Recipe

    @model_validator(mode="after")
    def _both(self) -> Training:
        if set(self.networks) != set(self.held_out):
            raise ValueError("'networks' and 'held_out' must have the same names")
        return self


class Measure(Strict):
    """How transfers are measured (`layers measure`).

    train: the target's images; fractions: shares of them that a transfer is trained on, by name;
    epochs: by the same names. held_out: the images of which the accuracy is told. seeds: of which
    images are in a share, of the fresh last layer and of the order in training.
    """

    train: SetSpec
    held_out: SetSpec
    fractions: dict[Name, float]
    epochs: dict[Name, int]
    seeds: tuple[int, ...] = Field(min_length=1, max_length=MOST_SEEDS)
    recipe: Recipe

    @field_validator("fractions")
    @classmethod
    def _shares(cls, fractions: dict[str, float]) -> dict[str, float]:
        if not fractions or not all(0 < share <= 1 for share in fractions.values()):
            raise ValueError("name at least one share above 0, up to 1")
        if len(set(fractions.values())) != len(fractions):
            raise ValueError("each share at most once")
        return fractions

    @field_validator("seeds")
    @classmethod
    def _differ(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) != len(seeds) or not all(0 <= seed < 2**31 for seed in seeds):
            raise ValueError("each seed at most once, 0 or more and below 2**31")
        return seeds

    @model_validator(mode="after")
    def _epochs_of_each(self) -> Measure:
        if set(self.fractions) != set(self.epochs) or not all(
            1 <= epochs <= MOST_EPOCHS for epochs in self.epochs.values()
        ):
            raise ValueError(
                f"'epochs' must have the names of 'fractions', each in 1..{MOST_EPOCHS:_}"
            )
        return self


class LayersJob(Strict):
    """Everything that decides the numbers of a layer selection.

    layers: patterns of names of convolutions and linear layers. activation: features are what such
    a layer gives ("pre"), or what the ReLU after it makes of that ("post"). scalar, channels: as in
    `AttributionSettings`. lambda: weight of the edges, by the names of `measure.fractions`.
    truth: table of accuracies, as `layers measure` writes it; none: similarities only.
    replicates: bootstrap resamples of the probe images.
    """

    name: Name
    zoo: str
    sources: tuple[Name, ...] = Field(min_length=1)
    target: Name
    layers: tuple[str, ...] = Field(default=("*",), min_length=1)
    activation: Literal["pre", "post"] = "pre"
    probe: ProbeSpec
    scalar: Literal["sum", "l2norm"] = "sum"
    channels: Literal["signed-mean", "abs-mean"] = "abs-mean"
    edges: EdgeSettings = EdgeSettings(center=False)
    lambda_: dict[Name, Finite] = Field(alias="lambda")
    truth: str | None = None
    replicates: int = Field(default=200, ge=0, le=100_000)
    seed: int = Field(default=0, ge=0, lt=2**31)
    batch_size: int = Field(default=50, ge=1, le=100_000)
    measure: Measure
    training: Training | None = None

    @model_validator(mode="after")
    def _lambda_of_each(self) -> LayersJob:
        if set(self.lambda_) != set(self.measure.fractions):
            raise ValueError("'lambda' must have the names of 'measure.fractions'")
        if len(set(self.sources)) != len(self.sources):
            raise ValueError("sources: each at most once")
        if SCRATCH in self.sources:
            raise ValueError(f"sources: '{SCRATCH}' is what training from the start is called")
        return self


@dataclass(frozen=True)
class LayersFile:
    """A layer job, its file, and the manifest of its networks."""

    job: LayersJob
    path: Path
    manifest: Path
    zoo: Zoo

    @property
    def base(self) -> Path:
        """The folder of the job file, which its paths are read against."""
        return self.path.parent

    def spec(self, name: str) -> AnySpec:
        """The manifest's entry of a network. Raises InputError with the nearest names."""
        for model in self.zoo.models:
            if model.name == name:
                return model
        known = [model.name for model in self.zoo.models]
        raise InputError(
            f"{self.path}: zoo '{self.zoo.name}' has no model '{name}';"
            f" nearest: {nearest(name, known)}"
        )


_PATHS = ("zoo", "truth", "list", "path", "root")


def load_layers_job(reference: str, overrides: Sequence[str] = ()) -> LayersFile:
    """A checked layer job with `--set` applied. Raises InputError naming file and field."""
    path = find_job(reference)
    content = apply_overrides(read_yaml(path), overrides, partial(_from_here, path.parent))
    job = validate(LayersJob, content, str(path))
    manifest = find_manifest(job.zoo, path.parent)
    file = LayersFile(job, path, manifest, load_zoo(manifest))
    for name in (*job.sources, job.target, *(job.training.networks if job.training else ())):
        file.spec(name)
    return file


def _from_here(base: Path, key: str, value: Any, text: str) -> Any:
    """A path that `--set` gives is meant from where the user stands."""
    if key.rpartition(".")[2] not in _PATHS or value is None or isinstance(value, (dict, list)):
        return value
    place = text.strip()
    if key == "zoo" and not place.endswith((".yaml", ".yml")):
        return place
    with path_errors(f"--set {key}={place}"):
        return os.path.relpath(Path(place).expanduser().resolve(), base.resolve())
