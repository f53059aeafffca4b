"""Paths, files and manifests that no one means to give: one line with the place and the fix."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from conftest import JOB, Result
from PIL import Image
from torch import nn

from depara_bench.config import apply_overrides, read_yaml
from depara_bench.embedded import embedded
from depara_bench.engine.failure import answer
from depara_bench.errors import InputError
from depara_bench.identity import model_identity
from depara_bench.job import load_job
from depara_bench.layers.job import load_layers_job
from depara_bench.loaders import load, weights
from depara_bench.probe import FolderProbe, ListProbe, ParquetProbe, decode, load_probe
from depara_bench.probes import load_probes_job
from depara_bench.sample import sample
from depara_bench.storage import Folder
from depara_bench.truth.table import read_truth
from depara_bench.zoo import InputSpec, PythonSpec, TransformersSpec, find_manifest

Command = Callable[..., Result]
MakeJob = Callable[..., Path]

LONG = "a" * 300
ODD = [LONG, "a\0b", f"{LONG}/b"]


@contextmanager
def refused(*words: str) -> Iterator[None]:
    """An InputError of one line with these words."""
    with pytest.raises(InputError) as caught:
        yield
    message = str(caught.value)
    assert len(message.splitlines()) == 1, message
    for word in words:
        assert word in message, message


@contextmanager
def without_rights(path: Path, left: int = 0) -> Iterator[None]:
    """Nobody may read `path` inside the block, not even the superuser, if that is who tests; or
    only with the rights that are left.
    """
    mode, superuser = path.stat().st_mode, os.geteuid() == 0
    path.chmod(left)
    if superuser:
        os.seteuid(65534)
    try:
        yield
    finally:
        if superuser:
            os.seteuid(0)
        path.chmod(mode)


# --- paths --------------------------------------------------------------------------------------


@pytest.mark.parametrize("odd", ["~nouser/x", "a\0b", LONG])
def test_odd_paths_of_the_other_commands(tmp_path: Path, odd: str):
    """Of a truth, a folder to draw from, layer and probe jobs changed by `--set`."""
    if not odd.startswith("~"):
        with refused("--truth"):
            read_truth(f"{odd}.csv", tmp_path)
        with refused("a"):
            sample(tmp_path / odd, each=1, total=None, seed=0)
    if odd != LONG:
        with refused("--set"):
            load_layers_job("layers-rooms", [f"probe.path={odd}"])
        with refused("--set"):
            load_probes_job("rooms-probes", [f"probes.own.path={odd}"])


def test_a_folder_of_images_that_cannot_be_read():
    """It is named, and not passed over: its images would be missing without a word."""
    with TemporaryDirectory() as name:  # below folders that anybody may read
        place = Path(name)
        place.chmod(0o755)
        for inner in ("open", "closed"):
            (place / inner).mkdir()
            for i in range(3):
                Image.new("RGB", (8, 8)).save(place / inner / f"{i}.png")
        probe = FolderProbe(kind="folder", path=name)
        assert len(load_probe(probe, Path()).ids) == 6
        for mode in (0o000, 0o744):  # not to be listed; to be listed, but not entered
            with without_rights(place / "closed", mode):
                with refused(str(place / "closed"), "Permission denied"):
                    load_probe(probe, Path())
                with refused(str(place / "closed"), "Permission denied"):
                    sample(place, each=None, total=2, seed=0)


def test_a_model_that_ends_the_process_has_failed():
    """`sys.exit()` inside a model is a failure of that model."""
    assert answer(sys.exit, 3).kind == "failed"


@pytest.mark.parametrize("odd", ODD)
def test_a_path_that_none_can_have(command: Command, job: MakeJob, tmp_path: Path, odd: str):
    """Too long, or with a null byte: as the job, the run folder, the zoo, the probe."""
    local, name = ("--engine", "local", "--out"), odd.replace("\0", "\\0")
    changed: list[dict[str, Any]] = [{"zoo": odd}, {"zoo": f"{odd}.yaml"}]
    changed += [{"probe": {"kind": kind, "path": odd}} for kind in ("folder", "list", "parquet")]
    jobs = [job(f"{i}.yaml", **fields) for i, fields in enumerate(changed)]
    for arguments in (
        ("run", odd, *local, tmp_path / "out"),
        ("run", job(), *local, tmp_path / odd),
        ("run", job(), "--set", f'zoo="{name}.yaml"', *local, tmp_path / "out"),
        *(("run", path, *local, tmp_path / "out") for path in jobs),
        ("reduce", tmp_path / odd),
        ("zoo", "show", odd),
    ):
        result = command(*arguments)
        assert result.code == 2, (arguments, result.err)
        assert result.err.count("\n") == 1, result.err


def test_the_home_of_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with refused("--set zoo=~nouser/x.yaml", "check the path"):
        load_job("rooms", ["zoo=~nouser/x.yaml"])
    with refused("--set probe.path=~nouser"):
        load_job("rooms", ["probe={kind: folder, path: ~nouser}"])
    with refused("model 'm'", "~nouser/w.pt"):
        weights.resolve("~nouser/w.pt", tmp_path, "m")
    spec = TransformersSpec(
        name="m",
        loader="transformers",
        architecture="~nouser/x",
        seed=1,
        input=InputSpec(size=8),
        roles=("source",),
    )
    with refused("~nouser/x", "architecture"):
        model_identity(spec, tmp_path)
    monkeypatch.setenv("DEPARA_BENCH_CACHE", "~nouser")
    with refused("DEPARA_BENCH_CACHE"):
        weights.resolve("w.pt", tmp_path, "m", "0" * 64)


@pytest.mark.parametrize("odd", ODD)
def test_weights_at_a_path_that_none_can_have(tmp_path: Path, odd: str):
    with refused("model 'm'", "weights"):
        weights.resolve(odd, tmp_path, "m", "0" * 64)


def test_what_may_not_be_read(tmp_path: Path):
    """A file, or the folder that it is in: every way of reading it tells so."""
    file = tmp_path / "folder" / "file.yaml"
    file.parent.mkdir()
    file.write_text("name: x")
    probe = ListProbe(kind="list", path=str(file))
    Folder(str(tmp_path)).files()  # loads what nobody could
    ways: list[Callable[[], object]] = [
        lambda: weights.file_sha256(file),
        lambda: weights.read_bytes(file, None, "m"),
        lambda: read_yaml(file),
        lambda: load_probe(probe, tmp_path),
        lambda: Folder(str(file.parent)).read(file.name),
        lambda: Folder(str(file.parent)).files(),
    ]
    for way in ways:
        with without_rights(file.parent), refused(str(file.parent), "Permission denied"):
            way()
    for way in ways[:4]:
        with without_rights(file), refused(str(file), "Permission denied"):
            way()
    with without_rights(file.parent), refused("Permission denied"):
        find_manifest(str(file), Path())
    with without_rights(file.parent), refused("Permission denied"):
        weights.resolve(str(file), Path(), "m")


# --- the run folder -----------------------------------------------------------------------------


def test_a_folder_that_cannot_be_read(tmp_path: Path):
    """Files where folders should be and the other way round, and names that are no text."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "run" / "run.json").mkdir(parents=True)
    with refused(f"{tmp_path}/file/run.json", "Not a directory"):
        Folder(str(tmp_path / "file")).read("run.json")
    with refused(f"{tmp_path}/run/run.json"):
        Folder(str(tmp_path / "run")).read("run.json")
    assert Folder(str(tmp_path / "run")).read("other.json") is None
    try:
        Path(os.fsdecode(os.fsencode(tmp_path / "run") + b"/\xff")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system does not take such names")
    with refused(f"{tmp_path}/run", "not UTF-8", "rename"):
        Folder(str(tmp_path / "run")).files()


@pytest.mark.parametrize("uri", ["nowhere://x", "file://[", "file:///a%00b"])
def test_a_uri_that_leads_nowhere(uri: str):
    for use in (Folder(uri).files, lambda: Folder(uri).read("run.json")):
        with refused(uri):
            use()


def test_a_store_that_does_not_answer(monkeypatch: pytest.MonkeyPatch):
    def no_answer(*_: Any) -> Any:
        raise OSError("the store\ndoes not answer")

    store = SimpleNamespace(get_file_info=no_answer, open_input_stream=no_answer)
    monkeypatch.setattr(Folder, "open", lambda _: (store, "bucket"))
    for use in (Folder("s3://bucket").files, lambda: Folder("s3://bucket").read("run.json")):
        with pytest.raises(InputError, match=r"^s3://bucket.*: cannot be read \(the store"):
            use()


def test_commands_on_a_file(command: Command, tmp_path: Path):
    (tmp_path / "file").write_text("x")
    for name in ("reduce", "compare", "report"):
        result = command(name, tmp_path / "file")
        assert result.code == 2 and result.err.count("\n") == 1, result.err


# --- jobs and manifests -------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [3, [1], "abc", True])
def test_arguments_that_are_no_mapping(job: MakeJob, arguments: Any):
    fields = {"methods": ["saliency"], "arguments": arguments}
    with refused("attribution.arguments: must hold 'field: value' lines"):
        load_job(str(job(attribution=fields)))


def _bomb(width: int, height: int) -> list[str]:
    """Lines that unfold to width**height values."""
    lines = [f"x0: &x0 [{', '.join('a' * width)}]"]
    for i in range(1, height):
        lines.append(f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * width)}]")
    return lines


@pytest.mark.parametrize("lines", [_bomb(10, 10), _bomb(8000, 2)])
def test_aliases_that_unfold_to_too_much(tmp_path: Path, lines: list[str]):
    """Deep, or wide; also where the kind of a probe or a loader is expected, and in --set."""
    path, last = tmp_path / "job.yaml", f"*x{len(lines) - 1}"
    for use in (f"probe: {{kind: {last}}}", f"models: [{{name: a, loader: {last}}}]"):
        path.write_text("\n".join([*lines, use]))
        start = time.perf_counter()
        with refused("job.yaml", "aliases", "write the fields out"):
            read_yaml(path)
        assert time.perf_counter() - start < 10
    value = f"{{{', '.join(lines)}, kind: {last}}}"
    with refused("--set", "not a YAML value"):
        apply_overrides({}, [f"probe={value}"])


def test_a_few_aliases_are_read(tmp_path: Path):
    path = tmp_path / "zoo.yaml"
    path.write_text("a: &a {size: 3}\nb: *a\nc: [*a, *a]\n")
    assert read_yaml(path) == {"a": {"size": 3}, "b": {"size": 3}, "c": [{"size": 3}] * 2}


def test_a_long_value_is_quoted_short(job: MakeJob):
    with refused("probe.kind", "choose one of", "..."):
        load_job(str(job(probe={"kind": "x" * 100_000})))
    with pytest.raises(InputError) as caught:
        load_job(str(job(probe={"kind": "x" * 100_000})))
    assert len(str(caught.value)) < 1000


# --- models -------------------------------------------------------------------------------------

LEAVES = {
    "in the function": "import sys\n\ndef make():\n    sys.exit()\n",
    "on import": "raise SystemExit(0)\n",
    "when asked for the function": "def __getattr__(name):\n    raise SystemExit(3)\n",
}


@pytest.mark.parametrize("source", LEAVES.values(), ids=LEAVES)
def test_a_factory_that_exits(tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch):
    name = f"leaves{list(LEAVES.values()).index(source)}"
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.delitem(sys.modules, name, raising=False)
    spec = PythonSpec(
        name="m",
        loader="python",
        factory=f"{name}:make",
        input=InputSpec(size=8),
        roles=("source",),
    )
    with refused("model 'm'", f"{name}:make", "SystemExit"):
        load(spec, tmp_path, allow_code=True)


def test_a_package_that_exits_when_it_is_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "leaving").mkdir()
    (tmp_path / "leaving" / "__init__.py").write_text("raise SystemExit(0)\n")
    monkeypatch.syspath_prepend(tmp_path)
    spec = PythonSpec(
        name="m",
        loader="python",
        factory="leaving.inner:make",
        input=InputSpec(size=8),
        roles=("source",),
    )
    assert model_identity(spec, tmp_path / "elsewhere")["factory"] == "leaving.inner:make"


def test_a_run_of_a_factory_that_exits(command: Command, job: MakeJob, tmp_path: Path):
    content = yaml.safe_load((embedded("zoo", "rooms") / "zoo.yaml").read_text())
    model = {k: content["models"][0][k] for k in ("name", "input", "roles")}
    model |= {"loader": "python", "factory": "sys:exit"}
    manifest = {"name": "z", "models": [model, {**model, "name": "other"}]}
    (tmp_path / "zoo.yaml").write_text(yaml.safe_dump(manifest))
    probe = {**JOB["probe"], "count": 3}  # type: ignore[dict-item]
    path = job(zoo="zoo.yaml", models=None, probe=probe)
    result = command(
        "run", path, "--engine", "local", "--out", tmp_path / "out", "--allow-code", "-q"
    )
    assert result.code == 2 and "SystemExit" in result.err, result.err


WEIGHT = torch.arange(6.0).reshape(2, 3)
ODD_TENSORS = {
    "sparse": WEIGHT.to_sparse(),
    "meta": WEIGHT.to("meta"),
    "complex": WEIGHT.to(torch.complex64),
}


@pytest.mark.parametrize("tensor", ODD_TENSORS.values(), ids=ODD_TENSORS)
def test_tensors_of_other_kinds(tmp_path: Path, tensor: torch.Tensor):
    path, buffer = tmp_path / "w.pt", io.BytesIO()
    torch.save({"weight": tensor, "bias": torch.zeros(2)}, buffer)
    with refused("model 'm'", "w.pt", "plain real numbers", "weight (1 in all)"):
        weights.state_dict(buffer.getvalue(), path, "m")


@pytest.mark.filterwarnings("ignore")
def test_quantized_tensors(tmp_path: Path):
    buffer = io.BytesIO()
    torch.save({"weight": torch.quantize_per_tensor(WEIGHT, 0.1, 0, torch.qint8)}, buffer)
    with refused("plain real numbers"):
        weights.state_dict(buffer.getvalue(), tmp_path / "w.pt", "m")


def test_what_torch_refuses_has_its_cause(tmp_path: Path):
    class Picky(nn.Linear):
        def _load_from_state_dict(self, *arguments: Any) -> None:
            arguments[-1].append("the weight is\nnot to my taste")

    with refused("model 'm'", "w.pt", "not to my taste"):
        weights.fill(
            Picky(3, 2), {"weight": WEIGHT, "bias": torch.zeros(2)}, tmp_path / "w.pt", "m"
        )


def test_a_checkpoint_of_another_pickle_protocol_is_refused_in_one_line(tmp_path: Path):
    buffer = io.BytesIO()
    torch.save({"weight": WEIGHT}, buffer, pickle_protocol=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with refused("model 'm'", "w.pt", "plain tensors"):
            weights.state_dict(buffer.getvalue(), tmp_path / "w.pt", "m")


# --- images -------------------------------------------------------------------------------------


def _png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


NAMES: dict[str, tuple[Any, list[str]]] = {
    "null": (["a", None, "c", "d"], ["image 2 in", "has no name", "''"]),
    "empty": (["a", "b", " ", "d"], ["image 3 in", "has no name", "' '"]),
    "nan": ([1.0, 2.0, 3.0, float("nan")], ["image 4 in", "has no name"]),
    "twice": (["a", "b", "c", "a"], ["images 1 and 4 in", "'a'", "must differ"]),
}


@pytest.mark.parametrize(("names", "words"), NAMES.values(), ids=NAMES)
def test_names_of_images_in_parquet(tmp_path: Path, names: Any, words: list[str]):
    images = [_png(seed) for seed in range(4)]
    pq.write_table(pa.table({"image": images, "id": names}), tmp_path / "p.parquet")
    spec = ParquetProbe(kind="parquet", path="p.parquet", id_column="id")
    with refused("p.parquet", *words):
        load_probe(spec, tmp_path)


def test_names_from_the_column_of_the_images(tmp_path: Path):
    """One column for both is odd, and no reason to fail otherwise than by what it holds."""
    images = [_png(seed) for seed in range(4)]
    pq.write_table(pa.table({"image": images}), tmp_path / "p.parquet")
    spec = ParquetProbe(kind="parquet", path="p.parquet", id_column="image")
    assert load_probe(spec, tmp_path).ids == tuple(map(str, images))


def test_a_list_that_names_an_image_twice(tmp_path: Path):
    for seed, name in enumerate("abc"):
        (tmp_path / f"{name}.png").write_bytes(_png(seed))
    (tmp_path / "list.txt").write_text("a.png\nb.png\n# c.png\nc.png\nb.png\n")
    with refused("list.txt", "images 2 and 4", "'b.png'"):
        load_probe(ListProbe(kind="list", path="list.txt"), tmp_path)


def test_what_is_no_image_is_told_alike_every_time():
    with pytest.raises(ValueError, match=re.escape("is not an image")) as caught:
        decode(b"this is text")
    assert "0x" not in str(caught.value)


REMARKS = """
import io, sys
from PIL import Image
from depara_bench.probe import decode
Image.MAX_IMAGE_PIXELS = 10
for options in ({}, {"transparency": bytes(range(4))}):
    buffer = io.BytesIO()
    Image.new("P", (4, 4)).save(buffer, "PNG", **options)
    decode(buffer.getvalue())
"""


def test_images_are_decoded_in_silence():
    """What Pillow remarks on large images and odd palettes names none of them."""
    found = subprocess.run(
        [sys.executable, "-W", "always", "-c", REMARKS], capture_output=True, text=True, check=True
    )
    assert found.stderr == ""
