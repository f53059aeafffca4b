"""What tests share: a small job on the embedded zoo, the command line in this process, one Ray."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest
import yaml

# The same examples every time: a commit passes or fails for what is in it. Others are tried with
# --hypothesis-profile=default.
hypothesis.settings.register_profile("repeatable", derandomize=True)
hypothesis.settings.load_profile("repeatable")

# A few threads are plenty for the little that is computed, and leave the results unchanged.
os.environ.setdefault("OMP_NUM_THREADS", "2")

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


@dataclass(frozen=True)
class Result:
    """What a command left: its exit code and what it wrote."""

    code: int
    out: str
    err: str


@pytest.fixture
def command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """`depara-bench ARGUMENTS` in this process."""
    from depara_bench.cli import main

    def call(*arguments: str | Path) -> Result:
        monkeypatch.setattr("sys.argv", ["depara-bench", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        written = capsys.readouterr()
        return Result(int(stop.value.code or 0), written.out, written.err)

    return call


JOB = {
    "name": "small",
    "zoo": "rooms",
    "models": ["autoencoder", "curvature", "colorization", "rgb2depth"],
    "probe": {"kind": "rooms", "count": 14, "seed": 303},
    "block_size": 4,
    "batch_size": 4,
}


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Path]:
    """A job file on four trained models and 14 scenes, with fields changed as asked."""

    def write(file: str = "job.yaml", /, **fields: object) -> Path:
        path = tmp_path / file
        path.write_text(yaml.safe_dump({**JOB, **fields}))
        return path

    return write


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """The one Ray cluster of the test session."""
    ray = pytest.importorskip("ray")
    import depara_bench.engine.ray  # noqa: F401 - sets Ray's switches before it starts

    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()
