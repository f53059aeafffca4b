"""Lists of probe images drawn from a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Result
from PIL import Image

from depara_bench.probe import ListProbe, load_probe
from depara_bench.sample import sample


def fill(folder: Path, **counts: int) -> None:
    for name, count in counts.items():
        (folder / name / "rgb").mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (4, 4), (i, 0, 0)).save(folder / name / "rgb" / f"{i}.png")


def test_so_many_of_each_folder_and_of_all(tmp_path: Path) -> None:
    fill(tmp_path, b=5, a=7)
    (tmp_path / "notes").mkdir()  # without images: not a class
    names = sample(tmp_path, each=3, total=None, seed=0)
    assert [name.split("/")[0] for name in names] == ["a"] * 3 + ["b"] * 3
    assert len(set(names)) == 6 and all((tmp_path / name).is_file() for name in names)
    assert names == sample(tmp_path, each=3, total=None, seed=0)
    assert names != sample(tmp_path, each=3, total=None, seed=1)
    every = sample(tmp_path, each=None, total=12, seed=3)
    assert every == sorted(every) and len(set(every)) == 12
    fill(tmp_path, c=4)  # another folder changes nothing of the first two
    assert sample(tmp_path, each=3, total=None, seed=0)[:6] == names


def test_the_list_is_a_probe(command: Callable[..., Result], tmp_path: Path) -> None:
    fill(tmp_path / "photos", a=4, b=4)
    out = tmp_path / "list.txt"
    result = command("probe-list", tmp_path / "photos", "--each", "2", "--out", out)
    assert result.code == 0 and "4 images" in result.out
    probe = load_probe(ListProbe(kind="list", path="list.txt", root="photos"), tmp_path)
    assert list(probe.ids) == out.read_text().split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--each", "9"], "holds 4 images, 9 are asked for"),
        (["--count", "0"], "0 are asked for"),
        ([], "either --each"),
        (["--each", "1", "--count", "1"], "either --each"),
    ],
)
def test_mistakes_are_one_line(
    command: Callable[..., Result], tmp_path: Path, words: list[str], expected: str
) -> None:
    fill(tmp_path / "photos", a=4)
    out = tmp_path / "list.txt"
    result = command("probe-list", tmp_path / "photos", "--out", out, *words)
    assert result.code == 2 and expected in result.err
    assert len(result.err.strip().splitlines()) == 1 and not out.exists()
    assert command("probe-list", tmp_path / "gone", "--out", out, "--count", "1").code == 2
    beside = command(
        "probe-list", tmp_path / "photos", "--each", "1", "--out", tmp_path / "no" / "l"
    )
    assert beside.code == 2 and "cannot be written" in beside.err
