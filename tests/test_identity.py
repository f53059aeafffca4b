"""A model is what was loaded: the same in every process, never mixed, never stale."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import Result
from torch import nn

from depara_bench.loaders import load
from depara_bench.loaders.digest import digest
from depara_bench.zoo import InputSpec, PythonSpec

Command = Callable[..., Result]

OBJECTS = """
from torch import nn
def objects():
    return nn.Sequential(nn.Conv2d(3, 6, 5, stride=4), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.Flatten())
"""


def write_job(folder: Path, factories: dict[str, str], **fields: object) -> Path:
    """A zoo of Python factories (name: factory) and a job on it, ten scenes in blocks of four."""
    models = [
        {
            "name": name,
            "loader": "python",
            "factory": factory,
            "input": {"size": 32},
            "roles": ["source", "target"],
        }
        for name, factory in factories.items()
    ]
    (folder / "zoo.yaml").write_text(yaml.safe_dump({"name": "mine", "models": models}))
    probe = {"kind": "rooms", "count": 10, "seed": 303, "size": 32}
    job = {"name": "mine", "zoo": "zoo.yaml", "probe": probe, "block_size": 4, **fields}
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    return folder / "job.yaml"


def run(command: Command, job: Path, out: Path, *more: str) -> Result:
    return command("run", job, "--out", out, "--allow-code", "--engine", "local", *more)


def shards(out: Path) -> dict[str, int]:
    found = json.loads((out / "run.json").read_text())["shards"]
    return {key: found[key] for key in ("computed", "reused")}


def values(out: Path) -> np.ndarray:
    return pd.read_parquet(out / "affinity.parquet")["value"].to_numpy()


def spec(factory: str, **fields: object) -> PythonSpec:
    content = {"name": "m", "loader": "python", "factory": factory, "roles": ("source",)}
    return PythonSpec.model_validate({**content, "input": InputSpec(size=32), **fields})


DRAWS = {
    "torch": "w = torch.randn(4, 3, 3, 3)",
    "numpy": "w = torch.tensor(np.random.randn(4, 3, 3, 3), dtype=torch.float32)",
    "random": "w = torch.tensor([random.gauss(0, 1) for _ in range(108)]).view(4, 3, 3, 3)",
    "module": "w = MADE",
    "generator": "w = torch.randn(4, 3, 3, 3, generator=SPENT)",
}
DRAWN = """
import random
import numpy as np, torch
from torch import nn
MADE = torch.randn(4, 3, 3, 3)
SPENT = torch.Generator().manual_seed(5)
def build():
    {draw}
    conv = nn.Conv2d(3, 4, 3)
    conv.weight.data = w
    return conv
"""


@pytest.mark.parametrize("draw", DRAWS)
def test_what_no_file_fills_is_drawn_alike(draw: str, tmp_path: Path) -> None:
    """Whatever was drawn before, by the process or by other models of the same file."""
    (tmp_path / f"drawn_{draw}.py").write_text(DRAWN.format(draw=DRAWS[draw]))
    states = []
    for before in range(3):
        torch.manual_seed(before)
        np.random.seed(before)
        one = spec(f"drawn_{draw}:build")
        model = load(one, tmp_path, allow_code=True)
        states.append(digest(one, model, tmp_path))
        assert torch.initial_seed() == before, "the process draws on as it would have"
    assert len(set(states)) == 1
    if draw not in ("generator",):
        other = spec(f"drawn_{draw}:build", seed=1)
        assert digest(other, load(other, tmp_path, allow_code=True), tmp_path) != states[0]


def test_a_run_and_its_resumed_copy_are_one(command: Command, tmp_path: Path) -> None:
    (tmp_path / "objects_twice.py").write_text(OBJECTS)
    factories = {"objects": "objects_twice:objects", "others": "objects_twice:objects"}
    job = write_job(tmp_path, factories)
    zoo = yaml.safe_load((tmp_path / "zoo.yaml").read_text())
    zoo["models"][1]["seed"] = 7
    (tmp_path / "zoo.yaml").write_text(yaml.safe_dump(zoo))
    one, two = tmp_path / "one", tmp_path / "two"
    for out in (one, two):
        torch.manual_seed(len(out.name) + (out == two))
        assert run(command, job, out).code == 0
    assert (values(one) == values(two)).all()
    assert values(one).min() < 0.99, "two seeds are two networks"
    shard = one / "shards" / "model=objects" / "block=00001.parquet"
    before = shard.read_bytes()
    shard.unlink()
    assert run(command, job, one).code == 0
    assert shards(one) == {"computed": 1, "reused": 5}
    assert shard.read_bytes() == before
    assert (values(one) == values(two)).all()


def test_a_network_that_no_seed_reaches_is_never_mixed(command: Command, tmp_path: Path) -> None:
    (tmp_path / "loose.py").write_text(
        OBJECTS.replace("def objects", "import torch\ndef steady")
        + "def objects():\n    model = steady()\n"
        + "    torch.nn.init.normal_(model[0].weight, generator=torch.Generator())\n"
        + "    model[0].weight.data += int.from_bytes(__import__('os').urandom(2), 'big')\n"
        + "    return model\n"
    )
    job = write_job(tmp_path, {"a": "loose:objects", "b": "loose:steady", "c": "loose:steady"})
    result = run(command, job, tmp_path / "out")
    assert result.code == 1
    assert "model 'a'" in result.err and "draws values anew" in result.err
    assert not list((tmp_path / "out" / "shards").glob("model=a/*"))
    assert "a" not in set(pd.read_parquet(tmp_path / "out" / "affinity.parquet")["source"])


EDITS = {
    "module": ("import nets_m\ndef build(): return nets_m.net()", "nets_m.py"),
    "from": ("from nets_f import net\ndef build(): return net()", "nets_f.py"),
    "inside": ("def build():\n    import nets_i\n    return nets_i.net()", "nets_i.py"),
    "dynamic": (
        "import importlib\ndef build(): return importlib.import_module('nets' + '_d').net()",
        "nets_d.py",
    ),
    "package": ("from .inner.nets import net\ndef build(): return net()", "pack/inner/nets.py"),
    "folder": (
        "import sys, pathlib\nsys.path.insert(0, str(pathlib.Path(__file__).parent / 'lib'))\n"
        "from nets_l import net\ndef build(): return net()",
        "lib/nets_l.py",
    ),
}
NET = """
from torch import nn
class Scaled(nn.Module):
    def forward(self, x):
        return x * {scale} + x.pow(2) * {bend}
def net():
    return nn.Sequential(nn.Conv2d(3, 6, 5, stride=4), Scaled(), nn.Flatten())
"""


@pytest.mark.parametrize("kind", EDITS)
def test_an_edited_module_is_noticed(kind: str, command: Command, tmp_path: Path) -> None:
    """Its weights are the same before and after: the code alone has changed."""
    source, place = EDITS[kind]
    package = kind == "package"
    name = f"pack.models_{kind}" if package else f"models_{kind}"
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    if package:
        (tmp_path / "pack" / "__init__.py").touch()
        (tmp_path / "pack" / "inner" / "__init__.py").touch()
    (tmp_path / f"{name.replace('.', '/')}.py").write_text(source)
    (tmp_path / f"steady_{kind}.py").write_text(OBJECTS)
    path.write_text(NET.format(scale="1.0", bend="0.1"))
    job = write_job(tmp_path, {"a": f"{name}:build", "b": f"steady_{kind}:objects"})
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    assert run(command, job, out).code == 0
    (tmp_path / "unrelated.py").write_text("x = 1\n")
    assert run(command, job, out).code == 0
    assert shards(out) == {"computed": 0, "reused": 6}
    path.write_text(NET.format(scale="2.0", bend="3.0"))
    assert run(command, job, out).code == 0
    assert shards(out) == {"computed": 3, "reused": 3}
    assert run(command, job, fresh).code == 0
    assert (values(out) == values(fresh)).all()


READS = """
import json, pathlib
import torch
from torch import nn
HERE = pathlib.Path(__file__).parent
class Bent(nn.Module):
    def __init__(self, options):
        super().__init__()
        self.options = options
    def forward(self, x):
        return x + x.pow(2) * self.options["bend"][0]
def build():
    conv = nn.Conv2d(3, 6, 5, stride=4)
    conv.load_state_dict(torch.load(HERE / "w.pth"))
    return nn.Sequential(conv, Bent(json.loads((HERE / "options.json").read_text())), nn.Flatten())
"""


@pytest.mark.parametrize("changed", ["weights", "options"])
def test_what_a_factory_reads_is_part_of_the_model(
    changed: str, command: Command, tmp_path: Path
) -> None:
    (tmp_path / f"reads_{changed}.py").write_text(READS)
    (tmp_path / f"still_{changed}.py").write_text(OBJECTS)
    torch.save(nn.Conv2d(3, 6, 5).state_dict(), tmp_path / "w.pth")
    (tmp_path / "options.json").write_text('{"bend": [0.5]}')
    job = write_job(tmp_path, {"a": f"reads_{changed}:build", "b": f"still_{changed}:objects"})
    out = tmp_path / "out"
    assert run(command, job, out).code == 0
    if changed == "weights":
        torch.save(nn.Conv2d(3, 6, 5).state_dict(), tmp_path / "w.pth")
    else:
        (tmp_path / "options.json").write_text('{"bend": [5.0]}')
    assert run(command, job, out).code == 0
    assert shards(out) == {"computed": 3, "reused": 3}


def test_one_model_does_not_change_the_next(command: Command, tmp_path: Path) -> None:
    """Whatever the first does to the process, the second is what it is alone."""
    (tmp_path / "loud.py").write_text(
        "import os, random, sys, torch\nimport numpy as np\n"
        "torch.set_default_dtype(torch.float64)\ntorch.set_grad_enabled(False)\n"
        "os.environ['LOUD'] = '1'\nsys.path.insert(0, '/nowhere')\n" + OBJECTS
    )
    (tmp_path / "quiet.py").write_text(OBJECTS)
    quiet = spec("quiet:objects")
    alone = digest(quiet, load(quiet, tmp_path, allow_code=True), tmp_path)
    loud = load(spec("loud:objects"), tmp_path, allow_code=True)
    assert all(value.dtype == torch.float32 for value in loud.parameters())
    assert torch.get_default_dtype() == torch.float32 and torch.is_grad_enabled()
    assert digest(quiet, load(quiet, tmp_path, allow_code=True), tmp_path) == alone
    import os
    import sys

    assert "LOUD" not in os.environ and "/nowhere" not in sys.path
    job = write_job(tmp_path, {"a": "loud:objects", "b": "quiet:objects"})
    assert run(command, job, tmp_path / "out").code == 0


def test_shards_of_models_that_are_left_out_stay(command: Command, tmp_path: Path) -> None:
    (tmp_path / "kept.py").write_text(OBJECTS)
    job = write_job(tmp_path, {name: "kept:objects" for name in "abcd"})
    out = tmp_path / "out"
    assert run(command, job, out).code == 0
    result = run(command, job, out, "--set", "models=[a, b, c]")
    assert result.code == 0 and "3 shards of models that this job leaves out stay: d" in result.err
    assert json.loads((out / "run.json").read_text())["shards"]["left_out"] == {"d": 3}
    assert set(pd.read_parquet(out / "affinity.parquet")["source"]) == set("abc")
    assert run(command, job, out).code == 0
    assert shards(out) == {"computed": 0, "reused": 12}
    assert "left_out" not in json.loads((out / "run.json").read_text())["shards"]


@pytest.mark.usefixtures("ray_session")
def test_processes_of_a_cluster_build_the_same(command: Command, tmp_path: Path) -> None:
    (tmp_path / "spread.py").write_text(OBJECTS)
    job = write_job(tmp_path, {"a": "spread:objects", "b": "spread:objects"})
    here, there = tmp_path / "here", tmp_path / "there"
    assert run(command, job, here).code == 0
    result = command("run", job, "--out", there, "--allow-code", "--engine", "ray")
    assert result.code == 0, result.err
    assert (values(here) == values(there)).all()


LAZY = """
import torch
from torch import nn
def lazy(): return nn.Sequential(nn.LazyConv2d(4, 3))
def meta():
    with torch.device("meta"):
        return nn.Conv2d(3, 4, 3)
"""


@pytest.mark.parametrize(("factory", "words"), [("lazy", "no shape yet"), ("meta", "no values")])
def test_parameters_without_values_are_told(
    factory: str, words: str, command: Command, tmp_path: Path
) -> None:
    name = f"unfilled_{factory}"
    (tmp_path / f"{name}.py").write_text(LAZY + OBJECTS)
    job = write_job(tmp_path, {"a": f"{name}:{factory}", "b": f"{name}:objects"})
    result = run(command, job, tmp_path / "out")
    assert result.code == 2 and "model 'a'" in result.err and words in result.err
    assert len(result.err.strip().splitlines()) == 1
