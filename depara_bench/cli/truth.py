"""`truth`: tables of how well transfers went."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from depara_bench.terminal import Terminal


def import_(
    file: Annotated[
        Path,
        typer.Argument(
            exists=True,
            dir_okay=False,
            metavar="FILE",
            help="Taskonomy's .pkl; a CSV or .parquet: source,target,value or models x datasets.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Table to write: .csv or .parquet.")],
) -> None:
    """Read a truth of any known form and write it as a table for `compare --truth`."""
    from depara_bench.truth.imports import import_truth
    from depara_bench.truth.table import write_truth

    truth = import_truth(file)
    write_truth(truth, out)
    targets, sources = len(truth.targets), len(truth.sources)
    Terminal().out.print(Text(f"{out}: {sources} sources, {targets} targets"), soft_wrap=True)
