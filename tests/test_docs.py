"""Every command and every Python block of the documentation runs as it stands there."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, Result

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), flags=re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    lines = "\n".join(blocks(page, "sh")).splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith("depara-bench")]


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_league_on_the_methods_page_is_the_committed_one():
    """Every difference and interval under "Is DEPARA beaten?" is that of the report's file."""
    table = pd.read_parquet(
        ROOT / "reports" / "samples" / "league" / "comparison" / "differences.parquet"
    )
    found = {}
    for row in table.itertuples():
        joint, alone = (row.joint_low, row.joint_high), (row.low, row.high)
        found[row.method, row.other, row.metric] = (row.value, *joint, *alone)
        turned = [-end for ends in (joint, alone) for end in reversed(ends)]
        found[row.other, row.method, row.metric] = (-row.value, *turned)
    page = (ROOT / "docs" / "methods.md").read_text().split("## Is DEPARA beaten?")[1]
    rows = re.findall(r"^\| `([\w-]+)` \| [\d.]+ \|(.*)\|(.*)\|(.*)\|$", page, flags=re.MULTILINE)
    columns = (("depara", "spearman"), ("depara-edges", "spearman"), ("depara", "p@5"))
    checked = 0
    for method, *cells in rows:
        for cell, (other, metric) in zip(cells, columns, strict=True):
            if numbers := re.findall(r"[-+]?\d\.\d{3}", cell):
                expected = found[method, other, metric]
                assert np.abs(np.array(numbers, float) - expected).max() < 5.1e-4, (method, cell)
                checked += 1
    assert len(rows) == 6 and checked == 17


def test_make_knows_what_the_readme_says():
    makefile = (ROOT / "Makefile").read_text()
    for line in "\n".join(blocks(ROOT / "README.md", "sh")).splitlines():
        if line.startswith("make "):
            assert re.search(rf"^{line.split()[1]}:", makefile, flags=re.MULTILINE), line


def test_the_commands_of_the_readme(
    command: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """With fewer images and in one process, so that it takes seconds; else to the letter."""
    monkeypatch.chdir(tmp_path)
    found = commands(ROOT / "README.md")
    assert len(found) >= 4
    for words in found:
        if words[1] == "run":
            words = [w for w in words if not w.startswith("probe.count=")]
            words = [w for w in words if w != "--set"]
            words += ["--set", "probe.count=8", "--fresh"]
            if "--engine" not in words:
                words += ["--engine", "local"]
        result = command(*words[1:])
        assert result.code == 0, (words, result.err)
    assert (tmp_path / "my-run" / "report.html").exists()


def test_the_commands_of_the_rooms_page(
    command: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Beside a copy of the trained zoo there is nothing to train, and no byte changes; elsewhere,
    with few scenes."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "zoo" / "rooms", tmp_path / "zoo" / "rooms")
    files = [p for p in (tmp_path / "zoo").rglob("*") if p.is_file()]
    before = {path: path.read_bytes() for path in files}
    full, some = commands(ROOT / "docs" / "rooms.md")
    assert command(*full[1:]).code == 0
    assert {path: path.read_bytes() for path in files} == before
    some = [str(tmp_path / "few") if word.startswith("/") else word for word in some]
    for field in ("images=40", "epochs=1", "held_out=20"):
        some += ["--set", field]
    assert command(*some[1:], "--engine", "local").code in (0, 1)  # 1: below the quality gate
    assert (tmp_path / "few" / "weights" / "denoise.safetensors").exists()


def test_the_tutorial_and_the_reading_of_its_run(
    command: Callable[..., Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    """docs/zoo.md: manifest, job and commands as printed; docs/run-folder.md: its Python block."""
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    manifest, job = blocks(ROOT / "docs" / "zoo.md", "yaml")
    (tmp_path / "zoo.yaml").write_text(manifest)
    (tmp_path / "job.yaml").write_text(job)
    (tmp_path / "photos").mkdir()
    random = np.random.default_rng(0)
    for i in range(4):
        pixels = random.integers(0, 256, (70, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{i}.png")
    for words in commands(ROOT / "docs" / "zoo.md"):
        result = command(*words[1:])
        assert result.code == 0, (words, result.err)
    (block,) = blocks(ROOT / "docs" / "run-folder.md", "python")
    exec(compile(block, "run-folder.md", "exec"), {})
    assert "scenes" in capsys.readouterr().out


def test_the_commands_of_the_truth_page(
    command: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """With few scenes and few transfers; else to the letter."""
    monkeypatch.chdir(tmp_path)
    done = command("run", "--out", "my-run", "--engine", "local", "--set", "probe.count=12")
    assert done.code == 0
    Path("table.csv").write_text("source,target,value\na,b,1\nb,a,2\n")
    small = {
        "compare": ["--replicates", "2"],
        "probes": ["--engine", "local"],
        "measure": ["--engine", "local"],
    }
    for name in ("plain", "foreign", "noise"):
        small["probes"] += ["--set", f"probes.{name}.count=8"]
    for field in (
        "targets=[class_1000]", "sources=[autoencoder, rgb2depth]", "seeds=[0, 1]", "held_out=10",
        "sizes={large: 8, small: 4}", "steps={large: 2, small: 2}",
    ):  # fmt: skip
        small["measure"] += ["--set", field]
    found = commands(ROOT / "docs" / "truth.md")
    assert {words[1] for words in found} == {*small, "truth"}
    for words in found:
        result = command(*words[1:], *small.get(words[1], []))
        assert result.code == 0, (words, result.err)
    assert (tmp_path / "reports" / "measure-rooms" / "large.csv").exists()
    assert (tmp_path / "reports" / "rooms-probes" / "report.html").exists()


def test_the_commands_of_the_methods_page(
    command: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    run, compare = commands(ROOT / "docs" / "methods.md")
    few = [
        "attribution.methods=[input_x_gradient]",
        "probe.count=12",
        "methods=[rsa, h-score, dds-*]",
    ]
    changes = [word for change in few for word in ("--set", change)]
    assert command(*run[1:], *changes, "--engine", "local").code == 0
    result = command(*compare[1:], "--replicates", "2")
    assert result.code == 0, result.err
    assert "## League" in (tmp_path / "reports" / "league" / "report.md").read_text()


def test_add_your_method(
    command: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The page's module, registered as an installed package registers it, in the page's job."""
    import pandas as pd

    page = ROOT / "docs" / "methods.md"
    (module,) = blocks(page, "python")
    assert len(module.splitlines()) <= 30
    (entry,), (job,) = blocks(page, "toml"), blocks(page, "yaml")
    (tmp_path / "my_method.py").write_text(module)
    info = tmp_path / "my_method-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-method\nVersion: 1.0\n")
    group, line = re.search(r'entry-points\."(.*)"\]\n(.*)', entry).groups()
    (info / "entry_points.txt").write_text(f"[{group}]\n{line.replace(chr(34), '')}\n")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "job.yaml").write_text(job)
    out = tmp_path / "out"
    result = command("run", tmp_path / "job.yaml", "--out", out, "--engine", "local")
    assert result.code == 0, result.err
    table = pd.read_parquet(out / "affinity.parquet")
    mine = table[table["method"] == "my-lengths"]
    own = mine[mine["source"] == mine["target"]]
    assert len(mine) == 18 * 20 and np.allclose(own["value"], 1.0)
