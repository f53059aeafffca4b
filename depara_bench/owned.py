"""Which files of a folder are a run's own, and so may be replaced and deleted. All others are the
user's: a run that would have to touch them is refused.
"""

from __future__ import annotations

import re

from depara_bench import record as records
from depara_bench.errors import InputError
from depara_bench.job import Job
from depara_bench.storage import TEMPORARY, Folder

LOCK = ".lock"

_OWN = re.compile(
    r"\.lock|(run|comparison/about)\.json|report\.(html|md)"
    r"|(affinity|rankings|evaluation|labels)\.parquet"
    r"|comparison/(differences|lambda|probe_count|fusion)\.parquet"
    r"|shards/model=[^/]+/block=\d{5,}\.parquet"
    r"|scratch/edges/model=[^/]+\.npy|scratch/methods/[^/]+/model=[^/]+\.npz"
    r"|figures/[^/]+\.svg"
)
_BEING_WRITTEN = re.compile(rf"((?:[^/]+/)*)\.([^/]+)\.\d+{re.escape(TEMPORARY)}")

# What a run that was killed early may have written, run.json of these last.
_FIRST = (LOCK, "labels.parquet", records.PATH)


def is_own(path: str) -> bool:
    """True for what a run writes, and for what a killed process left of writing it."""
    return _OWN.fullmatch(_final(path)) is not None


def is_left_over(path: str) -> bool:
    """True for what a killed process left of writing a file of a run."""
    return _final(path) != path and is_own(path)


def _final(path: str) -> str:
    match = _BEING_WRITTEN.fullmatch(path)
    return match[1] + match[2] if match else path


def check_folder(folder: Folder, job: Job, fresh: bool) -> None:
    """Refuse a folder that holds something else than this job's run (or nothing)."""
    earlier, damaged = None, False
    try:
        earlier = records.read_record(folder)
    except InputError:
        if not fresh:
            raise
        damaged = True
    if earlier is None:
        there = [_final(path) for path in folder.files()]
        strangers = [p for p in there if not (is_own(p) if damaged else p in _FIRST)]
        if strangers:
            raise InputError(
                f"{folder.uri}: holds '{strangers[0]}' and no run; choose an empty folder as --out"
            )
    elif not fresh:
        before, now = ((j.get("name"), j.get("zoo")) for j in (earlier["job"], job.model_dump()))
        if before != now:
            raise InputError(
                f"{folder.uri}: holds the run of job '{before[0]}' on zoo '{before[1]}'; choose"
                f" another --out, or --fresh to delete that run"
            )


def clear(folder: Folder) -> None:
    """Delete what a run has written, and nothing else, from its folder; run.json last, so that
    stopped half-way the folder still holds a run. The lock stays with whoever holds it.
    """
    own = [path for path in folder.files() if is_own(path) and path != LOCK]
    folder.delete(sorted(own, key=lambda path: path == records.PATH))
