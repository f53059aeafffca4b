"""Probes: which images, in which order, under which hash; and from an image to a model's input."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Result
from PIL import Image, features

from depara_bench.errors import InputError
from depara_bench.plan import check_sizes, small_images
from depara_bench.preprocess import fit, to_input
from depara_bench.probe import FolderProbe, ListProbe, ParquetProbe, Probe, decode, load_probe
from depara_bench.sample import sample
from depara_bench.zoo import InputSpec

PHOTOGRAPHS = Path(__file__).parents[2] / "shared" / "data" / "visda200"


def picture(seed: int, height: int = 6, width: int = 9) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(pixels: np.ndarray | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def fill(folder: Path, *names: str) -> dict[str, np.ndarray]:
    pictures = {}
    for number, name in enumerate(names):
        pictures[name] = picture(number)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encoded(pictures[name]))
    return pictures


def folder_probe(path: Path, **options: Any) -> Probe:
    return load_probe(FolderProbe(kind="folder", path=path.name, **options), path.parent)


def refused(call: Any, *expected: str) -> None:
    with pytest.raises(InputError) as caught:
        call()
    assert len(str(caught.value).splitlines()) == 1
    for part in expected:
        assert part in str(caught.value)


# --- folders ------------------------------------------------------------------------------------


def test_folder_in_the_order_of_paths(tmp_path: Path) -> None:
    """All images below a folder, by path, with their pixels; other files are left alone."""
    names = ["b.png", "a/z.PNG", "a/b/c.png", "ab.png", "c 10.png", "c 9.png", "ü.png"]
    pictures = fill(tmp_path / "p", *names)
    (tmp_path / "p" / "notes.txt").write_text("no image")
    (tmp_path / "p" / "folder.png").mkdir()
    probe = folder_probe(tmp_path / "p")
    order = ["a/b/c.png", "a/z.PNG", "ab.png", "b.png", "c 10.png", "c 9.png", "ü.png"]
    assert probe.ids == tuple(order)
    for position, name in enumerate(order):
        assert np.array_equal(probe.image(position), pictures[name])
    assert folder_probe(tmp_path / "p", count=4).ids == tuple(order[:4])
    assert folder_probe(tmp_path / "p", count=7).sha256 == probe.sha256


def test_too_few_too_many_and_missing(tmp_path: Path) -> None:
    """Fewer than 3 images, more asked for than there are, no folder, a file instead of one."""
    fill(tmp_path / "two", "a.png", "b.png")
    refused(lambda: folder_probe(tmp_path / "two"), str(tmp_path / "two"), "gives 2", "at least 3")
    refused(lambda: folder_probe(tmp_path / "two", count=5), "holds 2 images, 'count' asks for 5")
    refused(lambda: folder_probe(tmp_path / "none"), "none does not exist; check 'probe.path'")
    (tmp_path / "file").touch()
    refused(lambda: folder_probe(tmp_path / "file"), "file does not exist; check 'probe.path'")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (encoded(picture(1, 40, 40), "JPEG")[:-300], "truncated"),
        (encoded(picture(1, 40, 40), "PNG")[:-900], "truncated"),
        (b"", "is not an image"),
        (b"this is text\n", "is not an image"),
        (encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), "mode F"),
    ],
)
def test_an_image_that_cannot_be_decoded(tmp_path: Path, content: bytes, reason: str) -> None:
    """Truncated, empty, text: named when failing; dropped and recorded when skipping."""
    fill(tmp_path / "p", "a.png", "c.png", "d.png")
    (tmp_path / "p" / "b.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        decode(content)
    refused(lambda: folder_probe(tmp_path / "p"), "image b.jpg of", "on_error: skip", reason)
    probe = folder_probe(tmp_path / "p", on_error="skip")
    assert probe.ids == ("a.png", "c.png", "d.png")
    assert [name for name, _ in probe.skipped] == ["b.jpg"]
    assert reason in probe.skipped[0][1]
    assert np.array_equal(probe.image(1), picture(1))
    (tmp_path / "p" / "b.jpg").unlink()
    assert folder_probe(tmp_path / "p").sha256 == probe.sha256
    (tmp_path / "p" / "a.png").write_bytes(content)
    refused(lambda: folder_probe(tmp_path / "p", on_error="skip"), "gives 2 images")


@pytest.mark.parametrize("name", [b"\xff.png", b"a\nb.png"])
def test_names_that_are_no_text(tmp_path: Path, name: bytes) -> None:
    """A file name that is not UTF-8, or has a line break, is refused in one line."""
    fill(tmp_path / "p", "a.png", "b.png", "c.png")
    try:
        Path(os.fsdecode(os.fsencode(tmp_path / "p") + b"/" + name)).write_bytes(b"")
    except OSError:
        pytest.skip("this file system does not take such names")
    refused(lambda: folder_probe(tmp_path / "p"), "is not a line of text")


# --- what of a folder is left out ---------------------------------------------------------------


def test_links_to_folders_and_files_are_followed(tmp_path: Path) -> None:
    """As the folders they lead to; one that leads nowhere is told."""
    fill(tmp_path / "elsewhere", "a.png", "deep/b.png")
    pictures = fill(tmp_path / "p", "z.png")
    (tmp_path / "p" / "class").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "p" / "c.png").symlink_to(tmp_path / "elsewhere" / "a.png")
    (tmp_path / "p" / "gone.png").symlink_to(tmp_path / "nothing.png")
    probe = folder_probe(tmp_path / "p")
    assert probe.ids == ("c.png", "class/a.png", "class/deep/b.png", "z.png")
    assert np.array_equal(probe.image(3), pictures["z.png"])
    assert "1 links to nothing (first 'gone.png')" in probe.remarks[0]
    (tmp_path / "link").symlink_to(tmp_path / "p", target_is_directory=True)
    assert folder_probe(tmp_path / "link").sha256 == probe.sha256


@pytest.mark.parametrize("target", [".", "..", "../..", "sub/again", "sub"])
def test_links_that_lead_back(tmp_path: Path, target: str) -> None:
    """To the folder itself, above it, or in a ring: one line that names the link."""
    fill(tmp_path / "p", "a.png", "b.png", "sub/c.png")
    link = tmp_path / "p" / "sub" / "again"
    link.symlink_to(Path("..") / target, target_is_directory=True)
    words = [str(link), "a link that leads back", f"take it out of {tmp_path / 'p'}"]
    refused(lambda: folder_probe(tmp_path / "p"), *words)
    refused(lambda: sample(tmp_path / "p", each=1, total=None, seed=0), *words)


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    """What notebooks, archives of a Mac and photo servers put there are copies of the pictures."""
    fill(tmp_path / "p", "a.png", "b.png", "sub/c.png")
    hidden = [".ipynb_checkpoints/a-checkpoint.png", "sub/._c.png", "__MACOSX/a.png", ".d.png",
              "@eaDir/a.png/thumb.png"]  # fmt: skip
    fill(tmp_path / "p", *hidden)
    probe = folder_probe(tmp_path / "p")
    assert probe.ids == ("a.png", "b.png", "sub/c.png")
    (line,) = probe.remarks
    assert line.endswith("p: left out 5 hidden (first '.d.png')")
    inside = load_probe(FolderProbe(kind="folder", path=".x/p"), (fill_at(tmp_path / ".x" / "p")))
    assert len(inside) == 3  # what is hidden is told by names inside the folder, not by its own


def fill_at(folder: Path) -> Path:
    fill(folder, "a.png", "b.png", "c.png")
    return folder.parents[1]


def test_every_image_that_pillow_reads(tmp_path: Path) -> None:
    """By all its endings, in large letters too; what is none is told with the reason."""
    kinds = {"jfif": "JPEG", "jpe": "JPEG", "JP2": "JPEG2000", "j2k": "JPEG2000", "tga": "TGA"}
    kinds |= {"dib": "DIB", "pbm": "PPM", "pcx": "PCX", "qoi": "QOI", "Webp": "WEBP", "mpo": "MPO"}
    if features.check("avif"):
        kinds["avif"] = "AVIF"
    (tmp_path / "p").mkdir()
    for ending, kind in kinds.items():
        content = encoded(picture(len(ending) + ord(ending[0]), 40, 40), kind)
        (tmp_path / "p" / f"a.{ending}").write_bytes(content)
    (tmp_path / "p" / "scan.pdf").write_bytes(encoded(picture(1), "PDF"))
    for name in ("figure.eps", "cloud.pcd", "notes.txt", "labels"):
        (tmp_path / "p" / name).write_text("no image")
    probe = folder_probe(tmp_path / "p")
    assert set(probe.ids) == {f"a.{ending}" for ending in kinds}
    assert all(probe.image(i).shape == (40, 40, 3) for i in range(len(probe)))
    (line,) = probe.remarks
    assert "left out 5 without the ending of an image (first 'cloud.pcd')" in line


def test_a_folder_without_images_names_the_endings_and_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    for i in range(4):
        (tmp_path / "p" / f"{i}.heic").touch()
    words = ["gives 0 images", ".jpg", ".tif", "left out 4 without", "'0.heic'"]
    refused(lambda: folder_probe(tmp_path / "p"), *words)
    refused(lambda: sample(tmp_path / "p", each=None, total=2, seed=0), "holds 0 images", ".jpg")
    refused(lambda: sample(tmp_path / "p", each=2, total=None, seed=0), "holds images", ".jpg")


def test_identical_files_are_told(tmp_path: Path) -> None:
    """Byte for byte, in a folder, a list and a Parquet file; none is refused."""
    fill(tmp_path / "p", "a.png", "b.png", "c.png", "d.png")
    (tmp_path / "p" / "c.png").write_bytes((tmp_path / "p" / "a.png").read_bytes())
    (tmp_path / "list.txt").write_text("p/a.png\np/b.png\np/c.png\n")
    content = (tmp_path / "p" / "a.png").read_bytes()
    parquet(tmp_path / "p.parquet", image=[content, content, encoded(picture(3))])
    for probe, copy in (
        (folder_probe(tmp_path / "p"), "1 of 4 images are copies"),
        (load_probe(ListProbe(kind="list", path="list.txt"), tmp_path), "first p/c.png of p/a.png"),
        (load_probe(ParquetProbe(kind="parquet", path="p.parquet"), tmp_path), "000001 of 000000"),
    ):
        (line,) = probe.remarks
        assert copy in line
    (tmp_path / "p" / "c.png").write_bytes(encoded(picture(5)))
    (tmp_path / "p" / "d.png").write_bytes(content)
    assert folder_probe(tmp_path / "p", count=3).remarks == ()  # the fourth is not in the probe


def test_a_run_says_what_was_left_out(
    command: Callable[..., Result], job: Callable[..., Path], tmp_path: Path
) -> None:
    """Once, on stderr, and not with --quiet; `probe-list` as well."""
    fill(tmp_path / "p", *(f"{i}.png" for i in range(4)), "._0.png")
    (tmp_path / "p" / "3.png").write_bytes((tmp_path / "p" / "2.png").read_bytes())
    file = job(probe={"kind": "folder", "path": "p"}, models=["autoencoder", "curvature"])
    result = command("run", file, "--out", tmp_path / "out", "--engine", "local")
    assert result.code == 0
    assert result.err.count("left out 1 hidden (first '._0.png')") == 1
    assert result.err.count("1 of 4 images are copies of others") == 1
    quiet = command("run", file, "--out", tmp_path / "out", "--engine", "local", "-q")
    assert (quiet.code, quiet.err) == (0, "")
    listed = command("probe-list", tmp_path / "p", "--count", "2", "--out", tmp_path / "l.txt")
    assert listed.code == 0 and "left out 1 hidden" in listed.err


# --- modes --------------------------------------------------------------------------------------


def test_every_mode_becomes_rgb() -> None:
    """Grey, black and white, palette, alpha, 16 bit: the RGB picture that a viewer shows."""
    rgb = picture(0)
    grey = rgb[:, :, 0]
    three = np.repeat(grey[:, :, None], 3, axis=2)
    assert np.array_equal(decode(encoded(rgb)), rgb)
    assert np.array_equal(decode(encoded(grey)), three)
    assert np.array_equal(decode(encoded(np.dstack([rgb, grey]))), rgb)
    assert np.array_equal(decode(encoded(Image.fromarray(np.dstack([grey, grey])))), three)
    assert np.array_equal(decode(encoded(grey > 127)), np.where(three > 127, 255, 0))
    palette = Image.fromarray(rgb).quantize(8)
    assert np.array_equal(decode(encoded(palette)), np.asarray(palette.convert("RGB")))
    for kind in ("PNG", "TIFF"):
        wide = encoded(grey.astype(np.uint16) * 257, kind)
        assert np.array_equal(decode(wide), three)
    found = decode(encoded(rgb))
    assert found.dtype == np.uint8


def test_orientation_tags_are_not_applied() -> None:
    """A picture that its tag turns by 90 degrees is taken as its pixels are stored."""
    tag = Image.Exif()
    tag[0x0112] = 6
    pixels = np.repeat(np.arange(0, 256, 16, dtype=np.uint8)[None, :, None], 8, axis=0)
    pixels = np.repeat(pixels, 3, axis=2)
    assert np.array_equal(decode(encoded(pixels, exif=tag)), pixels)


# --- lists and Parquet --------------------------------------------------------------------------


def test_list_with_comments_and_root(tmp_path: Path) -> None:
    """Lines in the order given, against the list's folder or `root`."""
    pictures = fill(tmp_path / "images", "a.png", "sub/b.png", "c.png")
    lines = ["# comment", "", "c.png", "  # indented", "sub/b.png ", "a.png"]
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "l.txt").write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    spec = ListProbe(kind="list", path="lists/l.txt", root="images")
    probe = load_probe(spec, tmp_path)
    assert probe.ids == ("c.png", "sub/b.png", "a.png")
    for position, name in enumerate(probe.ids):
        assert np.array_equal(probe.image(position), pictures[name])
    (tmp_path / "images" / "l.txt").write_text("\n".join(lines[2:]))
    beside = load_probe(ListProbe(kind="list", path="images/l.txt", count=3), tmp_path)
    assert beside.ids == ("c.png", "sub/b.png", "a.png")
    refused(
        lambda: load_probe(ListProbe(kind="list", path="lists/l.txt"), tmp_path),
        "image c.png of",
        "No such file",
    )
    refused(
        lambda: load_probe(ListProbe(kind="list", path="no.txt"), tmp_path),
        "no.txt: cannot be read (No such file",
    )


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig", "utf-8"])
def test_a_list_of_windows(tmp_path: Path, encoding: str) -> None:
    """Backslashes, CRLF, UTF-16 with and without its mark."""
    fill(tmp_path, "a.png", "sub/ü b.png", "sub/c.png")
    lines = ["sub\\c.png", "sub\\ü b.png", "a.png", ""]
    (tmp_path / "l.txt").write_bytes("\r\n".join(lines).encode(encoding))
    probe = load_probe(ListProbe(kind="list", path="l.txt"), tmp_path)
    assert probe.ids == ("sub/c.png", "sub/ü b.png", "a.png") and probe.remarks == ()


@pytest.mark.parametrize(
    "lines",
    [
        ["a.png 3", "sub/b c.png 0", "c,d.png 1"],
        ["a.png,cat", "sub/b c.png,dog", "c,d.png,dog"],
        ["a.png\tcat\ttrain", "sub\\b c.png\tdog\ttest", "c,d.png\tdog\ttest"],
        ['"a.png";"cat"', '"sub/b c.png";"dog"', '"c,d.png";"dog"'],
        ["path,label", "a.png,cat", "sub/b c.png,cat", "c,d.png,cat"],
    ],
)
def test_a_list_with_labels_behind_the_paths(tmp_path: Path, lines: list[str]) -> None:
    """They are left out, and that is told; a file is never mistaken for a file and a label."""
    fill(tmp_path, "a.png", "sub/b c.png", "c,d.png", "c")
    (tmp_path / "l.txt").write_text("\n".join(lines))
    probe = load_probe(ListProbe(kind="list", path="l.txt"), tmp_path)
    assert probe.ids == ("a.png", "sub/b c.png", "c,d.png")
    assert "not read, on 3 lines (first" in probe.remarks[-1]
    assert len(probe.remarks) == len(lines) - 2
    fill(tmp_path, "a.png 3", "sub/b c.png 0", "c,d.png 1")
    (tmp_path / "l.txt").write_text("a.png 3\nsub/b c.png 0\nc,d.png 1\n")
    whole = load_probe(ListProbe(kind="list", path="l.txt"), tmp_path)
    assert whole.ids == ("a.png 3", "sub/b c.png 0", "c,d.png 1") and whole.remarks == ()


def test_a_list_in_another_encoding_names_the_line(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", "ü.png", "c.png")
    (tmp_path / "l.txt").write_bytes("a.png\nü.png\nc.png".encode("latin-1"))
    spec = ListProbe(kind="list", path="l.txt")
    refused(lambda: load_probe(spec, tmp_path), "l.txt, line 2", "'fc'", "save the file as UTF-8")


def parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=2)
    return path


def test_parquet_binary_and_struct(tmp_path: Path) -> None:
    """Binary columns and the {bytes, path} that Hugging Face writes, with ids or row numbers."""
    contents = [encoded(picture(i)) for i in range(5)]
    parquet(tmp_path / "b.parquet", image=contents, key=["e", "d", "c", "b", "a"])
    probe = load_probe(ParquetProbe(kind="parquet", path="b.parquet", id_column="key"), tmp_path)
    assert probe.ids == ("e", "d", "c", "b", "a")
    cells = [{"bytes": c, "path": None} for c in contents]
    parquet(tmp_path / "s.parquet", pixels=cells)
    spec = ParquetProbe(kind="parquet", path="s.parquet", column="pixels", count=4)
    struct = load_probe(spec, tmp_path)
    assert struct.ids == ("000000", "000001", "000002", "000003")
    for position in range(4):
        for found in (probe, struct):
            assert np.array_equal(found.image(position), picture(position))


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"img": [b"x"] * 3}, "has no column 'image'; it has img"),
        ({"image": ["x"] * 3}, "column 'image' holds string, not encoded images"),
        ({"image": [b"x"] * 3}, "image 000000 of"),
        ({"image": [None, b"", b""]}, "cell of column 'image' is empty, row 0"),
        ({"image": [{"bytes": b"x"}, {"bytes": None}, None]}, "image 000000 of"),
        ({"image": pa.array([], pa.struct([("bytes", pa.binary())]))}, "gives 0 images"),
    ],
)
def test_parquet_that_holds_no_images(tmp_path: Path, columns: Any, expected: str) -> None:
    """Another column, another type, undecodable or missing bytes, no rows: one line."""
    parquet(tmp_path / "p.parquet", **columns)
    spec = ParquetProbe(kind="parquet", path="p.parquet")
    refused(lambda: load_probe(spec, tmp_path), str(tmp_path / "p.parquet"), expected)
    (tmp_path / "p.parquet").write_bytes(b"PAR1 is not enough")
    refused(lambda: load_probe(spec, tmp_path), "is not a readable Parquet file")


def test_a_null_cell_of_a_struct_is_an_unreadable_image(tmp_path: Path) -> None:
    """A missing image among others is skipped like any that cannot be decoded."""
    cells = [{"bytes": encoded(picture(i))} if i != 1 else None for i in range(4)]
    parquet(tmp_path / "p.parquet", image=cells)
    spec = ParquetProbe(kind="parquet", path="p.parquet", on_error="skip")
    probe = load_probe(spec, tmp_path)
    assert probe.ids == ("000000", "000002", "000003")
    assert probe.skipped == (
        ("000001", "the cell of column 'image' is empty, row 1 counted from 0"),
    )


# --- hash and blocks ----------------------------------------------------------------------------


def test_hash_changes_with_order_id_and_content(tmp_path: Path) -> None:
    """Another order, another id or another byte is another probe; another place is not."""
    contents = [encoded(picture(i)) for i in range(4)]
    number = 0

    def sha(ids: list[str], images: list[bytes]) -> str:
        nonlocal number
        number += 1
        parquet(tmp_path / f"{number}.parquet", image=images, key=ids)
        spec = ParquetProbe(kind="parquet", path=f"{number}.parquet", id_column="key")
        return load_probe(spec, tmp_path).sha256

    ids = ["aa", "b", "c", "d"]
    base = sha(ids, contents)
    assert sha(ids, contents) == base
    lossless = encoded(picture(0), compress_level=0)  # the same pixels in other bytes
    others = {
        sha(ids[::-1], contents[::-1]),
        sha(ids, contents[::-1]),
        sha(["aa", "b", "c", "e"], contents),
        sha(["a", "ab", "c", "d"], contents),
        sha(ids, [lossless, *contents[1:]]),
        sha(ids[:3], contents[:3]),
    }
    assert len(others | {base}) == 7


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 100])
def test_blocks_cover_every_image_once(tmp_path: Path, size: int) -> None:
    """Blocks of a size, the last one shorter, in order."""
    fill(tmp_path / "p", *[f"{i}.png" for i in range(7)])
    blocks = folder_probe(tmp_path / "p").blocks(size)
    assert [i for block in blocks for i in block] == list(range(7))
    assert all(len(block) == size for block in blocks[:-1])
    assert 1 <= len(blocks[-1]) <= size


# --- to a model's input -------------------------------------------------------------------------

SHAPES = [(40, 60), (60, 40), (37, 53), (53, 37), (32, 32), (16, 200), (9, 7), (33, 32), (24, 24)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("resize", "size"), [(32, 24), (24, 24), (25, 24), (31, (24, 17))])
def test_resize_and_crop_equal_torchvision(
    shape: tuple[int, int], resize: int, size: int | tuple[int, int]
) -> None:
    """Landscape, portrait, odd: pixel for pixel torchvision's Resize and CenterCrop."""
    from torchvision import transforms

    pixels = picture(sum(shape), *shape)
    both = transforms.Compose([transforms.Resize(resize), transforms.CenterCrop(size)])
    expected = np.asarray(both(Image.fromarray(pixels)))
    assert np.array_equal(fit(pixels, InputSpec(size=size, resize=resize)), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_stretching_equals_torchvision(shape: tuple[int, int]) -> None:
    """Without `resize`, both sides are brought to the size."""
    from torchvision import transforms

    pixels = picture(sum(shape), *shape)
    for size in ((24, 24), (32, 20)):
        expected = np.asarray(transforms.Resize(size)(Image.fromarray(pixels)))
        found = fit(pixels, InputSpec(size=size))
        assert np.array_equal(found, expected)
        assert found.shape == (*size, 3)


def test_input_equals_the_formula() -> None:
    """0..255 to the range, then (x - mean) / std per channel; channels first."""
    images = [picture(i, 4, 5) for i in range(3)]
    images[0][0, 0], images[0][0, 1] = 0, 255
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    for low, high in ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)):
        for normalise in (False, True):
            extra: Any = {"mean": mean, "std": std} if normalise else {}
            found = to_input(images, InputSpec(size=(4, 5), range=(low, high), **extra))
            expected = np.stack(images).astype(np.float64) / 255 * (high - low) + low
            if normalise:
                expected = (expected - mean) / std
            assert found.dtype.is_floating_point
            assert found.shape == (3, 3, 4, 5)
            assert found.is_contiguous()
            difference = np.abs(found.numpy() - expected.transpose(0, 3, 1, 2))
            assert difference.max() <= 1e-6 * np.abs(expected).max()
    assert to_input(images, InputSpec(size=(4, 5)))[0, :, 0, :2].tolist() == [[0, 1]] * 3


@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="the 200 photographs are not on this machine")
def test_two_hundred_photographs(tmp_path: Path) -> None:
    """The photographs as a folder and as their list: the same images, brought to one size."""
    whole = load_probe(FolderProbe(kind="folder", path="test200"), PHOTOGRAPHS)
    assert len(whole) == 200
    names = tmp_path / "list.txt"
    names.write_text("\n".join(whole.ids))
    spec = ListProbe(kind="list", path=str(names), root=str(PHOTOGRAPHS / "test200"))
    assert load_probe(spec, PHOTOGRAPHS).sha256 == whole.sha256
    for position in (0, 99, 199):
        file = PHOTOGRAPHS / "test200" / whole.ids[position]
        expected = np.asarray(Image.open(file).convert("RGB"))
        assert np.array_equal(whole.image(position), expected)
        assert fit(whole.image(position), InputSpec(size=24, resize=32)).shape == (24, 24, 3)


def test_images_smaller_than_a_crop_are_told(tmp_path: Path) -> None:
    """Of the model that crops most; models that stretch have no crop."""
    fill(tmp_path, "a.png", "b.png", "c.png")  # 6 x 9 pixels
    (tmp_path / "b.png").write_bytes(encoded(picture(7, 20, 30)))
    probe = folder_probe(tmp_path)
    inputs = {
        "cuts": InputSpec(size=8, resize=12),
        "cuts less": InputSpec(size=4, resize=5),
        "stretches": InputSpec(size=64),
    }
    line = small_images(probe, inputs)
    assert line is not None and len(line.splitlines()) == 1
    assert line.startswith(
        "2 images are smaller than the 8 x 8 crop of 'cuts', first a.png (6 x 9)"
    )
    del inputs["cuts"]
    assert small_images(probe, inputs) is None
    assert [probe.size(i) for i in range(3)] == [probe.image(i).shape[:2] for i in range(3)]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (InputSpec(size=8, resize=2_000), "thin.png: becomes 2000 x 60000000"),
    ],
)
def test_images_that_would_take_gigabytes_are_refused(
    tmp_path: Path, spec: InputSpec, words: str
) -> None:
    """Before anything is resized: by the image's shape, or by what the manifest asks for."""
    fill(tmp_path, "a.png", "b.png", "c.png")  # 6 x 9 pixels
    probe = folder_probe(tmp_path)
    check_sizes(probe, {"small": InputSpec(size=8, resize=12)})
    if "thin" in words:
        Image.fromarray(np.zeros((1, 30_000), np.uint8)).save(tmp_path / "thin.png")
        probe = folder_probe(tmp_path)
    with pytest.raises(InputError, match=f"^{words} at the input of 'model'; leave it out"):
        check_sizes(probe, {"small": InputSpec(size=8), "model": spec})


@pytest.mark.parametrize("kind", ["rooms", "noise"])
def test_images_that_no_memory_holds_are_refused(command: Callable[..., Result], kind: str) -> None:
    """Before the first is drawn."""
    probe = f"{{kind: {kind}, count: 1000000, size: 2048, seed: 1}}"
    result = command("run", "rooms", "--set", f"probe={probe}", "--engine", "local")
    assert result.code == 2 and result.err.count("\n") == 1
    assert "1000000 images of 2048 x 2048 take 12,58" in result.err
