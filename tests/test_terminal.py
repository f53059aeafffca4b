"""What commands say where no terminal listens: lines in time, tables whole, nothing when quiet."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import Result
from rich.table import Table

from depara_bench.progress import Tally, span
from depara_bench.terminal import Terminal


class Clock:
    """Seconds, as the test sets them."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_line_at_least_every_thirty_seconds():
    """25 minutes of 1,000 images: what is done, how fast, how long still; one line at the end."""
    clock, lines = Clock(), []
    tally = Tally(
        "extract", 1000, "images", lines.append, detail=lambda: "2 of 5 models", clock=clock
    )
    told = [clock.now]
    for _ in range(1000):
        clock.now += 1.5
        before = len(lines)
        tally.advance(1)
        if len(lines) > before:
            told.append(clock.now)
    assert max(b - a for a, b in pairwise(told)) == 30 and len(lines) == 50
    assert lines[0] == ("extract: 20 of 1,000 images, 2 of 5 models, 0.67 images/s, 24 min left")
    assert tally.last() == "extract: 1,000 images in 25 min, 2 of 5 models, 0.67 images/s"
    assert [span(s) for s in (4.4, 89, 90, 5399, 5400)] == [
        "4 s",
        "89 s",
        "2 min",
        "90 min",
        "1.5 h",
    ]


def test_the_next_line_is_due_in_time_also_where_nothing_gets_done():
    clock, lines = Clock(), []
    tally = Tally("check", 3, "models", lines.append, clock=clock)
    assert tally.wait() == 30
    clock.now += 12
    tally.advance(1)
    assert tally.wait() == 18 and lines == []
    clock.now += 18
    tally.beat()
    assert lines == ["check: 1 of 3 models, 0.033 models/s, 60 s left"] and tally.wait() == 30
    none = Tally("extract", 3, "models", lines.append, since=clock.now - 20, clock=clock)
    clock.now += 10  # 30 s after what was last said
    none.beat()
    assert lines[-1] == "extract: 0 of 3 models, 10 s so far"


def test_a_stage_that_stands_still_is_told(capsys: pytest.CaptureFixture[str]):
    """By a clock of its own: nothing has to advance. One that failed has no last line."""
    terminal = Terminal(every=0.02)
    with terminal.progress("extract", 5, "images") as advance:
        time.sleep(0.3)
        advance(5)
    terminal.say("next")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 3 and lines[0].startswith("extract: 0 of 5 images, ")
    assert lines[-2].startswith("extract: 5 images in ") and lines[-1] == "next"
    with terminal.waiting("probe"):
        time.sleep(0.1)
    assert capsys.readouterr().err.startswith("probe: 0 s so far\n")
    short = Terminal(every=0.1)  # three stages, of which none is long, and all are silent
    for _ in range(3):
        with short.progress("stage", 1, "step"):
            time.sleep(0.06)
    assert "stage: 0 of 1 step, 0 s so far" in capsys.readouterr().err
    failed = Terminal()
    with pytest.raises(KeyError), failed.progress("extract", 5, "images"):
        raise KeyError
    with failed.waiting("probe"), Terminal(quiet=True).progress("reduce", 3, "tasks"):
        pass
    failed.show("result")
    assert capsys.readouterr().err == ""


def test_tables_and_remarks_are_whole_in_a_file(capsys: pytest.CaptureFixture[str]):
    """However long a name is: one row a line."""
    table = Table("model", *(f"column {i}" for i in range(30)), box=None)
    table.add_row("m" * 300, *("value" * 5 for _ in range(30)))
    Terminal().show(table)
    Terminal().say("word " * 100)
    Terminal(quiet=True).show(table)
    written = capsys.readouterr()
    heading, row = written.out.splitlines()
    assert "column 29" in heading and row.split() == ["m" * 300, *["value" * 5] * 30]
    assert len(written.err.splitlines()) == 1


def test_quiet_commands_say_nothing(
    command: Callable[..., Result], job: Callable[..., Path], tmp_path: Path
):
    """Not even where the report is."""
    out = tmp_path / "out"
    truth = tmp_path / "truth.csv"
    names = ("autoencoder", "curvature", "colorization", "rgb2depth")
    rows = [f"{s},{t},{i}" for i, s in enumerate(names) for t in names if s != t]
    truth.write_text("\n".join(["source,target,value", *rows]))
    for words in (
        ["run", job(), "--out", out, "--engine", "local"],
        ["extract", job(), "--out", out, "--engine", "local"],
        ["reduce", out, "--engine", "local"],
        ["compare", out, "--truth", truth, "--replicates", "2"],
        ["report", out],
    ):
        result = command(*words, "-q")
        assert (result.code, result.out, result.err) == (0, "", ""), words
