"""What a worker does before its work: is it where the run's files are?"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Result

from depara_bench import pipeline
from depara_bench.storage import Folder

Command = Callable[..., Result]
MakeJob = Callable[..., Path]


def test_a_machine_without_the_run_folder_is_one_line(
    command: Command, job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another disk under the same path: what stands there is not what the driver wrote."""
    monkeypatch.setattr(pipeline, "file_hash", lambda _content: "of another file")
    result = command("run", job(), "--out", tmp_path / "out", "--engine", "local", "-q")
    assert result.code == 2 and result.err.count("\n") == 1, result.err
    assert "does not see the run folder" in result.err and "all machines share" in result.err
    monkeypatch.undo()
    assert command("run", job(), "--out", tmp_path / "out", "--engine", "local").code == 0


def test_a_folder_that_is_sent_elsewhere_is_told_by_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sent = pickle.dumps(Folder("reports/x"))
    monkeypatch.chdir("/")
    assert pickle.loads(sent).local == tmp_path / "reports" / "x"
    assert pickle.loads(pickle.dumps(Folder("s3://bucket/run"))).address == "s3://bucket/run"
