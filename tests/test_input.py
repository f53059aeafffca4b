"""What a manifest can say of a model's input: each field does what it says, and no more."""

from __future__ import annotations

import hashlib
import itertools
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import nn

from depara_bench import loaders
from depara_bench.check import Checked, Checker, Shared
from depara_bench.engine import Slot
from depara_bench.errors import InputError
from depara_bench.extract import extract, pixel_ends
from depara_bench.identity import model_identity
from depara_bench.job import AttributionSettings
from depara_bench.loaders.metadata import library_input
from depara_bench.preprocess import fit, to_input
from depara_bench.zoo import (
    ExportedSpec,
    InputSpec,
    PythonSpec,
    TorchscriptSpec,
    TorchvisionSpec,
    load_zoo,
)

SHAPES = [(40, 60), (61, 40), (37, 53), (53, 38), (32, 32), (16, 200), (9, 7), (33, 32)]


def picture(seed: int, rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), dtype=np.uint8)


# --- the picture, as an array ----------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_fields_that_were_there_before_keep_their_numbers(shape: tuple[int, int]) -> None:
    """To the bit: what was done before there was a choice, written down again."""

    def before(image: np.ndarray, size: tuple[int, int], resize: int | None) -> np.ndarray:
        def stretch(image: np.ndarray, height: int, width: int) -> np.ndarray:
            method = Image.Resampling.BILINEAR
            return np.asarray(Image.fromarray(image).resize((width, height), method))

        if resize is None:
            return stretch(image, *size)
        rows, columns = image.shape[:2]
        if rows <= columns:
            image = stretch(image, resize, max(size[1], int(resize * columns / rows)))
        else:
            image = stretch(image, max(size[0], int(resize * rows / columns)), resize)
        top = round((image.shape[0] - size[0]) / 2)
        left = round((image.shape[1] - size[1]) / 2)
        return image[top : top + size[0], left : left + size[1]]

    image = picture(sum(shape), *shape)
    for size, resize in (((24, 24), None), ((24, 24), 27), ((20, 24), 24), ((24, 17), 31)):
        spec = InputSpec(
            size=size, resize=resize, range=(-1, 1), mean=(0.1, 0.2, 0.3), std=(2.0, 0.7, 0.3)
        )
        expected = before(image, size, resize)
        assert np.array_equal(fit(image, spec), expected)
        batch = torch.tensor(expected[None]).permute(0, 3, 1, 2).to(torch.float32)
        batch = batch * (2.0 / 255.0) + -1.0
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (spec.mean, spec.std))
        assert torch.equal(to_input([expected], spec), (batch - mean) / std)


def slowly(image: np.ndarray, spec: InputSpec) -> np.ndarray:
    """Pixel by pixel: which of the resized picture's pixels each of the input's pixels is."""
    rows, columns = image.shape[:2]
    height, width = spec.height_width
    goal = spec.resize if spec.resize is not None else (height, width)
    if spec.fit == "keep":
        size = rows, columns
    elif spec.fit in ("cover", "contain"):
        goal = goal if isinstance(goal, tuple) else (goal, goal)
        share = [goal[0] / rows, goal[1] / columns]
        share = max(share) if spec.fit == "cover" else min(share)
        size = round(rows * share), round(columns * share)
    elif isinstance(goal, int):
        shorter = min(rows, columns)
        size = goal * rows // shorter, goal * columns // shorter
    else:
        size = goal
    method = getattr(Image.Resampling, spec.interpolation.upper())
    whole = np.asarray(Image.fromarray(image).resize(size[::-1], method))

    def begin(have: int, want: int) -> int:
        twice = have - want
        if twice % 2 == 0:
            return twice // 2
        down = (twice - 1) // 2
        if spec.crop == "floor":
            return down
        if twice < 0:  # the smaller half of what is missing comes first
            return down + 1
        return down if down % 2 == 0 else down + 1

    top, left = begin(size[0], height), begin(size[1], width)
    border = np.ones(3, int) * (spec.border if spec.border is not None else 0)
    found = np.zeros((height, width, 3), np.uint8)
    for y, x in itertools.product(range(height), range(width)):
        inside = 0 <= y + top < size[0] and 0 <= x + left < size[1]
        found[y, x] = whole[y + top, x + left] if inside else border
    return found


@pytest.mark.parametrize("crop", ["round", "floor"])
@pytest.mark.parametrize(
    "fields",
    [
        {"size": 24, "resize": 27},
        {"size": 24, "resize": (31, 26), "interpolation": "bicubic"},
        {"size": (24, 17), "resize": 19, "border": 7, "interpolation": "lanczos"},
        {"size": (17, 24), "fit": "cover", "interpolation": "box"},
        {"size": 24, "resize": (29, 25), "fit": "cover", "interpolation": "hamming"},
        {"size": 24, "fit": "contain", "border": (1, 2, 3), "interpolation": "nearest"},
        {"size": 24, "resize": (20, 31), "fit": "contain", "border": 255},
        {"size": (25, 38), "fit": "keep", "border": (9, 8, 7)},
    ],
)
def test_each_way_to_the_size_is_what_it_says(fields: dict[str, Any], crop: str) -> None:
    spec = InputSpec(**fields, crop=crop)
    for shape in SHAPES:
        image = picture(sum(shape), *shape)
        found = fit(image, spec)
        assert found.dtype == np.uint8
        assert np.array_equal(found, slowly(image, spec)), shape


def test_channels_and_their_normalisation() -> None:
    image = picture(1, 5, 7)
    grey = np.asarray(Image.fromarray(image).convert("L"))
    found = to_input([image], InputSpec(size=(5, 7), channels="grey", mean=(0.13,), std=(0.3,)))
    assert found.shape == (1, 1, 5, 7)
    np.testing.assert_allclose(found[0, 0].numpy(), (grey / 255 - 0.13) / 0.3, atol=1e-6)
    mean, std = (0.1, 0.2, 0.3), (1.0, 2.0, 3.0)
    turned = to_input([image], InputSpec(size=(5, 7), channels="bgr", mean=mean, std=std))
    for channel, colour in enumerate((2, 1, 0)):  # mean and std in the model's order
        expected = (image[..., colour] / 255 - mean[channel]) / std[channel]
        np.testing.assert_allclose(turned[0, channel].numpy(), expected, atol=1e-6)
    every = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 256, 3)
    ends = pixel_ends(InputSpec(size=1, channels="grey", range=(0, 255)))
    assert [end.shape for end in ends] == [(1, 1, 1)] * 2
    levels = to_input([every], InputSpec(size=(1, 256), channels="grey", range=(0, 255)))
    np.testing.assert_allclose(levels[0, 0, 0].numpy(), np.arange(256), atol=1e-4)


MODEL = {"name": "a", "loader": "torchvision", "architecture": "resnet18", "roles": ["source"]}


def manifest(folder: Path, **fields: Any) -> Path:
    path = folder / "zoo.yaml"
    path.write_text(yaml.safe_dump({"name": "z", "models": [{**MODEL, **fields}]}))
    return path


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"mean": [0.13], "std": [0.3]}, "mean has length 1, the model's channels (rgb) need 3"),
        ({"mean": [0.13], "std": [0.3]}, "is it a model of 'channels: grey'?"),
        ({"channels": "grey", "mean": [0, 0, 0], "std": [1, 1, 1]}, "(grey) need 1 value; or is"),
        ({"mean": [0.1] * 3, "std": [1]}, "std has length 1"),
        ({"channels": "gray"}, "input.channels: input should be 'rgb', 'bgr' or 'grey', not"),
        ({"interpolation": "cubic"}, "'nearest', 'bilinear', 'bicubic', 'lanczos', 'box' or"),
        ({"resize": 4}, "as in 'border: 0' (black)"),
        ({"resize": [9, 4]}, "resize must not be smaller than size"),
        ({"resize": 9.5}, "resize: must be a whole number of pixels, or [height, width], not 9.5"),
        ({"fit": "contain"}, "fit: contain can leave borders; give their colour"),
        ({"fit": "keep", "border": 0, "resize": 9}, "fit: keep does not resize; leave 'resize'"),
        ({"border": [0, 1]}, "border: must be a level in 0..255, or [red, green, blue], not"),
    ],
)
def test_a_mistake_in_the_input_is_one_line(
    tmp_path: Path, fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError) as caught:
        load_zoo(manifest(tmp_path, seed=0, input={"size": 8, **fields}))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_field_of_a_few_words_names_them(tmp_path: Path) -> None:
    path = manifest(tmp_path, seed=0, input={"size": 8})
    whole = path.read_text()
    for gone, words in (
        ("  roles:\n  - source\n", "roles: is missing; add it, of source, target"),
        ("  loader: torchvision\n", "loader: is missing; add it, of rooms, taskonomy, torchvision"),
    ):
        assert gone in whole
        path.write_text(whole.replace(gone, ""))
        with pytest.raises(InputError, match=words):
            load_zoo(path)


def test_a_fields_value_is_part_of_what_a_model_is(tmp_path: Path) -> None:
    """And what was written before the fields were there stays what it was."""

    def identity(**fields: Any) -> dict[str, Any]:
        path = manifest(tmp_path, seed=0, input={"size": 8, **fields})
        (model,) = load_zoo(path).models
        found = model_identity(model, tmp_path)
        found.pop("versions")
        return found

    assert identity() == {
        "input": {"size": 8, "resize": None, "range": [0.0, 1.0], "mean": None, "std": None},
        "embedding": None, "architecture": "resnet18", "seed": 0, "loader": "torchvision",
        "classes": 1000,
    }  # fmt: skip
    kinds: list[dict[str, Any]] = [
        {}, {"fit": "cover"}, {"fit": "contain", "border": 0}, {"fit": "contain", "border": 1},
        {"fit": "keep", "border": 0}, {"crop": "floor"}, {"interpolation": "bicubic"},
        {"channels": "bgr"}, {"channels": "grey"}, {"layout": "nhwc"}, {"resize": 9},
        {"resize": [9, 9]}, {"clip": [0, 0.5]},
    ]  # fmt: skip
    texts = {json.dumps(identity(**fields), sort_keys=True) for fields in kinds}
    assert len(texts) == len(kinds)
    assert identity(crop="round", interpolation="bilinear", channels="rgb") == identity()


# --- the model that takes it -----------------------------------------------------------------


class Net(nn.Module):
    """A convolution of given weights, in any order of its input's axes."""

    def __init__(self, weight: torch.Tensor, axes: tuple[int, ...] = (0, 1, 2, 3)) -> None:
        super().__init__()
        self.body = nn.Conv2d(weight.shape[1], len(weight), 3, bias=False)
        self.body.weight.data = weight
        self.act = nn.ReLU()
        self.axes = axes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.body(x.permute(self.axes))).mean(dim=[2, 3])


WEIGHT = torch.randn(6, 3, 3, 3, generator=torch.Generator().manual_seed(0))
FACTORIES = f"""
import torch
from {Path(__file__).stem} import Net, WEIGHT
def rgb(): return Net(WEIGHT)
def bgr(): return Net(WEIGHT.flip(1))
def nhwc(): return Net(WEIGHT, (0, 3, 1, 2))
def grey(): return Net(WEIGHT[:, :1])
def four(): return Net(WEIGHT[:, [0, 1, 2, 2]])
def small(): return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 28 * 28, 4))
"""


def spec_of(factory: str, folder: Path, **fields: Any) -> PythonSpec:
    module = f"nets_{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"
    (folder / f"{module}.py").write_text(FACTORIES)
    given = InputSpec(**{"size": 16, **fields})
    return PythonSpec(
        name="m", loader="python", factory=f"{module}:{factory}", input=given, roles=("source",)
    )


def attributed(spec: PythonSpec, folder: Path, methods: list[str]) -> dict[str, np.ndarray]:
    model = loaders.load(spec, folder, allow_code=True)
    images = [picture(i, 16, 16) for i in range(3)]
    settings = AttributionSettings(methods=tuple(methods))
    found = extract(
        model, model, to_input(images, spec.input), methods=settings.made(), scalar="sum",
        channels="signed-mean", ends=pixel_ends(spec.input), batch_size=2, device="cpu", name="m",
    )  # fmt: skip
    return {"feature": found.features, **found.attributions}


METHODS = ["input_x_gradient", "saliency", "integrated_gradients", "smoothgrad"]


def test_one_network_in_four_channel_orders_and_layouts(tmp_path: Path) -> None:
    """The same features and maps, whatever the order in which the model takes the numbers."""
    values = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4)}
    turned = {"mean": (0.6, 0.5, 0.4), "std": (0.4, 0.3, 0.2), "channels": "bgr"}
    methods = METHODS[:3]  # the fourth draws its noise from the pixels in the model's order
    expected = attributed(spec_of("rgb", tmp_path, **values), tmp_path, methods)
    for factory, fields in (("nhwc", {**values, "layout": "nhwc"}), ("bgr", turned)):
        found = attributed(spec_of(factory, tmp_path, **fields), tmp_path, methods)
        for column, rows in expected.items():
            np.testing.assert_allclose(found[column], rows, rtol=1e-4, atol=1e-6)


def test_a_grey_model_gives_maps_of_one_channel(tmp_path: Path) -> None:
    spec = spec_of("grey", tmp_path, channels="grey", mean=(0.5,), std=(0.2,))
    found = attributed(spec, tmp_path, METHODS)
    assert {rows.shape for name, rows in found.items() if name != "feature"} == {(3, 256)}
    inputs = to_input([picture(i, 16, 16) for i in range(3)], spec.input).requires_grad_(True)
    (gradient,) = torch.autograd.grad(Net(WEIGHT[:, :1])(inputs).sum(), inputs)
    expected = (inputs * gradient).flatten(1).detach().numpy()
    np.testing.assert_allclose(found["input_x_gradient"], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("axes", "fields"),
    [((0, 1, 2, 3), {"channels": "grey"}), ((0, 3, 1, 2), {"layout": "nhwc"})],
)
def test_archives_of_such_models(tmp_path: Path, axes: Any, fields: dict[str, Any]) -> None:
    model = Net(WEIGHT[:, :1] if "channels" in fields else WEIGHT, axes).eval()
    given = InputSpec(size=(16, 18), **fields)
    x = to_input([picture(1, 16, 18), picture(2, 16, 18)], given)
    own = x if given.layout == "nchw" else x.permute(0, 2, 3, 1).contiguous()
    program = torch.export.export(model, (own,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, tmp_path / "m.pt2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that other archives are preferred now
        torch.jit.save(torch.jit.trace(model, own), tmp_path / "m.pt")
    common: dict[str, Any] = {"name": "m", "input": given, "roles": ("source",)}
    specs = (
        ExportedSpec(loader="exported", weights="m.pt2", **common),
        TorchscriptSpec(loader="torchscript", weights="m.pt", **common),
    )
    for spec in specs:
        found = loaders.load(spec, tmp_path, allow_code=True)
        torch.testing.assert_close(found(x), model(own))
        assert check(spec, tmp_path).error is None
    other = specs[0].model_copy(update={"input": InputSpec(size=(16, 18), channels="bgr")})
    assert "correct 'input.size' ('channels', 'layout')" in str(check(other, tmp_path).error)


def check(spec: Any, folder: Path) -> Checked:
    return Checker(Shared(folder, True, AttributionSettings()), Slot(device="cpu", threads=1))(spec)


@pytest.mark.parametrize(
    ("factory", "fields", "words"),
    [
        ("grey", {}, "images of 3 x 16 x 16 (Given groups=1, weight of size [6, 1, 3, 3]"),
        ("grey", {}, "set 'channels: grey' in 'input' (it runs with 1 x 16 x 16)"),
        ("rgb", {"channels": "grey"}, "set 'channels: rgb' in 'input'"),
        ("four", {}, "set 'loader: python' and have the factory wrap the model into one that"),
        ("small", {}, "shapes cannot be multiplied"),
        ("small", {}, "images of 3 x 16 x 16"),
        ("small", {}, "set 'size: 28' in 'input' (it runs with 3 x 28 x 28)"),
        ("nhwc", {}, "set 'layout: nhwc' in 'input'"),
        ("rgb", {"layout": "nhwc"}, "leave 'layout: nhwc' out of 'input'"),
    ],
)
def test_images_that_a_model_cannot_take(
    tmp_path: Path, factory: str, fields: dict[str, Any], words: str
) -> None:
    found = check(spec_of(factory, tmp_path, **fields), tmp_path)
    assert found.mistake and found.error is not None
    assert words in found.error and "\n" not in found.error


def test_a_librarys_transformer_takes_images_of_another_size(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    config = {
        "model_type": "vit", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 8, "image_size": 32, "patch_size": 8,
    }  # fmt: skip
    (tmp_path / "vit").mkdir()
    (tmp_path / "vit" / "config.json").write_text(json.dumps(config))
    path = manifest(tmp_path, loader="transformers", architecture="vit", seed=0, input={"size": 64})
    found = check(load_zoo(path).models[0], tmp_path)
    assert found.error is None and found.pixels == 64 * 64  # its positions are interpolated


def test_torchvisions_transformer_is_built_for_the_manifests_size(tmp_path: Path) -> None:
    from torchvision.models import vit_b_32

    torch.manual_seed(0)
    model = vit_b_32(image_size=64)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    path = manifest(tmp_path, architecture="vit_b_32", weights="w.pth", input={"size": 64})
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(loaders.load(load_zoo(path).models[0], tmp_path)(x), model.eval()(x))


# --- whose file it is ------------------------------------------------------------------------


def test_a_files_input_is_that_of_the_weights_it_holds(tmp_path: Path) -> None:
    """By its name, by its hash, and told where neither says and the weights differ."""

    def resize(weights: str | None, sha256: str | None = None) -> int:
        found = library_input("torchvision", "resnet50", tmp_path, "here", weights, sha256)
        return int(found["resize"])

    assert resize("resnet50-0676ba61.pth") == 256
    assert resize("resnet50-11ad3fa6.pth") == 232
    assert resize("mine/resnet50-0676ba61.safetensors") == 256
    assert resize(None) == resize("cache") == 232
    assert resize("renamed.pth", sha256="0676ba61" + "0" * 56) == 256
    with pytest.raises(InputError, match=r"here: weights .*renamed.pth do not exist"):
        resize("renamed.pth")
    (tmp_path / "renamed.pth").write_bytes(b"anything")
    with pytest.raises(InputError) as caught:
        resize("renamed.pth")
    message = str(caught.value)
    for words in ("IMAGENET1K_V1: {size: 224, resize: 256,", "IMAGENET1K_V2", "give 'input'"):
        assert words in message and "\n" not in message
    # One kind of input for all its weights: nothing to choose.
    assert library_input("torchvision", "resnet18", tmp_path, "here", "w.pth")["resize"] == 256


def test_a_file_of_one_of_timms_weights(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")

    def read(architecture: str, weights: str) -> dict[str, Any]:
        return library_input("timm", architecture, tmp_path, "here", weights)

    (tmp_path / "w.pth").write_bytes(b"anything")
    with pytest.raises(InputError, match=r"or the weights' full name as 'architecture' \(resnet50"):
        read("resnet50", "w.pth")
    file = timm.get_pretrained_cfg("resnet50.tv_in1k").url.rpartition("/")[2]
    expected = read("resnet50.tv_in1k", "w.pth")
    assert expected["resize"] == 256 and "interpolation" not in expected
    assert read("resnet50", "resnet50.tv_in1k.safetensors") == expected
    if file:
        assert read("resnet50", file) == expected
    # Of two names, one of which begins with the other.
    stem, tag = "vit_base_patch16_224", "augreg_in21k_ft_in1k"
    longer = read(stem, f"{stem}.{tag}.safetensors")
    assert longer == read(f"{stem}.{tag}", "w.pth")
    assert read(stem, f"{stem}.augreg_in21k.safetensors") == read(f"{stem}.augreg_in21k", "w.pth")


@pytest.fixture(scope="module")
def googlenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of GoogLeNet, at random, under names of a published file and another one."""
    from torchvision.models import googlenet

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("googlenet")
    state = googlenet(init_weights=False).state_dict()
    for name in ("googlenet-1378be20.pth", "mine.pth"):
        torch.save(state, folder / name)
    return folder


def googlenet_spec(**fields: Any) -> TorchvisionSpec:
    return TorchvisionSpec(
        name="m", loader="torchvision", architecture="googlenet", input=InputSpec(size=64),
        roles=("source",), **fields,
    )  # fmt: skip


def test_googlenet_transforms_its_input_where_torchvision_has_it_do_so(googlenet: Path) -> None:
    from torchvision.models import googlenet as build

    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    outputs = {}
    for transform in (True, False):
        model = build(init_weights=False, transform_input=transform)
        model.load_state_dict(torch.load(googlenet / "mine.pth", weights_only=True))
        outputs[transform] = model.eval()(x)
    assert not torch.allclose(outputs[True], outputs[False])
    for spec, transform in (
        (googlenet_spec(weights="googlenet-1378be20.pth"), True),
        (googlenet_spec(weights="googlenet-1378be20.pth", transform_input=False), False),
        (googlenet_spec(weights="mine.pth", transform_input=True), True),
        (googlenet_spec(weights="mine.pth", transform_input=False), False),
    ):
        found = loaders.load(spec, googlenet)
        torch.testing.assert_close(found(x), outputs[transform])
        assert ("transform_input" in model_identity(spec, googlenet)) == transform
    random = googlenet_spec(seed=0)
    assert not loaders.load(random, googlenet).transform_input
    assert "transform_input" not in model_identity(random, googlenet)
    for refused in (loaders.load, model_identity):
        with pytest.raises(InputError, match=r"'transform_input: true' .* or 'transform_input: "):
            refused(googlenet_spec(weights="mine.pth"), googlenet)
    other = TorchvisionSpec(**{**MODEL, "seed": 0, "input": {"size": 8}, "transform_input": True})
    with pytest.raises(InputError, match="of googlenet and inception_v3 alone; remove it"):
        loaders.load(other, googlenet)


@pytest.mark.parametrize("loader", ["torchvision", "timm"])
def test_another_number_of_classes_is_told_with_the_field(loader: str, tmp_path: Path) -> None:
    pytest.importorskip(loader)
    if loader == "timm":
        import timm

        state = timm.create_model("test_resnet", num_classes=7).state_dict()
    else:
        from torchvision.models import resnet18

        state = resnet18(num_classes=7).state_dict()
    torch.save(state, tmp_path / "w.pth")
    architecture = "test_resnet" if loader == "timm" else "resnet18"
    fields = {"loader": loader, "architecture": architecture, "weights": "w.pth"}
    path = manifest(tmp_path, **fields, input={"size": 32})
    with pytest.raises(InputError, match=r"fc.weight \(\[7, .*give 'classes: 7'"):
        loaders.load(load_zoo(path).models[0], tmp_path)
    path = manifest(tmp_path, **fields, classes=7, input={"size": 32})
    loaders.load(load_zoo(path).models[0], tmp_path)


# --- what a manifest leaves out --------------------------------------------------------------


def test_init_writes_inputs_that_are_read_back(command: Callable[..., Any], tmp_path: Path) -> None:
    result = command(
        "zoo", "init", "--from", "torchvision", "--match", "swin_[ts]", "--out", tmp_path / "z.yaml"
    )
    assert result.code == 0
    for model in load_zoo(tmp_path / "z.yaml").models:
        assert model.input.interpolation == "bicubic"
        expected = library_input("torchvision", str(model.name), tmp_path, "here")
        assert model.input == InputSpec(**expected)
