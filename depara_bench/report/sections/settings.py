"""What was run: settings, hashes, versions, seconds."""

from __future__ import annotations

import json
from typing import Any

from depara_bench.report.data import FIRST, ReportData
from depara_bench.report.render import both, moment
from depara_bench.report.section import Section

_UNKNOWN = "not recorded"


def settings(data: ReportData) -> Section:
    """Everything that decides the numbers, then everything that was recorded."""
    models = model_rows(data)
    seconds = data.get("seconds", default={})
    html, markdown = both(
        "settings",
        choices=choices(data),
        run=run_rows(data),
        # The time of the report is not known while it is written.
        seconds=[(k, f"{v:.1f}") for k, v in seconds.items() if k != "report"],
        versions=list(data.get("versions", default={}).items()),
        models=models[:FIRST] if data.large else models,
        hidden=max(len(models) - FIRST, 0) if data.large else 0,
        job=json.dumps(data.get("job", default={}), indent=1, ensure_ascii=True),
    )
    return Section("settings", "What was run", html, markdown)


def choices(data: ReportData) -> list[tuple[str, str, str]]:
    """(setting, its value, what it means) of what decides the numbers."""
    job = data.get("job", default={})
    probe = {**(job.get("probe") or {}), **data.get("probe", default={})}
    kept = {k: v for k, v in probe.items() if k not in ("skipped", "sha256") and v is not None}
    methods = data.get("job", "attribution", "methods", default=[])
    arguments = data.get("job", "attribution", "arguments", default={})
    center = data.get("job", "edges", "center")
    centring = {True: "yes", False: "no"}.get(center, _UNKNOWN)
    ties = data.get("job", "edges", "ties", default="average")
    preset = job.get("preset")
    return [
        ("preset", preset or "none", "a paper's settings, all together; beside them, the default"),
        ("λ", _text(job.get("lambda")) + _default(preset, job.get("lambda"), 1.0),
         "weight of edges in depara = nodes + λ · edges"),
        ("attribution", _text(methods or None), "the first is the one that depara uses"),
        *[(f"of {name}", _text(given), "its arguments") for name, given in arguments.items()],
        ("scalar", _text(data.get("job", "attribution", "scalar")),
         "of the embedding, whose gradient is attributed"),
        ("channel reduction", _text(data.get("job", "attribution", "channels")),
         "how three colour channels become one map"),
        *[("grid", _text(grid), "height and width that all maps are brought to, by area")
          for grid in [data.get("job", "attribution", "grid")] if grid],
        *[(f"no rule in {name}", f"{len(found)} {'model' if len(found) == 1 else 'models'}",
           f"plain gradient there; the first: {found[0]}") for name, found in _notes(data).items()],
        ("centring", centring, "features minus their mean over the images, before edges"),
        ("ties", f"{ties} ranks{_default(preset, ties, 'average', ' ranks')}",
         "of equal edges, in Spearman's correlation"),
        ("probe", _text(kept or None), "the images every model has seen"),
        ("block size", _text(job.get("block_size")), "images per shard"),
        ("batch size", _text(job.get("batch_size")), "images per forward pass"),
    ]  # fmt: skip


def _default(preset: Any, value: Any, default: Any, unit: str = "") -> str:
    """The corrected setting, where a preset has another."""
    return f" (default {default}{unit})" if preset and value != default else ""


def _notes(data: ReportData) -> dict[str, list[str]]:
    """By attribution method, the models that do what it has no rule for: "model: operations"."""
    found: dict[str, list[str]] = {}
    for model, notes in data.get("attribution_notes", default={}).items():
        for method, places in notes.items():
            found.setdefault(method, []).append(f"{model}: {_text(places)}")
    return found


def run_rows(data: ReportData) -> list[tuple[str, str]]:
    """What identifies the run."""
    engine = data.get("engine", default={})
    rest = [f"{key} {_text(value)}" for key, value in engine.items() if key != "name"]
    shards = data.get("shards", default={})
    return [
        ("job", _text(data.get("job", "name", default=data.get("name")))),
        ("status", _text(data.get("status"))),
        ("started", moment(data.get("started")) or _UNKNOWN),
        ("finished", moment(data.get("finished")) or _UNKNOWN),
        ("engine", ", ".join([_text(engine.get("name")), *rest])),
        ("shards", _text(shards or None)),
        ("zoo", _text(data.get("zoo", "name", default=data.get("job", "zoo")))),
        ("manifest SHA-256", _text(data.get("zoo", "manifest_sha256"))),
        ("probe SHA-256", _text(data.get("probe", "sha256"))),
    ]


def model_rows(data: ReportData) -> list[tuple[str, ...]]:
    """(name, loader, roles, input, embedding, weights' hash) of every model."""
    keys = ("name", "loader", "roles", "input", "embedding")
    return [
        (*(_text(m.get(k), "–") for k in keys), _text(m.get("sha256", m.get("fingerprint")), "–"))
        for m in data.records("zoo", "models")
    ]


def _text(value: Any, unknown: str = _UNKNOWN) -> str:
    """A field of the record in a line."""
    if value is None:
        return unknown
    if isinstance(value, dict):
        return ", ".join(f"{k} {_text(v)}" for k, v in value.items() if v is not None)
    if isinstance(value, list):
        inner = ", ".join(_text(v) for v in value)
        return f"[{inner}]" if all(isinstance(v, (int, float)) for v in value) else inner
    return str(value)
