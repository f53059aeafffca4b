"""The samples that are kept in git are apart from where runs write: a run changes no kept file."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, Result


def git(*arguments: str) -> list[str]:
    found = subprocess.run(
        ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False
    )
    return found.stdout.splitlines()


pytestmark = pytest.mark.skipif(
    shutil.which("git") is None or git("rev-parse", "--show-toplevel") != [str(ROOT)],
    reason="no git, or not a checkout",
)


def test_all_that_is_kept_of_reports_is_a_sample():
    kept = git("ls-files", "reports")
    assert len(kept) > 40
    assert [path for path in kept if not path.startswith("reports/samples/")] == []


def test_what_the_main_job_writes_is_ignored(
    command: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Every file of a run in an empty folder, at its place in a checkout."""
    monkeypatch.chdir(tmp_path)
    done = command("run", "--engine", "local", "--set", "probe.count=8")
    assert done.code == 0, done.err
    written = [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()]
    assert "reports/rooms/run.json" in written and "reports/rooms/report.html" in written
    assert set(git("check-ignore", *written)) == set(written)


@pytest.mark.parametrize("job", sorted((ROOT / "jobs").glob("*.yaml")), ids=lambda path: path.stem)
def test_no_job_writes_into_a_sample(job: Path):
    name = yaml.safe_load(job.read_text()).get("name", job.stem)
    for folder in (name, f"{name}-measure", f"{name}-train"):
        path = f"reports/{folder}/run.json"
        assert git("check-ignore", path) == [path]


def test_the_large_files_of_a_sample_stay_out():
    for path in (
        "rooms/shards/model=a/block=00000.parquet",
        "rooms/scratch/edges/model=a.npy",
        "rooms/labels.parquet",
        "league/.lock",
        "rooms-probes/plain/shards/model=a/block=00000.parquet",
    ):
        assert git("check-ignore", f"reports/samples/{path}") == [f"reports/samples/{path}"]
    assert git("check-ignore", "reports/samples/new/affinity.parquet") == []
