"""A job: which models, which probe images, how attributed and compared. jobs/*.yaml, checked."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from depara_bench.attribution import check_method, make_method, method_name
from depara_bench.attribution.method import Attribution
from depara_bench.config import Strict, apply_overrides, read_yaml, validate
from depara_bench.embedded import embedded
from depara_bench.errors import InputError, path_errors
from depara_bench.files import is_file
from depara_bench.input import MOST_PIXELS_A_SIDE
from depara_bench.methods import resolve
from depara_bench.probe import ProbeSpec
from depara_bench.zoo import Name


def _finite(value: float) -> float:
    if not -1e9 < value < 1e9:
        raise ValueError("must be a finite number")
    return value


T = TypeVar("T")

Finite = Annotated[float, AfterValidator(_finite)]
GridSide = Annotated[int, Field(ge=1, le=MOST_PIXELS_A_SIDE)]


def _as_value_error(call: Callable[..., T], *arguments: Any) -> T:
    """What `call` returns; its InputError as what pydantic collects."""
    try:
        return call(*arguments)
    except InputError as error:
        raise ValueError(str(error)) from error


class AttributionSettings(Strict):
    """What is attributed, and how maps are reduced.

    methods: attribution methods; the first is the one that `depara` uses. One with arguments is a
    mapping {name: smoothgrad, samples: 50}. A class of captum is captum:DeepLift here and
    captum_DeepLift, a plain word, in tables.
    arguments: of the methods, by name: where those given with `methods` end up, defaults filled in.
    scalar: of the embedding F(x), whose gradient is taken: "sum" over all units (what the published
    results were computed with) or "l2norm" (DEPARA eq. 3).
    channels: how the 3 colour channels become one map: "signed-mean" or "abs-mean".
    grid: (height, width) that maps are brought to, by area. None: the maps of models of one input
    size stay as they are; of several, they are brought to the smallest height and width of them.
    """

    methods: tuple[str, ...] = Field(default=("input_x_gradient", "saliency"), min_length=1)
    arguments: dict[str, dict[str, Any]] = Field(default={}, validate_default=True)
    scalar: Literal["sum", "l2norm"] = "sum"
    channels: Literal["signed-mean", "abs-mean"] = "signed-mean"
    grid: tuple[GridSide, GridSide] | None = None

    @model_validator(mode="before")
    @classmethod
    def _apart(cls, given: Any) -> Any:
        """Names and arguments of methods, which may be given together, apart."""
        if not isinstance(given, dict) or not isinstance(given.get("methods"), (list, tuple)):
            return given
        if not isinstance(given.get("arguments") or {}, dict):  # wrong, and told of
            return given
        methods, arguments = [], dict(given.get("arguments") or {})
        for method in given["methods"]:
            name = method
            if isinstance(method, dict) and isinstance(method.get("name"), str):
                name, own = method["name"], {k: v for k, v in method.items() if k != "name"}
                arguments.setdefault(method_name(name), own)
            methods.append(method_name(name) if isinstance(name, str) else name)
        return {**given, "methods": methods, "arguments": arguments}

    @field_validator("methods")
    @classmethod
    def _known(cls, methods: tuple[str, ...]) -> tuple[str, ...]:
        for method in methods:
            _as_value_error(check_method, method)
        if len(set(methods)) != len(methods):
            raise ValueError("each method at most once")
        return methods

    @field_validator("arguments")
    @classmethod
    def _complete(
        cls, arguments: dict[str, dict[str, Any]], info: ValidationInfo
    ) -> dict[str, dict[str, Any]]:
        methods = info.data.get("methods")
        if methods is None:  # wrong, and told of
            return arguments
        for name in arguments:
            if name not in methods:
                raise ValueError(f"'{name}' is none of the methods; remove it")
        made = (_as_value_error(make_method, name, arguments.get(name, {})) for name in methods)
        resolved = {name: method.resolved() for name, method in zip(methods, made, strict=True)}
        return {name: values for name, values in resolved.items() if values}

    def made(self) -> dict[str, Attribution]:
        """The methods with their arguments, by name."""
        return {name: make_method(name, self.arguments.get(name, {})) for name in self.methods}


class EdgeSettings(Strict):
    """center: subtract the mean over the probe images from the features (DEPARA's code does).

    ties: the ranks of equal edges: "average", as Spearman's correlation has it, or "ordinal", by
    their positions (DEPARA's code, made repeatable).
    """

    center: bool = True
    ties: Literal["average", "ordinal"] = "average"


class ResourceSettings(Strict):
    """What one worker takes.

    gpus: None: one GPU each where there are GPUs, none elsewhere; a fraction shares a GPU.
    cpus: CPU cores, and torch threads. workers: None: as many as fit.
    """

    gpus: float | None = Field(default=None, ge=0, le=1_000)
    cpus: int = Field(default=1, ge=1, le=10_000)
    workers: int | None = Field(default=None, ge=1, le=100_000)


Preset = Literal["neurips-2019", "cvpr-2020"]

PRESETS: dict[str, dict[str, Any]] = {
    "neurips-2019": {
        "attribution.scalar": "sum",
        "attribution.channels": "signed-mean",
        "lambda": 0.0,
    },
    "cvpr-2020": {
        "attribution.scalar": "sum",
        "attribution.channels": "signed-mean",
        "edges.center": True,
        "edges.ties": "ordinal",
        "lambda": 0.25,
    },
}
"""What the papers' code computes with, by field: Song et al. (NeurIPS 2019), which has nodes only,
and DEPARA (CVPR 2020), with the lambda of its Taskonomy images.
"""

PRESET_METHODS: dict[str, tuple[str, ...]] = {
    "neurips-2019": ("input_x_gradient", "saliency", "lrp_deepexplain"),
    "cvpr-2020": ("input_x_gradient",),
}
"""The papers' attribution methods: those of a job that names none; otherwise its first is one."""


class Job(Strict):
    """Everything that decides the numbers of a run, and how it is spread over machines.

    preset: a paper's settings, all together (see `PRESETS`); None: the corrected ones.
    lambda: weight of edges in depara = nodes + lambda * edges.
    methods: beside DEPARA's own, by name or pattern ("dds-*"; "*" for all).
    labels: of the probe images, for the methods that need them: "rooms" (of a probe of scenes), or
    a table image, target, label.
    block_size: images per shard. batch_size: images per forward pass (no influence on the numbers
    beyond rounding).
    """

    name: Name
    zoo: str
    models: tuple[Name, ...] | None = None
    preset: Preset | None = None
    probe: ProbeSpec
    attribution: AttributionSettings = AttributionSettings()
    edges: EdgeSettings = EdgeSettings()
    lambda_: Finite = Field(default=1.0, alias="lambda")
    methods: tuple[str, ...] = ()
    labels: str | None = None
    block_size: int = Field(default=64, ge=1, le=100_000)
    batch_size: int = Field(default=64, ge=1, le=100_000)
    resources: ResourceSettings = ResourceSettings()

    @field_validator("methods")
    @classmethod
    def _known(cls, methods: tuple[str, ...]) -> tuple[str, ...]:
        _as_value_error(resolve, methods)
        return methods

    @model_validator(mode="after")
    def _has_labels(self) -> Job:
        scores = resolve(self.methods)[1]
        if scores and self.labels is None:
            raise ValueError(
                f"methods: '{scores[0]}' needs labels of the probe images; set 'labels', or leave"
                f" it out"
            )
        if self.labels == "rooms" and self.probe.kind != "rooms":
            raise ValueError(
                f"labels: 'rooms' are of scenes, the probe is of kind '{self.probe.kind}'; give a"
                f" table image, target, label"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, given: Any) -> Any:
        """What the preset says, in the fields that are not given."""
        preset = given.get("preset") if isinstance(given, Mapping) else None
        if not isinstance(preset, str) or preset not in PRESETS:
            return given
        filled = dict(given)
        wanted = {**PRESETS[preset], "attribution.methods": PRESET_METHODS[preset]}
        for path, value in wanted.items():
            section, _, field = path.rpartition(".")
            if not section:
                if "lambda_" not in filled:
                    filled.setdefault(field, value)
            elif isinstance(inside := filled.get(section, {}), Mapping):
                filled[section] = {field: value, **inside}
        return filled

    @model_validator(mode="after")
    def _agrees(self) -> Job:
        """Refuse what contradicts the preset."""
        if self.preset is None:
            return self
        for path, value in PRESETS[self.preset].items():
            given = self.model_dump(by_alias=True)
            for part in path.split("."):
                given = given[part]
            if given != value:
                raise ValueError(
                    f"{path} is {_yaml(given)}, preset {self.preset} has {_yaml(value)};"
                    f" remove one of the two"
                )
        known, first = PRESET_METHODS[self.preset], self.attribution.methods[0]
        if first not in known:
            raise ValueError(
                f"attribution.methods begins with {first}, preset {self.preset} has"
                f" {' or '.join(known)}; remove one of the two"
            )
        return self


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


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
_PATH_FIELDS = ("zoo", "probe.path", "probe.root", "labels")


def find_job(reference: str) -> Path:
    """Path of a job: a file, or the name of an embedded job ("rooms")."""
    path = Path(reference)
    with path_errors(reference):
        if is_file(path):
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
    named = (key == "zoo" and not place.endswith((".yaml", ".yml"))) or place == "rooms"
    if "://" in place or named:
        return place
    # Of the real folders: "..", where a folder is a link, leads elsewhere than its name says.
    with path_errors(f"--set {key}={place}"):
        return os.path.relpath(Path(place).expanduser().resolve(), base.resolve())
