"""YAML file -> checked model, with every mistake told in one line: file, field, fix."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from depara_bench.errors import InputError


class Strict(BaseModel):
    """Base of everything read from a file: unknown fields are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


Model = TypeVar("Model", bound=Strict)


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice instead of keeping the last one silently."""


def _unique_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys: list[Any] = []
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in keys:
            raise yaml.constructor.ConstructorError(
                None, None, f"'{key}' is given twice", key_node.start_mark
            )
        keys.append(key)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises InputError naming the file and the line."""
    try:
        with path.open(encoding="utf-8") as stream:
            content = yaml.load(stream, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not a text file in UTF-8") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:  # e.g. the date 2024-13-01
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else f"{path}"
        problem = getattr(error, "problem", None) or f"not valid YAML ({error})".splitlines()[0]
        raise InputError(f"{where}: {problem}; mend the YAML") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: must hold 'field: value' lines, not {type(content).__name__}")
    return content


def apply_overrides(content: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """`content` with each "key.sub=value" set; values are read as YAML ("3", "[a, b]", "null")."""
    result: dict[str, Any] = yaml.safe_load(yaml.safe_dump(content))
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key.strip():
            raise InputError(f"--set {override}: must read key=value, e.g. --set probe.count=200")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InputError(f"--set {override}: '{text}' is not a YAML value") from error
        *parents, last = key.strip().split(".")
        place = result
        for parent in parents:
            inner = place.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise InputError(f"--set {override}: '{parent}' has no fields of its own")
            place = inner
        place[last] = value
    return result


def validate(cls: type[Model], content: Mapping[str, Any], where: str) -> Model:
    """`content` as a checked `cls`. Raises InputError: all mistakes, joined, on one line."""
    try:
        return cls.model_validate(content)
    except ValidationError as error:
        details = error.errors(include_url=False)
        problems = [_describe(cls, detail) for detail in details if not _follows(detail)]
        raise InputError(f"{where}: " + "; ".join(dict.fromkeys(problems))) from error


def _follows(detail: ErrorDetails) -> bool:
    """Whether a list is "too short" only because its items had mistakes, told of themselves."""
    return detail["type"] == "too_short" and bool(detail["input"])


def _describe(cls: type[BaseModel], detail: ErrorDetails) -> str:
    # A key given as "a\nb" would break the line.
    names = [" ".join(str(part).split()) for part in detail["loc"]]
    field = ".".join(names) or "file"
    kind = detail["type"]
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        context = detail["ctx"]
        tag = context["discriminator"].strip("'")
        known = context.get("expected_tags")
        if known is None:
            return f"{field}.{tag}: is missing; add it"
        return f"{field}.{tag}: '{context['tag']}' is unknown; choose one of {known}"
    if kind == "extra_forbidden":
        close = difflib.get_close_matches(names[-1], sorted(_field_names(cls)), n=1, cutoff=0.6)
        hint = f"did you mean '{close[0]}'?" if close else "remove it"
        return f"{field}: unknown field; {hint}"
    if kind == "missing":
        return f"{field}: is missing; add it"
    message = detail["msg"].removeprefix("Value error, ")
    given = detail.get("input")
    if isinstance(given, (str, int, float, bool)) and kind != "value_error":
        return f"{field}: {message[0].lower()}{message[1:]}, not {given!r}"
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
