"""The zoo: which models exist, where their weights are, what they take and what they are for.

A manifest is data. Nothing in it can run code, except the `python` loader, which the user allows
for one run with a flag.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from depara_bench.config import Strict, nearest, read_yaml, validate
from depara_bench.embedded import embedded
from depara_bench.errors import InputError, path_errors
from depara_bench.files import is_file
from depara_bench.input import InputSpec as InputSpec
from depara_bench.text_fields import Factory, Sha256, WebAddress
from depara_bench.text_fields import Name as Name

Role = Literal["source", "target"]

MOST_CLASSES = 1_000_000
"""Of a head: more than any data set has."""


class _Spec(Strict):
    name: Name
    input: InputSpec
    embedding: str | None = None
    """Module whose output is the embedding, by its dotted name; none: the model's own output."""
    roles: tuple[Role, ...] = Field(min_length=1)

    @field_validator("roles")
    @classmethod
    def _roles_once(cls, roles: tuple[Role, ...]) -> tuple[Role, ...]:
        if len(set(roles)) != len(roles):
            raise ValueError("each role at most once")
        return roles


class _StateSpec(_Spec):
    """A model that is filled from a file of named tensors: `weights: FILE`, or in full
    `weights: {file: FILE, key: ENTRY, strip: PREFIX}`.

    key: the entry of the file that holds the tensors ("teacher", "ema.model"). strip: what their
    names begin with and the model's do not; tensors of other names are left out.
    """

    key: str | None = Field(default=None, min_length=1)
    strip: str | None = Field(default=None, min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _spread(cls, content: Any) -> Any:
        if not isinstance(content, Mapping):
            return content
        if inside := [field for field in ("key", "strip") if field in content]:
            right = f"weights: {{file: ..., {inside[0]}: ...}}"
            raise ValueError(f"{inside[0]}: belongs to the weights; write {right}")
        given = content.get("weights")
        if not isinstance(given, Mapping):
            return content
        if odd := [str(field) for field in given if field not in ("file", "key", "strip")]:
            raise ValueError(f"weights.{odd[0]}: unknown field; there are file, key and strip")
        if "file" not in given:
            raise ValueError("weights.file: is missing; add it")
        parts = {f"weights.{name}": value for name, value in given.items() if value is not None}
        if wrong := [name for name, value in parts.items() if not isinstance(value, str)]:
            raise ValueError(f"{wrong[0]}: must be text, not {parts[wrong[0]]!r}")
        own = {name: given.get(name) for name in ("key", "strip")}
        return {**content, **own, "weights": given["file"]}

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = handler(self)
        later = ("key", "strip", "transform_input")
        unset = [field for field in later if content.get(field, ...) is None]
        return {field: value for field, value in content.items() if field not in unset}


class RoomsSpec(_StateSpec):
    """A network of the embedded Taskonomy; the task is `task`, or the model's name."""

    loader: Literal["rooms"]
    weights: str
    sha256: Sha256 | None = None
    task: str | None = None


class TaskonomySpec(_StateSpec):
    """An encoder of Taskonomy, from a checkpoint of its public PyTorch port."""

    loader: Literal["taskonomy"]
    weights: str
    sha256: Sha256 | None = None
    normalize_outputs: bool = False


class _LibrarySpec(_StateSpec):
    """A model that a library knows by name: from a local checkpoint, the word "cache" for one that
    the library has fetched earlier, or initialised at random by `seed`. Never a download.

    `input` may be left out: it is then what the library's own metadata say.
    """

    architecture: str
    weights: str | None = None
    sha256: Sha256 | None = None
    seed: int | None = Field(default=None, ge=0, lt=2**63)

    @model_validator(mode="after")
    def _one_origin(self) -> _LibrarySpec:
        if (self.weights is None) == (self.seed is None):
            raise ValueError(
                "give either 'weights: FILE' or 'seed: NUMBER' for a random initialisation"
            )
        return self


class TorchvisionSpec(_LibrarySpec):
    """A torchvision model by its registered name.

    transform_input: of googlenet and inception_v3, whether they bring the usual normalisation to
    the one that their published weights were trained with, as torchvision has them do for these
    weights and what is trained on from them. Needed for a file that is not torchvision's.
    """

    loader: Literal["torchvision"]
    classes: int = Field(default=1000, ge=1, le=MOST_CLASSES)
    transform_input: bool | None = None


class TimmSpec(_LibrarySpec):
    """A timm model by its name; classes: of its head, None: as many as the name's own weights have.

    Without `embedding`, the pooled output before the head is the embedding.
    """

    loader: Literal["timm"]
    classes: int | None = Field(default=None, ge=1, le=MOST_CLASSES)


class TransformersSpec(_LibrarySpec):
    """A vision model of Hugging Face transformers.

    architecture: a folder with a config.json, a model in the Hugging Face cache ("owner/name"), or
    a type of model ("vit"), in its default configuration. Without `embedding`, the pooled output is
    the embedding, and the class scores where there is none.
    """

    loader: Literal["transformers"]


class ExportedSpec(_Spec):
    """A `torch.export` archive (.pt2)."""

    loader: Literal["exported"]
    weights: str
    sha256: Sha256 | None = None


class TorchscriptSpec(_Spec):
    """A TorchScript archive. Runs the program in it: needs the flag."""

    loader: Literal["torchscript"]
    weights: str
    sha256: Sha256 | None = None

    @field_validator("embedding")
    @classmethod
    def _output_only(cls, embedding: str | None) -> str | None:
        if embedding is not None:
            raise ValueError(
                "modules inside a TorchScript archive cannot be watched; leave it out, and script a"
                " model whose output is the embedding"
            )
        return embedding


class PythonSpec(_StateSpec):
    """A factory "package.module:function" that returns the model. Runs code: needs the flag.

    seed: of the generators of torch, numpy and random, from which the factory draws what no file
    fills.
    """

    loader: Literal["python"]
    factory: Factory
    weights: str | None = None
    sha256: Sha256 | None = None
    seed: int = Field(default=0, ge=0, lt=2**63)


AnySpec = (
    RoomsSpec
    | TaskonomySpec
    | TorchvisionSpec
    | TimmSpec
    | TransformersSpec
    | ExportedSpec
    | TorchscriptSpec
    | PythonSpec
)
ModelSpec = Annotated[AnySpec, Field(discriminator="loader")]

RUNS_CODE = ("python", "torchscript")
"""Loaders that run what the user's files say, and so need the flag."""


class Zoo(Strict):
    """A named list of models, in the order all tables keep.

    mirror: URL of the folder that holds the weight files, for `zoo fetch`.
    """

    name: Name
    mirror: WebAddress | None = None
    models: tuple[ModelSpec, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_once(self) -> Zoo:
        twice = [name for name, n in Counter(m.name for m in self.models).items() if n > 1]
        if twice:
            raise ValueError(f"models: two models are named '{twice[0]}'; names must differ")
        return self

    def with_role(self, role: Role) -> list[str]:
        """Names of the models that have `role`, in order."""
        return [model.name for model in self.models if role in model.roles]


def find_manifest(reference: str, base: Path) -> Path:
    """Path of a manifest: an embedded zoo's name, or a path relative to `base`."""
    if reference.endswith((".yaml", ".yml")):
        path = base / reference
        with path_errors(f"zoo: {path}", "check 'zoo' in the job"):
            found = is_file(path)
        if not found:
            raise InputError(f"zoo: {path} does not exist; check 'zoo' in the job")
        return path
    try:
        return embedded("zoo", reference, "zoo.yaml")
    except InputError as error:
        raise InputError(
            f"zoo: '{reference}' is no embedded zoo; name one, or give the path of a .yaml manifest"
        ) from error


def load_zoo(path: Path) -> Zoo:
    """A checked manifest. Raises InputError naming file, model and field.

    An `input` that is left out of a library's model is filled in from the library's metadata.
    """
    content = read_yaml(path)
    if isinstance(models := content.get("models"), list):
        content["models"] = [_with_input(model, path) for model in models]
    return validate(Zoo, content, str(path))


def _with_input(model: Any, path: Path) -> Any:
    if not isinstance(model, dict) or "input" in model:
        return model
    loader, architecture = model.get("loader"), model.get("architecture")
    libraries = ("torchvision", "timm", "transformers")
    if loader not in libraries or not isinstance(architecture, str):
        return model  # what is missing is told by the validation
    weights, sha256 = model.get("weights"), model.get("sha256")
    if not isinstance(weights, str | None) or not isinstance(sha256, str | None):
        return model
    from depara_bench.loaders.metadata import library_input

    where = f"{path}: model '{model.get('name')}'"
    taken = library_input(loader, architecture, path.parent, where, weights, sha256)
    return {**model, "input": taken}


def select(zoo: Zoo, names: tuple[str, ...] | None, where: str) -> Zoo:
    """The zoo reduced to `names` (kept in the zoo's order); None keeps all."""
    if names is None:
        return zoo
    known = [model.name for model in zoo.models]
    for name in names:
        if name not in known:
            raise InputError(
                f"{where}: models: zoo '{zoo.name}' has no model '{name}';"
                f" nearest: {nearest(name, known)}"
            )
    return zoo.model_copy(update={"models": tuple(m for m in zoo.models if m.name in names)})
