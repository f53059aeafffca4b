"""How much memory there really is: free on the machine, and left to the group of processes that
this one is in (a container, a job of a cluster).
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")


def available() -> int:
    """Bytes that this process may still take; as good as endless on a system that does not say."""
    return max(0, min([_of_machine(), *_of_groups()]))


def _of_machine() -> int:
    told = re.search(r"^MemAvailable:\s*(\d+) kB", _text(Path("/proc/meminfo")), re.MULTILINE)
    if told:
        return int(told[1]) * 1024
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return sys.maxsize


def _of_groups() -> Iterator[int]:
    """What the limits of this process's group, and of those around it, leave; both versions of
    Linux's control groups.
    """
    for line in _text(Path("/proc/self/cgroup")).splitlines():
        number, kinds, name = [*line.split(":", 2), "", ""][:3]
        if number == "0" and not kinds:
            root, limit, used = _GROUPS, "memory.max", "memory.current"
        elif "memory" in kinds.split(","):
            root = _GROUPS / "memory"
            limit, used = "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        inside = root / name.lstrip("/")
        # Within a container, its own group is mounted as the root.
        for group in dict.fromkeys([inside, *inside.parents, root]):
            if group != root and root not in group.parents:
                continue
            most, taken = _text(group / limit).strip(), _text(group / used).strip()
            if most.isdigit() and taken.isdigit():
                yield int(most) - int(taken) + _cached(group)


def _cached(group: Path) -> int:
    """Bytes that a group has taken for copies of files, and gives back when they are needed."""
    told = re.search(r"^(?:total_)?inactive_file (\d+)", _text(group / "memory.stat"), re.MULTILINE)
    return int(told[1]) if told else 0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
