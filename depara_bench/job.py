"""A job: which models, which probe images, how attributed and compared. jobs/*.yaml, checked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator

from depara_bench.attribution import METHODS
from depara_bench.config import Strict, apply_overrides, nearest, read_yaml, validate
from depara_bench.embedded import embedded
from depara_bench.errors import InputError
from depara_bench.probe import ProbeSpec
from depara_bench.zoo import Name


def _finite(value: float) -> float:
    if not -1e9 < value < 1e9:
        raise ValueError("must be a finite number")
    return value


Finite = Annotated[float, AfterValidator(_finite)]


class AttributionSettings(Strict):
    """What is attributed, and how maps are reduced.

    methods: attribution methods; the first is the one that `depara` uses.
    scalar: of the embedding F(x), whose gradient is taken: "sum" over all units (what the published
    results were computed with) or "l2norm" (DEPARA eq. 3).
    channels: how the 3 colour channels become one map: "signed-mean" or "abs-mean".
    """

    methods: tuple[str, ...] = Field(default=("input_x_gradient", "saliency"), min_length=1)
    scalar: Literal["sum", "l2norm"] = "sum"
    channels: Literal["signed-mean", "abs-mean"] = "signed-mean"

    @field_validator("methods")
    @classmethod
    def _known(cls, methods: tuple[str, ...]) -> tuple[str, ...]:
        for method in methods:
            if method not in METHODS:
                raise ValueError(
                    f"no attribution method '{method}'; nearest: {nearest(method, list(METHODS))}"
                )
        if len(set(methods)) != len(methods):
            raise ValueError("each method at most once")
        return methods


class EdgeSettings(Strict):
    """center: subtract the mean over the probe images from the features (DEPARA's code does)."""

    center: bool = True


class ResourceSettings(Strict):
    """What one worker takes.

    gpus: None: one GPU each where there are GPUs, none elsewhere; a fraction shares a GPU.
    cpus: CPU cores, and torch threads. workers: None: as many as fit.
    """

    gpus: float | None = Field(default=None, ge=0)
    cpus: int = Field(default=1, ge=1)
    workers: int | None = Field(default=None, ge=1)


class Job(Strict):
    """Everything that decides the numbers of a run, and how it is spread over machines.

    lambda: weight of edges in depara = nodes + lambda * edges.
    block_size: images per shard. batch_size: images per forward pass (no influence on the numbers
    beyond rounding).
    """

    name: Name
    zoo: str
    models: tuple[Name, ...] | None = None
    probe: ProbeSpec
    attribution: AttributionSettings = AttributionSettings()
    edges: EdgeSettings = EdgeSettings()
    lambda_: Finite = Field(default=1.0, alias="lambda")
    block_size: int = Field(default=64, ge=1, le=100_000)
    batch_size: int = Field(default=64, ge=1, le=100_000)
    resources: ResourceSettings = ResourceSettings()


@dataclass(frozen=True)
class JobFile:
    """A job with the folder its relative paths are read against."""

    job: Job
    path: Path

    @property
    def base(self) -> Path:
        """The folder of the job file."""
        return self.path.parent


# Fields that hold paths: what `--set` gives is meant from where the user stands, not from the
# job file.
_PATH_FIELDS = ("zoo", "probe.path", "probe.root")


def find_job(reference: str) -> Path:
    """Path of a job: a file, or the name of an embedded job ("rooms")."""
    path = Path(reference)
    if path.is_file():
        return path
    if "/" not in reference and not reference.endswith((".yaml", ".yml")):
        try:
            return embedded("jobs", f"{reference}.yaml")
        except InputError:
            pass
    raise InputError(f"{reference}: no such job file; give a path, or the name of an embedded job")


def load_job(reference: str, overrides: Sequence[str] = ()) -> JobFile:
    """A checked job with `--set` overrides applied. Raises InputError naming file and field."""
    path = find_job(reference)
    content: dict[str, Any] = read_yaml(path)
    content = apply_overrides(content, overrides, partial(_from_here, path.parent))
    return JobFile(job=validate(Job, content, str(path)), path=path)


def _from_here(base: Path, key: str, value: Any, text: str) -> Any:
    """The `value` that `--set` gives to `key`, its paths told from `base` as those of the file are.

    A path that YAML reads as a number or a date ("2024-01-01") is still the `text`.
    """
    if key == "probe" and isinstance(value, dict):
        return {name: _from_here(base, f"probe.{name}", v, str(v)) for name, v in value.items()}
    if key not in _PATH_FIELDS or value is None or isinstance(value, (dict, list)):
        return value
    place = value if isinstance(value, str) else text.strip()
    if "://" in place or (key == "zoo" and not place.endswith((".yaml", ".yml"))):
        return place
    # Of the real folders: "..", where a folder is a link, leads elsewhere than its name says.
    return os.path.relpath(Path(place).expanduser().resolve(), base.resolve())
