"""Which images a folder or a list gives, and in words what of it is left out."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from depara_bench.errors import InputError, cause
from depara_bench.textfile import read_text

MOST_IMAGES = 1_000_000
"""Most images of a probe."""

# Formats that Pillow names and does not read by itself, and what is mostly something else: .pcd
# files are point clouds, FITS and .pfm hold pixels without a fixed range.
_NOT_TAKEN = {"BUFR", "EPS", "FITS", "FPX", "GRIB", "HDF5", "IPTC", "MIC", "MPEG", "PCD", "WMF"}
_RANGELESS = ".pfm"

# Folders of copies that systems put beside pictures without a dot before their names.
_SYSTEM = {"__MACOSX", "@eaDir", "$RECYCLE.BIN"}

_HEADINGS = {"path", "file", "filename", "file_name", "image", "image_path", "img", "name"}


@dataclass(frozen=True)
class Gap:
    """In the place of an image: why there is none."""

    why: str


Source = Path | bytes | Gap


@dataclass(frozen=True)
class Sources:
    """Names of the images and where they come from, in order, to be gone through once; remarks:
    what a user should know.
    """

    ids: Sequence[str]
    sources: Iterable[Source]
    remarks: tuple[str, ...] = ()


@cache
def endings() -> frozenset[str]:
    """The endings, in small letters, of the files that this installation of Pillow can read."""
    from PIL import Image

    Image.init()
    # Pillow opens .mpo, the JPEGs of stereo cameras and telephones, as JPEG.
    readable = {*Image.OPEN, "MPO"} - _NOT_TAKEN
    known = Image.registered_extensions().items()
    return frozenset(end for end, kind in known if kind in readable) - {_RANGELESS}


def endings_in_words() -> str:
    """For a message about a folder in which too few images were found."""
    return f"an image ends in {' '.join(sorted(endings()))}"


def check_names(ids: Sequence[str], path: Path) -> None:
    """Images are told apart by their ids, in shards, labels and the report."""
    numbers: dict[str, int] = {}
    for number, name in enumerate(ids, start=1):
        if not name.strip():
            raise InputError(f"probe: image {number} in {path} has no name ({name!r}); give it one")
        if not _is_line(name):
            raise InputError(f"probe: image name {name!a} in {path} is not a line of text; rename")
        if name in numbers:
            raise InputError(
                f"probe: images {numbers[name]} and {number} in {path} have one name, '{name}';"
                f" names must differ"
            )
        numbers[name] = number


def _is_line(name: str) -> bool:
    """Whether it can be stored and printed: no line break, no file name that is not UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return len(f"{name}.".splitlines()) == 1


# --- folders ------------------------------------------------------------------------------------


def image_files(path: Path) -> tuple[list[Path], str]:
    """All image files below a folder, sorted, and a line that says what was left out ("": nothing).

    Links are followed. Hidden files and folders are left out, as are files without the ending of an
    image. Raises InputError naming a folder that cannot be read, or a link that leads back.
    """
    files: list[Path] = []
    left_out: dict[str, list[str]] = {}
    waiting = [(path, frozenset(_identity(p, path) for p in path.resolve().parents))]
    while waiting:
        folder, above = waiting.pop()
        own = _identity(folder, path)
        if own in above:
            raise _leads_back(folder, path)
        for place in _inside(folder, path):
            why, is_folder = _why_not(place, path)
            if why:
                shown = place.relative_to(path).as_posix() + ("/" if is_folder else "")
                left_out.setdefault(why, []).append(shown)
            elif is_folder:
                waiting.append((place, above | {own}))
            else:
                files.append(place)
    parts = [f"{len(names)} {why} (first {min(names)!r})" for why, names in left_out.items()]
    return sorted(files), f"{path}: left out {', '.join(sorted(parts))}" if parts else ""


def _why_not(place: Path, top: Path) -> tuple[str, bool]:
    """Why a place is left out ("": it is an image, or a folder to look into), and whether it is a
    folder.
    """
    if place.name.startswith(".") or place.name in _SYSTEM:
        return "hidden", place.is_dir()
    try:
        is_folder, is_file = _kind(place)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _leads_back(place, top) from error
        if error.errno == errno.ENOENT:
            return "links to nothing", False
        raise _unreadable(place, top, error) from error
    if is_folder:
        return "", True
    if place.suffix.lower() not in endings():
        return "without the ending of an image", False
    return "" if is_file else "not a file", False


def _kind(place: Path) -> tuple[bool, bool]:
    """Whether a folder, and whether a file, links followed; a place that cannot be reached raises
    OSError, of which `Path.is_file` is silent.
    """
    mode = place.stat().st_mode
    return S_ISDIR(mode), S_ISREG(mode)


def _identity(folder: Path, top: Path) -> tuple[int, int]:
    try:
        found = folder.stat()
    except OSError as error:
        raise _unreadable(folder, top, error) from error
    return found.st_dev, found.st_ino


def _inside(folder: Path, top: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise _unreadable(folder, top, error) from error


def _unreadable(place: Path, top: Path, error: OSError) -> InputError:
    return InputError(
        f"{place}: cannot be read ({cause(error)}); give the right to read it, or take it out of"
        f" {top}"
    )


def _leads_back(link: Path, top: Path) -> InputError:
    return InputError(
        f"{link}: is a link that leads back to a folder it lies in, without end; take it out of"
        f" {top}"
    )


def from_folder(path: Path) -> Sources:
    """All images below a folder, in the order of their paths."""
    if not path.is_dir():
        raise InputError(f"probe: folder {path} does not exist; check 'probe.path'")
    try:
        files, left_out = image_files(path)
    except InputError as error:
        raise InputError(f"probe: {error}, or correct 'probe.path'") from error
    ids = [file.relative_to(path).as_posix() for file in files]
    return Sources(ids, files, (f"probe: {left_out}",) if left_out else ())


# --- lists --------------------------------------------------------------------------------------


def from_list(path: Path, root: Path | None) -> Sources:
    """The images that a text file names, a path a line; blank lines and '#' lines are none.

    Backslashes are read as Windows means them. A heading, and labels behind the paths, are left
    out, which a remark says.
    """
    place = root or path.parent
    lines = read_text(path, "check 'probe.path'").splitlines()
    wanted = [(number, line.strip()) for number, line in enumerate(lines, start=1)]
    wanted = [(number, line) for number, line in wanted if line and not line.startswith("#")]
    remarks, labels, names = [], [], []
    for position, (number, line) in enumerate(wanted):
        name, label = listed_path(line, place)
        if position == 0 and not label and is_heading(line) and not (place / line).is_file():
            remarks.append(f"probe: {path}, line {number}: {line!r} is taken for a heading")
            continue
        names.append(name)
        if label:
            labels.append((number, label))
    if labels:
        number, label = labels[0]
        remarks.append(
            f"probe: {path}: what follows the paths is not read, on {len(labels)} lines (first"
            f" {label!r}, line {number})"
        )
    return Sources(names, [place / name for name in names], tuple(remarks))


def is_heading(line: str) -> bool:
    """Whether a list's first line names its columns: "path,label"."""
    return bool({cell.strip(" \"'").lower() for cell in re.split(r"[,;\t]", line)} & _HEADINGS)


def listed_path(line: str, root: Path) -> tuple[str, str]:
    """The path that a line of a list begins with, below `root`, and what follows it, a label.

    The whole line is the path where there is such a file, or where none is found.
    """
    if not re.search(r"[\\\s,;\"']", line):
        return line, ""
    splits = [(line, "")]
    for match in re.finditer(r"(\.\w+)[\"']?([\s,;]+)", line):
        if match[1].lower() in endings():
            splits.append((line[: match.start(2)], line[match.end() :]))
    for path, label in splits:
        if (root / (name := spelled(path, root))).is_file():
            return name, label
    return line, ""


def spelled(path: str, root: Path) -> str:
    """A path of a list as this system spells it: where there is no such file below `root`, without
    quotes around it, and with slashes for the backslashes of Windows.
    """
    if not re.search(r"[\\\"']", path) or (root / path).is_file():
        return path
    return path.strip("\"'").replace("\\", "/")
