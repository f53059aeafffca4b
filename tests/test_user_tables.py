"""Tables that users give: every dialect of CSV gives the same cells, and what cannot be read is one
line that names line, column and what was found.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import SHARED
from hypothesis import given
from hypothesis import strategies as st

from depara_bench.csv_tables import parse
from depara_bench.errors import InputError
from depara_bench.labels import read_labels
from depara_bench.layers.truth import read_accuracies
from depara_bench.truth.imports import import_truth
from depara_bench.truth.table import Truth, read_truth
from depara_bench.user_tables import Rows, read_rows

TRUTHS = SHARED / "data" / "truth-tables"

PLAIN = "source,target,value\n001,NA,0.5\nnet b,NA,0.25\n001,None,1\n"
"""A truth with names that look like numbers and like gaps."""

LABELS = "image,target,label\n000000,t,NA\na b,t,None\n0,t,01\n00,t,1\n"

DIALECTS: dict[str, Callable[[str], bytes]] = {
    "as it is": lambda t: t.encode(),
    "semicolons": lambda t: t.replace(",", ";").encode(),
    "tabs": lambda t: t.replace(",", "\t").encode(),
    "decimal commas": lambda t: t.replace(",", ";").replace(".", ",").encode(),
    "decimal commas, tabs": lambda t: t.replace(",", "\t").replace(".", ",").encode(),
    "quoted decimal commas": lambda t: t.replace("0.5", '"0,5"').replace("0.25", '"0,25"').encode(),
    "blanks": lambda t: t.replace(",", " , ").encode(),
    "blanks and quotes": lambda t: re.sub(r"([^,\n]+)", r' "\1" ', t).encode(),
    "CRLF": lambda t: t.replace("\n", "\r\n").encode(),
    "CR": lambda t: t.replace("\n", "\r").encode(),
    "byte order mark": lambda t: t.encode("utf-8-sig"),
    "UTF-16": lambda t: t.encode("utf-16"),
    "UTF-16 without a mark": lambda t: t.encode("utf-16-le"),
    "UTF-16 big-endian": lambda t: t.encode("utf-16-be"),
    "no line break at the end": lambda t: t[:-1].encode(),
    "blank lines": lambda t: t.replace("\n", "\n\n").encode() + b"\n  \n,,\n",
    "comments": lambda t: b"# In %, of a, b; and c.\n#\n# Somebody, 2020.\n" + t.encode(),
    "comments of a spreadsheet": lambda t: (
        b'"# In %, of a";;\n#;;\n' + t.replace(",", ";").encode()
    ),
    "separator told": lambda t: b"sep=;\r\n" + t.replace(",", ";").encode(),
    "separators at the ends": lambda t: t.replace("\n", ",\n").encode(),
    "an index": lambda t: "".join(
        f"{i - 1 if i else ''},{line}\n" for i, line in enumerate(t.splitlines())
    ).encode(),
    "another column": lambda t: "".join(
        f'{line},"a, b"\n' if i else f"{line},note\n" for i, line in enumerate(t.splitlines())
    ).encode(),
    "other order": lambda t: "".join(
        ",".join(reversed(line.split(","))) + "\n" for line in t.splitlines()
    ).encode(),
}


def table(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refused(call: Callable[[], object], *words: str) -> None:
    with pytest.raises(InputError) as caught:
        call()
    assert len(str(caught.value).splitlines()) == 1
    for word in words:
        assert word in str(caught.value), caught.value


def is_plain(truth: Truth) -> bool:
    found = np.array_equal(truth.value, [[0.5, 0.25], [1, np.nan]], equal_nan=True)
    return truth.targets == ("NA", "None") and truth.sources == ("001", "net b") and found


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_every_dialect_gives_the_same(tmp_path: Path, dialect: Callable[[str], bytes]):
    """Truth, to `compare` and to `truth import`, and labels: names, ids and labels are text."""
    path = table(tmp_path / "t.csv", dialect(PLAIN))
    assert is_plain(read_truth("t.csv", tmp_path))
    assert is_plain(import_truth(path))
    table(tmp_path / "l.csv", dialect(LABELS))
    images = ["a b", "00", "0", "000000"]
    found = read_labels(tmp_path / "l.csv", images, ["t"])["t"]
    assert found.classes and found.values.tolist() == [3, 1, 0, 2]  # None, 1, 01, NA


def test_labels_are_text(tmp_path: Path):
    """`000000` keeps its zeros, "None", "NA", "nan" and "1.0" are classes of their own."""
    labels = ["None", "NA", "nan", "1", "1.0", "01", "null"]
    rows = [f"00000{i},t,{label}" for i, label in enumerate(labels)]
    images = [f"00000{i}" for i in range(len(labels))]
    table(tmp_path / "l.csv", "\n".join(["image,target,label", *rows]))
    found = read_labels(tmp_path / "l.csv", images, ["t"])["t"]
    assert found.classes and len(set(found.values.tolist())) == len(labels)
    table(tmp_path / "n.csv", "image;target;value\n1;t;0,5\n01;t;1,5\n")
    numbers = read_labels(tmp_path / "n.csv", ["01", "1"], ["t"])["t"]
    assert numbers.values.tolist() == [[1.5], [0.5]]
    pq.write_table(
        pa.table({"image": [7, 8], "target": ["t", "t"], "label": [3, 4]}), tmp_path / "l.parquet"
    )
    assert read_labels(tmp_path / "l.parquet", ["8", "7"], ["t"])["t"].values.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("image,target,label\n0,t,a\n", ["image 000000 has no label of target 't'", "are 0, ..."]),
        ("image,target,label\n000000,t,a\n000000,t,b\n", ["two labels", "(line 2 and line 3)"]),
        ("image,target,label\n000000,t,\n", ["line 2, column 'label' of image 000000", "empty"]),
        ("image,target,value\n000000,t,b\n", ["line 2, column 'value'", "'b' is not a finite"]),
        ("file,target,label\n000000,t,b\n", ["no column 'image', it has file, target, label"]),
        ("image;target;class\n000000;t;b\n", ["no column 'value', it has image, target, class"]),
        ("image,target,label\n000000,u,b\n", ["names no target of this run, but u"]),
        ("", ["holds no rows"]),
    ],
)
def test_mistakes_in_labels(tmp_path: Path, content: str, words: list[str]):
    table(tmp_path / "l.csv", content)
    refused(lambda: read_labels(tmp_path / "l.csv", ["000000"], ["t"]), "l.csv", *words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"# a\nsource,target,value\na,t,1\n\nb,t,abc\n", ["line 5, column 'value' of b -> t",
                                                             "'abc' is not a finite number"]),
        (b"source,target,value\na,t,nan\n", ["line 2", "'nan'", "leave the cell empty"]),
        (b"source,target,value\na,t,-inf\n", ["line 2", "'-inf'"]),
        (b"source,target,value\na,t,1e999\n", ["line 2", "'1e999'"]),
        (b"source,target,value\na,t,1_0\n", ["line 2", "'1_0'"]),
        (b"source,target,value\na,t,71%\n", ["line 2", "'71%'"]),
        (b"source,target,value\na,t,NA\n", ["line 2", "'NA'", "leave the cell empty"]),
        (b"source;target;value\na;t;1,234\nb;t;987\n", ["line 2", "may be 1234 or 1.234"]),
        (b'source,target,value\na,t,"1,234"\n', ["line 2", "may be 1234 or 1.234"]),
        (b"source;target;value\na;t;1,234,567\n", ["line 2", "'1,234,567'"]),
        (b"source;target;value\na;t;1.234,5\n", ["line 2", "'1.234,5'"]),
        (b"source;target;value\na;t;0,5\nb;t;0.25\n", ["line 2", "'0,5'"]),
        (b"source;target;value\na;t;1 234\n", ["line 2", "'1 234'"]),
        (b"source,target,value\na,t,1\nb,t,1\na,t,2\n", ["a -> t", "twice (line 2 and line 4)"]),
        (b"source,target,value\na,t\n", ["line 2: has 2 cells, the heading has 3", "empty cells"]),
        (b"source,target,value\na,t,0,5\n", ["line 2: has 4 cells, the heading has 3", "comma"]),
        (b"source,target,value\n,t,1\n", ["line 2, column 'source': is empty"]),
        (b"source,target,value\na,t,\n", ["column 'value' is empty in all rows"]),
        (b"source,target,value,loss\na,t,1,\n", ["line 2, column 'loss' of a -> t: is empty"]),
        (b'source,target,value\n"a,t,1\nb,t,2\n', ["line 2: a cell goes on", "close its quotes"]),
        (b"source,target,value,value\na,t,1,2\n", ["line 1: two columns are named 'value'"]),
        (b"model,data,score\na,t,1\n", ["has no column 'source', it has model, data, score"]),
        (b"source,target,value\n", ["holds no rows"]),
        (b"# only a comment\n", ["holds no rows, not even a heading"]),
        ("source,target,value\na,t,1\nü,t,2\n".encode("latin-1"), ["line 3", "'fc'", "UTF-8"]),
        (b"source,target,value\na\0,t,1,\n", []),
    ],
)  # fmt: skip
def test_mistakes_in_a_truth(tmp_path: Path, content: bytes, words: list[str]):
    table(tmp_path / "t.csv", content)
    if words:
        refused(lambda: read_truth("t.csv", tmp_path), f"{tmp_path / 't.csv'}", *words)
    else:  # some versions of Python read what others refuse
        assert read_truth("t.csv", tmp_path).sources


def test_gaps_in_a_truth(tmp_path: Path):
    """An empty value is as a row that is not there, in CSV, in Parquet and in a wide table."""
    table(tmp_path / "t.csv", "source,target,value,loss\na,t,1,2\nb,t,,\na,u,3,4\nb,u,4,5\n")
    table(tmp_path / "w.csv", "model;t;u\na;1,0;3,0\nb;;4,0\n")
    frame = pd.DataFrame({"source": [*"abab"], "target": [*"ttuu"], "value": [1, None, 3, 4.0]})
    frame.to_parquet(tmp_path / "t.parquet")
    for truth in (
        read_truth("t.csv", tmp_path),
        read_truth("t.parquet", tmp_path),
        import_truth(tmp_path / "w.csv"),
    ):
        assert truth.targets == ("t", "u") and truth.sources == ("a", "b")
        assert np.array_equal(truth.value, [[1, np.nan], [3, 4]], equal_nan=True)
    pq.write_table(
        pa.table({"source": ["a"], "target": ["t"], "value": [math.nan]}), tmp_path / "n.parquet"
    )
    refused(lambda: read_truth("n.parquet", tmp_path), "row 0", "of a -> t", "'nan'")


@pytest.mark.parametrize(
    "content",
    [
        "model,x,y\n001,0.1,0.2\nNA,0.3,0.4\n",
        ",x,y\n001,0.1,0.2\nNA,0.3,0.4\n",  # pandas, the names as index
        ",model,x,y\n0,001,0.1,0.2\n1,NA,0.3,0.4\n",  # pandas, with a numbered index
        "Unnamed: 0,model,x,y\n0,001,0.1,0.2\n1,NA,0.3,0.4\n",
        "# of somebody\n\n model ;x;;y;\n 001;0,1;; 0,2;\nNA;0,3;;0,4;\n",
    ],
)
def test_models_by_datasets(tmp_path: Path, content: str):
    truth = import_truth(table(tmp_path / "w.csv", content))
    assert truth.sources == ("001", "NA") and truth.targets == ("x", "y")
    assert truth.value.tolist() == [[0.1, 0.3], [0.2, 0.4]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("model,x,y\na,1,2\na,3,4\n", ["model 'a' has two rows (line 2 and line 3)"]),
        ("model,x,y\na,1,b\n", ["line 2, column 'y' of a: 'b' is not a finite number"]),
        ("model\na\n", ["'model'", "is neither"]),
        ("source,target,score\na,t,1\n", ["no column 'value', it has source, target, score"]),
        ("Source,Target,Value\na,t,1\n", ["no column 'source', it has Source, Target, Value"]),
    ],
)
def test_mistakes_in_models_by_datasets(tmp_path: Path, content: str, words: list[str]):
    path = table(tmp_path / "w.csv", content)
    refused(lambda: import_truth(path), "w.csv", *words)


def test_parquet_with_names_that_are_numbers_or_an_index(tmp_path: Path):
    frame = pd.DataFrame({"source": [1, 2], "target": [7, 7], "value": [0.5, 0.25]})
    frame.to_parquet(tmp_path / "t.parquet")
    truth = read_truth("t.parquet", tmp_path)
    assert truth.sources == ("1", "2") and truth.targets == ("7",)
    wide = pd.DataFrame({"x": [0.1, 0.2]}, index=pd.Index(["a", "b"], name="model"))
    for name in ("model", None):
        wide.rename_axis(name).to_parquet(tmp_path / "w.parquet")
        assert import_truth(tmp_path / "w.parquet").sources == ("a", "b")
    table(tmp_path / "bad.parquet", "PAR1 is not enough")
    refused(lambda: read_truth("bad.parquet", tmp_path), "bad.parquet", "not a readable Parquet")


def test_comments_are_the_origin_where_there_is_no_header(tmp_path: Path):
    table(tmp_path / "t.csv", "# Accuracy.\n# Somebody, 2020.\n" + PLAIN)
    assert read_truth("t.csv", tmp_path).origin == "Accuracy. Somebody, 2020."
    assert "Somebody, 2020." in import_truth(tmp_path / "t.csv").origin
    table(tmp_path / "t.yaml", "origin: another\n")
    assert read_truth("t.csv", tmp_path).origin == "another"


def test_seeds_beside_a_truth(tmp_path: Path):
    table(tmp_path / "t.csv", PLAIN)
    lines = PLAIN.replace(",", ";").splitlines()[1:]
    rows = [f"{line};{seed}" for line in lines for seed in (10, 9)]
    table(tmp_path / "t.seeds.csv", "\r\n".join(["source;target;value;seed", *rows]))
    seeds = read_truth("t.csv", tmp_path).seeds
    assert seeds is not None and seeds.shape == (2, 2, 2)


def test_accuracies_of_layers(tmp_path: Path):
    """Names that look like numbers, decimal commas, gaps; a row twice is told, not averaged."""
    head = "source;layer;fraction;seed;accuracy\n"
    table(tmp_path / "a.csv", head + "001;1;0,1;0;0,5\n001;NA;0,1;0;\nscratch;;0,1;0;0,25\n")
    found = read_accuracies(tmp_path / "a.csv")
    assert found["source"].tolist() == ["001", "scratch"] and found["layer"].tolist() == ["1", ""]
    assert found["accuracy"].tolist() == [0.5, 0.25]
    table(tmp_path / "b.csv", head + "a;1;0,1;0;0,5\nb;1;0,1;0;0,5\na;1;0,1;0;0,7\n")
    refused(lambda: read_accuracies(tmp_path / "b.csv"), "a, layer '1'", "line 2 and line 4")
    table(tmp_path / "c.csv", head + "a;1;0,1;x;0,5\n")
    refused(lambda: read_accuracies(tmp_path / "c.csv"), "line 2, column 'seed' of a", "'x'")


@pytest.mark.skipif(not TRUTHS.is_dir(), reason="the published tables are not on this machine")
def test_published_tables_are_read_as_they_are():
    for path in sorted(TRUTHS.glob("*.csv")):
        if "scores" in path.name:
            refused(lambda path=path: read_truth(str(path), Path()), "given twice (line")
            continue
        truth = read_truth(str(path), Path())
        expected = pd.read_csv(path, comment="#", dtype=str, keep_default_na=False)
        assert np.isfinite(truth.value).sum() == len(expected) and truth.origin
        assert set(truth.sources) == set(expected["source"])


NAMES = st.text("ab0,;\t\"' #é", min_size=1, max_size=5).filter(str.strip)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.lists(st.tuples(NAMES, NUMBERS), min_size=1, max_size=4),
    st.sampled_from([",", ";", "\t"]),
    st.booleans(),
)
def test_what_pandas_writes_is_read(rows: list[tuple[str, float]], separator: str, index: bool):
    """Whatever the names hold, the separator among it: the same names, and numbers to the bit."""
    frame = pd.DataFrame(rows, columns=["source", "value"])
    parsed = parse(frame.to_csv(sep=separator, index=index), "x")
    cells = {n: [row[i] for row in parsed.rows] for i, n in enumerate(parsed.columns)}
    found = Rows("x", cells, [f"line {line}" for line in parsed.lines])
    assert found.cells["source"] == [name.strip() for name, _ in rows]
    assert found.numbers("value").tolist() == [value for _, value in rows]
    assert found.places == [f"line {i + 2}" for i in range(len(rows))]


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path):
    refused(lambda: read_rows(tmp_path / "no.csv", "labels: no.csv", "check it"), "No such file")
    refused(lambda: read_rows(tmp_path, "labels: x", "check it"), "a directory")
