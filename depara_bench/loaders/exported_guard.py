"""What the program in a `.pt2` archive may say: every string of it is checked.

Torch hands these strings to sympy's `sympify` (an `eval`), looks operators up with `getattr`,
imports the modules that a tree spec names, and `exec`s code made of the graph's names and
guards. `copy_program` keeps only what is needed to compute, and refuses what fits no rule.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import keyword
import re
import types
import typing
from collections.abc import Callable
from typing import Any

from depara_bench.loaders import exported_names

DISTRUST = "do not use this file; export the model again from a source you trust"


class Refused(Exception):
    """What was found in the archive, and how to mend it."""

    def __init__(self, found: str, fix: str = DISTRUST) -> None:
        super().__init__(f"{found}; {fix}")


def copy_program(data: Any) -> dict[str, Any]:
    """Copy what is allowed of `models/model.json`. Raises Refused."""
    from torch._export.serde import schema

    copy: dict[str, Any] = _copy(schema.ExportedProgram, data, ("", ""))
    return copy


def copy_payloads(data: Any) -> dict[str, Any]:
    """Copy what is allowed of {"config": {tensor name: ...}}. Raises Refused."""
    from torch._export.serde import schema

    copy: dict[str, Any] = _copy(schema.PayloadConfig, data, ("", ""))
    return copy


Place = tuple[str, str]
Rule = Callable[[str], str]


def _copy(kind: Any, data: Any, place: Place) -> Any:
    """Copy `data` as torch's schema `kind` has it, unknown fields dropped, strings checked."""
    from torch._export.serde import schema

    if typing.get_origin(kind) in (typing.Union, types.UnionType):  # only `X | None` occurs
        return None if data is None else _copy(typing.get_args(kind)[0], data, place)
    if dataclasses.is_dataclass(kind):
        return _copy_fields(typing.cast("type", kind), data, place, vars(schema))
    if typing.get_origin(kind) is list and isinstance(data, list):
        return [_copy(typing.get_args(kind)[0], item, place) for item in data]
    if typing.get_origin(kind) is dict and isinstance(data, dict):
        key_rule = _KEYS.get(place, _refuse)
        value_kind = typing.get_args(kind)[1]
        return {key_rule(k): _copy(value_kind, v, place) for k, v in data.items()}
    if kind is str and isinstance(data, str):
        return _RULES.get(place, _refuse)(data)
    if kind is float and (isinstance(data, float) or data in ("Infinity", "-Infinity", "NaN")):
        return data
    number = isinstance(kind, type) and issubclass(kind, (int, float))
    if number and isinstance(data, int) and abs(data) < 2**63:
        return data
    raise Refused(f"holds {type(data).__name__} {str(data)[:60]!a} as {'.'.join(place)}")


def _copy_fields(kind: type, data: Any, place: Place, names: dict[str, Any]) -> dict[str, Any]:
    from torch._export.serde.union import _Union

    if kind.__name__ in _FORBIDDEN:
        raise Refused(
            f"holds {_FORBIDDEN[kind.__name__]}", "export a model of plain tensor operators"
        )
    hints = typing.get_type_hints(kind, globalns=names)
    one_of = issubclass(kind, _Union)
    if not isinstance(data, dict) or (one_of and (len(data) != 1 or not set(data) <= set(hints))):
        raise Refused(f"holds {str(data)[:60]!a} where a {kind.__name__} belongs")
    result: dict[str, Any] = {}
    for field in hints:
        inner = (kind.__name__, field)
        if field in data and inner in _DROPPED:
            result[field] = _DROPPED[inner]
        elif field in data and inner == ("Node", "metadata"):
            stack = data[field].get("nn_module_stack")  # all that addresses modules by name
            result[field] = {"nn_module_stack": _module_stack(stack)} if stack else {}
        elif field in data:
            result[field] = _copy(hints[field], data[field], inner)
    return result


def _refuse(text: str) -> str:
    raise Refused(f"holds the unexpected text {str(text)[:60]!a}")


def _matching(pattern: str, what: str, fix: str = DISTRUST) -> Rule:
    compiled = re.compile(pattern, re.ASCII)

    def rule(text: str) -> str:
        if not isinstance(text, str) or not compiled.fullmatch(text):
            raise Refused(f"holds {str(text)[:80]!a}, which is no {what}", fix)
        return text

    return rule


def _identifier(text: str) -> str:
    # These names become variables of the code that torch makes from the graph and runs.
    if text and (not text.isascii() or not text.isidentifier() or keyword.iskeyword(text)):
        raise Refused(f"holds {text[:80]!a}, which is no name of a value")
    return text


def _module_stack(text: str) -> str:
    entries = [(entry, exported_names.stack_entry(entry)) for entry in text.split(";")]
    if wrong := [entry for entry, plain in entries if plain is None]:
        raise Refused(f"holds {wrong[0][:80]!a}, which names no module")
    return ";".join(plain for _, plain in entries if plain is not None)


_SYMBOL = r"(s|u|zf|zuf)[0-9]{1,4}"
_path = _matching(exported_names.PATH, "dotted name of a module or tensor")
_text = _matching(r"[ -~]{0,500}", "short text")


def _operator(target: str) -> str:
    """`target` if it names a tensor operator of aten, or arithmetic on sizes."""
    import torch

    if re.fullmatch(_SIZE_ARITHMETIC, target):
        return target
    found = re.fullmatch(
        r"torch\.ops\.aten\.(__(?:and|or|xor)__|[a-zA-Z_]\w*)\.(\w+)", target, re.A
    )
    if found and (not found[1].startswith("__") or found[1].endswith("__")):
        packet = getattr(torch.ops.aten, found[1], None)
        overload = getattr(packet, found[2], None) if packet is not None else None
        if isinstance(overload, torch._ops.OpOverload) and _only_computes(overload._schema):
            return target
    raise Refused(
        f"uses the operator {target[:80]!a}, which is not among the allowed ones (torch.ops.aten)",
        "export the model in eval mode, without custom operators and grad or autocast blocks",
    )


def _only_computes(schema: Any) -> bool:
    # aten also has operators that open files (from_file, save) or take arbitrary objects.
    types_used = {
        word
        for item in (*schema.arguments, *schema.returns)
        for word in re.findall(r"[\w.]+", str(item.type))
    }
    return types_used <= _TENSOR_TYPES and all(a.name != "filename" for a in schema.arguments)


def _expression(text: str) -> str:
    """`text` if it is plain arithmetic on sizes, as sympy prints it."""
    refused = Refused(f"holds {text[:80]!a}, which is no expression of sizes")
    if len(text) > 2000 or text.count("Pow") + text.count("**") > 4:
        raise refused
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise refused from error
    if not _is_term(tree.body):
        raise refused
    return ast.unparse(tree)


def _is_term(node: ast.expr) -> bool:
    match node:
        case ast.Constant(value=int() | float() as value):
            return abs(value) < 2**63
        case ast.Name(id=name):
            return bool(re.fullmatch(_SYMBOL, name, re.ASCII))
        case ast.BinOp(left=base, op=ast.Pow(), right=exponent):
            return _is_term(base) and _is_small(exponent)
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div(), right=right):
            return _is_term(left) and _is_term(right)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _is_term(operand)
        case ast.Compare(left=left, comparators=others):
            return _is_term(left) and all(_is_term(other) for other in others)
        case ast.Call(func=ast.Name(id="Symbol"), args=[ast.Constant(value=str() as name)]):
            flags = [k.arg is not None and isinstance(k.value, ast.Constant) for k in node.keywords]
            values = [getattr(k.value, "value", None) for k in node.keywords]
            plain = all(flags) and all(isinstance(value, bool) for value in values)
            return plain and bool(re.fullmatch(_SYMBOL, name, re.ASCII))
        case ast.Call(func=ast.Name(id="Pow"), args=[base, exponent], keywords=[]):
            return _is_term(base) and _is_small(exponent)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            return all(_is_term(arg) for arg in args)
    return False


def _is_small(exponent: ast.expr) -> bool:
    return bool(re.fullmatch(r"-?[0-9]|Integer\(-?[0-9]\)", ast.unparse(exponent)))


def _tree_spec(text: str) -> str:
    """`text` if it nests tuples, lists and dicts only; other kinds import what they name."""
    protocol, spec = json.loads(text)
    waiting = [spec]
    while waiting:
        node = waiting.pop()
        context = json.loads(node["context"]) if node["context"] is not None else None
        plain = context is None or (
            isinstance(context, list) and all(isinstance(key, (str, int)) for key in context)
        )
        if node["type"] not in _CONTAINERS or not plain or set(node) != _SPEC_FIELDS:
            raise Refused(
                f"has a tree spec that is not plain, of a {str(node['type'])[:80]!a}",
                "export a model that takes and returns tensors, tuples, lists or dicts",
            )
        waiting.extend(node["children_spec"])
    return json.dumps([protocol, spec])


_SPEC_FIELDS = {"type", "context", "children_spec"}
_CONTAINERS = {None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"}
_TENSOR_TYPES = set("Tensor int bool number float complex Device str Generator".split())
_TENSOR_TYPES |= {"Optional", "List"}
_SIZE_ARITHMETIC = (
    r"_operator\.(getitem|eq|ne|le|ge|lt|gt|neg|pos|mul|add|sub|floordiv|mod|pow|truediv|and_|or_)"
    r"|math\.trunc|torch\.sym_(not|int|float|ite|max|min|sqrt)"
)
_FUNCTIONS = set(
    "Integer Rational Add Mul Mod Min Max FloorDiv ModularIndexing PythonMod CleanDiv CeilDiv"
    " CeilToInt FloorToInt TruncToInt RoundToInt IntTrueDiv FloatTrueDiv ToFloat Identity Eq Ne"
    " Equality Unequality LessThan GreaterThan StrictLessThan StrictGreaterThan And Or Not".split()
)
_FORBIDDEN = {
    "GraphArgument": "a graph inside an operator",
    "CustomObjArgument": "a custom object",
    "InputToCustomObjSpec": "a custom object",
}
# Nothing here is needed to compute, and torch makes code or imports of some of it.
_DROPPED: dict[Place, Any] = {
    ("GraphModule", "metadata"): {},
    ("GraphModule", "treespec_namedtuple_fields"): {},
    ("ExportedProgram", "guards_code"): [],
    ("ExportedProgram", "torch_version"): "",
}
_KEYS: dict[Place, Rule] = {
    ("Graph", "tensor_values"): _identifier,
    ("Graph", "sym_int_values"): _identifier,
    ("Graph", "sym_bool_values"): _identifier,
    ("Graph", "sym_float_values"): _identifier,
    ("ExportedProgram", "opset_version"): _identifier,
    ("ExportedProgram", "range_constraints"): _matching(_SYMBOL, "size symbol"),
    ("PayloadConfig", "config"): _path,
}
_RULES: dict[Place, Rule] = {
    ("Device", "type"): _matching("cpu", "device it may use", "export the model on the CPU"),
    ("SymExpr", "expr_str"): _expression,
    ("SymIntArgument", "as_name"): _identifier,
    ("SymFloatArgument", "as_name"): _identifier,
    ("SymBoolArgument", "as_name"): _identifier,
    ("TensorArgument", "name"): _identifier,
    ("TokenArgument", "name"): _identifier,
    ("Argument", "as_string"): _text,
    ("Argument", "as_strings"): _text,
    ("NamedArgument", "name"): _identifier,
    ("Node", "target"): _operator,
    ("Node", "name"): _identifier,
    ("ConstantValue", "as_string"): _text,
    ("InputToConstantInputSpec", "name"): _identifier,
    ("InputToParameterSpec", "parameter_name"): _path,
    ("InputToBufferSpec", "buffer_name"): _path,
    ("InputToTensorConstantSpec", "tensor_constant_name"): _path,
    ("BufferMutationSpec", "buffer_name"): _path,
    ("ParameterMutationSpec", "parameter_name"): _path,
    ("ModuleCallEntry", "fqn"): _path,
    ("ModuleCallSignature", "in_spec"): _tree_spec,
    ("ModuleCallSignature", "out_spec"): _tree_spec,
    ("ModuleCallSignature", "forward_arg_names"): _identifier,
    ("ExportedProgram", "verifiers"): _matching("ATEN|TRAINING", "verifier"),
    ("PayloadMeta", "path_name"): _matching("(weight|tensor)_[0-9]+", "member with a tensor"),
}
