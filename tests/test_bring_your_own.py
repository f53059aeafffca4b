"""docs/bring-your-own.md as it stands: its files written, its commands run, one after the other."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import ROOT, Result
from PIL import Image

PAGE = (ROOT / "docs" / "bring-your-own.md").read_text()

Command = Callable[..., Result]


def block(language: str, index: int = 0) -> str:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)[index]


def test_the_tutorial(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "models", raising=False)
    Path("zoo.yaml").write_text(block("yaml", 0))
    Path("job.yaml").write_text(block("yaml", 1))
    Path("models.py").write_text(block("python"))
    Path("truth.csv").write_text(block("csv"))
    Path("photos").mkdir()
    random = np.random.default_rng(0)
    for i in range(4):
        pixels = random.integers(0, 256, (120, 150, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(f"photos/{i}.png")
    lines = re.findall(r"^depara-bench .*", PAGE, flags=re.MULTILINE)
    assert [line.split()[1] for line in lines] == ["zoo", "run", "compare"]
    for line in lines:
        more = ["--engine", "local"] if " run " in line else []
        result = command(*shlex.split(line)[1:], *more)
        assert result.code == 0, result.err
    record = json.loads(Path("my-run/run.json").read_text())
    assert record["job"]["attribution"]["grid"] == [96, 96]  # as the page says
    sys.modules.pop("models", None)


def test_a_manifest_to_start_from(command: Command, tmp_path: Path) -> None:
    """The page's command; then what it wrote, edited to one network on small images, is checked."""
    (line,) = re.findall(r"`depara-bench (zoo init .*?)`", PAGE)
    out = tmp_path / "zoo.yaml"
    words = [str(out) if word == "zoo.yaml" else word for word in shlex.split(line)]
    result = command(*words)
    assert result.code == 0, result.err
    content = yaml.safe_load(out.read_text())
    names = [model["name"] for model in content["models"]]
    assert names == ["resnet101", "resnet152", "resnet18", "resnet34", "resnet50"]
    assert result.out.strip().endswith("zoo.yaml: 5 models")
    first = content["models"][2]
    assert first["input"] == {
        "size": 224, "resize": 256,
        "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
    }  # fmt: skip
    assert first["embedding"] == "avgpool" and first["seed"] == 2
    content["models"] = content["models"][2:3]
    content["models"][0]["input"] = {"size": 64}
    out.write_text(yaml.safe_dump(content))
    checked = command("zoo", "check", out, "--methods", "saliency")
    assert checked.code == 0 and "512" in checked.out, checked.err
    assert "is there already; choose another --out" in command(*words).err


def test_what_no_manifest_is_written_of(command: Command, tmp_path: Path) -> None:
    init = ("zoo", "init", "--from", "torchvision", "--out")
    wrong = command(*init, tmp_path / "a.yaml", "--match", "resnt18*")
    assert wrong.code == 2 and "torchvision has no such model; nearest: resnet18" in wrong.err
    assert "a manifest ends in .yaml" in command(*init, tmp_path / "a.txt").err
    nowhere = command(*init, tmp_path / "no" / "a.yaml", "--match", "resnet18")
    assert nowhere.code == 2 and "cannot be written" in nowhere.err
    assert command("zoo", "init", "--from", "keras", "--out", tmp_path / "a.yaml").code == 2


def test_a_manifest_of_timm(command: Command, tmp_path: Path) -> None:
    pytest.importorskip("timm")
    out = tmp_path / "mine.yaml"
    result = command("zoo", "init", "--from", "timm", "--match", "test_vi*", "--out", out)
    assert result.code == 0, result.err
    content = yaml.safe_load(out.read_text())
    assert content["name"] == "mine" and content["models"][0]["name"] == "test_vit"
    assert "embedding" not in content["models"][0]
    content["models"] = content["models"][:1]
    out.write_text(yaml.safe_dump(content))
    checked = command("zoo", "check", out, "--methods", "lrp_epsilon")
    assert checked.code == 0, checked.err
    assert "test_vit: lrp_epsilon has no rule for model (add), " in checked.out
    assert " more" in checked.out
    assert "--methods: methods" in command("zoo", "check", out, "--methods", "lrp").err


@pytest.mark.parametrize(
    ("architecture", "module"),
    [("vgg11", "classifier.4"), ("densenet121", "features.norm5"), ("vit_b_16", "encoder.ln"),
     ("squeezenet1_1", None), ("regnet_y_400mf", None)],
)  # fmt: skip
def test_the_module_before_the_head(architecture: str, module: str | None) -> None:
    from depara_bench.init import before_head

    assert before_head(architecture, 224) == module


def test_the_embedded_job_of_torchvision() -> None:
    from depara_bench.job import load_job
    from depara_bench.loaders.torchvision import published
    from depara_bench.zoo import find_manifest, load_zoo

    assert load_job("torchvision").job.zoo == "torchvision"
    models = load_zoo(find_manifest("torchvision", Path())).models
    assert len(models) == 10 and len({m.input.height_width for m in models}) == 2
    for model in models:
        assert published(model.architecture, "here").transforms().crop_size == [model.input.size]
