"""What went wrong or was left out: failed models, skipped images, zero vectors."""

from __future__ import annotations

from collections.abc import Mapping

from depara_bench.report.data import ReportData
from depara_bench.report.render import both
from depara_bench.report.section import Section

LISTED = 50
"""Most entries of a list; run.json has them all."""


def problems(data: ReportData) -> Section:
    """Each kind counted and listed, or a plain "none"."""
    failures = [(f.get("model", "?"), f.get("error", "")) for f in data.records("failures")]
    skipped = [(s.get("image", "?"), s.get("reason", "")) for s in data.records("probe", "skipped")]
    zeros = zero_counts(data)
    html, markdown = both(
        "problems",
        failures=failures[:LISTED],
        failed=len(failures),
        skipped=skipped[:LISTED],
        skips=len(skipped),
        zeros=zeros[:LISTED],
        zero_rows=len(zeros),
        vectors=sum(count for _, _, count in zeros),
        listed=LISTED,
    )
    return Section("problems", "Failures and omissions", html, markdown)


def zero_counts(data: ReportData) -> list[tuple[str, str, int]]:
    """(method, model, vectors that are all zero), where there are any."""
    zeros = data.get("zeros", default={})
    return [
        (str(method), str(model), int(count))
        for method, counts in zeros.items()
        if isinstance(counts, Mapping)
        for model, count in counts.items()
        if count
    ]
