"""Runs in an object store: moto's server on the loopback interface, and a way to it that breaks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.fs as pafs
import pytest
import yaml
from conftest import JOB, Result

pytest.importorskip("moto.server", reason="moto is not installed: pip install 'moto[server]'")

from stores import Store, free_port, store

from depara_bench import store_lock
from depara_bench.engine.local import LocalEngine
from depara_bench.errors import InputError, RunError
from depara_bench.job import load_job
from depara_bench.lock import locked
from depara_bench.run import run
from depara_bench.storage import Folder, StoreError
from depara_bench.terminal import Terminal

Command = Callable[..., Result]
MakeJob = Callable[..., Path]

KEY, SECRET = "AKIAOFNOBODY", "wJalr+XUtnFEMI/K7MDENG"
KEYS = "AKIAOFNOBODY:wJalr%2BXUtnFEMI%2FK7MDENG@"
TABLES = ("affinity.parquet", "rankings.parquet")


SMALL = {
    "models": ["autoencoder", "curvature", "rgb2depth"],
    "probe": {"kind": "rooms", "count": 8, "seed": 303},
    "block_size": 2,
}


@pytest.fixture
def job(job: MakeJob) -> MakeJob:
    return lambda: job(**SMALL)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """The run that nothing happened to, on a disk."""
    place = tmp_path_factory.mktemp("calm")
    path = place / "job.yaml"
    path.write_text(yaml.safe_dump({**JOB, **SMALL}))
    folder = Folder(str(place / "run"))
    run(load_job(str(path)), folder, LocalEngine(), Terminal(quiet=True))
    return folder


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(store_lock, "SETTLE_S", 0.1)
    monkeypatch.setattr(store_lock, "BEAT_S", 0.3)
    monkeypatch.setattr(store_lock, "STALE_S", 1.2)
    with store("bucket") as found:
        yield found


def contents(folder: Folder) -> dict[str, bytes | None]:
    return {path: folder.read(path) for path in folder.files()}


def test_a_run_in_a_store_is_that_on_a_disk(
    command: Command, job: MakeJob, shop: Store, calm: Folder
):
    out = shop.uri("bucket/my/run", KEYS)
    result = command("run", job(), "--out", out, "--engine", "local", "--verbose")
    assert result.code == 0, result.err
    assert "report: s3://***@bucket/my/run/report.html\n" in result.out
    there = Folder(out)
    assert there.files() == [path for path in calm.files() if path != ".lock"]
    for path in there.files():
        if path.endswith(".parquet"):
            assert there.read(path) == calm.read(path), path
    again = command("run", job(), "--out", out, "--engine", "local")
    assert again.code == 0 and json.loads(there.read("run.json") or b"")["shards"]["computed"] == 0
    for words in (("reduce", out, "--engine", "local"), ("report", out)):
        assert command(*words).code == 0
    assert b"<UploadId>" not in shop.ask("GET", "/bucket?uploads")


def test_a_layers_or_probes_job_goes_below_an_address():
    out = Folder("s3://KEY:SECRET@bucket/run?region=x")
    assert out.below("set").address == "s3://KEY:SECRET@bucket/run/set?region=x"
    assert f"{out.below('set').uri}/report.html" == "s3://***@bucket/run/set/report.html"
    assert Folder("runs/a?b").below("set").address == "runs/a?b/set"


@pytest.mark.parametrize(
    ("address", "told"),
    [
        (f"s3://{KEYS}bucket/run?endpoint_override=127.0.0.1:PORT&scheme=http&region=x",
         "cannot be reached"),
        (f"s3://{KEYS}bucket/run?endpoint_override=no-such-host.invalid&region=x",
         "cannot be reached"),
        (f"s3://{KEY}:{SECRET}@bucket/run", "%2F for /"),
        (f"s3://{KEY}:{SECRET}?@bucket/run", "%2F for /"),
        (f"s3://{KEYS}bucket/run?region=x&session_token={SECRET}", "session_token"),
        (f"s3://{KEYS}/run", "bucket"),
        (f"s4://{KEY}:{SECRET}@bucket/run", "correct it"),
        (f"https://{KEY}:{SECRET}@bucket/run?token={SECRET}", "correct it"),
        (f"gs://{KEYS}bucket/run", "correct it"),
        (f"s3:/{KEY}:{SECRET}@bucket/run", "s3://"),
        (f"s3:{KEY}:{SECRET}@bucket/run", "s3://"),
    ],
)  # fmt: skip
def test_no_secret_is_shown_where_an_address_is_wrong(
    command: Command, job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    address: str, told: str,
):  # fmt: skip
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.chdir(tmp_path)
    path = job()
    address = address.replace("PORT", str(free_port()))
    ways = [("run", path, "--engine", "local", "-v", "--out", address)]
    if "cannot be reached" not in told:  # each takes the client 6 s
        ways += [("report", address), ("run", address), ("zoo", "check", address)]
    for words in ways:
        result = command(*words)
        assert result.code == 2 and result.out == "", result
        if words[:1] == ("run",) and words[-1] == address and len(words) > 2:
            assert told in result.err and "another --out" not in result.err
        assert len(result.err.splitlines()) == 1
        hidden(result.err, tmp_path)


def hidden(text: str, place: Path | None = None) -> None:
    """No secret in a text, nor in any file or name of one below a place."""
    texts = [text]
    for file in sorted(place.rglob("*")) if place is not None else ():
        texts += [str(file), file.read_bytes().decode("latin-1") if file.is_file() else ""]
    for one in texts:
        for secret in (KEY, SECRET, "wJalr", "K7MDENG"):
            assert secret not in one, one


def test_no_secret_is_shown_or_written_by_runs(
    command: Command, job: MakeJob, shop: Store, tmp_path: Path
):
    """Those that go well, meet a store that refuses them, and lose it half-way."""
    out = shop.uri("bucket/run", KEYS)
    told = []

    def refused(method: str, path: str) -> str | None:
        return "403" if "run" in path else None

    def lost(method: str, path: str) -> str | None:
        return "500" if method == "PUT" and "block" in path else None

    for fault, code in ((refused, 2), (lost, 1), (lambda *_: None, 0)):
        shop.fault = fault
        result = command("run", job(), "--out", out, "--engine", "local", "-v")
        assert result.code == code, result
        told.append(result.err)
        hidden(result.out + result.err, tmp_path)
    assert "check the keys" in told[0] and "cannot be reached" in told[1]
    result = command("compare", out, "--replicates", 2)
    assert result.code == 0, result
    hidden(result.out + result.err)
    for path, content in contents(Folder(out)).items():
        hidden(path + (content or b"").decode("latin-1"))


def test_two_runs_with_other_settings_at_once(
    command: Command, job: MakeJob, shop: Store, tmp_path: Path
):
    """One works, the other is refused and says by whom; the tables are those of run.json."""
    out, path = shop.uri("bucket/run"), job()
    words = [sys.executable, "-m", "depara_bench", "run", str(path), "--engine", "local"]
    both = [
        subprocess.Popen(
            [*words, "--set", f"attribution.scalar={scalar}", "--out", out],
            stderr=subprocess.PIPE, text=True,
        )
        for scalar in ("l2norm", "sum")
    ]  # fmt: skip
    errors = [process.communicate(timeout=240)[1] for process in both]
    codes = [process.returncode for process in both]
    assert sorted(codes) in ([0, 2], [0, 0]), errors  # 0 and 0: the second began after the first
    if 2 in codes:
        first, other = both[codes.index(0)], errors[codes.index(2)]
        assert "another depara-bench works in it" in other and f"process {first.pid} on" in other
    alone = tmp_path / "alone"
    scalar = json.loads(Folder(out).read("run.json") or b"")["job"]["attribution"]["scalar"]
    words = ["run", str(path), "--engine", "local", "--set", f"attribution.scalar={scalar}"]
    assert command(*words, "--out", alone).code == 0
    for table in TABLES:
        assert Folder(out).read(table) == (alone / table).read_bytes()


def test_shards_of_another_are_found_before_they_are_compared(
    command: Command, job: MakeJob, shop: Store, monkeypatch: pytest.MonkeyPatch
):
    """Even a run that no lock has held off: its shards lie where this run's were."""
    from depara_bench import pipeline

    out, path = shop.uri("bucket/run"), job()
    extracted = pipeline.extract_stage

    def overtaken(plan, missing, engine, record, terminal):  # type: ignore[no-untyped-def]
        extracted(plan, missing, engine, record, terminal)
        monkeypatch.setattr(pipeline, "extract_stage", extracted)
        other = shop.uri("bucket/other")
        command("extract", path, "--out", other, "--engine", "local", "--set",
                "attribution.scalar=l2norm")  # fmt: skip
        shard = "shards/model=curvature/block=00001.parquet"
        Folder(out).write(shard, Folder(other).read(shard) or b"")

    monkeypatch.setattr(pipeline, "extract_stage", overtaken)
    result = command("run", path, "--out", out, "--engine", "local")
    assert result.code == 1 and "belongs to another model, block or job" in result.err
    assert not set(TABLES) & set(Folder(out).files())


def test_a_lock_is_refused_taken_over_and_given_back(shop: Store):
    folder = Folder(shop.uri("bucket/run"))
    with locked(folder):
        with pytest.raises(InputError, match=f"process {os.getpid()} on .*, since 20"), \
                locked(folder):  # fmt: skip
            pass
        time.sleep(1.5)  # it is renewed, and so still held
        with pytest.raises(InputError, match="another depara-bench"), locked(folder):
            pass
    assert folder.files() == []
    claim = {"token": "t", "host": "elsewhere", "place": "p", "process": 1, "since": "s",
             "holds": True}  # fmt: skip
    folder.write(".lock", json.dumps(claim | {"renewed": time.time()}).encode())
    with pytest.raises(InputError, match="process 1 on elsewhere"), locked(folder):
        pass
    folder.write(".lock", json.dumps(claim | {"renewed": time.time() - 9}).encode())
    with locked(folder):
        pass
    folder.write(".lock", b"damaged")
    with locked(folder):
        pass
    assert folder.files() == []


def test_a_killed_run_here_is_followed_at_once(shop: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(store_lock, "STALE_S", 1000.0)
    code = (
        "import sys, time; from depara_bench.lock import locked; from depara_bench.storage"
        " import Folder\nwith locked(Folder(sys.argv[1])): print('in', flush=True); time.sleep(99)"
    )
    uri = shop.uri("bucket/run")
    with subprocess.Popen([sys.executable, "-c", code, uri], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline()
        with pytest.raises(InputError, match=f"process {process.pid}"), locked(Folder(uri)):
            pass
        process.kill()
    with locked(Folder(uri)):
        pass


def test_one_who_slept_finds_its_lock_taken_over(shop: Store):
    folder = Folder(shop.uri("bucket/run"))
    other = {"token": "t", "host": "elsewhere", "place": "p", "process": 1, "since": "s",
             "holds": True, "renewed": time.time()}  # fmt: skip
    with pytest.raises(RunError, match="took this folder over"), locked(folder):
        folder.write(".lock", json.dumps(other).encode())
        time.sleep(1.0)
    assert folder.files() == [".lock"], "the lock is the other's"
    asks = other | {"holds": False}
    folder.delete([".lock"])
    with locked(folder):  # one who was slow to ask is written over
        folder.write(".lock", json.dumps(asks).encode())
        time.sleep(1.0)
        assert json.loads(folder.read(".lock") or b"")["token"] != "t"


def test_many_who_want_a_lock_at_once(shop: Store):
    folder, inside, most = Folder(shop.uri("bucket/run")), [], []

    def want() -> None:
        try:
            with locked(folder):
                inside.append(1)
                most.append(len(inside))
                time.sleep(1.0)
                inside.pop()
        except InputError:
            pass

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


@pytest.mark.parametrize("fault", ["500", "503", "cut", "gone"])
def test_a_fault_that_passes_is_not_noticed(
    command: Command, job: MakeJob, shop: Store, calm: Folder, fault: str
):
    """Every ninth request goes wrong; the store's client asks again."""
    count = iter(range(10**9))
    out = shop.uri("bucket/run")
    shop.fault = lambda *_: fault if next(count) % 9 == 8 else None
    result = command("run", job(), "--out", out, "--engine", "local")
    shop.fault = lambda *_: None
    if result.code == 1:  # a cut answer may have been of a kind that is not asked for again
        assert "run again" in result.err, result.err
        result = command("run", job(), "--out", out, "--engine", "local")
    assert result.code == 0, result.err
    for table in TABLES:
        assert Folder(out).read(table) == calm.read(table)


def test_an_outage_half_way_says_so_and_the_run_continues(
    command: Command, job: MakeJob, shop: Store, calm: Folder
):
    out, begun = shop.uri("bucket/run"), []

    def fault(method: str, path: str) -> str | None:
        begun.extend([path] if method == "PUT" and "00003.parquet" in path else [])
        return "gone" if begun else None

    shop.fault = fault
    result = command("run", job(), "--out", out, "--engine", "local")
    assert result.code == 1, result
    assert "cannot be reached" in result.err and "another --out" not in result.err
    shop.fault = lambda *_: None
    time.sleep(store_lock.STALE_S)  # the lock could not be given back
    result = command("run", job(), "--out", out, "--engine", "local")
    assert result.code == 0, result.err
    assert json.loads(Folder(out).read("run.json") or b"")["shards"]["reused"] >= 3
    for table in TABLES:
        assert Folder(out).read(table) == calm.read(table)


def test_an_upload_that_fails_publishes_nothing(shop: Store):
    """A large object goes up in parts. That of a part that fails leaves what was there."""
    folder, content = Folder(shop.uri("bucket/run")), os.urandom(12 << 20)
    folder.write("old", b"old")
    for step in ("uploads", "partNumber=2"):
        shop.fault = lambda method, path, step=step: "500" if step in path else None
        with pytest.raises(StoreError, match="cannot be reached"):
            folder.write("new", content)
        assert folder.files() == ["old"]
    with pytest.raises(StoreError):
        folder.write("old", content)
    assert folder.read("old") == b"old"
    shop.fault = lambda *_: None
    folder.write("new", content)
    assert folder.read("new") == content


def test_an_interruption_publishes_a_whole_object_or_none(shop: Store):
    code = """
import os, sys, threading, signal, time
from depara_bench.storage import Folder
folder = Folder(sys.argv[1])
folder.files()
try:
    threading.Timer(float(sys.argv[2]), os.kill, (os.getpid(), signal.SIGINT)).start()
    folder.write("new", bytes(12 << 20))
    time.sleep(1)
except KeyboardInterrupt:
    pass
"""
    folder = Folder(shop.uri("bucket/run"))
    for delay in (0.002, 0.05):
        subprocess.run([sys.executable, "-c", code, shop.uri("bucket/run"), str(delay)], check=True)
        content = folder.read("new")
        assert content is None or len(content) == 12 << 20
        folder.delete(["new"])


def test_a_small_object_is_put_by_one_request(shop: Store):
    """Killed before it or after it, nothing unfinished is left in the store."""
    folder = Folder(shop.uri("bucket/run"))
    folder.write("a", bytes(1000))
    assert [method for method, path in shop.requests if path.endswith("/a")][:1] == ["PUT"]
    assert not any("uploads" in path for _, path in shop.requests)
    filesystem, root = folder.open()
    assert isinstance(filesystem, pafs.S3FileSystem) and root == "bucket/run"
