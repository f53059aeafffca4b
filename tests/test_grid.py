"""Maps of models with different input sizes on one grid: area interpolation, and a run of them."""

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
from hypothesis import given, settings
from hypothesis import strategies as st

from depara_bench.extract import to_grid
from depara_bench.job import AttributionSettings, load_job
from depara_bench.plan import make_plan
from depara_bench.storage import Folder
from depara_bench.terminal import Terminal

sides = st.integers(1, 12)


def plain(picture: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Cell by cell, pixel by pixel: the mean over the part of the pixels that lies in the cell."""
    (height, width), (rows, columns) = picture.shape, grid
    result = np.zeros(grid)
    for r in range(rows):
        for c in range(columns):
            top, bottom = r * height / rows, (r + 1) * height / rows
            left, right = c * width / columns, (c + 1) * width / columns
            area = 0.0
            for y in range(height):
                for x in range(width):
                    part = max(0.0, min(bottom, y + 1) - max(top, y))
                    part *= max(0.0, min(right, x + 1) - max(left, x))
                    result[r, c] += part * picture[y, x]
                    area += part
            result[r, c] /= area
    return result


def brought(pictures: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    maps = torch.from_numpy(pictures).flatten(start_dim=1)
    return to_grid(maps, pictures.shape[1:], grid).numpy().reshape(-1, *grid)


@settings(max_examples=60, deadline=None)
@given(sides, sides, sides, sides, st.integers(0, 2**31))
def test_area_interpolation(height: int, width: int, rows: int, columns: int, seed: int) -> None:
    pictures = np.random.default_rng(seed).normal(size=(2, height, width))
    found = brought(pictures, (rows, columns))
    for picture, one in zip(pictures, found, strict=True):
        np.testing.assert_allclose(one, plain(picture, (rows, columns)), atol=1e-12)
    # The mean is kept, and a constant picture.
    np.testing.assert_allclose(found.mean((1, 2)), pictures.mean((1, 2)), atol=1e-12)
    np.testing.assert_allclose(brought(np.full((1, height, width), 3.0), (rows, columns)), 3.0)


def test_as_torch_where_cells_are_whole_pixels() -> None:
    pictures = np.random.default_rng(0).normal(size=(3, 12, 20))
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(pictures)[:, None], size=(4, 5), mode="area"
    )[:, 0]
    np.testing.assert_allclose(brought(pictures, (4, 5)), expected.numpy(), atol=1e-12)
    assert brought(pictures, (12, 20)).tobytes() == pictures.tobytes()


@pytest.fixture
def files(tmp_path: Path) -> Callable[..., Path]:
    """A zoo of the sizes given, all of one architecture, and a job on it."""

    def write(*sizes: int | list[int], **attribution: object) -> Path:
        models = [
            {
                "name": f"m{i}",
                "loader": "torchvision",
                "architecture": "squeezenet1_1",
                "seed": i,
                "embedding": "features.5",
                "input": {"size": size},
                "roles": ["source", "target"],
            }
            for i, size in enumerate(sizes)
        ]
        (tmp_path / "zoo.yaml").write_text(yaml.safe_dump({"name": "z", "models": models}))
        job = {
            "name": "j",
            "zoo": "zoo.yaml",
            "probe": {"kind": "rooms", "count": 4, "seed": 1},
            "attribution": {"methods": ["input_x_gradient"], **attribution},
        }
        (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
        return tmp_path / "job.yaml"

    return write


def keys(job: Path) -> dict[str, str]:
    plan = make_plan(load_job(str(job)), Folder(str(job.parent / "out")), Terminal(quiet=True))
    return dict(plan.keys)


def test_the_grid_is_part_of_a_fingerprint_where_it_changes_a_map(
    files: Callable[..., Path],
) -> None:
    alone = keys(files(40, 40))
    mixed = keys(files(40, 48))
    assert mixed["m0"] == alone["m0"]  # brought to 40 x 40, which its maps have
    assert mixed["m1"] != keys(files(48, 48))["m1"]
    assert keys(files(40, 40, grid=[40, 40])) == alone
    assert keys(files(40, 40, grid=[20, 20]))["m0"] != alone["m0"]
    assert keys(files(40, [36, 48]))["m0"] != alone["m0"]  # brought to 36 x 40


def test_models_of_different_sizes_are_compared(
    files: Callable[..., Path], command: Callable[..., Result], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    job = files(40, [36, 48], 40)
    result = command("run", job, "--out", out, "--engine", "local")
    assert result.code == 0, result.err
    record = json.loads((out / "run.json").read_text())
    assert record["job"]["attribution"]["grid"] == [36, 40]
    assert r"| grid | \[36, 40\] |" in (out / "report.md").read_text()
    widths = {
        len(pd.read_parquet(shard)["input_x_gradient"].iloc[0])
        for shard in (out / "shards").rglob("*.parquet")
    }
    assert widths == {36 * 40}
    table = pd.read_parquet(out / "affinity.parquet")
    nodes = table[table["method"] == "depara-nodes"].set_index(["source", "target"])["value"]
    assert len(nodes) == 9 and np.isfinite(nodes).all()
    again = command("run", job, "--out", out, "--engine", "local")
    assert again.code == 0
    record = json.loads((out / "run.json").read_text())
    assert record["shards"] == {"computed": 0, "reused": 3}


@pytest.mark.parametrize("grid", [[0, 4], [4], 4, [4, 9000], "all"])
def test_a_wrong_grid_is_told(
    files: Callable[..., Path], command: Callable[..., Result], grid: object
) -> None:
    result = command("run", files(40, 40, grid=grid), "--engine", "local")
    assert result.code == 2 and "attribution.grid" in result.err
    assert AttributionSettings().grid is None
