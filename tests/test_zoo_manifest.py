"""Every mistake in a manifest is one line: the file, the field, how to mend it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from depara_bench.errors import InputError
from depara_bench.zoo import TorchvisionSpec, find_manifest, load_zoo, select

MODEL = """\
  - name: a
    loader: torchvision
    architecture: resnet18
    seed: 0
    input: {size: 8}
    roles: [source, target]
"""
GOOD = f"name: z\nmodels:\n{MODEL}"


def _message(folder: Path, text: str) -> str:
    path = folder / "zoo.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_zoo(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message.removeprefix(str(path))


def test_a_good_manifest_is_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "zoo.yaml"
    path.write_text(GOOD + MODEL.replace("name: a", "name: b").replace(", target", ""))
    zoo = load_zoo(path)
    assert [model.name for model in zoo.models] == ["a", "b"]
    assert zoo.with_role("target") == ["a"]
    first = zoo.models[0]
    assert isinstance(first, TorchvisionSpec)
    assert (first.seed, first.classes, first.input.height_width) == (0, 1000, (8, 8))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("seed: 0", "seed: 0\n    wieghts: x", "wieghts: unknown field; did you mean 'weights'?"),
        ("seed: 0", "seed: 0\n    zzz: x", "zzz: unknown field; remove it"),
        ("seed: 0", 'seed: 0\n    "a\\nb": x', "a b: unknown field; remove it"),
        ("    loader: torchvision\n", "", "models.0.loader: is missing; add it"),
        ("torchvision", "torchvisio", "models.0.loader: 'torchvisio' is unknown; choose one of"),
        ("    roles: [source, target]\n", "", "roles: is missing; add it"),
        ("[source, target]", "[sorce]", "roles.0: input should be 'source' or 'target'"),
        ("[source, target]", "[source, source]", "roles: each role at most once"),
        ("[source, target]", "[]", "roles: Tuple should have at least 1 item"),
        ("name: a", "name: a/b", "name: 'a/b' cannot be a name"),
        (
            "name: a",
            "name: facebook/dino-vits16",
            "'-' after the first, at most 100; use 'facebook-dino-vits16'",
        ),
        ("name: a", "name: Zoë's net (v2)", "use 'Zoe-s-net-v2'"),
        ("name: a", "name: .hidden", "use 'hidden'"),
        ("name: a", "name: 学", "use 'model-1'"),
        ("seed: 0", "weights: w\n    sha256: ABC", "sha256: 'ABC' is no SHA-256: it has 64 digits"),
        ("seed: 0", "weights: {key: a}", "weights.file: is missing; add it"),
        (
            "seed: 0",
            "weights: {file: w, kye: a}",
            "weights.kye: unknown field; there are file, key",
        ),
        ("seed: 0", "weights: {file: w, key: [a]}", "weights.key: must be text, not ['a']"),
        ("seed: 0", "weights: w\n    strip: a.", "strip: belongs to the weights; write weights: {"),
        ("name: z", "name: z\nmirror: ftp://x", "mirror: 'ftp://x' is no address on the web"),
        (
            "loader: torchvision\n    architecture: resnet18\n    seed: 0",
            "loader: python\n    factory: models.build",
            "factory: 'models.build' names no function",
        ),
        ("    architecture: resnet18\n", "", "architecture: is missing; add it"),
        ("seed: 0", "seed: x", "seed: input should be a valid integer"),
        ("seed: 0", "seed: -1", "seed: input should be greater than or equal to 0, not -1"),
        ("    seed: 0\n", "", "give either 'weights: FILE' or 'seed: NUMBER'"),
        ("seed: 0", "seed: 0\n    weights: w.pth", "give either 'weights: FILE' or"),
        ("seed: 0", "weights: w\n    sha256: abc", "sha256: 'abc' is no SHA-256"),
        ("seed: 0", "seed: 0\n    classes: 0", "classes: input should be greater than or equal to"),
        ("size: 8", "size: 0", "input: size must lie in 1..2048"),
        ("size: 8", "size: big", "input.size"),
        ("size: 8", "size: 8, range: [1, 0]", "range must be [low, high] with low < high"),
        ("size: 8", "size: 8, mean: [0, 0, 0]", "mean and std go together"),
        ("size: 8", "size: 8, mean: [0, 0, 0], std: [0, 1, 1]", "std must be above 0"),
        ("size: 8", "size: 8, resize: 4", "resize must not be smaller than size"),
        ("    seed: 0\n", "    seed: 0\n    seed: 1\n", ":7: 'seed' is given twice"),
        ("name: z", "name: 2024-13-01", "not valid YAML (month must be in 1..12)"),
    ],
)
def test_a_mistake_is_named_with_its_field(
    tmp_path: Path, old: str, new: str, expected: str
) -> None:
    assert GOOD.count(old) == 1
    message = _message(tmp_path, GOOD.replace(old, new))
    assert expected in message
    # Nothing that merely follows from the mistake is told besides it.
    assert "models: Tuple" not in message


def test_two_models_of_one_name(tmp_path: Path) -> None:
    assert "two models are named 'a'; names must differ" in _message(tmp_path, GOOD + MODEL)


@pytest.mark.parametrize("text", ["", "- a", "name: z\nmodels: []", "a: [", "name:\tz\n\tx: ["])
def test_what_is_no_manifest_at_all(tmp_path: Path, text: str) -> None:
    _message(tmp_path, text)


def test_python_objects_in_yaml_are_not_made(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    _message(tmp_path, f"name: !!python/object/apply:pathlib.Path.touch ['{marker}']")
    assert not marker.exists()


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_zoo(tmp_path / "none.yaml")
    (tmp_path / "zoo.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not a text file"):
        load_zoo(tmp_path / "zoo.yaml")


def test_find_manifest(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(GOOD)
    assert find_manifest("mine.yaml", tmp_path) == tmp_path / "mine.yaml"
    with pytest.raises(InputError, match=r"other\.yaml does not exist"):
        find_manifest("other.yaml", tmp_path)
    with pytest.raises(InputError, match="no embedded zoo"):
        find_manifest("no-such-zoo", tmp_path)


def test_select_keeps_the_zoos_order_and_names_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "zoo.yaml"
    path.write_text(GOOD + MODEL.replace("name: a", "name: depth"))
    zoo = load_zoo(path)
    assert [m.name for m in select(zoo, ("depth", "a"), "job").models] == ["a", "depth"]
    with pytest.raises(InputError, match="no model 'dept'; nearest: depth"):
        select(zoo, ("dept",), "job")


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.text(max_size=40), st.integers(0, len(GOOD)))
def test_any_text_is_read_or_refused_in_one_line(tmp_path: Path, text: str, at: int) -> None:
    path = tmp_path / "zoo.yaml"
    path.write_text(GOOD[:at] + text + GOOD[at:], encoding="utf-8", errors="replace")
    try:
        load_zoo(path)
    except InputError as error:
        assert "\n" not in str(error)


def test_weights_may_say_where_in_the_file_they_are(tmp_path: Path) -> None:
    path = tmp_path / "zoo.yaml"
    path.write_text(GOOD.replace("seed: 0", "weights: {file: w.pth, key: teacher, strip: net.}"))
    (model,) = load_zoo(path).models
    assert isinstance(model, TorchvisionSpec)
    assert (model.weights, model.key, model.strip) == ("w.pth", "teacher", "net.")
    assert model.model_dump()["strip"] == "net."
    path.write_text(GOOD.replace("seed: 0", "weights: w.pth"))
    plain = load_zoo(path).models[0].model_dump()
    assert "key" not in plain and "strip" not in plain  # what was computed before keeps its name
