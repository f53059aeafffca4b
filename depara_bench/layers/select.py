"""DEPARA between every layer of the sources and the last layer of the target, as engine tasks."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from depara_bench.engine import Engine, Resources, Slot, Task
from depara_bench.errors import InputError, RunError
from depara_bench.layers.chain import Listed, choose, layer_names
from depara_bench.layers.extract import LayerGraphs, Settings, last_layer, layer_graphs
from depara_bench.layers.job import LayersFile
from depara_bench.layers.judge import Layers
from depara_bench.layers.networks import network, outline
from depara_bench.probe import Probe
from depara_bench.similarity.edges import correlations, unit_ranks
from depara_bench.similarity.gram import Gram, cosines
from depara_bench.similarity.resample import bootstrap_counts, edge_matrices

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Plan:
    """layers: the chosen ones of each source, with their depths; last: the target's last one."""

    file: LayersFile
    probe: Probe
    layers: Mapping[str, list[tuple[str, int]]]
    last: str
    allow_code: bool


def make_plan(file: LayersFile, probe: Probe, *, allow_code: bool = False) -> Plan:
    """Load every network once, choose its layers, and try them on one image: all mistakes are known
    before any work.

    Raises InputError for missing weights, patterns that fit nothing, layers that cannot be used.
    """
    chosen: dict[str, list[tuple[str, int]]] = {}
    for source in file.job.sources:
        model = network(file.spec(source), file.manifest.parent, allow_code)
        listed = choose(model, file.job.layers, source)
        chosen[source] = [(one.name, one.depth) for one in listed if one.chosen]
        _try(file, source, model, [name for name, _ in chosen[source]], probe)
    for source, layers in chosen.items():
        if len(layers) < 3:
            raise InputError(
                f"{file.path}: 'layers' chooses {len(layers)} layers of '{source}'; at least 3 are"
                f" needed to rank them"
            )
    target = network(file.spec(file.job.target), file.manifest.parent, allow_code)
    last = layer_names(target)[-1]
    _try(file, file.job.target, target, [last], probe)
    return Plan(file, probe, chosen, last, allow_code)


def _try(file: LayersFile, name: str, model: nn.Module, layers: list[str], probe: Probe) -> None:
    """Raise what the layers would raise in the run, on the first image of the probe."""
    from depara_bench.preprocess import fit, to_input

    job, spec = file.job, file.spec(name).input
    inputs = to_input([fit(probe.image(0), spec)], spec)
    settings = Settings(
        job.activation, job.scalar, job.channels, job.edges.center, spec.height_width, 1
    )
    layer_graphs(
        model, layers, inputs, None, settings, images=probe.ids[:1], device="cpu", name=name
    )


def listing(file: LayersFile, *, allow_code: bool = False) -> dict[str, list[Listed]]:
    """The layers of each source, and which the job chooses, see `choose`; without its weights where
    it can be built without.
    """
    found = {}
    for name in file.job.sources:
        model = outline(file.spec(name), file.manifest.parent, allow_code)
        found[name] = choose(model, file.job.layers, name)
    return found


@dataclass(frozen=True)
class _Shared:
    plan: Plan
    settings: Settings
    maps: np.ndarray | None  # of the target; None: it is the target's turn


class _Worker:
    """A worker: one network at a time, with all of its layers."""

    def __init__(self, shared: _Shared, slot: Slot) -> None:
        self.shared, self.slot = shared, slot

    def __call__(self, name: str) -> Any:
        """Of the target: Gram matrix and maps of its last layer. Of a source: `LayerGraphs`."""
        from depara_bench.extract import exact_arithmetic
        from depara_bench.preprocess import fit, to_input

        plan, probe = self.shared.plan, self.shared.plan.probe
        spec = plan.file.spec(name)
        model = network(spec, plan.file.manifest.parent, plan.allow_code)
        inputs = to_input([fit(probe.image(i), spec.input) for i in range(len(probe))], spec.input)
        settings, device = self.shared.settings, self.slot.device
        with exact_arithmetic(self.slot.threads):
            if self.shared.maps is None:
                return last_layer(
                    model, plan.last, inputs, settings, images=probe.ids, device=device, name=name
                )
            layers = [layer for layer, _ in plan.layers[name]]
            return layer_graphs(
                model,
                layers,
                inputs,
                self.shared.maps,
                settings,
                images=probe.ids,
                device=device,
                name=name,
            )


@dataclass(frozen=True)
class Selection:
    """layers: similarities by source. zeros: maps that are all zero, and features that are, by
    source and layer, where there are any.
    """

    layers: Mapping[str, Layers]
    zeros: Mapping[str, int]


def select(plan: Plan, engine: Engine, advance: Advance = lambda _: None) -> Selection:
    """Nodes and edges of every chosen layer, and of bootstrap resamples of the probe images.

    Raises RunError when a network failed.
    """
    job = plan.file.job
    sizes = [plan.file.spec(n).input.height_width for n in (*job.sources, job.target)]
    grid = (min(height for height, _ in sizes), min(width for _, width in sizes))
    settings = Settings(
        job.activation, job.scalar, job.channels, job.edges.center, grid, job.batch_size
    )
    shared = _Shared(plan, settings, None)
    last, maps = _run(engine, shared, [job.target], advance)[job.target]
    found = _run(engine, replace(shared, maps=maps), list(job.sources), advance)
    counts = bootstrap_counts(len(plan.probe), job.replicates, job.seed)
    layers, zeros = {}, {}
    for source, graphs in found.items():
        layers[source] = _similarities(plan, graphs, last, counts, plan.layers[source])
        for layer, count in zip(graphs.layers, graphs.zeros, strict=True):
            if count:
                zeros[f"{source} {layer}"] = int(count)
        advance(1)
    return Selection(layers, zeros)


def _run(engine: Engine, shared: _Shared, names: list[str], advance: Advance) -> dict[str, Any]:
    found = {}
    tasks = [Task(name, name, name) for name in names]
    for outcome in engine.run(_Worker, shared, tasks, Resources()):
        if outcome.error is not None:
            raise RunError(f"layers: {outcome.task.key} failed: {outcome.error}")
        found[outcome.task.key] = outcome.value
        advance(1)
    return {name: found[name] for name in names}


def _similarities(
    plan: Plan, graphs: LayerGraphs, last: Gram, counts: np.ndarray, places: list[tuple[str, int]]
) -> Layers:
    job = plan.file.job
    ranks = [unit_ranks(cosines(gram)[0], job.edges.ties) for gram in (*graphs.grams, last)]
    edges = correlations(np.stack(ranks[:-1]), ranks[-1][None])[:, 0]
    weights = counts / counts.sum(axis=1, keepdims=True) if len(counts) else counts
    drawn_edges = np.empty((0, len(edges)))
    if len(counts):
        products = [gram.products for gram in (*graphs.grams, last)]
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            matrices = edge_matrices(products, counts, pool, center=job.edges.center)
        drawn_edges = matrices[:, :-1, -1]
    return Layers(
        names=tuple(name for name, _ in places),
        depths=tuple(depth for _, depth in places),
        nodes=graphs.cosines.mean(axis=1),
        edges=edges,
        drawn_nodes=weights @ graphs.cosines.T,
        drawn_edges=drawn_edges,
    )


def table(selection: Selection, weights: Mapping[str, float]) -> pd.DataFrame:
    """method, source, layer, depth (int32), fraction, lambda, value, low, high: nodes and edges
    (fraction and lambda null), and depara for each fraction. low, high: 95 % bootstrap over the
    probe images, null where none was asked for.
    """
    frames = []
    for source, found in selection.layers.items():
        parts: list[tuple[str, str | None, float, np.ndarray, np.ndarray]] = [
            ("depara-nodes", None, np.nan, found.nodes, found.drawn_nodes),
            ("depara-edges", None, np.nan, found.edges, found.drawn_edges),
        ]
        parts += [
            ("depara", fraction, weight, found.nodes + weight * found.edges,
             found.drawn_nodes + weight * found.drawn_edges)
            for fraction, weight in weights.items()
        ]  # fmt: skip
        for method, fraction, weight, values, drawn in parts:
            ends = np.full((2, len(values)), np.nan)
            if len(drawn):
                ends = np.percentile(drawn, [2.5, 97.5], axis=0)
            frames.append(
                pd.DataFrame(
                    {
                        "method": method,
                        "source": source,
                        "layer": found.names,
                        "depth": np.array(found.depths, dtype=np.int32),
                        "fraction": fraction,
                        "lambda": weight,
                        "value": values,
                        "low": ends[0],
                        "high": ends[1],
                    }
                )
            )
    return pd.concat([frame.astype({"fraction": object}) for frame in frames], ignore_index=True)
