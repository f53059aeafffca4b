"""Which files of a folder are a run's own, and so may be replaced and deleted. All others are the
user's: a run that would have to touch them is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from depara_bench import record as records
from depara_bench.errors import InputError
from depara_bench.job import Job
from depara_bench.storage import TEMPORARY, Folder
from depara_bench.zoo import Zoo

LOCK = ".lock"

_OWN = re.compile(
    r"\.lock|(run|comparison/about)\.json|report\.(html|md)"
    r"|(affinity|rankings|evaluation|labels)\.parquet"
    r"|comparison/(differences|lambda|probe_count|fusion)\.parquet"
    r"|shards/model=[^/]+/block=\d{5,}\.parquet"
    r"|scratch/edges/model=[^/]+\.npy|scratch/methods/[^/]+/model=[^/]+\.npz"
    r"|figures/[^/]+\.svg"
)
# What other commands write, of which no run is cleared.
_OF_OTHERS = re.compile(
    r"(layers|lambda|accuracies|probes|losses|wins)\.parquet"
    r"|(accuracy|splits|training|summary|quality)\.csv|(default|accuracy|training|zoo)\.yaml"
)
_BEING_WRITTEN = re.compile(rf"((?:[^/]+/)*)\.([^/]+)\.\d+{re.escape(TEMPORARY)}")

# What a run that was killed early may have written, run.json of these last.
_FIRST = (LOCK, "labels.parquet", records.PATH)


def is_own(path: str) -> bool:
    """True for what a run writes, and for what a killed process left of writing it."""
    return _OWN.fullmatch(_final(path)) is not None


def is_left_over(path: str) -> bool:
    """True for what a killed process left of writing a file of ours."""
    final = _final(path)
    return final != path and (is_own(path) or _OF_OTHERS.fullmatch(final) is not None)


def _final(path: str) -> str:
    match = _BEING_WRITTEN.fullmatch(path)
    return match[1] + match[2] if match else path


def check_folder(folder: Folder, job: Job, zoo: Zoo, fresh: bool) -> None:
    """Refuse a folder that holds something else than this job's run (or nothing). Where the
    manifest lies, and what its file is called, does not count while its models are the same.
    """
    earlier, damaged = None, False
    try:
        earlier = records.read_record(folder)
    except records.OtherKindError as error:
        raise InputError(f"{error}; choose another --out") from error
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
        before = earlier["job"]
        if before.get("name") == job.name and (
            before.get("zoo") == job.zoo or _same_models(earlier["zoo"]["models"], zoo)
        ):
            return
        raise InputError(
            f"{folder.uri}: holds the run of job '{before.get('name')}' on zoo"
            f" '{before.get('zoo')}'; choose another --out, or --fresh to delete that run"
        )


def _same_models(before: Sequence[Mapping[str, Any]], zoo: Zoo) -> bool:
    """Whether a zoo has models of an earlier run, and those of one name are alike: none would be
    computed again into the place of another.
    """
    known = {str(model["name"]): _told(model) for model in before}
    now = {m.name: _told(m.model_dump(mode="json", exclude_none=True)) for m in zoo.models}
    common = known.keys() & now.keys()
    return bool(common) and all(known[name] == now[name] for name in common)


def _told(model: Mapping[str, Any]) -> dict[str, Any]:
    """What a manifest says of a model, but for its roles and for where its files lie."""
    told = {k: v for k, v in model.items() if k not in ("name", "roles", "fingerprint")}
    if "weights" in told:
        told["weights"] = PurePath(str(told["weights"])).name
    return told


_SWEPT = ("", "comparison", "figures", "scratch")
"""Where files are being written, but for the shards: those are looked through by a run."""


def sweep(folder: Folder) -> None:
    """Delete what killed processes left half-written in a local folder. Whoever calls holds its
    lock, so that none of it is being written now.
    """
    place = folder.local
    if place is None:
        return
    left = []
    for name in _SWEPT:
        if not (place / name).is_symlink():
            below = (place / name).rglob(f"*{TEMPORARY}") if name else place.glob(f"*{TEMPORARY}")
            left += [path for path in below if not path.is_dir()]
    paths = (path.relative_to(place).as_posix() for path in left)
    folder.delete([path for path in paths if is_left_over(path)])


def clear(folder: Folder) -> None:
    """Delete what a run has written, and nothing else, from its folder; run.json last, so that
    stopped half-way the folder still holds a run. The lock stays with whoever holds it.
    """
    own = [path for path in folder.files() if is_own(path) and path != LOCK]
    folder.delete(sorted(own, key=lambda path: path == records.PATH))
