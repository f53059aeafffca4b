"""What was compared, how long it took, and the best sources of every target."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from depara_bench.report.data import ReportData
from depara_bench.report.render import both
from depara_bench.report.section import Section

TOP = 5


@dataclass(frozen=True)
class Place:
    """One source in the ranking of a target; share: 0 = lowest, 1 = highest of all pairs."""

    source: str
    value: float
    share: float


def headline(data: ReportData) -> Section:
    """The summary, first of all sections."""
    names = set(data.targets) | set(data.sources)
    failures = len(data.records("failures"))
    best = top_sources(data, TOP)
    pairs = [(place.value, target, place.source) for target, p in best for place in p[:1]]
    html, markdown = both(
        "headline",
        status=str(data.get("status", default="unknown")),
        models=len(names),
        attempted=len(names) + failures,
        failures=failures,
        images=data.get("probe", "count"),
        targets=len(data.targets),
        sources=len(data.sources),
        seconds=elapsed(data),
        engine=data.get("engine", "name"),
        workers=data.get("engine", "workers"),
        primary=data.primary,
        closest=max(pairs, key=lambda pair: pair[0]) if pairs else None,
        top=TOP,
        best=best[: len(data.shown_targets)],
        hidden=len(data.targets) - len(data.shown_targets),
    )
    return Section("summary", "Summary", html, markdown)


def top_sources(data: ReportData, count: int) -> list[tuple[str, list[Place]]]:
    """By target, in the order of the zoo, its best `count` sources under the primary method."""
    matrix, ranking = data.matrix(data.primary), data.ranking(data.primary)
    found = []
    for target in data.targets:
        rows = ranking.get(target)
        places = []
        if rows is not None:
            head = rows.head(count)
            places = [
                Place(str(source), float(value), matrix.share(float(value)))
                for source, value in zip(head["source"], head["value"], strict=True)
            ]
        found.append((target, places))
    return found


def elapsed(data: ReportData) -> float | None:
    """Seconds from start to finish, or of all stages where the record does not say; None where it
    says neither. The report's own time is not known when it is written, and left out.
    """
    try:
        started, finished = (datetime.fromisoformat(data.get(k)) for k in ("started", "finished"))
        return max((finished - started).total_seconds(), 0.0)
    except (TypeError, ValueError):
        stages = data.get("seconds", default={})
        return float(sum(v for k, v in stages.items() if k != "report")) if stages else None
