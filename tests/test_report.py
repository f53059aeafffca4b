from __future__ import annotations

import html.parser
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.cluster.hierarchy import linkage

from depara_bench.errors import InputError
from depara_bench.report import markdown, write_report
from depara_bench.report.data import FIRST, ReportData
from depara_bench.report.figures.dendrogram import brackets
from depara_bench.report.figures.heat import best_columns, dense_heat_map
from depara_bench.report.matrix import Matrix
from depara_bench.report.sketch import same, sketch
from depara_bench.report.tree import NoTree, Tree, grow
from depara_bench.storage import Folder

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "</td><script>alert('x')</script> a|b `c` $\\frac$ \x07\n# d [e](http://f) @g \u202eh"


def affinities(names, targets, seed=0, methods=("depara", "depara-nodes", "depara-edges")):
    """Long-form table C3 with nodes, edges and their sum."""
    rng = np.random.default_rng(seed)

    def cosines():
        vectors = rng.normal(size=(len(names), 6)) + 0.5
        vectors /= np.linalg.norm(vectors, axis=1)[:, None]
        return vectors @ vectors.T

    nodes, edges = cosines(), cosines()
    matrices = {"depara": nodes + edges, "depara-nodes": nodes, "depara-edges": edges}
    return pd.DataFrame(
        [
            (method, t, s, matrices.get(method, nodes)[names.index(t), j])
            for method in methods
            for t in targets
            for j, s in enumerate(names)
        ],
        columns=["method", "target", "source", "value"],
    )


def ranked(affinity):
    """Table C4, slowly."""
    rows = []
    for (method, target), group in affinity.groupby(["method", "target"], sort=False):
        others = group[group.source != target].sort_values("value", ascending=False)
        pairs = zip(others.source, others.value, strict=True)
        rows += [(method, target, rank, s, v) for rank, (s, v) in enumerate(pairs, 1)]
    table = pd.DataFrame(rows, columns=["method", "target", "rank", "source", "value"])
    return table.astype({"rank": "int32"})


def record(names, targets, **changes):
    models = [{"name": n, "loader": "rooms", "sha256": f"{i:064x}"} for i, n in enumerate(names)]
    return {
        "schema": 1,
        "status": "done",
        "started": "2026-11-23T23:00:00+00:00",
        "finished": "2026-11-23T23:02:05+00:00",
        "job": {
            "name": "rooms",
            "lambda": 1.0,
            "attribution": {"methods": ["saliency"], "scalar": "l2norm", "channels": "abs-mean"},
            "edges": {"center": False},
            "probe": {"kind": "rooms", "seed": 3},
            "block_size": 64,
        },
        "zoo": {"name": "rooms", "manifest_sha256": "ab" * 32, "models": models},
        "probe": {"count": 500, "sha256": "cd" * 32, "skipped": []},
        "versions": {"depara-bench": "0.1.0", "torch": "2.15.0"},
        "engine": {"name": "ray", "workers": 2},
        "seconds": {"extract": 20.1, "reduce": 3.0},
        "failures": [],
        "zeros": {"depara-nodes": {}},
        **changes,
    }


def make_run(folder, names, targets, affinity=None, rec=None):
    affinity = affinities(names, targets) if affinity is None else affinity
    folder.mkdir(parents=True, exist_ok=True)
    affinity.to_parquet(folder / "affinity.parquet")
    ranked(affinity).to_parquet(folder / "rankings.parquet")
    rec = record(names, targets) if rec is None else rec
    (folder / "run.json").write_text(json.dumps(rec))
    return folder


def pages(run):
    write_report(Folder(str(run)))
    return (run / "report.html").read_text(), (run / "report.md").read_text()


class Reader(html.parser.HTMLParser):
    """Tags, ids, text per section, and table rows per section of a page."""

    VOID = frozenset({"meta", "br", "link", "img", "hr", "input"})

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.open, self.section = [], [], [], ""
        self.text, self.rows = {}, {}
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "section":
            self.section = dict(attrs)["id"]
        if tag == "tr":
            self.rows.setdefault(self.section, []).append([])
        if tag in ("td", "th"):
            self.rows[self.section][-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text[self.section] = self.text.get(self.section, "") + data
        if {"td", "th"} & set(self.open):
            self.rows[self.section][-1][-1] += " " + data.strip()


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    """A run of 8 models, 6 of them targets, with its pages."""
    names = [f"net_{c}" for c in "hgfedcba"]
    run = make_run(tmp_path_factory.mktemp("run"), names, names[:6])
    return run, names, *pages(run)


def test_sections_and_numbers(rooms):
    run, names, page, text = rooms
    reader = Reader(page)
    keys = ["summary", "reading", "affinity", "tree", "rankings", "problems", "settings"]
    assert [k for k in reader.text if k] == keys
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == re.findall(
        "<h2>(.*)</h2>", page
    )
    summary = " ".join(reader.text["summary"].split())
    assert "8 models × 500 images" in summary
    assert (
        "each of 8 sources serve each of 6 targets? It took 2 min 5 s on the ray engine" in summary
    )
    table = pd.read_parquet(run / "affinity.parquet")
    own = table[(table.method == "depara") & (table.source != table.target)]
    rows = {row[0].strip(): row[1:] for row in reader.rows["summary"]}
    assert list(rows) == ["target", *names[:6]]  # in the order of the zoo
    for target, group in own.groupby("target"):
        best = group.sort_values("value", ascending=False).head(5)
        expected = [f"{s} {v:.3f}" for s, v in zip(best.source, best.value, strict=True)]
        assert [" ".join(cell.split()) for cell in rows[target]] == expected
        assert f"| {target} | {' | '.join(expected)} |" in text
    closest = own.sort_values("value").iloc[-1].value
    assert f"{closest:.3f}." in summary


def test_bars_span_the_pairs_without_self(rooms):
    _, _, page, _ = rooms
    best = page[page.index('class="top"') : page.index("</table>")]
    shares = [float(x) for x in re.findall(r"--share:([\d.]+)%", best)]
    assert len(shares) == 6 * 5 and max(shares) == 100 and min(shares) > 0


def test_full_rankings(rooms):
    run, names, page, text = rooms
    table = pd.read_parquet(run / "rankings.parquet")
    wide = table.pivot(index=["target", "source"], columns="method")
    rows = [row for row in Reader(page).rows["rankings"] if row[0] != " rank"]
    assert len(rows) == 6 * 7 and page.count("<details><summary>net_") == 6
    for place, target in enumerate(names[:6]):
        for rank, row in enumerate(rows[7 * place : 7 * place + 7], 1):
            value = wide.loc[(target, row[1].strip())]
            assert int(row[0]) == rank == value["rank", "depara"]
            shown = [" ".join(cell.split()) for cell in row[2:]]
            assert shown[0] == f"{value['value', 'depara']:.3f}"
            assert shown[1:] == [
                f"{value['value', m]:.3f} # {value['rank', m]:.0f}".replace("# ", "#")
                for m in ("depara-nodes", "depara-edges")
            ]
    assert text.count("| 7 | net") == 6


def test_settings_hashes_versions(rooms):
    _, _, page, text = rooms
    shown = {row[0].strip(): row[1].strip() for row in Reader(page).rows["settings"]}
    assert shown["λ"] == "1.0" and shown["scalar"] == "l2norm" and shown["centring"] == "no"
    assert shown["channel reduction"] == "abs-mean" and shown["ties"] == "average ranks"
    assert (
        shown["probe"] == "kind rooms, seed 3, count 500" and shown["batch size"] == "not recorded"
    )
    for content in ("ab" * 32, "cd" * 32, "2.15.0", "20.1", f"{5:064x}", "ray, workers 2"):
        assert content in page and content in text
    assert "linkage(M / M.max(), 'single', 'euclidean')" in page + text


def test_problems_none_and_counted(rooms, tmp_path):
    for title in ("Models that failed", "Images skipped", "Zero vectors"):
        assert f"{title}: none" in rooms[2] and f"### {title}: none" in rooms[3]
    rec = record(
        ["a", "b"], ["a", "b"], status="partial",
        failures=[{"model": "bad", "error": "out of memory"}],
        probe={"count": 9, "skipped": [{"image": "x.jpg", "reason": "cannot be decoded"}] * 60},
        zeros={"depara-nodes": {"a": 3, "b": 0}, "depara-edges": {"b": 2}},
    )  # fmt: skip
    page, text = pages(make_run(tmp_path, ["a", "b"], ["a", "b"], rec=rec))
    assert "1 of 3 models failed" in page and "1 of 3 models failed" in text
    assert "| bad | out of memory |" in text
    assert "Images skipped: 60" in page and "The first 50 of 60" in page
    assert "### Images skipped: 60" in text and "The first 50 of 60" in text
    assert "Zero vectors: 5" in page and "| depara-nodes | a | 3 |" in text
    assert "| depara-edges | b | 2 |" in text and "| depara-nodes | b |" not in text


def test_heat_map_cells(rooms):
    run, names, _, _ = rooms
    table = pd.read_parquet(run / "affinity.parquet").set_index(["method", "target", "source"])
    for method in ("depara", "depara-nodes", "depara-edges"):
        root = ET.parse(run / f"figures/affinity-{method}.svg").getroot()
        tips = [
            g.find(f"{SVG}title").text
            for g in root.iter(f"{SVG}g")
            if re.fullmatch(rf"affinity-{method}-\d+-\d+", g.get("id", ""))
        ]
        expected = {
            f"target {t}, source {s}: {table.value[method, t, s]:.3f}" + " (self)" * (t == s)
            for t in names[:6]
            for s in names
        }
        assert set(tips) == expected and len(tips) == len(expected)
        own = [
            g for g in root.iter(f"{SVG}g") if (g.findtext(f"{SVG}title") or "").endswith("(self)")
        ]
        assert {g.find(f"{SVG}path").get("style") for g in own} == {"fill: #e9e7e2"}
        texts = [t.text for t in root.iter(f"{SVG}text")]
        assert texts.count("self") == 6 and set(names) <= set(texts)
        pairs = table.value[method].drop([(t, t) for t in names[:6]])
        assert f"{pairs.min():.3f}" in texts and f"{pairs.max():.3f}" in texts


def test_best_cell_and_limits_leave_self_out():
    values = np.array([[9.0, 1.0, 2.0], [3.0, 9.0, np.nan]])
    matrix = Matrix(("a", "b"), ("a", "b", "c"), values)
    assert matrix.limits == (1.0, 3.0) and best_columns(matrix) == {0: 2, 1: 0}
    assert Matrix(("a",), ("a",), np.ones((1, 1))).limits == (0.0, 1.0)


def slow_single_linkage(rows):
    """Heights: repeatedly join the two groups whose nearest members are nearest."""
    groups, heights = [[row] for row in rows], []
    while len(groups) > 1:
        distances = {
            (i, j): min(np.sqrt(((a - b) ** 2).sum()) for a in groups[i] for b in groups[j])
            for i in range(len(groups))
            for j in range(i)
        }
        i, j = min(distances, key=distances.get)
        heights.append(distances[i, j])
        groups[j] += groups.pop(i)
    return heights


@pytest.mark.parametrize("count", [2, 3, 12])
def test_tree_heights(count):
    names = tuple("abcdefghijklmn"[: count + 2])
    table = affinities(names, names[:count], seed=count, methods=("depara",))
    values = table.value.to_numpy().reshape(count, count + 2)
    tree = grow(Matrix(names[:count], names, values))
    scaled = values / values.max()
    np.testing.assert_allclose(tree.heights, linkage(scaled, "single", "euclidean")[:, 2])
    np.testing.assert_allclose(tree.heights, slow_single_linkage(scaled), rtol=1e-12)
    assert sorted(tree.leaves) == list(range(count))
    assert sorted(sum(tree.members()[-1], ())) == sorted(names[:count])


def test_tree_drawing_joins_neighbours():
    rng = np.random.default_rng(1)
    names = tuple(map(str, range(15)))
    tree = grow(Matrix(names, names, rng.random((15, 15))))
    lines = brackets(tree)
    np.testing.assert_allclose(lines[:, 1, 0], tree.heights)
    np.testing.assert_array_equal(lines[:, 1, 0], lines[:, 2, 0])
    order = [names[i] for i in tree.leaves]
    for left, right in tree.members():  # no line crosses another: members stand side by side
        places = sorted(order.index(name) for name in left + right)
        assert places == list(range(places[0], places[-1] + 1))


def test_deep_chain_does_not_recurse():
    values = np.cumsum(np.arange(1, 3001))[:, None] * np.ones((1, 2))
    tree = grow(Matrix(tuple(map(str, range(3000))), ("a", "b"), values))
    assert isinstance(tree, Tree) and brackets(tree).shape == (2999, 4, 2)


@pytest.mark.parametrize(
    ("values", "reason"),
    [([[1.0, 0.5]], "one target"), ([[-1.0, -2], [-3, 0]], "not above zero"),
     ([[1.0, np.nan], [0.2, 1]], "1 of the 4")],
)  # fmt: skip
def test_no_tree_is_said(values, reason, tmp_path):
    names, targets = ["a", "b"], ["a", "b"][: len(values)]
    pairs = [(t, s, values[i][j]) for i, t in enumerate(targets) for j, s in enumerate(names)]
    rows = [("depara", *pair) for pair in pairs if not np.isnan(pair[2])]
    affinity = pd.DataFrame(rows, columns=["method", "target", "source", "value"])
    tree = ReportData({}, affinity, ranked(affinity)).tree
    assert isinstance(tree, NoTree) and reason in tree.reason
    page, text = pages(make_run(tmp_path, names, targets, affinity))
    assert f"No tree. {tree.reason}" in page and f"No tree. {tree.reason}" in text
    assert not (tmp_path / "figures/tree.svg").exists()


@pytest.mark.parametrize("methods", [("depara", "depara-nodes", HOSTILE), ("../" + HOSTILE,)])
def test_hostile_names(methods, tmp_path):
    names = [HOSTILE, "plain", "</svg><b>", "a & b"]
    rec = record(
        names, names, job={"name": HOSTILE}, status="partial",
        failures=[{"model": HOSTILE, "error": HOSTILE}],
        probe={"count": 1, "skipped": [{"image": HOSTILE, "reason": HOSTILE}]},
        zeros={HOSTILE: {HOSTILE: 1}}, versions={HOSTILE: HOSTILE}, engine={"name": HOSTILE},
    )  # fmt: skip
    affinity = affinities(names, names, methods=methods)
    page, text = pages(make_run(tmp_path, names, names, affinity, rec))
    reader = Reader(page)
    assert "script" not in reader.tags and "b" in reader.tags
    assert {t for t in reader.tags if t in ("img", "iframe", "link", "object")} == set()
    assert any("<script>alert('x')</script> a|b" in cell for cell in reader.rows["problems"][1])
    for svg in (tmp_path / "figures").iterdir():
        root = ET.parse(svg).getroot()
        assert not {e.tag for e in root.iter()} & {f"{SVG}script", f"{SVG}b"}
    # Code shows what it holds.
    outside = re.sub(r"```json.*?```", "", text, flags=re.DOTALL)
    outside = re.sub(r"(?<!\\)`[^`\n]*(?<!\\)`", "", outside)
    assert "<summary>&lt;/td&gt;&lt;script&gt;" in outside
    outside = re.sub("<summary>.*", "", outside)  # HTML, in which Markdown means nothing
    assert "<script" not in outside and "@g" not in outside
    links = re.findall(r"(?<!\\)\]\((.*?)\)", outside)
    assert links and all(re.fullmatch(r"figures/[\w-]+\.svg", link) for link in links)
    assert "\n# d" not in text and not set("\x07\u202e") & set(page + text)
    widths = {  # every row of a table has as many cells as its head
        len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()})
        for block in re.findall(r"(?:^\|.*\n)+", outside, flags=re.MULTILINE)
    }
    assert widths == {1}


def test_markdown_escape():
    assert markdown.escape("segment_2d") == "segment_2d"
    assert markdown.escape("_a_ *b* a|b\nc <d> &") == r"\_a\_ \*b\* a\|b c &lt;d&gt; &amp;"
    assert markdown.escape("\\|") == "\\\\\\|"


def test_same_bytes_again(rooms, tmp_path):
    run, names, _, _ = rooms
    again = make_run(tmp_path, names, names[:6])
    # The time of the report itself is noted after it is written, and must not change the next.
    rec = json.loads((again / "run.json").read_text())
    rec["seconds"]["report"] = 1.25
    (again / "run.json").write_text(json.dumps(rec))
    write_report(Folder(str(again)))
    made = sorted(
        p.relative_to(run) for p in run.rglob("*") if p.suffix in (".svg", ".html", ".md")
    )
    assert len(made) == 6
    for path in made:
        assert (run / path).read_bytes() == (again / path).read_bytes(), path
    assert not [p for p in again.rglob("*") if p.name.endswith(".tmp")]


def test_links_and_no_outside_world(rooms):
    run, _, page, text = rooms
    links = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", text)
    assert len(links) == 4 and all((run / link).is_file() for link in links)
    reader = Reader(page)
    refs = [v for k, v in reader.attributes if k in ("href", "src", "xlink:href")]
    assert refs and all(v.startswith("#") for v in refs)
    assert "script" not in reader.tags and "@import" not in page
    assert not re.search(r"url\((?!#)", page)
    ids = [v for k, v in reader.attributes if k == "id"]
    assert len(ids) == len(set(ids)) and {v[1:] for v in refs} <= set(ids)


def test_many_models(tmp_path):
    names = [f"net_{i:03d}" for i in range(61)]
    run = make_run(tmp_path, names, names)
    page, text = pages(run)
    svg = (run / "figures/affinity-depara.svg").read_text()
    assert "net_0" not in svg and svg.count("<image") == 1 and "data:image/png" in svg
    rows = Reader(page).rows
    assert len(rows["summary"]) == 1 + FIRST
    assert len(rows["rankings"]) == FIRST * (1 + FIRST)
    note = f"the first {FIRST} targets of 61"
    for shown in (page, text):
        assert note in shown.lower() and "rankings.parquet" in shown and "affinity.parquet" in shown
    assert len((run / "report.html").read_bytes()) < 1_500_000


def test_dense_map_of_more_than_its_pixels():
    rng = np.random.default_rng(0)
    names = tuple(map(str, range(1300)))
    matrix = Matrix(names[:700], names, rng.random((700, 1300)))
    svg = dense_heat_map(matrix, "x", "t")
    assert svg == dense_heat_map(matrix, "x", "t")
    image = ET.fromstring(svg).find(f".//{SVG}image")
    assert (image.get("width"), image.get("height")) == ("434", "350")  # blocks of 3 and 2


def test_hardly_any_record(tmp_path):
    affinity = affinities(["a", "b", "c"], ["b"], methods=("rsa",))
    run = make_run(tmp_path, [], [], affinity, rec={"name": "bare", "status": "running"})
    page, text = pages(run)
    assert "<h1>bare</h1>" in page and "This run is not complete (status: running)" in page
    assert "Ranked by `rsa`" in text and (run / "figures/affinity-rsa.svg").is_file()


def test_intervals_are_shown(tmp_path):
    affinity = affinities(["a", "b"], ["a"]).assign(low=-0.25, high=0.75)
    page, text = pages(make_run(tmp_path, ["a", "b"], ["a"], affinity))
    assert "[-0.250, 0.750]" in page and "[-0.250, 0.750]" in text


def test_missing_and_damaged_input(tmp_path):
    run = make_run(tmp_path, ["a", "b"], ["a"])
    record = (run / "run.json").read_text()
    (run / "run.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        write_report(Folder(str(run)))
    (run / "run.json").write_text(record)
    (run / "affinity.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"affinity\.parquet"):
        write_report(Folder(str(run)))
    (run / "affinity.parquet").unlink()
    with pytest.raises(InputError, match="reduce"):
        write_report(Folder(str(run)))
    assert not Path(run / "report.html").exists()


def test_an_evaluation_knows_its_affinities_by_the_digits_that_count():
    """What another processor changes (1e-6 of it, in float32) is the same; a changed pair is not,
    nor are other models, or one method more.
    """
    random = np.random.default_rng(0)
    names = [f"m{i}" for i in range(12)]
    rows = [(m, t, s) for m in ("depara", "logme") for t in names for s in names]
    table = pd.DataFrame(rows, columns=["method", "target", "source"])
    table["value"] = random.normal(size=len(table)) * np.where(table["method"] == "logme", 50, 0.1)
    noted = json.loads(json.dumps(sketch(table)))
    for seed in range(50):
        noise = np.random.default_rng(seed).normal(size=len(table))
        assert same(noted, table.assign(value=table["value"] * (1 + 1e-6 * noise)))
    assert same(noted, table.sample(frac=1.0, random_state=1))
    spread = table.groupby("method")["value"].transform("std")
    for row in (0, 17, 200):
        other = table["value"].copy()
        other[row] += 0.1 * spread[row]
        assert not same(noted, table.assign(value=other))
    swapped = table.replace({"source": {"m0": "m1", "m1": "m0"}})
    assert not same(noted, swapped)
    assert not same(noted, table[table["method"] == "depara"]) and not same(None, table)
