"""What a person meets: help that reads well, and every mistake in one line with exit code 2."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import JOB, ROOT, Result

from depara_bench.embedded import embedded

Command = Callable[..., Result]
MakeJob = Callable[..., Path]


@pytest.fixture
def zoo(tmp_path: Path) -> Callable[..., Path]:
    """A manifest of two trained models in tmp_path, changed by a function of its content."""

    def write(change: Callable[[dict[str, Any]], None] = lambda _: None) -> Path:
        folder = embedded("zoo", "rooms")
        content = yaml.safe_load((folder / "zoo.yaml").read_text())
        content["models"] = content["models"][:2]
        (tmp_path / "weights").mkdir(exist_ok=True)
        for model in content["models"]:
            shutil.copy(folder / model["weights"], tmp_path / model["weights"])
        change(content)
        path = tmp_path / "zoo.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return write


def assert_refused(result: Result, *words: str) -> None:
    """One line on stderr with these words, exit 2, nothing on stdout, no traceback."""
    assert result.code == 2, result.err
    assert result.err.count("\n") == 1, result.err
    assert result.err.startswith("depara-bench: ") and "Traceback" not in result.err
    for word in words:
        assert word in result.err, result.err


def test_help_names_every_command(command: Command):
    result = command("--help")
    assert result.code == 0
    for name in ("run", "extract", "reduce", "report", "zoo", "rooms"):
        assert name in result.out
    for name in ("--out", "--set", "--engine", "--address", "--fresh", "--quiet", "--verbose"):
        assert name in command("run", "--help").out


JOB_MISTAKES: list[tuple[dict[str, Any], list[str]]] = [
    ({"lamda": 2}, ["job.yaml", "lamda", "did you mean 'lambda'"]),
    ({"lambda": "big"}, ["job.yaml", "lambda", "number", "'big'"]),
    ({"lambda": float("nan")}, ["job.yaml", "lambda", "finite"]),
    ({"block_size": 0}, ["job.yaml", "block_size"]),
    ({"probe": {"kind": "rooms", "count": 2, "seed": 3}}, ["job.yaml", "probe", "count", "3"]),
    ({"probe": {"kind": "cinema"}}, ["job.yaml", "probe", "rooms", "folder"]),
    ({"zoo": "no-such"}, ["zoo", "no-such"]),
    ({"zoo": "no-such.yaml"}, ["no-such.yaml", "does not exist"]),
    ({"models": ["autoencodr", "curvature"]}, ["models", "autoencodr", "autoencoder"]),
    ({"models": ["colorization", "inpainting_whole"]}, ["role", "target"]),
    ({"attribution": {"methods": ["salency"]}}, ["attribution.methods", "saliency"]),
    ({"attribution": {"scalar": "max"}}, ["attribution.scalar", "sum"]),
    ({"resources": {"cpus": 0}}, ["resources.cpus"]),
    ({"name": "../evil"}, ["job.yaml", "name"]),
]


@pytest.mark.parametrize(("fields", "words"), JOB_MISTAKES)
def test_a_mistake_in_the_job(
    command: Command, job: MakeJob, tmp_path: Path, fields: dict[str, Any], words: list[str]
):
    out = tmp_path / "out"
    assert_refused(command("run", job(**fields), "--out", out, "--engine", "local"), *words)
    assert not out.exists()


def test_a_mistake_on_the_command_line(command: Command, job: MakeJob, tmp_path: Path):
    assert_refused(command("run", "no-such-job"), "no-such-job")
    assert_refused(command("run", tmp_path / "nothing.yaml"), "nothing.yaml")
    assert_refused(command("run", job(), "--set", "probe.count"), "--set", "key=value")
    assert_refused(command("run", job(), "--set", "probe.cont=3"), "probe", "cont", "count")
    assert_refused(command("run", job(), "--engine", "spark"), "engine", "spark", "ray")
    assert_refused(command("run", job(), "--frsh"), "--frsh")
    assert_refused(command("reduce", tmp_path / "no-run"), "no-run", "depara-bench run")
    assert_refused(command("report", tmp_path / "no-run"), "no-run")
    assert_refused(command("zoo", "show", "no-such"), "no-such")


def _set(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        content["models"][1][name] = value

    return change


def _duplicate(content: dict[str, Any]) -> None:
    content["models"][1] = dict(content["models"][0])


def _no_target(content: dict[str, Any]) -> None:
    for model in content["models"]:
        model["roles"] = ["source"]


ZOO_MISTAKES: list[tuple[Callable[[dict[str, Any]], None], list[str]]] = [
    (_set("wieghts", "x"), ["zoo.yaml", "models.1", "wieghts", "weights"]),
    (_set("input", {"size": "big"}), ["zoo.yaml", "size"]),
    (_set("weights", "weights/none.safetensors"), ["curvature", "none.safetensors", "exist"]),
    (_set("sha256", "0" * 64), ["curvature", "SHA-256", "curvature.safetensors"]),
    (_set("embedding", "encodr"), ["curvature", "encodr", "nearest: encoder"]),
    (_set("roles", []), ["models.1", "roles"]),
    (_set("roles", ["teacher"]), ["models.1", "roles", "source"]),
    (_set("loader", "magic"), ["models.1", "rooms", "torchvision"]),
    (_set("task", "no-task"), ["curvature", "no-task"]),
    (_set("task", "class_1000"), ["curvature", "does not fit"]),
    (_duplicate, ["two models", "autoencoder"]),
    (_no_target, ["role", "target"]),
]


@pytest.mark.parametrize(("change", "words"), ZOO_MISTAKES)
def test_a_mistake_in_the_manifest(
    command: Command,
    job: MakeJob,
    zoo: Callable[..., Path],
    tmp_path: Path,
    change: Callable[[dict[str, Any]], None],
    words: list[str],
):
    zoo(change)
    out = tmp_path / "out"
    path = job(zoo="zoo.yaml", models=None)
    assert_refused(command("run", path, "--out", out, "--engine", "local"), *words)
    assert not out.exists(), "something was left behind"


def test_images_that_cannot_be_used(command: Command, job: MakeJob, tmp_path: Path):
    from PIL import Image

    images = tmp_path / "images"
    images.mkdir()
    for i in range(4):
        Image.new("RGB", (20, 30), (i * 60, 9, 9)).save(images / f"{i}.png")
    (images / "2.png").write_bytes((images / "2.png").read_bytes()[:40])
    out = tmp_path / "out"
    probe = {"kind": "folder", "path": "images"}
    result = command("run", job(probe=probe), "--out", out, "--engine", "local")
    assert_refused(result, "2.png", "decoded", "on_error: skip")
    assert not out.exists()
    skip = {**probe, "on_error": "skip"}
    assert command("run", job(probe=skip), "--out", out, "--engine", "local").code == 0
    assert "2.png" in (out / "report.md").read_text()
    (images / "0.png").unlink()
    result = command("run", job(probe=skip), "--out", tmp_path / "two", "--engine", "local")
    assert_refused(result, "2 images", "at least 3")


def test_the_folder_of_another_job(command: Command, job: MakeJob, tmp_path: Path):
    out = tmp_path / "out"
    assert command("run", job(), "--out", out, "--engine", "local").code == 0
    before = (out / "affinity.parquet").read_bytes()
    other = job("other.yaml", name="other", models=["curvature", "rgb2depth"])
    result = command("run", other, "--out", out, "--engine", "local")
    assert_refused(result, str(out), "'small'", "--fresh")
    assert (out / "affinity.parquet").read_bytes() == before
    assert command("run", other, "--out", out, "--engine", "local", "--fresh").code == 0
    assert {p.name for p in (out / "shards").iterdir()} >= {"model=curvature", "model=rgb2depth"}
    assert not list((out / "shards" / "model=autoencoder").glob("*"))


def test_a_folder_that_is_no_run_is_left_alone(command: Command, job: MakeJob, tmp_path: Path):
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "chapter1.tex").write_text("years of work")
    for flags in ([], ["--fresh"]):
        result = command("run", job(), "--out", out, "--engine", "local", *flags)
        assert_refused(result, "chapter1.tex", "empty folder")
    assert (out / "chapter1.tex").read_text() == "years of work"
    assert_refused(command("run", job(), "--out", out / "chapter1.tex"), "is a file")


def test_a_damaged_record_is_told(command: Command, job: MakeJob, tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "run.json").write_text('{"schema": 1, "job"')
    result = command("run", job(), "--out", out, "--engine", "local")
    assert_refused(result, "run.json", "damaged", "--fresh")
    assert command("run", job(), "--out", out, "--engine", "local", "--fresh").code == 0


def test_too_little_space_is_told_before_the_start(
    command: Command, job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100_000))
    out = tmp_path / "out"
    assert_refused(command("run", job(), "--out", out, "--engine", "local"), "no space left", "GB")
    assert not out.exists()


def test_a_disk_that_fills_up_in_mid_run(command: Command, job: MakeJob, tmp_path: Path):
    """A real file system of 1 MB."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a small file system can only be mounted as root")
    try:
        # Bigger than the disk, but not known to be: the check is told the disk is large.
        code = (
            "import shutil; u = shutil.disk_usage('/');"
            "shutil.disk_usage = lambda _: u._replace(free=10**12);"
            "from depara_bench.cli import main; main()"
        )
        result = subprocess.run(
            [
                sys.executable,
                "-c",
                code,
                "run",
                job(probe={**JOB["probe"], "count": 60}),  # type: ignore[dict-item]
                "--out",
                small / "out",
                "--engine",
                "local",
            ],
            capture_output=True,
            text=True,
        )
        assert result.returncode == 1, result.stderr
        assert "no space left" in result.stderr and result.stderr.count("\n") == 1
        assert not list((small / "out").rglob("*.tmp"))
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_factory_runs_only_when_allowed(command: Command, job: MakeJob, tmp_path: Path):
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom torch import nn\nfrom pathlib import Path\n"
        "Path(__file__).with_name('ran').touch()\n"
        "def net():\n"
        "    torch.manual_seed(0)\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 5, stride=4), nn.Tanh(), nn.Flatten())\n"
    )
    entry = {
        "loader": "python",
        "factory": "mine:net",
        "input": {"size": 32},
        "roles": ["source", "target"],
    }
    models = [{"name": "one", **entry}, {"name": "two", "embedding": "0", **entry}]
    (tmp_path / "zoo.yaml").write_text(yaml.safe_dump({"name": "mine", "models": models}))
    path = job(zoo="zoo.yaml", models=None)
    out = tmp_path / "out"
    assert_refused(command("run", path, "--out", out, "--engine", "local"), "one", "--allow-code")
    assert not (tmp_path / "ran").exists() and not out.exists()
    assert command("run", path, "--out", out, "--engine", "local", "--allow-code").code == 0


def test_zoo_list_show_check(command: Command, zoo: Callable[..., Path]):
    assert "rooms" in command("zoo", "list").out
    assert "inpainting_whole" in command("zoo", "show", "rooms").out
    assert command("zoo", "check", zoo()).code == 0
    result = command("zoo", "check", zoo(_set("embedding", "encodr")))
    assert result.code == 2
    assert "right" in result.out and "encodr" in result.out and "1 of 2" in result.err


def test_everything_but_the_ray_engine_works_without_ray(job: MakeJob, tmp_path: Path):
    """A process in which `import ray` fails: the package imports, a local run completes, and
    asking for Ray is one line."""
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.abc, sys\n"
        "class NoRay(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'ray' or name.startswith('ray.'):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}')\n"
        "sys.meta_path.insert(0, NoRay())\n"
    )
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}

    code = (
        "import sys\n"
        "from depara_bench.cli import main\n"
        "for engine in ('local', 'ray'):\n"
        "    sys.argv[-1] = engine\n"
        "    try:\n"
        "        main()\n"
        "    except SystemExit as stop:\n"
        "        print(engine, stop.code, file=sys.stderr)\n"
    )
    words = ["run", job(), "--out", tmp_path / "out", "--quiet", "--engine", ""]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], env=env, capture_output=True, text=True, check=True
    )
    local, refused, ray = done.stderr.splitlines()
    assert (local, ray) == ("local 0", "ray 2"), done.stderr
    assert "Ray is not installed" in refused


def test_rooms_train_trains_and_tells_of_the_gate(command: Command, tmp_path: Path):
    """A network that is trained too little: written, its row shown, and named as below the gate;
    asked again, it is not trained again."""
    out = tmp_path / "zoo"
    arguments = ["rooms", "train", "--out", out, "--tasks", "class_places", "--engine", "local"]
    for field in ("images=64", "epochs=1", "held_out=32"):
        arguments += ["--set", field]
    first = command(*arguments)
    assert (
        first.code == 1 and "class_places" in first.out and "missed the quality gate" in first.err
    )
    weights = out / "weights" / "class_places.safetensors"
    written = weights.stat().st_mtime_ns
    assert command(*arguments).code == 1 and weights.stat().st_mtime_ns == written
    assert_refused(command("rooms", "train", "--set", "epchs=3"), "epchs", "did you mean 'epochs'")
    assert_refused(command("rooms", "train", "--tasks", "depht"), "depht")
