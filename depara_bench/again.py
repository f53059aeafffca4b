"""The report of a folder once more, whatever kind of run it holds."""

from __future__ import annotations

from depara_bench import record as records
from depara_bench.layers.run import report_layers
from depara_bench.probes import report_probes
from depara_bench.run import locked, report_run
from depara_bench.storage import Folder
from depara_bench.terminal import Terminal


def report_again(folder: Folder, terminal: Terminal) -> records.Record:
    """Write the report from the tables that are there. Returns the record.

    Raises InputError for a folder without run.json, or with something damaged.
    """
    kind = records.read_kind(folder)
    if kind == "layers":
        with locked(folder):
            return report_layers(folder)
    if kind == "probes":
        with locked(folder):
            return report_probes(folder)
    record = records.need_record(folder)
    with locked(folder):
        report_run(folder, record, terminal)
    return record
