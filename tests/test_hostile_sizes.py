"""Devices, pipes, files that unfold to any size, numbers out of all measure: refused in one line,
before anything is read without end or made of that size.
"""

from __future__ import annotations

import io
import json
import os
import resource
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from test_hostile_inputs import refused
from torch import nn

from depara_bench import memory
from depara_bench.attribution import make_method
from depara_bench.cli.options import exit_for
from depara_bench.config import Strict, read_yaml, validate
from depara_bench.embedded import embedded
from depara_bench.files import read_file
from depara_bench.job import AttributionSettings, load_job
from depara_bench.layers.job import load_layers_job
from depara_bench.loaders import load, weights
from depara_bench.loaders.locate import config_file
from depara_bench.need import check_need
from depara_bench.probe import FolderProbe, ListProbe, NoiseProbe, ParquetProbe, load_probe
from depara_bench.textfile import read_text
from depara_bench.trial import Trial
from depara_bench.truth.pickles import read_numbers
from depara_bench.truth.table import read_truth
from depara_bench.user_tables import read_rows
from depara_bench.zoo import InputSpec, TorchvisionSpec, find_manifest

MakeJob = Callable[..., Path]


# --- what is no file ----------------------------------------------------------------------------


@pytest.fixture(params=["device", "pipe", "socket", "link to a device"])
def odd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A place that is neither a file nor a folder."""
    kind = request.param
    if kind == "device":
        yield Path("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(tmp_path / "pipe")
        yield tmp_path / "pipe"
    elif kind == "socket":
        with TemporaryDirectory() as name, closing(socket.socket(socket.AF_UNIX)) as one:
            one.bind(f"{name}/s")  # a short path, as they must be
            yield Path(name) / "s"
    else:
        (tmp_path / "link").symlink_to("/dev/zero")
        yield tmp_path / "link"


def test_what_is_no_file_is_refused_everywhere(odd: Path, tmp_path: Path):
    ways: dict[str, Callable[[], object]] = {
        "yaml": lambda: read_yaml(odd),
        "job": lambda: load_job(str(odd)),
        "text": lambda: read_text(odd),
        "list": lambda: load_probe(ListProbe(kind="list", path=str(odd)), tmp_path),
        "Parquet": lambda: load_probe(ParquetProbe(kind="parquet", path=str(odd)), tmp_path),
        "table": lambda: read_rows(odd, str(odd), "check it"),
        "pickle": lambda: read_numbers(odd),
        "weights": lambda: weights.resolve(str(odd), tmp_path, "m"),
        "bytes": lambda: weights.read_bytes(odd, None, "m"),
        "hash": lambda: weights.file_sha256(odd),
    }
    for way in ways.values():
        with refused(str(odd), "not a file"):
            way()
    for name in ("t.csv", "t.parquet", "zoo.yaml", "config.json"):
        (tmp_path / name).symlink_to(odd)
    for name in ("t.csv", "t.parquet"):
        with refused(name, "not a file"):
            read_truth(name, tmp_path)
        with refused(name, "not a file"):
            read_rows(tmp_path / name, name, "check it")
    with refused("zoo.yaml", "not a file"):
        find_manifest("zoo.yaml", tmp_path)
    with refused("architecture", "not a file"):
        config_file(str(tmp_path), tmp_path)


def _pictures(folder: Path, count: int = 4) -> list[bytes]:
    contents = []
    for seed in range(count):
        pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}.png")
        contents.append((folder / f"{seed}.png").read_bytes())
    return contents


def test_a_list_that_names_what_is_no_file(odd: Path, tmp_path: Path):
    _pictures(tmp_path)
    (tmp_path / "linked.png").symlink_to("0.png")
    (tmp_path / "l.txt").write_text(f"linked.png\n1.png\n{odd}\n2.png\n")
    with refused(str(odd), "not a file", "l.txt"):
        load_probe(ListProbe(kind="list", path="l.txt"), tmp_path)
    spec = ListProbe(kind="list", path="l.txt", on_error="skip")
    probe = load_probe(spec, tmp_path)
    assert probe.ids == ("linked.png", "1.png", "2.png") and len(probe.skipped) == 1


def test_files_of_absurd_size(tmp_path: Path):
    """Sparse ones, which take no place on the disk."""
    huge = tmp_path / "huge.png"
    with huge.open("wb") as stream:
        stream.truncate(1 << 40)
    _pictures(tmp_path)
    (tmp_path / "l.txt").write_text("0.png\n1.png\n2.png\nhuge.png\n")

    def by_list() -> object:
        return load_probe(ListProbe(kind="list", path="l.txt"), tmp_path)

    for way in (
        by_list,
        lambda: read_yaml(huge),
        lambda: read_text(huge),
        lambda: weights.read_bytes(huge, None, "m"),
        lambda: weights.file_sha256(huge),
        lambda: read_rows(huge, str(huge), "check it"),
        lambda: load_probe(ParquetProbe(kind="parquet", path="huge.png"), tmp_path),
    ):
        with refused("huge.png" if way is not by_list else "l.txt"):
            way()


def test_what_the_system_tells_in_files_without_a_size():
    """Reading goes no further than the size that a file is said to have."""
    assert read_file(Path("/proc/self/status")) == b""


# --- Parquet ------------------------------------------------------------------------------------


def test_nulls_that_take_no_place(tmp_path: Path):
    path = tmp_path / "n.parquet"
    column = pa.chunked_array([pa.nulls(1_000_000, pa.binary())] * 32)
    pq.write_table(pa.table({"image": column, "a": column.cast(pa.string())}), path)
    assert path.stat().st_size < 1_000_000
    with refused("n.parquet", "32,000,000 rows", "probe.count"):
        load_probe(ParquetProbe(kind="parquet", path="n.parquet"), tmp_path)
    with refused("n.parquet", "row 0"):
        load_probe(ParquetProbe(kind="parquet", path="n.parquet", count=100), tmp_path)
    with refused("n.parquet", "cells"):
        read_rows(path, "n.parquet", "check it")


def test_one_value_for_many_rows(tmp_path: Path):
    """A dictionary of one value, which unfolds to 200 GB."""
    values = pa.array([b"\0" * 1_000_000])
    for name, kind in (("b", pa.binary()), ("t", pa.string())):
        one = pa.DictionaryArray.from_arrays(pa.array(np.zeros(200_000, "i4")), values.cast(kind))
        pq.write_table(pa.table({"image": one}), tmp_path / f"{name}.parquet")
    with refused("b.parquet", "is not an image"):
        load_probe(ParquetProbe(kind="parquet", path="b.parquet"), tmp_path)
    with refused("t.parquet", "bytes of cells"):
        read_rows(tmp_path / "t.parquet", "t.parquet", "check it")


def test_pages_that_unfold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    table = pa.table({"image": [b"\0" * 1_000_000] * 50})
    pq.write_table(table, tmp_path / "p.parquet", use_dictionary=False, compression="zstd")
    assert (tmp_path / "p.parquet").stat().st_size < 1_000_000
    monkeypatch.setattr("depara_bench.probe_parquet.available", lambda: 10_000_000)
    with refused("p.parquet", "unfolds to 0.1 GB", "0.0 GB are free"):
        load_probe(ParquetProbe(kind="parquet", path="p.parquet"), tmp_path)


def test_the_first_rows_of_a_file_and_a_column_that_is_no_cell(tmp_path: Path):
    images = _pictures(tmp_path)
    rows = [{"bytes": image, "path": "x"} for image in images]
    table = pa.table({"image": rows, "id": ["a", "b", "c", "d"], "l": [[1], [2], [], None]})
    pq.write_table(table, tmp_path / "p.parquet", row_group_size=2)
    spec = ParquetProbe(kind="parquet", path="p.parquet", id_column="id", count=3)
    probe = load_probe(spec, tmp_path)
    assert probe.ids == ("a", "b", "c")
    assert probe.data.tobytes() == b"".join(images[:3])
    read = read_rows(tmp_path / "p.parquet", "p", "check it")
    assert read.cells == {"id": ["a", "b", "c", "d"]}
    with refused("column 'l' holds list"):
        load_probe(ParquetProbe(kind="parquet", path="p.parquet", id_column="l"), tmp_path)


def test_a_table_of_separators(tmp_path: Path):
    (tmp_path / "t.csv").write_bytes(b"a,b\n" + b"," * 31_000_000)
    with refused("t.csv", "cells", "split it"):
        read_rows(tmp_path / "t.csv", "t.csv", "check it")


# --- numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("block_size", True),
        ("block_size", 3.0),
        ("batch_size", "3"),
        ("probe.count", True),
        ("probe.seed", False),
        ("lambda", True),
        ("lambda", "1.0"),
        ("edges.center", 1),
        ("edges.center", "yes"),
        ("resources.cpus", True),
        ("resources.gpus", True),
        ("attribution.grid", "[true, 3]"),
        ("attribution.arguments", "{saliency: {}, smoothgrad: {samples: true}}"),
    ],
)
def test_what_is_no_number(path: str, value: Any):
    """A switch, a text or 3.0 is no whole number, in a file as in --set."""
    shown = f'"{value}"' if isinstance(value, str) and value[0] not in "[{" else str(value)
    given = [f"{path}={shown.lower() if isinstance(value, bool) else shown}"]
    if "smoothgrad" in shown:
        given.append("attribution.methods=[saliency, smoothgrad]")
    with refused(path.split(".")[0], "not"):
        load_job("rooms", given)


def test_whole_numbers_where_real_ones_are_meant():
    class Some(Strict):
        share: float
        pair: tuple[float, ...]

    assert validate(Some, {"share": 1, "pair": [1, 2.5]}, "f") == Some(share=1.0, pair=(1.0, 2.5))


@pytest.mark.parametrize(
    "given",
    [
        "probe.count=100000000000",
        "probe.size=8192",
        "block_size=100000000000",
        "batch_size=100000000000",
        "resources.cpus=100000000000",
        "resources.workers=100000000000",
        "resources.gpus=1.0e+300",
        "attribution.grid=[8192, 8192]",
        "attribution.methods=[{name: smoothgrad, samples: 100000000000}]",
        "attribution.methods=[{name: integrated_gradients, steps: 100000000000}]",
        "probe={kind: list, path: x, count: 100000000000}",
    ],
)
def test_numbers_out_of_all_measure(given: str):
    with refused(given.partition("=")[0].split(".")[0], "less than or equal"):
        load_job("rooms", [given])


@pytest.mark.parametrize(
    "given",
    ["replicates=100000000000", "measure.epochs.few=100000000000", "training.epochs=100000000000"],
)
def test_numbers_of_a_layer_job_out_of_all_measure(given: str):
    fractions = read_yaml(embedded("jobs", "layers-rooms.yaml"))["measure"]["fractions"]
    with refused("layers-rooms.yaml"):
        load_layers_job("layers-rooms", [given.replace("few", next(iter(fractions)))])


def test_numbers_of_captums_classes():
    pytest.importorskip("captum")
    for arguments in ({"n_steps": 10**11}, {"n_steps": True}, {"n_steps": 2.0}):
        with refused("captum:IntegratedGradients", "n_steps", "must be"):
            make_method("captum_IntegratedGradients", arguments)


def test_inputs_of_models_out_of_all_measure():
    for fields in ({"size": 8192}, {"size": [8, 8192]}, {"size": 8, "resize": 10**9}):
        with refused("size"):
            validate(InputSpec, fields, "zoo.yaml")


def test_a_large_input_is_refused_before_it_is_tried(monkeypatch: pytest.MonkeyPatch):
    spec = TorchvisionSpec(
        name="m",
        loader="torchvision",
        architecture="resnet18",
        seed=0,
        input=InputSpec(size=2048),
        roles=("source",),
    )
    model = load(spec, Path())
    trial = Trial(spec, model, model, AttributionSettings(), "cpu")
    monkeypatch.setattr("depara_bench.need.available", lambda: 1 << 30)
    with refused("model 'm'", "2048 x 2048", "1.1 GB of memory are free", "input.size"):
        check_need(trial)
    monkeypatch.setattr("depara_bench.need.available", lambda: 1 << 40)
    check_need(trial)
    monkeypatch.setattr("depara_bench.need._MOST_FLOPS", {"cpu": 1e11})
    with refused("model 'm'", "operations", "at most 1e+11"):
        check_need(trial)


# --- weights ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_whole_numbers_for_weights(tmp_path: Path, ending: str):
    model, path = nn.Linear(3, 2), tmp_path / f"w.{ending}"
    state = {name: tensor.to(torch.int64) for name, tensor in model.state_dict().items()}
    if ending == "pth":
        buffer = io.BytesIO()
        torch.save(state, buffer)
        path.write_bytes(buffer.getvalue())
    else:
        save_file(state, path)
    held = weights.state_dict(path.read_bytes(), path, "m")
    with refused("model 'm'", "kind of numbers", "weight"):
        weights.fill(model, held, path, "m")


def test_whole_numbers_for_weights_of_transformers(tmp_path: Path):
    transformers = pytest.importorskip("transformers")
    from depara_bench.zoo import TransformersSpec

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = transformers.ViTConfig(
        **sizes, intermediate_size=8, image_size=8, patch_size=4, architectures=["ViTModel"]
    )
    model = transformers.ViTModel(config)
    config.save_pretrained(tmp_path)
    state = {name: tensor.to(torch.int64) for name, tensor in model.state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    spec = TransformersSpec(
        name="m",
        loader="transformers",
        architecture=str(tmp_path),
        weights=str(tmp_path / "w.safetensors"),
        input=InputSpec(size=8),
        roles=("source",),
    )
    with refused("model 'm'", "kind of numbers"):
        load(spec, tmp_path)


def test_a_checkpoint_that_unfolds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Torch writes archives without compression; this one has it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data/0", b"\0" * 20_000_000)
        archive.writestr("w/data.pkl", b"")
    (tmp_path / "w.pth").write_bytes(buffer.getvalue())
    monkeypatch.setattr("depara_bench.loaders.checkpoints.available", lambda: 10_000_000)
    with refused("model 'm'", "w.pth", "unfolds to 0.0 GB"):
        weights.read_bytes(tmp_path / "w.pth", None, "m")


@pytest.mark.parametrize("field", ["num_hidden_layers", "depths"])
def test_a_configuration_of_layers_without_end(tmp_path: Path, field: str):
    pytest.importorskip("transformers")
    from depara_bench.zoo import TransformersSpec

    value: Any = [2, 10**9] if field == "depths" else 10**9
    content = {"model_type": "vit", "inner": {field: value}, field: value}
    (tmp_path / "config.json").write_text(json.dumps(content))
    spec = TransformersSpec(
        name="m",
        loader="transformers",
        architecture=str(tmp_path),
        seed=0,
        input=InputSpec(size=8),
        roles=("source",),
    )
    with refused("model 'm'", "config.json", field, "1,000,000,000"):
        load(spec, tmp_path)


# --- messages -----------------------------------------------------------------------------------


def test_every_message_names_its_field():
    with refused("probe.style", "../x", "plain"):
        load_job("rooms", ["probe.style=../x"])
    with refused("zoo", "/proc/self"):
        find_manifest("/proc/self", Path())
    with refused("probe"):
        load_probe(FolderProbe(kind="folder", path="/proc/self/fdinfo"), Path())


def test_a_models_name_stands_once(capsys: pytest.CaptureFixture[str]):
    failure = {"model": "a", "error": "model 'a': one image does not fit in memory"}
    with pytest.raises(Exception):  # noqa: B017 - typer's own
        exit_for({"failures": [failure]})
    assert capsys.readouterr().err.count("model 'a'") == 1


# --- memory -------------------------------------------------------------------------------------

PEAK = """
import resource, sys
from pathlib import Path
import depara_bench.probe as probe
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = probe.load_probe(probe.{spec}, Path(sys.argv[1]))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(peak * 1024 / len(found.data))
"""


@pytest.mark.parametrize("kind", ["noise", "folder"])
def test_a_probe_is_held_once(tmp_path: Path, kind: str):
    spec = "NoiseProbe(kind='noise', count=100, seed=1, size=1024)"
    if kind == "folder":
        pixels = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), dtype=np.uint8)
        for i in range(60):
            Image.fromarray(pixels).save(tmp_path / f"{i}.bmp")
        spec = "FolderProbe(kind='folder', path='.')"
    done = subprocess.run(
        [sys.executable, "-c", PEAK.format(spec=spec), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(done.stdout) < 1.7


def test_the_memory_that_is_free_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("depara_bench.probe.available", lambda: 1_000)
    _pictures(tmp_path)
    for spec in (
        NoiseProbe(kind="noise", count=3, seed=0, size=16),
        FolderProbe(kind="folder", path="."),
    ):
        with refused("probe", "0.0 GB of memory are free"):
            load_probe(spec, tmp_path)


def test_the_limit_of_a_group_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    files = {
        "proc": "0::/a/b\n",
        "cg/a/memory.max": "5000",
        "cg/a/memory.current": "3000",
        "cg/a/memory.stat": "anon 1\ninactive_file 500\n",
        "cg/a/b/memory.max": "max",
        "cg/a/b/memory.current": "10",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    real = memory._text
    told = tmp_path / "proc"
    monkeypatch.setattr(memory, "_GROUPS", tmp_path / "cg")
    monkeypatch.setattr(memory, "_text", lambda p: real(told if "self" in p.parts else p))
    assert memory.available() == 2500
    monkeypatch.setattr(memory, "_of_groups", lambda: iter(()))
    physical = os.sysconf("SC_PHYS_PAGES") * resource.getpagesize()
    assert 0 < memory.available() < physical
