"""Taskonomy's encoders: the checkpoint's layout to the letter, the manifest, fetching the files."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as functional
import yaml
from conftest import ROOT, SHARED, Result
from PIL import Image

from depara_bench import loaders
from depara_bench.engine.local import LocalEngine
from depara_bench.errors import InputError
from depara_bench.job import Job, JobFile, load_job
from depara_bench.loaders.taskonomy import Encoder
from depara_bench.preprocess import to_input
from depara_bench.probes import load_probes_job, run_probes
from depara_bench.storage import Folder
from depara_bench.terminal import Terminal
from depara_bench.zoo import InputSpec, TaskonomySpec, load_zoo

BLOCKS = {1: (64, 3, 2), 2: (128, 4, 2), 3: (256, 6, 1), 4: (512, 3, 1)}
"""Stage: width, blocks, stride of its last block."""


def random_state(seed: int) -> dict[str, torch.Tensor]:
    """A checkpoint's tensors as the public files name them, made here from the layout alone."""
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, torch.Tensor] = {}

    def convolution(name: str, outputs: int, inputs: int, kernel: int) -> None:
        scale = (2 / (inputs * kernel * kernel)) ** 0.5
        shape = (outputs, inputs, kernel, kernel)
        state[f"{name}.weight"] = scale * torch.randn(shape, generator=generator)

    def norm(name: str, channels: int) -> None:
        state[f"{name}.weight"] = 0.5 + torch.rand(channels, generator=generator)
        state[f"{name}.bias"] = 0.1 * torch.randn(channels, generator=generator)
        state[f"{name}.running_mean"] = 0.1 * torch.randn(channels, generator=generator)
        state[f"{name}.running_var"] = 0.5 + torch.rand(channels, generator=generator)
        state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    convolution("conv1", 64, 3, 7)
    norm("bn1", 64)
    inputs = 64
    for stage, (width, blocks, _) in BLOCKS.items():
        for block in range(blocks):
            at = f"layer{stage}.{block}"
            shapes = ((width, inputs, 1), (width, width, 3), (4 * width, width, 1))
            for i, shape in enumerate(shapes, start=1):
                convolution(f"{at}.conv{i}", *shape)
                norm(f"{at}.bn{i}", shape[0])
            if block == 0:
                convolution(f"{at}.downsample.0", 4 * width, inputs, 1)
                norm(f"{at}.downsample.1", 4 * width)
            inputs = 4 * width
    convolution("compress1", 8, 2048, 3)
    norm("compress_bn", 8)
    return state


def plain_encoder(x: torch.Tensor, state: dict[str, torch.Tensor]) -> torch.Tensor:
    """The network in functions."""

    def conv(x: torch.Tensor, name: str, **options: Any) -> torch.Tensor:
        return functional.conv2d(x, state[f"{name}.weight"].double(), **options)

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        mean, var, weight, bias = (
            state[f"{name}.{part}"].double()[:, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(var + 1e-5) * weight + bias

    x = functional.pad(x, (3, 3, 3, 3))
    x = torch.relu(norm(conv(x, "conv1", stride=2), "bn1"))
    x = functional.max_pool2d(x, 3, stride=2, ceil_mode=True)
    for stage, (_, blocks, last) in BLOCKS.items():
        for block in range(blocks):
            at = f"layer{stage}.{block}"
            stride = last if block == blocks - 1 else 1
            y = torch.relu(norm(conv(x, f"{at}.conv1"), f"{at}.bn1"))
            y = torch.relu(norm(conv(y, f"{at}.conv2", stride=stride, padding=1), f"{at}.bn2"))
            y = norm(conv(y, f"{at}.conv3"), f"{at}.bn3")
            if block == 0:
                x = norm(conv(x, f"{at}.downsample.0"), f"{at}.downsample.1")
            x = torch.relu(y + x[:, :, ::stride, ::stride])
    return torch.relu(norm(conv(x, "compress1", padding=1), "compress_bn"))


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three checkpoints in the public format."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for seed, task in enumerate(("autoencoding", "curvature", "colorization")):
        torch.save({"state_dict": random_state(seed)}, folder / f"{task}.pth")
    return folder


def spec(weights: str, **options: Any) -> TaskonomySpec:
    fields = {"name": "m", "input": InputSpec(size=256, range=(-1, 1)), "roles": ("source",)}
    return TaskonomySpec(loader="taskonomy", weights=weights, **fields, **options)


def test_the_encoder_is_the_plain_network(checkpoints: Path) -> None:
    model = loaders.load(spec("autoencoding.pth"), checkpoints).double()
    x = 2 * torch.rand(2, 3, 64, 96, dtype=torch.float64) - 1
    found, expected = model(x), plain_encoder(x, random_state(0))
    assert found.shape == (2, 8, 4, 6)
    assert expected.gt(0).float().mean() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    normalised = loaders.load(spec("autoencoding.pth", normalize_outputs=True), checkpoints)
    mean, var = expected.mean((2, 3), keepdim=True), expected.var((2, 3), False, keepdim=True)
    wanted = (expected - mean) / torch.sqrt(var + 1e-5)
    torch.testing.assert_close(normalised.double()(x), wanted, rtol=1e-9, atol=1e-9)


def test_every_key_of_the_layout_and_no_other(checkpoints: Path, tmp_path: Path) -> None:
    state = random_state(0)
    model = Encoder(normalize_outputs=True)
    assert list(model.state_dict()) == list(state)
    assert {k: v.shape for k, v in model.state_dict().items()} == {
        k: v.shape for k, v in state.items()
    }
    assert not any(isinstance(m, torch.nn.ReLU) and m.inplace for m in model.modules())

    old = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    torch.save({"state_dict": old}, tmp_path / "old.pth")
    loaders.load(spec("old.pth"), tmp_path)
    for key in ("compress1.weight", "bn1.running_var", "layer3.0.downsample.0.weight"):
        del old[key]
    torch.save({"state_dict": {**old, "decoder.weight": torch.zeros(1)}}, tmp_path / "bad.pth")
    with pytest.raises(InputError) as caught:
        loaders.load(spec("bad.pth"), tmp_path)
    message = str(caught.value)
    lacks = "lacks bn1.running_var, layer3.0.downsample.0.weight, compress1.weight (3 in all)"
    assert lacks in message and "adds decoder.weight (1 in all)" in message
    assert "\n" not in message


def test_the_manifest_is_the_papers_zoo() -> None:
    zoo = load_zoo(ROOT / "zoo" / "taskonomy" / "zoo.yaml")
    names = [model.name for model in zoo.models]
    assert len(names) == 20
    only_sources = set(names) - set(zoo.with_role("target"))
    assert only_sources == {"colorization", "inpainting_whole"}
    assert names.index("colorization") == 7 and names.index("inpainting_whole") == 19
    clipped = [m.name for m in zoo.models if m.input.clip == (0.1, 0.9)]
    assert len(clipped) == 14 and "room_layout" in clipped and "vanishing_point" not in clipped
    for model in zoo.models:
        assert isinstance(model, TaskonomySpec)
        assert model.weights.endswith(f"_encoder-{model.sha256}.pth")
        assert (model.input.height_width, model.input.range) == ((256, 256), (-1.0, 1.0))
        assert not model.normalize_outputs
    assert len({m.weights for m in zoo.models}) == 20
    # The names are those of the truth that comes with the zoo.
    truth = (ROOT / "zoo" / "taskonomy" / "truth" / "affinities-16k.csv").read_text()
    pairs = [line.split(",")[:2] for line in truth.splitlines()[1:]]
    assert {source for source, _ in pairs} == set(names)
    assert {target for _, target in pairs} == set(zoo.with_role("target"))


def test_clipping_comes_before_the_range() -> None:
    image = np.array([0, 25, 26, 128, 229, 230, 255], np.uint8)[None, :, None].repeat(3, axis=2)
    clipped = InputSpec(size=7, clip=(0.1, 0.9), range=(-1, 1))
    expected = 2 * np.clip(image[0, :, 0] / 255.0, 0.1, 0.9) - 1
    found = to_input([image], clipped)[0, 0, 0].double().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.min() == pytest.approx(-0.8) and found.max() == pytest.approx(0.8)


# --- fetching --------------------------------------------------------------------------------

CONTENT = {f"{name}.pth": bytes([i]) * (3_000_000 + i) for i, name in enumerate("abc")}


class Mirror(BaseHTTPRequestHandler):
    """Serves CONTENT, from any byte on; notes what it was asked for."""

    asked: list[tuple[str, str | None]]
    resumes = True
    stop_after: int | None = None

    def do_GET(self) -> None:
        name, begin = self.path.rpartition("/")[2], self.headers.get("Range")
        type(self).asked.append((name, begin))
        content = CONTENT.get(name)
        if content is None:
            self.send_error(404)
            return
        start = int(begin.removeprefix("bytes=").rstrip("-")) if begin and self.resumes else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        self.wfile.write(content[start:][: self.stop_after])

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def mirror() -> Iterator[tuple[str, type[Mirror]]]:
    handler = type("Fresh", (Mirror,), {"asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/files", handler
    server.shutdown()
    server.server_close()


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    models = [
        {
            "name": name.removesuffix(".pth"),
            "loader": "taskonomy",
            "weights": name,
            "sha256": hashlib.sha256(content).hexdigest(),
            "input": {"size": 8},
            "roles": ["source"],
        }
        for name, content in CONTENT.items()
    ]
    path = tmp_path / "zoo.yaml"
    path.write_text(yaml.safe_dump({"name": "z", "models": models}))
    return path


Command = Callable[..., Result]


def there(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_fetch_and_fetch_again(command: Command, zoo: Path, tmp_path: Path, mirror: Any) -> None:
    url, handler = mirror
    cache = tmp_path / "new" / "cache"
    (tmp_path / "b.pth").write_bytes(CONTENT["b.pth"])  # beside the manifest: not fetched
    result = command("zoo", "fetch", zoo, "--mirror", url, "--cache", cache)
    assert result.code == 0, result.err
    assert there(cache) == {name: CONTENT[name] for name in ("a.pth", "c.pth")}
    assert handler.asked == [("a.pth", None), ("c.pth", None)]
    assert result.out.split() == [str(cache / "a.pth"), str(zoo.with_name("b.pth")),
                                  str(cache / "c.pth")]  # fmt: skip
    assert f"DEPARA_BENCH_CACHE={cache}" in result.err
    again = command("zoo", "fetch", zoo, "--mirror", "http://127.0.0.1:9/", "--cache", cache)
    assert again.code == 0 and len(handler.asked) == 2


@pytest.mark.parametrize("resumes", [True, False])
def test_a_download_goes_on_where_it_stopped(
    command: Command, zoo: Path, tmp_path: Path, mirror: Any, resumes: bool
) -> None:
    url, handler = mirror
    handler.stop_after = 2_000_000
    words = ("zoo", "fetch", zoo, "--mirror", url, "--cache", tmp_path / "cache")
    broken = command(*words)
    assert broken.code == 1
    assert "the connection broke off; the same command goes on" in broken.err
    assert "c.pth: not asked for" in broken.err
    assert "3 of 3 files are missing" in broken.err and str(tmp_path / "cache") in broken.err
    assert there(tmp_path / "cache") == {"a.pth.part": CONTENT["a.pth"][:2_000_000]}
    handler.stop_after, handler.resumes = None, resumes
    assert command(*words).code == 0
    assert there(tmp_path / "cache") == CONTENT
    assert ("a.pth", "bytes=2000000-") in handler.asked


def test_wrong_files_and_missing_ones_are_named_and_the_others_fetched(
    command: Command, zoo: Path, tmp_path: Path, mirror: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, _ = mirror
    other = {"a.pth": b"another", "c.pth": CONTENT["c.pth"]}
    right = dict(CONTENT)
    monkeypatch.setattr("test_taskonomy.CONTENT", other)
    result = command("zoo", "fetch", zoo, "--mirror", url, "--cache", tmp_path / "cache")
    assert result.code == 1
    assert f"{url} holds another a.pth than the manifest's 'sha256' says" in result.err
    assert f"{url}/b.pth: answer 404" in result.err
    assert "2 of 3 files are missing" in result.err
    assert there(tmp_path / "cache") == {"c.pth": right["c.pth"]}
    # What is left of a damaged download is not taken for the file, nor gone on from for ever.
    monkeypatch.setattr("test_taskonomy.CONTENT", right)
    (tmp_path / "cache" / "a.pth.part").write_bytes(b"x" * len(right["a.pth"]))
    command("zoo", "fetch", zoo, "--mirror", url, "--cache", tmp_path / "cache")
    assert there(tmp_path / "cache") == right


def test_fetch_from_a_folder(command: Command, zoo: Path, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    for name in ("a.pth", "b.pth"):
        (folder / name).write_bytes(CONTENT[name])
    result = command("zoo", "fetch", zoo, "--mirror", folder, "--cache", tmp_path / "cache")
    assert result.code == 1
    assert f"{folder / 'c.pth'} does not exist; put it there" in result.err
    assert there(tmp_path / "cache") == {name: CONTENT[name] for name in ("a.pth", "b.pth")}


def test_without_network_it_says_which_files_to_put_where(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEPARA_BENCH_CACHE", str(tmp_path / "cache"))
    zoo = load_zoo(ROOT / "zoo" / "taskonomy" / "zoo.yaml")
    result = command("zoo", "fetch", "taskonomy", "--mirror", "http://127.0.0.1:9")
    assert result.code == 1
    assert "no answer (" in result.err
    for model in zoo.models:
        assert str(model.weights) in result.err
    assert f"put them into {tmp_path / 'cache'}" in result.err
    monkeypatch.setenv("COLUMNS", "400")
    check = command("zoo", "check", "taskonomy")
    assert check.code == 2
    for model in zoo.models:
        assert f"{model.weights} do not exist; put the file there or into" in check.out


def test_what_cannot_be_fetched(command: Command, zoo: Path, tmp_path: Path) -> None:
    assert "names no 'mirror'; give --mirror" in command("zoo", "fetch", zoo).err
    content = yaml.safe_load(zoo.read_text())
    for model in content["models"]:
        del model["sha256"]
    zoo.write_text(yaml.safe_dump(content))
    result = command("zoo", "fetch", zoo, "--mirror", tmp_path)
    assert result.code == 2 and "there is nothing to fetch" in result.err
    file = tmp_path / "file"
    file.touch()
    result = command("zoo", "fetch", "taskonomy", "--cache", file / "below")
    assert result.code == 2 and "choose --cache" in result.err


def test_a_fetched_file_is_found_by_its_name_and_hash(
    checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEPARA_BENCH_CACHE", str(checkpoints))
    digest = hashlib.sha256((checkpoints / "curvature.pth").read_bytes()).hexdigest()
    model = loaders.load(spec("curvature.pth", sha256=digest), tmp_path)
    assert torch.equal(model.conv1.weight, random_state(1)["conv1.weight"])
    with pytest.raises(InputError, match="do not exist; put the file there"):
        loaders.load(spec("curvature.pth"), tmp_path)  # by its name alone it could be any file
    with pytest.raises(InputError, match="has SHA-256"):
        loaders.load(spec("curvature.pth", sha256="0" * 64), tmp_path)


# --- the paper's experiment ------------------------------------------------------------------

PHOTOGRAPHS = SHARED / "data" / "visda200" / "test200"


def test_the_papers_jobs() -> None:
    job = load_job("taskonomy").job
    assert (job.zoo, job.preset, job.lambda_) == ("taskonomy", "cvpr-2020", 0.25)
    assert job.attribution.methods == ("input_x_gradient",) and job.edges.ties == "ordinal"
    several = load_probes_job("taskonomy-probes")
    assert several.base.job == job and several.job.truth == "taskonomy"
    assert several.job.lambdas == {"taskonomy": 0.25, "coco": 0.03, "indoor": 0.27}
    assert list(several.job.probes) == list(several.job.lambdas)
    with pytest.raises(InputError, match="lambdas: 'cocoa' is none of the probe sets"):
        load_probes_job("taskonomy-probes", ["lambdas.cocoa=1"])


@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason=f"the photographs are not in {PHOTOGRAPHS}")
def test_the_papers_experiment_on_photographs(
    command: Command, checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random checkpoints in the true format, on images of half the size, which takes a quarter of
    the time; manifest, job and truth as they come, else.
    """
    content = yaml.safe_load((ROOT / "zoo" / "taskonomy" / "zoo.yaml").read_text())
    content["models"] = [
        m for m in content["models"] if m["name"] in ("autoencoder", "curvature", "colorization")
    ]
    for model in content["models"]:
        file = checkpoints / f"{model['weights'].partition('_')[0]}.pth"
        model["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
        model["weights"] = file.name
        model["input"]["size"] = 128
    (tmp_path / "zoo.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.setenv("DEPARA_BENCH_CACHE", str(checkpoints))
    names = sorted(path.name for path in PHOTOGRAPHS.iterdir())[::17][:12]
    (tmp_path / "list.txt").write_text("\n".join(names))
    out = tmp_path / "out"
    changes = [f"zoo={tmp_path / 'zoo.yaml'}", f"probe.path={tmp_path / 'list.txt'}"]
    changes += [f"probe.root={PHOTOGRAPHS}", "block_size=6", "batch_size=6"]
    words = [word for change in changes for word in ("--set", change)]
    result = command("run", "taskonomy", "--out", out, "--engine", "local", *words)
    assert result.code == 0, result.err
    paths = sorted((out / "shards").rglob("*.parquet"))
    shards = [pd.read_parquet(path) for path in paths]
    assert len(shards) == 6 and "curvature" in str(paths[4])
    for shard in shards:
        assert len(shard["feature"].iloc[0]) == 8 * 8 * 8
        assert len(shard["input_x_gradient"].iloc[0]) == 128 * 128
    table = pd.read_parquet(out / "affinity.parquet")
    assert set(table["target"]) == {"autoencoder", "curvature"} and len(set(table["source"])) == 3
    wide = table.pivot(index=["source", "target"], columns="method", values="value")
    own = wide.loc[[("autoencoder", "autoencoder"), ("curvature", "curvature")]]
    np.testing.assert_allclose(own[["depara-nodes", "depara-edges"]], 1.0, atol=1e-6)
    np.testing.assert_allclose(
        wide["depara"], wide["depara-nodes"] + 0.25 * wide["depara-edges"], atol=1e-9
    )
    # The first photograph's map of one model, by hand.
    picture = Image.open(PHOTOGRAPHS / names[0]).convert("RGB").resize((128, 128), 2)
    levels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].double() / 255
    x = (2 * levels.clamp(0.1, 0.9) - 1).requires_grad_(True)
    features = plain_encoder(x, random_state(1))
    (gradient,) = torch.autograd.grad(features.sum(), x)
    expected = (x * gradient).mean(dim=1).flatten().detach().numpy()
    curvature = shards[4]
    assert list(curvature["image"]) == names[:6]
    found = np.stack(curvature["input_x_gradient"].to_numpy())[0].astype(np.float64)
    cosine = found @ expected / np.linalg.norm(found) / np.linalg.norm(expected)
    # Where clipping makes pixels equal, rounding decides which of them a maximum is taken from.
    assert cosine > 0.99
    np.testing.assert_allclose(
        np.asarray(curvature["feature"].iloc[0]), features.detach().flatten().numpy(),
        rtol=1e-3, atol=1e-4,
    )  # fmt: skip
    compared = command("compare", out, "--truth", "taskonomy", "--replicates", "2")
    assert compared.code == 0, compared.err
    report = (out / "report.md").read_text()
    assert "depara-2020" in report  # the published curves stand beside
    assert "cvpr-2020" in report


def test_every_probe_set_has_its_own_lambda(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(3):
        Image.new("RGB", (8, 8), (i, i, i)).save(tmp_path / f"{i}.png")
    (tmp_path / "list.txt").write_text("0.png\n1.png\n2.png\n")
    sets = ("taskonomy", "coco", "indoor")
    file = load_probes_job(
        "taskonomy-probes",
        [*(f"probes.{name}.path={tmp_path / 'list.txt'}" for name in sets), "lambdas={coco: 0.03}"],
    )
    jobs: list[Job] = []

    class Enough(Exception):
        pass

    def stands_for_a_run(one: JobFile, *_: Any) -> None:
        jobs.append(one.job)
        if len(jobs) == len(sets):
            raise Enough

    monkeypatch.setattr("depara_bench.probes.run", stands_for_a_run)
    for part in ("compare_run", "report_run", "read_table"):
        monkeypatch.setattr(f"depara_bench.probes.{part}", lambda *_, **__: None)
    with pytest.raises(Enough):
        run_probes(file, Folder(str(tmp_path / "out")), LocalEngine(), Terminal(quiet=True))
    assert [job.lambda_ for job in jobs] == [0.25, 0.03, 0.25]
    assert {job.preset for job in jobs} == {"cvpr-2020"}
