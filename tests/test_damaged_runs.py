"""A run folder that was changed since it was written: one line that says which file, never a
traceback; and what an earlier run left is still read.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, Result
from test_compare import QUIET, make_run, record_of, truth_of, truth_rows

from depara_bench import tables
from depara_bench.compare import compare
from depara_bench.record import read_record, write_record
from depara_bench.storage import Folder
from depara_bench.truth.table import write_truth

Command = Callable[..., Result]
Change = Callable[[dict[str, Any]], object]
COMMANDS = ("reduce", "report", "compare")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was compared, with all of its tables, beside the truth."""
    place = tmp_path_factory.mktemp("done")
    folder, truth = make_run(place / "run"), truth_of(truth_rows())
    compare(folder, record_of(folder), truth, QUIET, replicates=0)
    write_truth(truth, place / "truth.csv")
    return place


@pytest.fixture
def run(done: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(done, tmp_path / "done")) / "run"


def call(command: Command, name: str, run: Path) -> Result:
    if name == "compare":
        return command(name, run, "--truth", run.parent / "truth.csv", "--replicates", "0", "-q")
    return command(name, run, *["--engine=local"] * (name == "reduce"), "-q")


def assert_refused(result: Result, *words: str) -> None:
    assert result.code == 2, result.err
    assert result.err.count("\n") == 1 and "Traceback" not in result.err, result.err
    for word in words:
        assert word in result.err, result.err


def edit(run: Path, change: Change) -> None:
    record = json.loads((run / "run.json").read_text())
    change(record)
    (run / "run.json").write_text(json.dumps(record))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_run_as_it_was_written(command: Command, run: Path, name: str) -> None:
    result = call(command, name, run)
    assert result.code == 0, result.err


RECORDS: list[tuple[Change, str]] = [
    (lambda r: r.pop("schema"), "schema"),
    (lambda r: r.update(schema=2), "schema"),
    (lambda r: r.pop("job"), "job"),
    (lambda r: r.update(job=[]), "job"),
    (lambda r: r.pop("zoo"), "zoo"),
    (lambda r: r["zoo"].update(name="\0"), "zoo.name"),
    (lambda r: r["zoo"].update(models={}), "zoo.models"),
    (lambda r: r["zoo"].update(models=["m0"]), "zoo.models.0"),
    (lambda r: r["zoo"]["models"].append(r["zoo"]["models"][0]), "'m0' is there 2 times"),
    (lambda r: r["zoo"]["models"][1].pop("roles"), "zoo.models.1.roles"),
    (lambda r: r["zoo"]["models"][1].update(name="../../m1"), "zoo.models.1.name"),
    (lambda r: r.pop("probe"), "probe"),
    (lambda r: r["probe"].update(count="x"), "probe.count"),
    (lambda r: r["probe"].update(count=10**30), "probe.count"),
    (lambda r: r.pop("seconds"), "seconds"),
    (lambda r: r.update(seconds={"extract": "long"}), "seconds.extract"),
    (lambda r: r.pop("failures"), "failures"),
    (lambda r: r.update(failures=3), "failures"),
    (lambda r: r.update(failures=[3]), "failures.0"),
    (lambda r: r.update(failures=[{"model": "m0"}]), "failures.0.error"),
    (lambda r: r["job"].pop("attribution"), "job.attribution"),
    (lambda r: r["job"]["attribution"].update(methods=[]), "job.attribution.methods"),
    (lambda r: r["job"].pop("edges"), "job.edges"),
    (lambda r: r["job"]["edges"].update(ties="none"), "job.edges.ties"),
    (lambda r: r["job"].update(lambda_=r["job"].pop("lambda")), "job.lambda"),
    (lambda r: r["job"].update({"lambda": float("nan")}), "job.lambda"),
    (lambda r: r["job"].update({"lambda": float("inf")}), "job.lambda"),
    (lambda r: r["job"].pop("block_size"), "job.block_size"),
    (lambda r: r["job"].update(block_size=0), "job.block_size"),
    (lambda r: r["job"].update(methods=None), "job.methods"),
    (lambda r: r["job"].pop("resources"), "job.resources"),
    (lambda r: r["job"].update(probe=3), "job.probe"),
    (lambda r: r.update(zeros={"depara": 3}), "zeros.depara"),
    (lambda r: r.update(attribution_notes={"m0": []}), "attribution_notes.m0"),
    (lambda r: r.update(methods={"depara": {"seconds": "x"}}), "methods.depara.seconds"),
    (lambda r: r.update(versions=3), "versions"),
    (lambda r: r.update(engine="local"), "engine"),
]


@pytest.mark.parametrize(("change", "where"), RECORDS)
def test_a_record_that_is_incomplete_or_wrongly_typed(
    command: Command, run: Path, change: Change, where: str
) -> None:
    edit(run, change)
    for name in COMMANDS:
        assert_refused(call(command, name, run), f"{run}/run.json", "damaged", where, "--fresh")


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "null", "[" * 100_000, "\xff", "1" * 9999])
def test_a_record_that_is_no_object(command: Command, run: Path, content: str) -> None:
    (run / "run.json").write_bytes(content.encode("latin-1"))
    for name in COMMANDS:
        assert_refused(call(command, name, run), f"{run}/run.json", "damaged", "--fresh")


def test_a_name_that_is_no_utf8_is_kept(done: Path, tmp_path: Path) -> None:
    """Such names of image files come from the file system, and stand in `skipped`."""
    record = read_record(Folder(str(done / "run")))
    assert record is not None
    record["probe"]["skipped"] = [{"image": "caf\udce9.jpg", "reason": "is empty"}]
    write_record(Folder(str(tmp_path)), record)
    assert read_record(Folder(str(tmp_path))) == record


TABLES = {
    "affinity.parquet": ("report", "compare"),
    "rankings.parquet": ("report",),
    "evaluation.parquet": ("report",),
    "comparison/differences.parquet": ("report",),
    "comparison/lambda.parquet": ("report",),
    "comparison/probe_count.parquet": ("report",),
    "comparison/fusion.parquet": ("report",),
}


@pytest.mark.parametrize("path", TABLES)
def test_a_table_that_is_none(command: Command, run: Path, path: str) -> None:
    again = "reduce" if path in ("affinity.parquet", "rankings.parquet") else "compare"
    whole = (run / path).read_bytes()
    for content in (b"", b"PAR1", b"junk" * 9, whole[: len(whole) // 2]):
        (run / path).write_bytes(content)
        for name in TABLES[path]:
            assert_refused(call(command, name, run), f"{run}/{path}", "is damaged", again)


@pytest.mark.parametrize("path", TABLES)
def test_a_table_without_one_of_its_columns(command: Command, run: Path, path: str) -> None:
    table = pd.read_parquet(run / path)
    for column in table.columns:
        table.drop(columns=column).to_parquet(run / path)
        for name in TABLES[path]:
            told = f"has no column '{column}'"
            assert_refused(call(command, name, run), f"{run}/{path}", told)


VALUES: list[tuple[str, str, list[object]]] = [
    ("affinity.parquet", "value", ["x", np.inf]),
    ("affinity.parquet", "source", [None]),
    ("rankings.parquet", "value", ["x", -np.inf]),
    ("rankings.parquet", "rank", ["x", None, 0, 1.5]),
    ("evaluation.parquet", "value", ["x", None, np.inf]),
    ("evaluation.parquet", "low", ["x", np.inf]),
    ("evaluation.parquet", "k", ["x", 0, 1.5]),
    ("evaluation.parquet", "metric", [None]),
    ("comparison/differences.parquet", "sentence", [None]),
    ("comparison/lambda.parquet", "lambda", ["x", np.inf]),
    ("comparison/probe_count.parquet", "images", [0, None]),
    ("comparison/probe_count.parquet", "high", [None]),
]


@pytest.mark.parametrize(("path", "column", "values"), VALUES)
def test_a_column_of_other_values(
    command: Command, run: Path, path: str, column: str, values: list[object]
) -> None:
    table = pd.read_parquet(run / path)
    for value in values:
        table.assign(**{column: value}).to_parquet(run / path)
        for name in TABLES[path]:
            assert_refused(call(command, name, run), f"{run}/{path}", f"column '{column}'")


def test_an_affinity_table_without_rows(command: Command, run: Path) -> None:
    pd.read_parquet(run / "affinity.parquet")[:0].to_parquet(run / "affinity.parquet")
    for name in TABLES["affinity.parquet"]:
        assert_refused(call(command, name, run), "affinity.parquet", "holds no pair", "reduce")


def test_text_that_is_no_utf8(run: Path) -> None:
    path = run / "rankings.parquet"
    pd.read_parquet(path).to_parquet(path, compression=None)
    path.write_bytes(path.read_bytes().replace(b"depara", b"dep\xffra"))
    with pytest.raises(tables.InputError, match=r"rankings\.parquet: is damaged"):
        tables.read(Folder(str(run)), "rankings.parquet")


UNFIT: list[tuple[str, Callable[[pd.DataFrame], pd.DataFrame]]] = [
    ("evaluation", lambda t: t.assign(metric="mystery")),
    ("evaluation", lambda t: t.assign(target="m0")),
    ("evaluation", lambda t: t[(t["metric"] != "p@k") | (t["k"] != 3)]),
    ("comparison/lambda", lambda t: t.assign(choice="mystery")),
    ("comparison/probe_count", lambda t: t.assign(metric="mystery")),
]


@pytest.mark.parametrize(("table", "change"), UNFIT)
def test_tables_that_do_not_fit_together(
    command: Command, run: Path, table: str, change: Callable[[pd.DataFrame], pd.DataFrame]
) -> None:
    path = run / f"{table}.parquet"
    change(pd.read_parquet(path)).to_parquet(path)
    assert_refused(
        call(command, "report", run), str(run), "damaged", "'depara-bench compare' again"
    )


@pytest.mark.parametrize("content", ["{", "[]", '{"ties": 3}', "[" * 100_000])
def test_what_is_noted_of_an_evaluation(command: Command, run: Path, content: str) -> None:
    (run / "comparison" / "about.json").write_text(content)
    assert_refused(call(command, "report", run), "comparison/about.json", "damaged", "compare")


@pytest.mark.parametrize("name", ["rooms", "league"])
def test_published_runs_are_read(name: str) -> None:
    folder = Folder(str(ROOT / "reports" / "samples" / name))
    assert read_record(folder) is not None
    for path in TABLES:
        assert tables.read(folder, path) is not None
