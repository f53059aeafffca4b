"""The sections of a report, in their order. A new one is a file here and an entry in `SECTIONS`."""

from __future__ import annotations

from collections.abc import Callable

from depara_bench.report.data import ReportData
from depara_bench.report.section import Section
from depara_bench.report.sections.affinity import affinity
from depara_bench.report.sections.evaluation import evaluation
from depara_bench.report.sections.evaluation_sweeps import evaluation_sweeps
from depara_bench.report.sections.headline import headline
from depara_bench.report.sections.league import league
from depara_bench.report.sections.problems import problems
from depara_bench.report.sections.rankings import rankings
from depara_bench.report.sections.reading import reading
from depara_bench.report.sections.settings import settings
from depara_bench.report.sections.tasks import tasks

SECTIONS: tuple[Callable[[ReportData], Section | None], ...] = (
    league,
    headline,
    reading,
    affinity,
    tasks,
    evaluation,
    evaluation_sweeps,
    rankings,
    problems,
    settings,
)
"""Each takes the data and gives its part, or None where it has nothing to say (no
`data.evaluation`, say)."""
