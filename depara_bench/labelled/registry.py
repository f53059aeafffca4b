"""All label-based scores by name."""

from __future__ import annotations

from depara_bench.labelled import (
    gbc,
    hscore,
    knn,
    leep,
    logme,
    nce,
    nleep,
    parc,
    probe,
    sfda,
    transrate,
)
from depara_bench.labelled.score import Score

SCORES: dict[str, Score] = {
    score.name: score
    for score in (
        logme.SCORE,
        leep.SCORE,
        nleep.SCORE,
        nce.SCORE,
        hscore.PLAIN,
        hscore.SHRUNK,
        transrate.SCORE,
        parc.SCORE,
        parc.RAW,
        gbc.SPHERICAL,
        gbc.DIAGONAL,
        sfda.SCORE,
        knn.SCORE,
        probe.SCORE,
    )
}
