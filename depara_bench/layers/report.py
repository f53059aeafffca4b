"""The pages on a layer selection: one figure a source of similarity and accuracy by layer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from depara_bench.layers.judge import CEILING, DEPTH, RANDOM, Layers
from depara_bench.report.figures.canvas import inline
from depara_bench.report.figures.curves import COLOURS, PAPER_GREY, Curve, Scale, curves, span
from depara_bench.report.markdown import Raw
from depara_bench.report.render import both, moment, number, render
from depara_bench.sweep import LAMBDAS

LAYERS = "layers.parquet"
EVALUATION = "evaluation.parquet"
SWEEP = "lambda.parquet"
ACCURACIES = "accuracies.parquet"


@dataclass(frozen=True)
class Source:
    """Of one source, layer by layer (K): nodes and edges; and by fraction what of the resamples is
    drawn of depara, its ends (None where there were no resamples).
    """

    names: tuple[str, ...]
    depths: tuple[int, ...]
    nodes: np.ndarray
    edges: np.ndarray
    ends: Mapping[str, tuple[np.ndarray, np.ndarray] | None]


@dataclass(frozen=True)
class LayersReport:
    """record: run.json. layers: by source. weights, fractions: lambda and share, by fraction.
    accuracies (seeds, K): by source and fraction; scratch: by fraction; evaluation and sweep: see
    judge.py. Without a truth these are empty, or None.
    """

    record: Mapping[str, Any]
    layers: Mapping[str, Source]
    weights: Mapping[str, float]
    fractions: Mapping[str, float]
    accuracies: Mapping[tuple[str, str], np.ndarray]
    scratch: Mapping[str, float]
    evaluation: pd.DataFrame | None
    sweep: pd.DataFrame | None


def from_tables(record: Mapping[str, Any], found: Mapping[str, pd.DataFrame]) -> LayersReport:
    """What a report is made of: run.json, and the tables by the names of their files, of which all
    but the first are there with a truth only.
    """
    job = record["job"]
    layers = {
        str(source): _source(rows) for source, rows in found[LAYERS].groupby("source", sort=False)
    }
    return LayersReport(
        record=record,
        layers=layers,
        weights=job["lambda"],
        fractions=job["measure"]["fractions"],
        accuracies=_accuracies(found[ACCURACIES]) if ACCURACIES in found else {},
        scratch=record.get("scratch", {}),
        evaluation=found.get(EVALUATION),
        sweep=found.get(SWEEP),
    )


def _source(rows: pd.DataFrame) -> Source:
    by = {str(method): own for method, own in rows.groupby("method", sort=False)}
    nodes, ends = by["depara-nodes"], {}
    for fraction, own in by["depara"].groupby("fraction", sort=False):
        low, high = (own[end].to_numpy(np.float64) for end in ("low", "high"))
        ends[str(fraction)] = (low, high) if np.isfinite(low).all() else None
    return Source(
        names=tuple(nodes["layer"]),
        depths=tuple(int(depth) for depth in nodes["depth"]),
        nodes=nodes["value"].to_numpy(np.float64),
        edges=by["depara-edges"]["value"].to_numpy(np.float64),
        ends=ends,
    )


def accuracy_table(
    accuracies: Mapping[tuple[str, str], np.ndarray], layers: Mapping[str, Layers]
) -> pd.DataFrame:
    """source, layer, fraction, measurement (int32, 1 is the first seed's), accuracy."""
    rows = [
        (source, layer, fraction, number_, accuracy)
        for (source, fraction), seeds in accuracies.items()
        for number_, own in enumerate(seeds, start=1)
        for layer, accuracy in zip(layers[source].names, own, strict=True)
    ]
    columns = ["source", "layer", "fraction", "measurement", "accuracy"]
    return pd.DataFrame(rows, columns=columns).astype({"measurement": np.int32})


def _accuracies(table: pd.DataFrame) -> dict[tuple[str, str], np.ndarray]:
    """Accuracies (seeds, K) by source and fraction."""
    return {
        (str(source), str(fraction)): rows["accuracy"]
        .to_numpy(np.float64)
        .reshape(int(rows["measurement"].max()), -1)
        for (source, fraction), rows in table.groupby(["source", "fraction"], sort=False)
    }


def layers_report(data: LayersReport) -> dict[str, str]:
    """Content by path: figures/*.svg, report.md, report.html."""
    drawn = {f"layers-{_slug(s)}": _by_layer(data, s) for s in data.layers}
    lambdas = {} if data.sweep is None else _lambda_figures(data.sweep)
    inlined = {name: inline(svg) for name, svg in {**drawn, **lambdas}.items()}
    job = data.record["job"]
    html, markdown = both(
        "layers",
        inlined,
        figures_by_source=list(zip(drawn, data.layers, strict=True)),
        lambda_figures=list(lambdas),
        target=job["target"],
        target_layer=data.record["target_layer"],
        probe=data.record["probe"],
        settings=_settings(data),
        fractions=[(name, f"{100 * share:g} %") for name, share in data.fractions.items()],
        judged=_judged(data),
        layer_tables=_layer_tables(data),
        scratch=[f"{name}: {value:.3f}" for name, value in data.scratch.items()],
        zeros=[f"{where}: {count}" for where, count in data.record["zeros"].items()],
        seeds=max((len(found) for found in data.accuracies.values()), default=0),
    )
    context = {
        "title": str(job["name"]),
        "status": str(data.record["status"]),
        "started": moment(data.record["started"]),
        "finished": moment(data.record["finished"]),
        "version": data.record["versions"].get("depara-bench", ""),
    }
    title = "Which layer to transfer from?"
    section = [("layers", title, Markup(html))]  # noqa: S704 - made and escaped by a template
    page = render("page.html.j2", sections=section, **context)
    text = render("page.md.j2", sections=[(title, Raw(markdown))], **context)
    text = re.sub(r"\n{3,}", "\n\n", text).strip()
    pages = {f"figures/{name}.svg": svg for name, svg in {**drawn, **lambdas}.items()}
    return {**pages, "report.md": text + "\n", "report.html": page + "\n"}


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _by_layer(data: LayersReport, source: str) -> str:
    """Every curve between its own least and largest value: what is compared is where they rise."""
    found = data.layers[source]
    x = np.array(found.depths, dtype=np.float64)
    drawn = []
    for number_, (fraction, weight) in enumerate(data.weights.items()):
        colour = COLOURS[number_ % len(COLOURS)]
        values = found.nodes + weight * found.edges
        low, high = found.ends[fraction] or (None, None)
        title = f"depara, λ = {weight:g} ({fraction})"
        drawn.append(_scaled(title, x, values, low, high, colour, (0, (4, 2))))
        accuracy = data.accuracies.get((source, fraction))
        if accuracy is not None:
            mean, least, most = accuracy.mean(axis=0), accuracy.min(axis=0), accuracy.max(axis=0)
            drawn.append(_scaled(f"accuracy, {fraction}", x, mean, least, most, colour, "solid"))
    for title, values, colour in (
        ("nodes", found.nodes, PAPER_GREY),
        ("edges", found.edges, COLOURS[3]),
    ):
        drawn.insert(0, _scaled(title, x, values, None, None, colour, (0, (1, 2))))
    across = Scale("layer, by depth", float(x[0]), float(x[-1]), at=tuple(x))
    up = Scale("share of each curve's own range", -0.25, 1.25, at=(0.0, 0.5, 1.0))
    name = f"layers-{_slug(source)}"
    return curves(drawn, across, up, name, f"Similarity and accuracy by layer of {source}")


def _scaled(
    title: str,
    x: np.ndarray,
    values: np.ndarray,
    low: np.ndarray | None,
    high: np.ndarray | None,
    colour: str,
    dash: str | tuple[float, tuple[float, ...]],
) -> Curve:
    least, span_ = float(values.min()), float(np.ptp(values)) or 1.0
    shown = (values - least) / span_
    below, above = (None if end is None else (end - least) / span_ for end in (low, high))
    label = f"{title}: {number(least)} to {number(float(values.max()))}"
    marks = dash == "solid"
    return Curve(label, x, shown, below, above, colour=colour, dash=dash, marks=marks)


def _lambda_figures(table: pd.DataFrame) -> dict[str, str]:
    """Spearman against lambda, all sources and fractions in one."""
    rows = table[(table["metric"] == "spearman") & (table["lambda"] > 0)]
    drawn = []
    for place, ((source, fraction), own) in enumerate(
        rows.groupby(["source", "fraction"], sort=False)
    ):
        x, y = own["lambda"].to_numpy(np.float64), own["value"].to_numpy(np.float64)
        drawn.append(Curve(f"{source}, {fraction}", x, y, colour=COLOURS[place % len(COLOURS)]))
    across = Scale("λ, weight of the edges", LAMBDAS[1], LAMBDAS[-1], log=True)
    title = "Spearman with the accuracy over layers, against λ"
    return {
        "layers-lambda": curves(drawn, across, span("Spearman", drawn, 0.0), "layers-lambda", title)
    }


_ORDER = ("depara", "depara-nodes", "depara-edges", DEPTH, RANDOM, CEILING)


def _judged(data: LayersReport) -> list[tuple[str, str, list[str], list[list[str]]]]:
    """A table for each fraction: method by method, its scores on each source."""
    if data.evaluation is None:
        return []
    found = []
    for fraction in data.weights:
        rows = data.evaluation[data.evaluation["fraction"] == fraction]
        cells: list[list[str]] = []
        for source in data.layers:
            for method in _ORDER:
                here = rows[(rows["source"] == source) & (rows["method"] == method)]
                by = {row["metric"]: row for _, row in here.iterrows()}
                if not by:
                    continue
                first = next(iter(by.values()))
                cells.append(
                    [
                        source,
                        method,
                        _bracket(by.get("spearman"), "low", "high"),
                        _range(by.get("spearman")),
                        _plain(by.get("spearman-ordinal")),
                        _percent(by.get("regret")),
                        str(first["layer"]) if isinstance(first["layer"], str) else "–",
                    ]
                )
        headers = [
            "source", "method", "Spearman [over images]", "over seeds", "ties as published",
            "regret, points", "layer picked",
        ]  # fmt: skip
        share = f"{100 * data.fractions[fraction]:g} % of the target's images"
        found.append((fraction, share, headers, cells))
    return found


def _bracket(row: Any, low: str, high: str) -> str:
    if row is None:
        return "–"
    if not np.isfinite(row[low]):
        return f"{row['value']:.3f}"
    return f"{row['value']:.3f} [{row[low]:.3f}, {row[high]:.3f}]"


def _range(row: Any) -> str:
    return "–" if row is None else f"{row['seed_low']:.3f} to {row['seed_high']:.3f}"


def _plain(row: Any) -> str:
    return "–" if row is None else f"{row['value']:.3f}"


def _percent(row: Any) -> str:
    return "–" if row is None else f"{100 * row['value']:.2f}"


def _layer_tables(data: LayersReport) -> list[tuple[str, list[str], list[list[str]]]]:
    """A table for each source: a row a layer."""
    found = []
    for source, own in data.layers.items():
        headers = ["depth", "layer", "nodes", "edges"]
        headers += [f"depara {name}" for name in data.weights]
        headers += [
            f"accuracy {name}" for name in data.weights if (source, name) in data.accuracies
        ]
        rows = []
        for k, (layer, depth) in enumerate(zip(own.names, own.depths, strict=True)):
            row = [str(depth), layer, f"{own.nodes[k]:.3f}", f"{own.edges[k]:.3f}"]
            row += [f"{own.nodes[k] + w * own.edges[k]:.3f}" for w in data.weights.values()]
            for fraction in data.weights:
                accuracy = data.accuracies.get((source, fraction))
                if accuracy is not None:
                    column = accuracy[:, k]
                    row.append(f"{column.mean():.3f} ({column.min():.3f} to {column.max():.3f})")
            rows.append(row)
        found.append((source, headers, rows))
    return found


def _settings(data: LayersReport) -> list[tuple[str, str]]:
    job = data.record["job"]
    edges = job["edges"]
    return [
        ("features", f"{job['activation']}-activation"),
        ("attribution", f"gradient × input of the {job['scalar']}, {job['channels']}"),
        ("edges", f"{'centred' if edges['center'] else 'not centred'}, ties {edges['ties']}"),
        ("λ", ", ".join(f"{name} {weight:g}" for name, weight in data.weights.items())),
        ("probe", f"{data.record['probe']['count']} images, {data.record['probe']['kind']}"),
    ]
