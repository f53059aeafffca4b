"""The input that a model was trained with, as its own library prepares it."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from depara_bench.errors import InputError
from depara_bench.loaders.agreement import Fields, agreeing, fields_of, one_thread, pictures
from depara_bench.loaders.libraries import need, one_line
from depara_bench.loaders.locate import CACHE, config_file


def library_input(
    loader: str,
    architecture: str,
    base: Path,
    where: str,
    weights: str | None = None,
    sha256: str | None = None,
) -> Fields:
    """Fields of an `InputSpec` for a model of torchvision, timm or transformers, after the
    library's own pipeline has been tried and ours gives the same.

    base: the manifest's folder; weights, sha256: as the manifest says. Raises InputError, beginning
    with `where`, when the model is unknown, the library does not say or says what cannot be
    expressed, or its weights of this name take different pictures and `weights` is a file of none.
    """
    with one_thread():
        if loader == "transformers":
            return _transformers(architecture, base, where)
        return _of_weights(loader, architecture, base, where, weights, sha256)


def _of_weights(
    loader: str,
    architecture: str,
    base: Path,
    where: str,
    weights: str | None,
    sha256: str | None,
) -> Fields:
    from depara_bench.loaders.entries import entries_of, entry_of_file

    entries = entries_of(loader, architecture, where)
    if weights in (None, CACHE):
        entries = entries[:1]
    found = {entry.name: _published(loader, entry.content) for entry in entries}
    if weights is not None and len({repr(fields) for fields in found.values()}) > 1:
        entry = entry_of_file(entries, weights, base, sha256, where)
        if entry is None:
            raise InputError(_ambiguous(loader, architecture, weights, found, where))
        found = {entry.name: found[entry.name]}
    fields = next(iter(found.values()), None)
    if fields is None:
        raise InputError(_unsaid(loader, architecture, where))
    return fields


def _unsaid(loader: str, architecture: str, where: str) -> str:
    return (
        f"{where}: {loader} does not say what images '{architecture}' takes, or it cannot be"
        f" expressed here; give 'input'"
    )


def _ambiguous(
    loader: str, architecture: str, weights: str, found: dict[str, Fields | None], where: str
) -> str:
    kinds: dict[str, str] = {}  # one of the weights for each kind of input
    for name, fields in found.items():
        text = yaml.safe_dump(fields, default_flow_style=True, sort_keys=False, width=10_000)
        kinds.setdefault(text.splitlines()[0], name)
    shown = "; ".join(f"{name}: {text}" for text, name in list(kinds.items())[:3])
    more = "; ..." if len(kinds) > 3 else ""
    mend = "give 'input'"
    if loader == "timm":
        mend += f", or the weights' full name as 'architecture' ({next(iter(found))}, ...)"
    return (
        f"{where}: {weights} is none of {loader}'s own files of '{architecture}', whose weights"
        f" take different pictures ({shown}{more}); {mend}"
    )


def _published(loader: str, content: Any) -> Fields | None:
    """Fields that agree with what the library does for one of its weights."""
    if loader == "torchvision":
        preset = content.transforms()
        if type(preset).__name__ != "ImageClassification":
            return None
        return _of_preset(_Same(repr(preset), preset))
    config = need("timm.data", "").resolve_data_config(pretrained_cfg=content.to_dict())
    return _of_config(_Same(repr(sorted(config.items())), config))


class _Same:
    """A library's object with the text that says all of it; equal where that is."""

    def __init__(self, key: str, content: Any) -> None:
        self.key, self.content = key, content

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@lru_cache(maxsize=1024)
def _of_preset(same: _Same) -> Fields | None:
    """For a preset of torchvision: its shorter side is resized, the centre cropped."""
    preset = same.content
    (crop,), (resize,) = preset.crop_size, preset.resize_size
    fields = fields_of(
        (crop, crop),
        resize=resize,
        border=0 if resize < crop else None,
        interpolation=preset.interpolation.value,
        mean=preset.mean,
        std=preset.std,
    )
    return agreeing([fields], [preset(picture).numpy() for picture in pictures()])


@lru_cache(maxsize=1024)
def _of_config(same: _Same) -> Fields | None:
    """For a data configuration of timm."""
    config = same.content
    channels, height, width = config["input_size"]
    if channels != 3:
        return None
    transform = need("timm.data", "").create_transform(**config)
    fields = fields_of(
        (height, width),
        **_timm_geometry(config, (height, width)),
        interpolation=config["interpolation"],
        mean=config["mean"],
        std=config["std"],
    )
    return agreeing([fields], [transform(picture).numpy() for picture in pictures()])


def _timm_geometry(config: dict[str, Any], size: tuple[int, int]) -> Fields:
    height, width = (math.floor(side / config["crop_pct"]) for side in size)
    if config["crop_mode"] == "squash":
        return {} if (height, width) == size else {"resize": (height, width)}
    if config["crop_mode"] == "border":
        colour = [round(255 * value) for value in config["mean"]]
        whole = {} if (height, width) == size else {"resize": (height, width)}
        return {**whole, "fit": "contain", "border": colour}
    border: Fields = {} if height >= size[0] and width >= size[1] else {"border": 0}
    if height == width:
        return {"resize": height, **border}
    return {"resize": (height, width), "fit": "cover", **border}


def _transformers(architecture: str, base: Path, where: str) -> Fields:
    from depara_bench.loaders.processors import FILES, processor_fields, processor_of

    found = (config_file(architecture, base, name) for name in FILES)
    path = next((file for file in found if file is not None), None)
    if path is None:
        raise InputError(_unsaid("transformers", architecture, where))
    try:
        processor = processor_of(path.parent, where)
    except InputError:
        raise
    except Exception as error:  # a file can hold anything
        raise InputError(
            f"{where}: {path} is not understood by transformers ({one_line(error)}); give 'input'"
        ) from error
    fields = processor_fields(processor)
    if fields is None:
        raise InputError(
            f"{where}: what the {type(processor).__name__} of {path} does to a picture cannot be"
            f" expressed; give 'input'"
        )
    return fields
