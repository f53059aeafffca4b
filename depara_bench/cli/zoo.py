"""`zoo`: manifests, and the weights they name."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from depara_bench.cli.options import CodeOption, QuietOption, complain, write_text
from depara_bench.errors import InputError, RunError, path_errors
from depara_bench.terminal import Terminal


class Library(str, Enum):
    """Libraries whose models are known by name."""

    torchvision = "torchvision"
    timm = "timm"


ZooArgument = Annotated[str, typer.Argument(help="A manifest, or the name of an embedded zoo.")]


def list_() -> None:
    """The zoos that come with this installation."""
    from depara_bench.embedded import embedded
    from depara_bench.zoo import load_zoo

    table = Table("zoo", "models", "sources", "targets", box=None, header_style="bold")
    for manifest in sorted(embedded("zoo").glob("*/zoo.yaml")):
        zoo = load_zoo(manifest)
        sources, targets = (len(zoo.with_role(role)) for role in ("source", "target"))
        table.add_row(manifest.parent.name, str(len(zoo.models)), str(sources), str(targets))
    Terminal().out.print(table)


def show(zoo: ZooArgument = "rooms") -> None:
    """The models of a zoo, as its manifest says."""
    from depara_bench.zoo import find_manifest, load_zoo

    manifest = find_manifest(zoo, Path())
    table = Table(
        "model", "loader", "weights", "input", "embedding", "roles", box=None, header_style="bold"
    )
    for model in load_zoo(manifest).models:
        height, width = model.input.height_width
        table.add_row(
            Text(model.name),
            model.loader,
            Text(model.weights or "random initialisation"),
            f"{height}x{width}",
            Text(model.embedding or "(output)"),
            ", ".join(model.roles),
        )
    Terminal().out.print(table)


def check(
    zoo: ZooArgument = "rooms",
    allow_code: CodeOption = False,
    methods: Annotated[
        str, typer.Option("--methods", help="Attribution methods to try: a,b.")
    ] = "input_x_gradient,saliency",
) -> None:
    """Verify hashes, load every model, find its embedding, run two images; one table of it all,
    and what an attribution method has no rule for.
    """
    from depara_bench.check import Shared, check_models
    from depara_bench.config import validate
    from depara_bench.engine import Resources
    from depara_bench.engine.local import LocalEngine
    from depara_bench.job import AttributionSettings
    from depara_bench.zoo import find_manifest, load_zoo

    terminal = Terminal()
    manifest = find_manifest(zoo, Path())
    models = load_zoo(manifest).models
    names = [name.strip() for name in methods.split(",") if name.strip()]
    settings = validate(AttributionSettings, {"methods": names}, "--methods")
    shared = Shared(manifest.parent, allow_code, settings)
    with terminal.progress("check", len(models), "models") as advance:
        checked = check_models(models, shared, LocalEngine(), Resources(), advance)
    table = Table("model", "parameters", "features", "map", "result", box=None)
    notes: list[str] = []
    for result in checked:
        numbers = (result.parameters, result.features, result.pixels)
        cells = ["" if result.error else f"{number:,}" for number in numbers]
        table.add_row(
            Text(result.model),
            *cells,
            Text(result.error, style="red") if result.error else Text("right", style="green"),
        )
        for method, places in result.uncovered.items():
            more = f" and {len(places) - 3} more" if len(places) > 3 else ""
            notes.append(f"{result.model}: {method} has no rule for {', '.join(places[:3])}{more}")
    terminal.out.print(table)
    for note in notes:
        terminal.out.print(Text(note), soft_wrap=True)
    wrong = sum(1 for result in checked if result.error)
    if wrong:
        raise InputError(f"{manifest}: {wrong} of {len(checked)} models are not right; see above")


def init(
    library: Annotated[Library, typer.Option("--from", help="Whose models.")],
    out: Annotated[Path, typer.Option("--out", help="Manifest to write: a new .yaml file.")],
    match: Annotated[
        str, typer.Option("--match", help="Pattern of their names, e.g. 'resnet*'.")
    ] = "*",
) -> None:
    """Write a manifest of a library's models, to be edited: where your checkpoints are."""
    from depara_bench.init import manifest

    with path_errors(f"{out}", "choose another --out"):
        if out.exists():
            raise InputError(f"{out}: is there already; choose another --out")
    if out.suffix not in (".yaml", ".yml"):
        raise InputError(f"{out}: a manifest ends in .yaml; choose another --out")
    text, count = manifest(library.value, match, out.stem)
    write_text(out, text)
    Terminal().out.print(Text(f"{out}: {count} models"), soft_wrap=True)


def fetch(
    zoo: ZooArgument,
    mirror: Annotated[
        str | None,
        typer.Option("--mirror", help="URL or folder with the files. (Default: the manifest's.)"),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option("--cache", help="Folder to fill. (Default: the one all runs look into.)"),
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Fetch the weight files of a zoo: resumable, verified by their hashes."""
    from depara_bench import fetch
    from depara_bench.loaders import weights
    from depara_bench.zoo import find_manifest, load_zoo

    terminal = Terminal(quiet)
    manifest = find_manifest(zoo, Path())
    read = load_zoo(manifest)
    source, place = mirror or read.mirror, cache or weights.cache()
    files = fetch.wanted(read, manifest.parent)
    if source is None:
        raise InputError(f"{manifest}: names no 'mirror'; give --mirror URL or FOLDER")
    found = fetch.fetch(files, source, place, terminal)
    for one in found:
        if one.error is not None:
            complain(one.error)
        elif not quiet:
            terminal.out.print(Text(f"{one.path}"), soft_wrap=True)
    missing = [one for one in found if one.error is not None]
    if missing:
        raise RunError(
            f"{manifest}: {len(missing)} of {len(found)} files are missing; fetch again, or put"
            f" them into {place}"
        )
    if place != weights.cache() and not quiet:
        remark = f"runs look into this folder with DEPARA_BENCH_CACHE={place}"
        terminal.err.print(Text(remark), soft_wrap=True)
