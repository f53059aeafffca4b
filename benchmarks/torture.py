"""What runs survive: processes killed, signals, damage, full disks and stores that fail, at random.

    python benchmarks/torture.py --minutes 30 --seed 0

Each trial begins a run of a small job, does one thing to it, and gives the same command again until
it ends well. Its tables must then be those of an undisturbed run to the bit, with no process, no
temporary file and no lock of a store left over.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from stores import Store, store  # noqa: E402

from depara_bench.storage import Folder  # noqa: E402

JOB = {
    "name": "torture",
    "zoo": "rooms",
    "models": ["autoencoder", "curvature", "colorization", "rgb2depth"],
    "probe": {"kind": "rooms", "count": 48, "seed": 303},
    "block_size": 4,
    "batch_size": 4,
}
TABLES = ("affinity.parquet", "rankings.parquet")
MARK = "DEPARA_TORTURE"
PATIENCE_S = 240.0
LEAVES_S = 15.0
"""Seconds in which Ray's processes are gone after their driver."""


@dataclass
class Run:
    """A run, as it goes: what it says, and how long it says nothing."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    silence: float = 0.0

    def listen(self) -> None:
        last = time.monotonic()
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip())
            self.silence = max(self.silence, time.monotonic() - last)
            last = time.monotonic()
        self.silence = max(self.silence, time.monotonic() - last)


@dataclass
class Trial:
    """A folder, and how its run is begun."""

    out: str
    job: Path
    engine: str
    random: random.Random
    seconds: float
    """That an undisturbed run takes."""
    store: Store | None = None
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    silence: float = 0.0
    said: list[str] = field(default_factory=list)

    @contextmanager
    def run(self, limit: int | None = None) -> Iterator[subprocess.Popen[str]]:
        """The run, from its start to its end. limit: bytes that it may write to a file."""
        words = ["run", str(self.job), "--engine", self.engine, "--out", self.out]
        process = subprocess.Popen(
            [sys.executable, "-m", "depara_bench", *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=os.environ | {MARK: self.mark, "PYTHONPATH": str(ROOT)},
            preexec_fn=None if limit is None else lambda: _bounded(limit),
        )
        run = Run(process)
        listener = threading.Thread(target=run.listen, daemon=True)
        listener.start()
        try:
            yield process
            process.wait(PATIENCE_S)
        finally:
            if process.poll() is None:
                run.lines.append(f"no end within {PATIENCE_S:.0f} s")
                process.kill()
                process.wait()
            listener.join(LEAVES_S)
            self.silence = max(self.silence, run.silence)
            self.said.append(f"{process.returncode}: {run.lines[-1] if run.lines else ''}")

    def later(self) -> None:
        """Wait for a moment of the run."""
        time.sleep(self.random.uniform(0.0, self.seconds))

    def processes(self, what: str = "") -> list[int]:
        """Those that this trial has brought about, of a kind."""
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            try:
                marked = f"{MARK}={self.mark}".encode() in (place / "environ").read_bytes()
                line = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                dead = ") Z " in (place / "stat").read_text()
            except OSError:
                continue
            if marked and not dead and what in line:
                found.append(int(place.name))
        return sorted(found)


def _bounded(limit: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def kill(what: str) -> Callable[[Trial], None]:
    """Kill, at random, one of the processes whose command line holds `what`."""

    def disturb(trial: Trial) -> None:
        with trial.run() as process:
            trial.later()
            end = time.monotonic() + trial.seconds
            while not (them := trial.processes(what)) and time.monotonic() < end:
                time.sleep(0.05)
            victim = process.pid if what == "depara_bench" else None
            if them or victim:
                _signal(victim or trial.random.choice(them), signal.SIGKILL)

    return disturb


def stop(trial: Trial) -> None:
    with trial.run() as process:
        trial.later()
        _signal(process.pid, trial.random.choice([signal.SIGINT, signal.SIGTERM]))


def _signal(process: int, number: signal.Signals) -> None:
    try:
        os.kill(process, number)
    except ProcessLookupError:
        pass  # it was over already


def damage(trial: Trial) -> None:
    """Flip a bit of a file of a run that is done, or cut the file."""
    with trial.run():
        pass
    out = Path(trial.out)
    kind = trial.random.choice(["shards/**/*.parquet", "*.parquet", "run.json"])
    victim = trial.random.choice(sorted(out.glob(kind)))
    content = bytearray(victim.read_bytes())
    place = trial.random.randrange(len(content))
    if trial.random.random() < 0.5:
        content[place] ^= 1 << trial.random.randrange(8)
    else:
        del content[place:]
    victim.write_bytes(content)
    trial.said.append(f"{victim.relative_to(out)} at {place} of {len(content)}")


def fill(trial: Trial) -> None:
    """No file may grow beyond some size: writing ends as on a full disk."""
    with trial.run(limit=trial.random.choice([0, 1000, 20_000, 60_000, 200_000])):
        pass


def shop(trial: Trial) -> None:
    """The store answers with errors, cuts its answers, or is away for a time."""
    assert trial.store is not None
    fault = trial.random.choice(["500", "503", "cut", "gone"])
    share = trial.random.choice([0.1, 0.3, 1.0])
    begin = trial.random.uniform(0.0, trial.seconds)
    since, lasts = time.monotonic() + begin, trial.random.uniform(1.0, 20.0)

    def faults(_method: str, _path: str) -> str | None:
        now = time.monotonic() - since
        return fault if 0.0 < now < lasts and trial.random.random() < share else None

    trial.store.fault = faults
    trial.said.append(f"{fault}, {share:.0%} of requests for {lasts:.0f} s")
    with trial.run():
        pass
    trial.store.fault = lambda *_: None


CLASSES: dict[str, tuple[str, Callable[[Trial], None]]] = {
    "driver killed, local": ("local", kill("depara_bench")),
    "driver killed, ray": ("ray", kill("depara_bench")),
    "worker killed": ("ray", kill("ray::")),
    "raylet killed": ("ray", kill("raylet/raylet")),
    "gcs killed": ("ray", kill("gcs_server")),
    "signal, local": ("local", stop),
    "signal, ray": ("ray", stop),
    "file damaged": ("local", damage),
    "disk full": ("local", fill),
    "store faulty": ("local", shop),
}


@dataclass
class Row:
    """What came of the trials of a class."""

    trials: int = 0
    at_once: int = 0
    """Went well in spite of it."""
    again: int = 0
    """The same command, given again, went well."""
    failed: int = 0
    other: int = 0
    left: int = 0
    silence: float = 0.0


def settle(trial: Trial, row: Row, calm: dict[str, bytes]) -> list[str]:
    """Give the command again until it goes well; note what is wrong then."""
    wrong = []
    row.trials += 1
    code = int(trial.said[-1].split(":")[0]) if ":" in trial.said[-1][:5] else 1
    row.at_once += code == 0
    tries = 0
    while code != 0 and tries < 5:
        tries += 1
        with trial.run() as process:
            pass
        code = process.returncode
        if code != 0 and "--fresh" in trial.said[-1]:  # it says what has to be done
            shutil.rmtree(trial.out)
    row.again += tries > 0 and code == 0
    if code != 0:
        row.failed += 1
        wrong.append("does not end well")
    folder = Folder(trial.out)
    if code == 0 and any(folder.read(table) != calm[table] for table in TABLES):
        row.other += 1
        wrong.append("other tables")
    left = [path for path in folder.files() if ".tmp" in path or path.startswith("scratch")]
    if trial.store is not None:
        left += [path for path in folder.files() if path == ".lock"]
    end = time.monotonic() + LEAVES_S
    while (alive := trial.processes()) and time.monotonic() < end:
        time.sleep(0.2)
    for process in alive:
        _signal(process, signal.SIGKILL)
    if left or alive:
        row.left += 1
        wrong.append(f"left over: {left} {alive}")
    row.silence = max(row.silence, trial.silence)
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="Rows whose name holds one of these: a,b.", default="")
    options = parser.parse_args()
    draw, end = random.Random(options.seed), time.monotonic() + 60 * options.minutes
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    wanted = options.only.split(",")
    rows = {name: Row() for name in CLASSES if any(part in name for part in wanted)}
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="torture-")))
        job = place / "job.yaml"
        job.write_text(yaml.safe_dump(JOB))
        shelf = stack.enter_context(store("bucket"))
        seconds, calm = {}, {}
        for engine in sorted({CLASSES[name][0] for name in rows}):
            trial = Trial(str(place / f"calm-{engine}"), job, engine, draw, 0.0)
            start = time.monotonic()
            with trial.run():
                pass
            seconds[engine] = time.monotonic() - start
            calm[engine] = {table: Folder(trial.out).read(table) or b"" for table in TABLES}
            print(f"undisturbed, {engine}: {seconds[engine]:.0f} s ({trial.said[-1]})", flush=True)
        assert all(tables == next(iter(calm.values())) for tables in calm.values())
        count = 0
        while time.monotonic() < end:
            for name in rows:
                if time.monotonic() >= end:
                    break
                count += 1
                engine, disturb = CLASSES[name]
                shop_here = shelf if disturb is shop else None
                out = shelf.uri(f"bucket/{count}") if shop_here else str(place / f"run-{count}")
                seed = random.Random(draw.random())
                trial = Trial(out, job, engine, seed, seconds[engine], shop_here)
                disturb(trial)
                wrong = settle(trial, rows[name], calm[engine])
                if wrong:
                    print(f"{count} {name}: {'; '.join(wrong)}\n  " + "\n  ".join(trial.said))
                if not shop_here:
                    shutil.rmtree(out, ignore_errors=True)
    print(table(rows))
    return int(any(row.failed or row.other or row.left for row in rows.values()))


def table(rows: dict[str, Row]) -> str:
    """Markdown."""
    names = ("what", "times", "went on", "again", "failed", "other tables", "left over", "silent s")
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    for name, row in rows.items():
        counts = (row.trials, row.at_once, row.again, row.failed, row.other, row.left)
        lines.append(f"| {name} | " + " | ".join(map(str, counts)) + f" | {row.silence:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
