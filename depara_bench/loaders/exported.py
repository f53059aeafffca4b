"""Models exported with `torch.export.save` (`.pt2`): the network comes with its file.

`torch.export.load` trusts that file: it loads shared libraries (AOTInductor parts) and unpickles
without limits (pickled tensors, custom and opaque objects, sample inputs), besides what the
program's text can make it do (see `exported_guard`). So the file itself never reaches torch. The
parts known here are checked, and a new archive is written from what was checked. That also
leaves no room for a zip or a JSON text that two parsers read differently.
"""

from __future__ import annotations

import io
import json
import logging
import math
import re
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depara_bench.errors import InputError
from depara_bench.loaders import exported_guard, weights
from depara_bench.loaders.exported_guard import Refused
from depara_bench.loaders.locate import locate
from depara_bench.zoo import ExportedSpec

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

_MAX_JSON = 64 * 2**20
_MAX_MEMBERS = 100_000
_MEMBER = re.compile(
    r"archive_format|archive_version|byteorder|\.format_version|\.storage_alignment"
    r"|\.data/(version|serialization_id)|extra/.+|models/model\.json|data/sample_inputs/model\.pt"
    r"|data/weights/(weight_[0-9]+|model_weights_config\.json|model\.pt)"
    r"|data/constants/(tensor_[0-9]+|model_constants_config\.json|model\.pt)"
)


def load(spec: ExportedSpec, base: Path, allow_code: bool) -> nn.Module:
    """Return the exported model, its submodules under their original dotted names."""
    path = locate(spec, base)
    content = weights.read_bytes(path, spec.sha256, spec.name)
    archive = _checked(content, path, spec.name)
    where = f"model '{spec.name}': {path}"
    try:
        from torch.export import unflatten
        from torch.export.pt2_archive._package import load_pt2

        with _quiet():
            program = load_pt2(archive).exported_programs["model"]
            _check_input(program, spec, where)
            _check_eval(program, where)
            _compute_in_float32(program)
            module: nn.Module = unflatten(program).float()
    except InputError:
        raise
    except Exception as error:  # torch raises of many kinds on archives it cannot use
        cause = " ".join(str(error).split())[-200:] or type(error).__name__
        raise InputError(
            f"{where} cannot be loaded by this torch ({cause}); export it again with it"
        ) from error
    return module


@contextmanager
def _quiet() -> Iterator[None]:
    """No remarks of torch on the program ("Symbol u0 did not appear ..."): it is right or not."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _compute_in_float32(program: ExportedProgram) -> None:
    """Have a program of half or double precision name float32 wherever it names a type."""
    import torch
    from torch.fx.node import map_aggregate

    inputs = [node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"]
    kinds = {value.dtype for value in inputs if isinstance(value, torch.Tensor)}
    others = {kind for kind in kinds if kind.is_floating_point} - {torch.float32}
    if not others:
        return
    for node in list(program.graph.nodes):
        if str(node.target).startswith("aten._assert_tensor_metadata"):
            program.graph.erase_node(node)
            continue
        node.args, node.kwargs = (
            map_aggregate(given, lambda value: torch.float32 if value in others else value)
            for given in (node.args, node.kwargs)
        )


def _check_input(program: ExportedProgram, spec: ExportedSpec, where: str) -> None:
    """One image tensor with a free batch dimension, of the size in the manifest."""
    names = program.graph_signature.user_inputs
    nodes = {node.name: node for node in program.graph.nodes}
    shapes = [_sizes(nodes[name]) if isinstance(name, str) else None for name in names]
    if len(shapes) != 1 or shapes[0] is None or len(shapes[0]) != 4:
        raise InputError(
            f"{where} must take one tensor [batch, 3, height, width] and nothing else; export it so"
        )
    batch, *image = shapes[0]
    if batch is not None:
        raise InputError(
            f"{where} was exported for a fixed batch of {batch}; export with a dynamic batch"
            " dimension: dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)"
        )
    wanted = spec.input.own_shape
    if any(given not in (None, size) for given, size in zip(image, wanted, strict=True)):
        text = "x".join("any" if given is None else str(given) for given in image)
        raise InputError(
            f"{where} was exported for inputs of {text}, the manifest's 'input.size' makes"
            f" {'x'.join(map(str, wanted))}; correct 'input.size' ('channels', 'layout') or export"
            f" again"
        )


def _sizes(node: Any) -> list[int | None] | None:
    """Sizes of a placeholder's tensor, None where the size is free."""
    shape = getattr(node.meta.get("val"), "shape", None)
    return None if shape is None else [size if type(size) is int else None for size in shape]


def _check_eval(program: ExportedProgram, where: str) -> None:
    """Refuse a model exported in training mode: eval() has no effect on it any more."""
    dropout = any(
        str(node.target).startswith("aten.dropout") and True in node.args[2:]
        for node in program.graph.nodes
    )
    if program.graph_signature.buffers_to_mutate or dropout:
        raise InputError(
            f"{where} was exported in training mode; call model.eval() and export it again"
        )


def _checked(content: bytes, path: Path, name: str) -> io.BytesIO:
    """Write an archive of the checked parts of `content`, for torch to load.

    Raises InputError naming the model, the file and what was found in it.
    """
    try:
        return io.BytesIO(_rebuild(content))
    except Refused as error:
        raise InputError(f"model '{name}': {path} {error}") from error
    except ImportError as error:
        raise InputError(
            f"model '{name}': {path} needs torch >= 2.8 to be read; install it"
        ) from error
    except Exception as error:  # a hostile file can make zipfile and json raise anything
        cause = " ".join(f"{error}".split())[:200]
        raise InputError(
            f"model '{name}': {path} is damaged or no torch.export archive ({cause});"
            " fetch it again, or write it with torch.export.save"
        ) from error


def _rebuild(content: bytes) -> bytes:
    from torch.export.pt2_archive._package import PT2ArchiveWriter

    archive = _Archive(content)
    program = exported_guard.copy_program(archive.json("models/model.json"))
    if "data/sample_inputs/model.pt" in archive.members:
        _resaved(archive.read("data/sample_inputs/model.pt"), "sample inputs")
    buffer = io.BytesIO()
    with PT2ArchiveWriter(buffer) as writer:
        for folder in ("weights", "constants"):
            for member, data in _payloads(archive, folder).items():
                writer.write_bytes(member, data)
        writer.write_bytes("models/model.json", json.dumps(program).encode())
        # Empty: torch then knows no sample inputs, and nothing needs them.
        writer.write_bytes("data/sample_inputs/model.pt", b"")
    return buffer.getvalue()


class _Archive:
    """The members of the zip by their name below its root folder."""

    def __init__(self, content: bytes) -> None:
        self.zip = _stored_zip(content, "archive")
        names = self.zip.namelist()
        if "serialized_exported_program.json" in names:
            raise Refused("has the format of torch < 2.8", "export it again with torch >= 2.8")
        root = names[0].split("/")[0] + "/"
        self.members = {name.removeprefix(root): name for name in names}
        for member, name in self.members.items():
            if not name.startswith(root) or not _MEMBER.fullmatch(member):
                kind = "compiled code" if "aotinductor" in name else "an unknown member"
                raise Refused(f"holds {kind}, {name[:80]!a}")
        if "models/model.json" not in self.members:
            raise Refused("is no torch.export archive", "write it with torch.export.save")
        if "byteorder" in self.members and self.read("byteorder") != b"little":
            raise Refused("was not written on a little-endian machine", "export it on one")

    def read(self, member: str) -> bytes:
        if member not in self.members:
            raise Refused(f"lacks its member '{member}'", "fetch the file again")
        return self.zip.read(self.members[member])

    def json(self, member: str) -> Any:
        data = self.read(member)
        if len(data) > _MAX_JSON:
            raise Refused(f"holds {len(data)} bytes of '{member}', at most {_MAX_JSON} are read")
        return json.loads(data.decode("utf-8"))


def _stored_zip(content: bytes, what: str) -> zipfile.ZipFile:
    """Open a zip that cannot take more memory to read than the file has bytes."""
    opened = zipfile.ZipFile(io.BytesIO(content))
    infos = opened.infolist()
    if not infos or len(infos) > _MAX_MEMBERS or len({i.filename for i in infos}) < len(infos):
        raise Refused(f"holds no members, too many, or one twice in its {what}")
    if any(i.compress_type != zipfile.ZIP_STORED or i.file_size != i.compress_size for i in infos):
        raise Refused(f"holds compressed members in its {what}, which torch does not write")
    if sum(info.file_size for info in infos) > len(content):
        raise Refused(f"declares more bytes in its {what} than it has (a zip bomb)")
    return opened


def _payloads(archive: _Archive, folder: str) -> dict[str, bytes]:
    """Members with the tensors of `folder`, and the checked description of them."""
    pickled = f"data/{folder}/model.pt"
    if pickled in archive.members:  # as torch 2.8 wrote them
        return {pickled: _resaved(archive.read(pickled), folder)}
    described = f"data/{folder}/model_{folder}_config.json"
    description = exported_guard.copy_payloads(archive.json(described))
    result: dict[str, bytes] = {}
    for key, meta in description["config"].items():
        if meta["use_pickle"] or meta["tensor_meta"] is None:
            raise Refused(f"holds pickled {folder} ('{key}'), and only plain tensors are loaded")
        member = f"data/{folder}/{meta['path_name']}"
        result[member] = result.get(member) or archive.read(member)
        elements = math.prod(size["as_int"] for size in meta["tensor_meta"]["sizes"])
        if not result[member] and elements:  # torch would allocate what the description says
            raise Refused(f"declares {elements} elements for '{key}' and holds none")
    return result | {described: json.dumps(description).encode()}


def _resaved(data: bytes, what: str) -> bytes:
    """Load a pickle with nothing but tensors allowed, and write it anew."""
    import torch

    if not data:
        return data
    try:
        _stored_zip(data, what)
        loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Refused:
        raise
    except Exception as error:  # a hostile pickle can make the unpickler raise anything
        raise Refused(f"holds pickled {what} that are more than plain tensors") from error
    buffer = io.BytesIO()
    torch.save(loaded, buffer)
    return buffer.getvalue()
