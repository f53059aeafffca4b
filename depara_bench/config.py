"""YAML file -> checked model, with every mistake told in one line: file, field, fix."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from reprlib import Repr
from typing import Any, Literal, TypeVar, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, ErrorDetails

from depara_bench.errors import InputError, path_errors
from depara_bench.files import SETTINGS, read_file


def _make_exact(schema: Any) -> None:
    """Switch off what pydantic would make of values of another type, in a schema and all in it."""
    if isinstance(schema, dict):
        if schema.get("type") in ("int", "float", "bool"):
            schema["strict"] = True
        for part in schema.values():
            _make_exact(part)
    elif isinstance(schema, (list, tuple)):
        for part in schema:
            _make_exact(part)


class Strict(BaseModel):
    """Base of everything read from a file: unknown fields are errors; immutable.

    A number is a number: not `true`, not the text "3", and not 3.0 where it must be whole.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False
    )

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Have every number and switch taken as it is, wherever in a field it stands; lists remain
        good for tuples.
        """
        schema = handler(source)
        _make_exact(schema)
        return schema


Model = TypeVar("Model", bound=Strict)

# Mistakes told of one file: a manifest of 10,000 models may hold one in each.
_TOLD = 10


# Characters that a file may unfold to where values stand for others (&name, *name). A manifest of
# 10,000 models has about a third of it.
_UNFOLDED = 10_000_000

# Of what a message quotes.
_shown = Repr()
_shown.maxstring = 200


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice instead of keeping the last one silently, and what
    makes a small file unfold to any size: merge keys, and aliases of aliases.
    """

    def get_single_node(self) -> yaml.Node | None:
        """The document, of which nothing is constructed yet."""
        node = super().get_single_node()
        if node is not None and _unfolded(node, {}) > _UNFOLDED:
            problem = "aliases (*name) unfold to too much; write the fields out"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return node


def _unfolded(node: yaml.Node, known: dict[yaml.Node, int]) -> int:
    """Characters of a node with all its aliases written out."""
    if isinstance(node, yaml.ScalarNode):
        return 1 + len(node.value)
    if node not in known:
        known[node] = 0  # for an alias inside of what it stands for, which is refused later
        pairs = isinstance(node, yaml.MappingNode)
        parts = chain.from_iterable(node.value) if pairs else node.value
        known[node] = 1 + sum(_unfolded(part, known) for part in parts)
    return known[node]


def _unique_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys: set[Hashable] = set()
    for key_node, _ in node.value:
        problem = None
        if key_node.tag == "tag:yaml.org,2002:merge":
            problem = "merge keys (<<) are not read; write the fields out"
        elif not isinstance(key := loader.construct_object(key_node, deep=True), Hashable):
            problem = "a field's name must be plain text"
        elif key in keys:
            problem = f"'{key}' is given twice"
        else:
            keys.add(key)
        if problem is not None:
            raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises InputError naming the file and the line."""
    with path_errors(f"{path}"):
        text = read_file(path, SETTINGS).decode("utf-8")
    try:
        content = yaml.load(text, Loader=_Loader)  # noqa: S506 - it is a SafeLoader
    except Exception as error:  # a value that its tag does not fit (!!int "") raises anything
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else f"{path}"
        problem = getattr(error, "problem", None) or f"not valid YAML ({error})".splitlines()[0]
        raise InputError(f"{where}: {_one_line(problem)}; mend the YAML") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: must hold 'field: value' lines, not {type(content).__name__}")
    return content


def apply_overrides(
    content: dict[str, Any],
    overrides: Sequence[str],
    adapt: Callable[[str, Any, str], Any] = lambda _key, value, _text: value,
) -> dict[str, Any]:
    """`content` with each "key.sub=value" set; values are read as YAML ("3", "[a, b]", "null").

    adapt: what is put in place, of the key, the value, and the text it was read from.
    """
    result = copy.deepcopy(content)
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key.strip():
            raise InputError(f"--set {override}: must read key=value, e.g. --set probe.count=200")
        try:
            value = yaml.load(text, Loader=_Loader)  # noqa: S506 - it is a SafeLoader
        except Exception as error:  # as in read_yaml
            shown = _one_line(override)
            raise InputError(f"--set {shown}: what follows '=' is not a YAML value") from error
        *parents, last = key.strip().split(".")
        place = result
        for parent in parents:
            inner = place.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise InputError(f"--set {override}: '{parent}' has no fields of its own")
            place = inner
        place[last] = adapt(key.strip(), value, text)
    return result


def validate(cls: type[Model], content: Mapping[str, Any], where: str) -> Model:
    """`content` as a checked `cls`. Raises InputError: all mistakes, joined, on one line."""
    try:
        return cls.model_validate(content)
    except ValidationError as error:
        details = _causes(error.errors(include_url=False))
        problems = [_one_line(_describe(cls, detail, content)) for detail in details[:_TOLD]]
        told = list(dict.fromkeys(problems))
        if len(details) > _TOLD:
            told.append(f"and {len(details) - _TOLD} more mistakes")
        raise InputError(f"{where}: " + "; ".join(told)) from error


def _one_line(text: str) -> str:
    """What a file says may hold line breaks, and is quoted in messages."""
    return " ".join(str(text).split())


def _causes(details: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """Without lists that are "too short" only because their items had mistakes, which are told."""

    def follows(detail: ErrorDetails) -> bool:
        loc = detail["loc"]
        inside = (other["loc"] for other in details if len(other["loc"]) > len(loc))
        return detail["type"] == "too_short" and any(other[: len(loc)] == loc for other in inside)

    return [detail for detail in details if not follows(detail)]


def _names(loc: Sequence[int | str], content: Any) -> list[str]:
    """Where a mistake is, as the file has it: without the kinds that pydantic puts in between."""
    names: list[str] = []
    for position, part in enumerate(loc, start=1):
        if isinstance(content, Mapping):
            kinds = [value for value in content.values() if isinstance(value, str)]
            if part not in content and part in kinds and position < len(loc):
                continue
            content = content.get(part)
        elif isinstance(content, list) and isinstance(part, int) and part < len(content):
            content = content[part]
        names.append(str(part))
    return names


def _describe(cls: type[BaseModel], detail: ErrorDetails, content: Any) -> str:
    names = _names(detail["loc"], content)
    field = ".".join(names) or "file"
    kind = detail["type"]
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        context = detail["ctx"]
        tag = context["discriminator"].strip("'")
        known = context.get("expected_tags")
        if known is None:
            values = _values_of(cls, tag)
            return f"{field}.{tag}: is missing; add it{f', of {values}' if values else ''}"
        return f"{field}.{tag}: {_shown.repr(context['tag'])} is unknown; choose one of {known}"
    if kind == "extra_forbidden":
        close = difflib.get_close_matches(names[-1], sorted(_field_names(cls)), n=1, cutoff=0.6)
        hint = f"did you mean '{close[0]}'?" if close else "remove it"
        return f"{field}: unknown field; {hint}"
    if kind == "missing":
        values = _values_of(cls, names[-1])
        return f"{field}: is missing; add it{f', of {values}' if values else ''}"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"{field}: must hold 'field: value' lines, not {type(detail['input']).__name__}"
    message = detail["msg"].removeprefix("Value error, ")
    given = detail.get("input")
    if isinstance(given, (str, int, float, bool)) and kind != "value_error":
        return f"{field}: {message[0].lower()}{message[1:]}, not {_shown.repr(given)}"
    return f"{field}: {message}"


def _field_names(cls: type[BaseModel], seen: frozenset[type] = frozenset()) -> set[str]:
    """Names of all fields of a model and of the models inside it, for 'did you mean'."""
    names: set[str] = set()
    for name, field in cls.model_fields.items():
        names.add(field.alias or name)
        for inner in _models_in(field.annotation):
            if inner not in seen:
                names |= _field_names(inner, seen | {cls})
    return names


def _values_of(cls: type[BaseModel], name: str, seen: frozenset[type] = frozenset()) -> str:
    """The words that may stand in the field `name` of a model or of the models inside it: "a, b";
    "" where it takes others too.
    """
    found: list[str] = []
    for own, field in cls.model_fields.items():
        if name in (own, field.alias):
            found += _words_in(field.annotation)
        for inner in _models_in(field.annotation):
            if inner not in seen:
                found += filter(None, _values_of(inner, name, seen | {cls}).split(", "))
    return ", ".join(dict.fromkeys(found))


def _words_in(annotation: Any) -> list[str]:
    """The words of all `Literal`s in an annotation."""
    parts = getattr(annotation, "__args__", ())
    if get_origin(annotation) is Literal:
        return [part for part in parts if isinstance(part, str)]
    return [word for part in parts for word in _words_in(part)]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    inner = [*getattr(annotation, "__args__", ())]
    if hasattr(annotation, "__origin__") and hasattr(annotation, "__metadata__"):
        inner = [annotation.__origin__]
    return [model for part in inner for model in _models_in(part)]


def nearest(name: str, known: Sequence[str], count: int = 3) -> str:
    """The `count` names most like `name`, for an error message: "a, b, c" ("none" if empty)."""
    close = difflib.get_close_matches(name, known, n=count, cutoff=0.0)
    return ", ".join(close) if close else "none"
