"""Every table of a run, and run.json itself, is known by a checksum: a bit that tipped over is one
line or no other value, and the command that makes the file mends it, also after it was killed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Result
from test_compare import QUIET, make_run, record_of, truth_of, truth_rows

from depara_bench import labels, tables
from depara_bench import record as records
from depara_bench.compare import ABOUT, compare
from depara_bench.engine.local import LocalEngine
from depara_bench.errors import InputError, RunError
from depara_bench.layers.report import ACCURACIES, LAYERS
from depara_bench.owned import sweep
from depara_bench.pipeline import check_shards
from depara_bench.report.write import read
from depara_bench.run import reduce_run
from depara_bench.storage import Folder
from depara_bench.tables import encode
from depara_bench.truth.table import write_truth

Command = Callable[..., Result]
FLIPS = 200
OF_RUN = ["affinity.parquet", "rankings.parquet"]
OF_COMPARE = [
    "evaluation.parquet",
    *(f"comparison/{name}.parquet" for name in ("differences", "lambda", "probe_count", "fusion")),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, reduced and compared, with all of its tables noted, beside the truth."""
    place = tmp_path_factory.mktemp("whole")
    folder, truth = make_run(place / "run"), truth_of(truth_rows())
    reduce_run(folder, record_of(folder), LocalEngine(), QUIET)
    compare(folder, need(folder), truth, QUIET, replicates=10)
    write_truth(truth, place / "plain.csv")
    return place


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "whole")) / "run"


def need(folder: Folder) -> dict[str, Any]:
    return records.need_record(folder)


def flips(content: bytes, seed: int, count: int = FLIPS) -> Iterator[bytes]:
    random = np.random.default_rng(seed)
    for place in random.integers(0, 8 * len(content), count):
        changed = bytearray(content)
        changed[place // 8] ^= 1 << (place % 8)
        yield bytes(changed)


@pytest.mark.parametrize("path", [*OF_RUN, *OF_COMPARE])
def test_no_flipped_bit_of_a_table_is_read_as_another_value(run: Path, path: str) -> None:
    folder, record = Folder(str(run)), need(Folder(str(run)))
    for changed in flips((run / path).read_bytes(), seed=1):
        (run / path).write_bytes(changed)
        with pytest.raises(InputError, match="is damaged") as error:
            tables.read(folder, path, record)
        assert "\n" not in str(error.value)


def test_no_flipped_bit_of_run_json_is_read_as_another_value(run: Path) -> None:
    """A space that is left out, or the name of the checksum, changes no value."""
    folder, refused = Folder(str(run)), 0
    before = need(folder)
    for changed in flips((run / "run.json").read_bytes(), seed=2):
        (run / "run.json").write_bytes(changed)
        try:
            found = need(folder)
        except InputError as error:
            assert "run.json: is damaged" in str(error) and "\n" not in str(error)
            refused += 1
        else:
            assert {key: found.get(key) for key in before} == before
    assert refused > FLIPS / 2


def test_one_bit_makes_another_lambda_and_is_found(run: Path) -> None:
    path, text = run / "run.json", (run / "run.json").read_text()
    assert '"lambda": 0.7' in text
    path.write_text(text.replace('"lambda": 0.7', '"lambda": 0.5'))
    for reads in (need, read):
        with pytest.raises(InputError, match=r"damaged.*checksum"):
            reads(Folder(str(run)))


def test_what_is_noted_of_an_evaluation_is_checked(run: Path) -> None:
    text = (run / ABOUT).read_text()
    (run / ABOUT).write_text(text.replace('"replicates": 10', '"replicates": 18'))
    with pytest.raises(InputError, match=r"about\.json: is damaged; run 'depara-bench compare'"):
        read(Folder(str(run)))


def test_labels_are_checked(tmp_path: Path) -> None:
    folder, record = Folder(str(tmp_path)), {"schema": 1}
    classes = labels.Labels(np.arange(12) % 3)
    records.keep(folder, record, {labels.PATH: labels.encode({"a": classes})})
    assert (labels.read(folder, 12, record)["a"].values == classes.values).all()
    for changed in flips((tmp_path / labels.PATH).read_bytes(), seed=3, count=50):
        (tmp_path / labels.PATH).write_bytes(changed)
        with pytest.raises(InputError, match="is damaged"):
            labels.read(folder, 12, record)


@pytest.mark.parametrize("path", ["affinity.parquet", "rankings.parquet", "evaluation.parquet"])
def test_the_command_that_makes_a_table_mends_it(command: Command, run: Path, path: str) -> None:
    before = tables.read(Folder(str(run)), path)
    (run / path).write_bytes(next(flips((run / path).read_bytes(), seed=4)))
    result = command("report", run, "-q")
    assert result.code == 2 and result.err.count("\n") == 1 and path in result.err
    judge = ("compare", run, "--truth", run.parent / "plain.csv", "--replicates", "10", "-q")
    if path != "evaluation.parquet":
        assert "'depara-bench reduce' again" in result.err
        assert command("reduce", run, "--engine=local", "-q").code == 0
    assert command(*judge).code == 0
    assert command("report", run, "-q").code == 0
    after = tables.read(Folder(str(run)), path, need(Folder(str(run))))
    assert before is not None and after is not None
    pd.testing.assert_frame_equal(before, after)


class Killed(Exception):
    """Stands for the end of the process."""


@contextmanager
def killed_at(write: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process ends before its n-th write."""
    done, real = 0, Folder.write

    def counted(folder: Folder, path: str, content: bytes) -> None:
        nonlocal done
        done += 1
        if done > write:
            raise Killed
        real(folder, path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "write", counted)
        try:
            yield
        except Killed:
            return
    pytest.fail(f"it has fewer than {write + 1} writes")


@pytest.mark.parametrize("write", range(10))
def test_killed_in_compare_the_same_command_mends_it(
    run: Path, monkeypatch: pytest.MonkeyPatch, write: int
) -> None:
    """Before run.json, between any two tables, and after the last."""
    folder, truth = Folder(str(run)), truth_of(truth_rows(seed=1))
    with killed_at(write, monkeypatch):
        compare(folder, need(folder), truth, QUIET, replicates=5)
        raise Killed
    read(folder)
    compare(folder, need(folder), truth, QUIET, replicates=5)
    data = read(folder)
    assert data.about["truth"] == truth.name and not data.stale
    assert all(len(noted) == 1 for noted in need(folder)["tables"].values())


@pytest.mark.parametrize("write", range(10, 15))
def test_killed_in_reduce_the_same_command_mends_it(
    run: Path, monkeypatch: pytest.MonkeyPatch, write: int
) -> None:
    """At the last of the ranked models, before run.json, between the tables, and after."""
    folder = Folder(str(run))
    with killed_at(write, monkeypatch):
        reduce_run(folder, need(folder), LocalEngine(), QUIET)
        raise Killed
    reduce_run(folder, need(folder), LocalEngine(), QUIET)
    read(folder)


def test_a_record_of_an_earlier_version_is_read(run: Path) -> None:
    """It notes no checksums; what is made from then on is noted beside."""
    folder, record = Folder(str(run)), json.loads((run / "run.json").read_text())
    for field in ("checksum", "tables"):
        del record[field]
    (run / "run.json").write_text(json.dumps(record))
    assert need(folder) == record
    assert read(folder).evaluation is not None
    records.keep(folder, record, {"rankings.parquet": (run / "rankings.parquet").read_bytes()})
    assert list(need(folder)["tables"]) == ["rankings.parquet"]
    assert read(folder).evaluation is not None


@pytest.mark.parametrize(
    ("count", "size"), [(10_000_000, 1), (10_000_000, 10), (27, 10), (26, 10**30), (20, 13)]
)
def test_counts_are_bounded_by_the_shards_that_are_there(run: Path, count: int, size: int) -> None:
    """In no time, however many shards run.json speaks of."""
    folder, record = Folder(str(run)), need(Folder(str(run)))
    record["probe"]["count"], record["job"]["block_size"] = count, size
    with pytest.raises(RunError, match=r"is missing|belongs to another"):
        check_shards(folder, record, QUIET)


# --- kinds of runs ------------------------------------------------------------------------------


def small_layers(place: Path, old: bool = False) -> Folder:
    folder = Folder(str(place))
    record = {
        "schema": 1, "kind": "layers", "status": "done", "started": "2026-11-23T23:00:00+00:00",
        "finished": "2026-11-23T23:02:00+00:00", "target_layer": "c",
        "job": {"name": "small", "target": "t", "activation": "post", "scalar": "l2norm",
                "channels": "abs", "edges": {"center": True, "ties": "average"},
                "lambda": {"tenth": 1.0}, "measure": {"fractions": {"tenth": 0.1}}},
        "probe": {"count": 3, "kind": "noise"}, "versions": {}, "failures": [], "zeros": {},
        "seconds": {},
    }  # fmt: skip
    rows = [
        (method, "s", layer, depth, None if method != "depara" else "tenth",
         np.nan if method != "depara" else 1.0, depth / 7, 0.0, 1.0)
        for method in ("depara-nodes", "depara-edges", "depara")
        for depth, layer in enumerate(("a", "b", "c"), start=1)
    ]  # fmt: skip
    columns = ["method", "source", "layer", "depth", "fraction", "lambda", "value", "low", "high"]
    table = pd.DataFrame(rows, columns=columns).astype({"depth": "int32"})
    records.keep(folder, record, {LAYERS: encode(table)})
    if old:
        for field in ("kind", "tables"):
            del record[field]
        folder.write("run.json", json.dumps(record).encode())
    return folder


def small_probes(place: Path) -> Folder:
    folder = Folder(str(place))
    record = {
        "schema": 1, "kind": "probes", "status": "done", "finished": "2026-11-23T23:02:00+00:00",
        "job": {"name": "small"}, "failures": [], "thumbnails": {"one": [], "two": []},
    }  # fmt: skip
    bars = ["difference", "difference_low", "difference_high", "joint_low", "joint_high"]
    rows = [("depara", probe, "spearman", None, 0.5, 0.4, 0.6) for probe in ("one", "two")]
    table = pd.DataFrame(
        rows, columns=["method", "probe", "metric", "k", "value", "low", "high"]
    ).assign(**dict.fromkeys(bars, np.nan), sentence="")
    records.keep(folder, record, {"probes.parquet": encode(table.astype({"k": "Int32"}))})
    return folder


KINDS = {
    "layers": small_layers,
    "old layers": lambda place: small_layers(place, old=True),
    "probes": small_probes,
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_report_of_every_kind_is_written_again(
    command: Command, tmp_path: Path, kind: str
) -> None:
    KINDS[kind](tmp_path / "out")
    result = command("report", tmp_path / "out")
    assert result.code == 0, result.err
    first = (tmp_path / "out" / "report.html").read_bytes()
    assert b"small" in first
    assert command("report", tmp_path / "out").code == 0
    assert (tmp_path / "out" / "report.html").read_bytes() == first


@pytest.mark.parametrize("kind", KINDS)
def test_a_command_of_another_kind_says_what_the_folder_holds(
    command: Command, job: Callable[..., Path], tmp_path: Path, kind: str
) -> None:
    out = tmp_path / "out"
    KINDS[kind](out)
    before = {path: path.read_bytes() for path in out.iterdir()}
    short = kind.removeprefix("old ")
    for arguments in (
        ("compare", out), ("reduce", out, "--engine=local"), ("run", job(), "--out", out),
        ("run", job(), "--out", out, "--fresh"), ("extract", job(), "--out", out),
    ):  # fmt: skip
        result = command(*arguments)
        assert result.code == 2 and result.err.count("\n") == 1, result.err
        assert f"'{short}'" in result.err and f"'depara-bench {short}'" in result.err
        assert "damaged" not in result.err
    assert {path: path.read_bytes() for path in out.iterdir() if path.name != ".lock"} == before


@pytest.mark.parametrize("kind", ["layers", "probes"])
def test_a_run_is_not_written_over_by_another_kind(run: Path, kind: records.Kind) -> None:
    with pytest.raises(InputError, match=r"holds a run \(kind 'run'\).*choose another --out"):
        records.read_earlier(Folder(str(run)), kind, LAYERS)


def test_a_damaged_record_of_layers_is_made_anew(tmp_path: Path) -> None:
    folder = small_layers(tmp_path)
    folder.write("run.json", b"{")
    assert records.read_earlier(folder, "layers", LAYERS) == {}
    folder.delete([LAYERS])
    with pytest.raises(InputError, match=r"damaged.*choose another --out"):
        records.read_earlier(folder, "layers", LAYERS)


@pytest.mark.parametrize("kind", ["layers", "probes"])
def test_tables_of_other_kinds_are_checked(command: Command, tmp_path: Path, kind: str) -> None:
    KINDS[kind](tmp_path)
    path = tmp_path / f"{kind}.parquet"
    for changed in flips(path.read_bytes(), seed=5, count=5):
        path.write_bytes(changed)
        result = command("report", tmp_path)
        assert result.code == 2 and result.err.count("\n") == 1, result.err
        assert path.name in result.err and f"'depara-bench {kind}' again" in result.err


def test_names_of_layer_tables_are_known() -> None:
    known = tables._COLUMNS["layers"]
    assert ACCURACIES in known and LAYERS in known


# --- what killed processes leave ----------------------------------------------------------------


def test_what_a_killed_process_left_is_swept_and_nothing_else(command: Command, run: Path) -> None:
    left = [".run.json.1.tmp", ".report.html.22.tmp", "comparison/.lambda.parquet.3.tmp",
            "figures/.tree.svg.4.tmp", "scratch/edges/.model=a.npy.5.tmp",
            "scratch/methods/rsa/.model=a.npz.6.tmp"]  # fmt: skip
    mine = ["notes.tmp", ".mine.1.tmp", "comparison/.my.csv.1.tmp", "deeper/.run.json.1.tmp",
            ".report.html.tmp", "figures/.a.b.svg.x.tmp"]  # fmt: skip
    for path in (*left, *mine):
        (run / path).parent.mkdir(parents=True, exist_ok=True)
        (run / path).write_text("x")
    assert command("report", run, "-q").code == 0
    assert not [path for path in left if (run / path).exists()]
    assert [path for path in mine if (run / path).exists()] == mine


def test_nothing_is_swept_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / ".tree.svg.4.tmp").touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "figures").symlink_to(tmp_path / "elsewhere")
    sweep(Folder(str(tmp_path / "run")))
    assert (tmp_path / "elsewhere" / ".tree.svg.4.tmp").exists()
