"""Jobs and manifests: every mistake is one line that names file, field and fix."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from depara_bench.errors import InputError
from depara_bench.job import Job, load_job
from depara_bench.probe import FolderProbe, ListProbe
from depara_bench.zoo import load_zoo

GOOD = """\
name: j
zoo: zoo.yaml
probe:
  kind: folder
  path: images
"""


def loaded(folder: Path, text: str | bytes = GOOD, overrides: Sequence[str] = ()) -> Job:
    path = folder / "job.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_job(str(path), overrides).job


def refused(folder: Path, text: str | bytes, *expected: str, overrides: Sequence[str] = ()) -> str:
    with pytest.raises(InputError) as caught:
        loaded(folder, text, overrides)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    for part in expected:
        assert part in message
    return message


def test_defaults(tmp_path: Path) -> None:
    """A job of three fields gets the documented settings."""
    job = loaded(tmp_path)
    assert job.probe == FolderProbe(kind="folder", path="images", count=None, on_error="fail")
    assert job.attribution.methods == ("input_x_gradient", "saliency")
    assert (job.attribution.scalar, job.attribution.channels) == ("sum", "signed-mean")
    assert (job.edges.center, job.lambda_, job.models) == (True, 1.0, None)
    assert (job.block_size, job.batch_size) == (64, 64)
    assert job.resources.model_dump() == {"gpus": None, "cpus": 1, "workers": None}


def test_lambda_is_its_name(tmp_path: Path) -> None:
    """`lambda` is read and written under that name, in the file and by --set."""
    assert loaded(tmp_path, GOOD + "lambda: -0.5").lambda_ == -0.5
    job = loaded(tmp_path, GOOD, ["lambda=0.27"])
    assert job.lambda_ == 0.27
    assert job.model_dump(by_alias=True)["lambda"] == 0.27


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("blok_size: 3", "blok_size: unknown field; did you mean 'block_size'?"),
        ("qqq: 3", "qqq: unknown field; remove it"),
        ("edges: {centre: true}", "edges.centre: unknown field; did you mean 'center'?"),
        ("lamda: 1", "lamda: unknown field; did you mean 'lambda'?"),
        ("block_size: many", "block_size: input should be a valid integer"),
        ("block_size: 0", "block_size: input should be greater than or equal to 1, not 0"),
        ("block_size: 1.5", "block_size: input should be a valid integer"),
        ("lambda: .nan", "lambda: input should be a finite number, not nan"),
        ("lambda: -.inf", "lambda: input should be a finite number, not -inf"),
        ("lambda: 1.0e+30", "lambda: must be a finite number"),
        ("models: a", "models: input should be a valid tuple, not 'a'"),
        ("models: [yes]", "models.0: input should be a valid string"),
        ('models: ["a\\nb"]', "models.0: 'a\\nb' cannot be a name"),
        ("attribution: {methods: []}", "attribution.methods: Tuple should have at least 1"),
        (
            "attribution: {methods: [salency]}",
            "attribution.methods: no attribution method 'salency'; nearest: saliency",
        ),
        ('attribution: {methods: ["a\\nb"]}', "no attribution method 'a b'"),
        ("attribution: {methods: [saliency, saliency]}", "methods: each method at most once"),
        ("attribution: {scalar: mean}", "attribution.scalar: input should be 'sum' or 'l2norm'"),
        ("edges:", "edges: must hold 'field: value' lines, not NoneType"),
        ("edges: [center]", "edges: must hold 'field: value' lines, not list"),
        ('"a\\nb": 1', "a b: unknown field; remove it"),
        ("resources: {gpus: -1}", "resources.gpus: input should be greater than or equal to 0"),
    ],
)
def test_a_mistake_is_told_in_one_line(tmp_path: Path, text: str, expected: str) -> None:
    """File, field and fix of a mistake."""
    refused(tmp_path, GOOD + text, str(tmp_path / "job.yaml"), expected)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("name: j\n", "", "name: is missing; add it"),
        ("name: j", "name: ../j", "name: '../j' cannot be a name"),
        ("name: j", "name: 5", "name: input should be a valid string, not 5"),
        ("name: j", "name: j\nname: k", "job.yaml:2: 'name' is given twice; mend the YAML"),
        ("  path: images\n", "", "probe.path: is missing; add it"),
        ("kind: folder", "kind: foldr", "probe.kind: 'foldr' is unknown; choose one of"),
        ("  kind: folder\n", "", "probe.kind: is missing; add it"),
        ("  path", "  kind: list\n  path", "job.yaml:5: 'kind' is given twice"),
        (
            "  path",
            "  count: 2\n  path",
            "count: input should be greater than or equal to 3, not 2",
        ),
    ],
)
def test_a_mistake_in_a_needed_field(tmp_path: Path, old: str, new: str, expected: str) -> None:
    """Missing, doubled and wrong needed fields."""
    refused(tmp_path, GOOD.replace(old, new), str(tmp_path / "job.yaml"), expected)


def test_all_mistakes_are_told_but_not_endlessly(tmp_path: Path) -> None:
    """Three mistakes: three told. Thousands: the first ten and how many more, at once."""
    message = refused(tmp_path, GOOD + "a1: 1\nblock_size: 0\nlambda: x")
    assert message.count("; ") == 3  # between three, and before one's fix
    many = "".join(f"k{i}: 1\n" for i in range(2000))
    start = time.perf_counter()
    refused(tmp_path, GOOD + many, "k0: unknown field", "; and 1990 more mistakes")
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "must hold 'field: value' lines, not NoneType"),
        ("# only a comment\n", "must hold 'field: value' lines, not NoneType"),
        ("- a\n- b", "must hold 'field: value' lines, not list"),
        ("just text", "must hold 'field: value' lines, not str"),
        ("name: [unclosed", "mend the YAML"),
        ("name:\n\t- x", "job.yaml:2: found character '\\t'"),
        ("a: *nothing", "job.yaml:1: found undefined alias"),
        ("a: &a [*a]\n" + GOOD, "mend the YAML"),
        ("when: 2024-13-01", "mend the YAML"),
        ('n: !!int ""', "mend the YAML"),
        ("n: !!bool x", "mend the YAML"),
        ("n: !!timestamp x", "mend the YAML"),
        ("n: !!python/object/apply:os.getcwd []", "mend the YAML"),
        ("b: &b {x: 1}\ne: {<<: *b}", "merge keys (<<) are not read; write the fields out"),
        ("? [a, b]\n: 1", "a field's name must be plain text"),
        ("--- {a: 1}\n--- {a: 2}", "mend the YAML"),
        (b"\xff\xfe\x00binary", "is not a text file in UTF-8"),
        (b"name: \x00\x01", "mend the YAML"),
        ("[" * 5000, "mend the YAML"),
    ],
)
def test_what_is_no_job_at_all(tmp_path: Path, content: str | bytes, expected: str) -> None:
    """Empty, not a mapping, not YAML, not text: one line with the file."""
    refused(tmp_path, content, str(tmp_path / "job.yaml"), expected)


def tower(name: str, height: int) -> str:
    """YAML of a few lines that unfolds to 2**height values."""
    steps = [f"{name}0: &{name}0 [x, x]"]
    steps += [f"{name}{i}: &{name}{i} [*{name}{i - 1}, *{name}{i - 1}]" for i in range(1, height)]
    return "\n".join(steps) + "\n"


@pytest.mark.parametrize(
    "text",
    [
        tower("a", 60) + GOOD,
        tower("a", 60) + GOOD + "models: *a59",
        tower("a", 60) + GOOD + "block_size: *a59",
        tower("a", 60) + GOOD + "attribution: {methods: *a59}",
        tower("a", 60) + tower("b", 60) + "k: {? *a59 : 1, ? *b59 : 2}\n" + GOOD,
        tower("a", 60) + GOOD.replace("name: j", "name: *a59"),
    ],
)
def test_a_bomb_of_aliases_is_refused_at_once(tmp_path: Path, text: str) -> None:
    """A small file that unfolds to 2**60 values is refused within a second, in a short line."""
    start = time.perf_counter()
    message = refused(tmp_path, text, overrides=["block_size=3"] if "*a59" not in text else [])
    assert time.perf_counter() - start < 2
    assert len(message) < 3000


# --- --set --------------------------------------------------------------------------------------


def test_set_reads_yaml_values(tmp_path: Path) -> None:
    """Numbers, lists, null, nested fields, and the last one of two counts."""
    job = loaded(
        tmp_path,
        GOOD + "edges: {center: false}",
        [
            "block_size=3",
            "block_size=5",
            "edges.center=true",
            "resources.cpus = 2",
            "models=[a, b]",
            "probe.count=null",
            "attribution.scalar=l2norm",
        ],
    )
    assert (job.block_size, job.edges.center, job.resources.cpus) == (5, True, 2)
    assert (job.models, job.probe.count, job.attribution.scalar) == (("a", "b"), None, "l2norm")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("block_size", "--set block_size: must read key=value"),
        ("=3", "--set =3: must read key=value"),
        ("block_size=[", "--set block_size=[: what follows '=' is not a YAML value"),
        ("name=2024-13-01", "--set name=2024-13-01: what follows '=' is not a YAML value"),
        ("name=!!int x", "is not a YAML value"),
        ("name.first=x", "--set name.first=x: 'name' has no fields of its own"),
        ("blocksize=3", "blocksize: unknown field; did you mean 'block_size'?"),
        ("probe.cont=3", "unknown field; did you mean 'count'?"),
        ("block_size=0", "block_size: input should be greater than or equal to 1, not 0"),
        ("probe.path=null", "probe.path: Input should be a valid string"),
    ],
)
def test_a_mistake_in_set(tmp_path: Path, override: str, expected: str) -> None:
    """A --set that cannot be read, or gives what the field cannot hold."""
    refused(tmp_path, GOOD, expected, overrides=[override])


@pytest.mark.parametrize("linked", [False, True])
def test_paths_of_set_are_the_callers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: bool
) -> None:
    """Paths in the file lie beside it, those of --set where the user stands, through links too."""
    here, jobs = tmp_path / "here", tmp_path / "deep" / "er" / "jobs"
    for folder in (here, jobs):
        folder.mkdir(parents=True)
    for name in ("my images", "2024-01-01", "7", "images"):
        (here / name).mkdir()
    (here / "zoo.yaml").touch()
    monkeypatch.chdir(here)
    if linked:
        (tmp_path / "link").symlink_to(jobs)
        jobs = tmp_path / "link"
    (jobs / "job.yaml").write_text(GOOD)

    def place(*overrides: str) -> Path:
        found = load_job(str(jobs / "job.yaml"), overrides)
        assert isinstance(found.job.probe, FolderProbe)
        return found.base / found.job.probe.path

    assert place() == jobs / "images"
    for value in ("my images", "2024-01-01", "7", "images", str(here / "images")):
        assert place(f"probe.path={value}").samefile(here / Path(value).name)
    assert place('probe.path="my images"').samefile(here / "my images")
    assert place("probe={kind: folder, path: images}").samefile(here / "images")
    found = load_job(str(jobs / "job.yaml"), ["zoo=zoo.yaml"])
    assert (found.base / found.job.zoo).samefile(here / "zoo.yaml")
    assert load_job(str(jobs / "job.yaml"), ["zoo=rooms"]).job.zoo == "rooms"


def test_an_empty_root_stays_empty(tmp_path: Path) -> None:
    """--set probe.root=null takes the root away; it is no folder called null."""
    text = GOOD.replace("folder", "list") + "  root: elsewhere\n"
    job = loaded(tmp_path, text, ["probe.root=null"])
    assert isinstance(job.probe, ListProbe)
    assert job.probe.root is None


# --- where jobs are, and manifests --------------------------------------------------------------


def test_a_job_that_is_not_there(tmp_path: Path) -> None:
    """A path or a name that is no job: one line with it."""
    for reference in (str(tmp_path / "no.yaml"), str(tmp_path), "nojob"):
        with pytest.raises(InputError, match=r": no such job file; give a path, or the name") as e:
            load_job(reference)
        assert str(e.value).startswith(reference)
    assert load_job("rooms").job.name == "rooms"


MODEL = (
    "{name: a, loader: torchvision, architecture: x, seed: 0, input: {size: 8%s}, roles: [source]}"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: z\nmodels: [" + MODEL % ", mean: [.nan, 0, 0], std: [1, 1, 1]" + "]", "not nan"),
        ("name: z\nmodels: [" + MODEL % ", range: [0, .inf]" + "]", "not inf"),
        ("name: z\nmodels: [" + MODEL % "" + ", " + MODEL % "" + "]", "two models are named 'a'"),
        ("name: z\nmodel: []", "model: unknown field; did you mean 'models'?"),
        (tower("a", 60) + "name: z\nmodels: *a59", "aliases (*name) unfold"),
    ],
)
def test_a_mistake_in_a_manifest(tmp_path: Path, text: str, expected: str) -> None:
    """The same for manifests; numbers that are none are refused where they are given."""
    path = tmp_path / "zoo.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_zoo(path)
    assert str(path) in str(caught.value)
    assert expected in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
