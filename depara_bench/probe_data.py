"""What resampling needs of a run's shards: every image's cosines and every model's Gram matrix; and
whether the affinities that are to be judged were made from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from depara_bench import record as records
from depara_bench.errors import InputError, RunError
from depara_bench.judge import Case, Place
from depara_bench.pipeline import check_shards
from depara_bench.reduce import TILE
from depara_bench.shards import read_column, read_groups
from depara_bench.similarity.gram import gram
from depara_bench.similarity.nodes import image_cosines
from depara_bench.storage import Folder
from depara_bench.sweep import ProbeData
from depara_bench.terminal import Terminal

MEMORY = 6 << 30
"""Most bytes that resampling may hold; runs that need more are judged without it."""

_TOLERANCE = 1e-4  # affinities of other images or settings differ by far more


def read_probe_data(
    folder: Folder,
    record: Mapping[str, Any],
    case: Case,
    pool: ThreadPoolExecutor,
    terminal: Terminal,
) -> ProbeData | None:
    """What resampling needs of the shards; None, with a remark, where it cannot be had."""
    job, images = record["job"], int(record["probe"]["count"])
    models = [model["name"] for model in records.completed(record)]
    attributions = list(job["attribution"]["methods"])
    blocks, center = -(-images // job["block_size"]), bool(job["edges"]["center"])
    missing = {*case.targets, *case.sources} - set(models)
    # Grams; cosines; and what one resample of each core holds of ranks.
    need = 8 * len(models) * images * (images + len(models) * len(attributions) + images)
    if missing or len(models) > TILE or need > MEMORY:
        why = f"{len(models)} models x {images} images are more than are resampled"
        if missing:
            why = "run.json does not list all of its models"
        terminal.say(f"{folder.uri}: judged without error bars of affinities: {why}")
        return None

    def one_gram(model: str) -> np.ndarray:
        return gram(read_column(folder, model, blocks, "feature"), center=center).products

    try:
        check_shards(folder, record, terminal)
        grams = []
        with terminal.progress("read", len(models) + images * len(attributions), "") as advance:
            for matrix in pool.map(one_gram, models):
                grams.append(matrix)
                advance(1)
            cosines: dict[str, np.ndarray] = {}
            for method in attributions:
                parts = []
                for rows in read_groups(folder, models, blocks, method, pool):
                    group = [(rows, None, image) for image in range(len(rows[0]))]
                    parts += [found for found, _ in pool.map(lambda a: image_cosines(*a), group)]
                    advance(len(group))
                cosines[method] = np.stack(parts)
    except RunError as error:
        terminal.say(f"judged without error bars of affinities: {error}")
        return None
    return ProbeData(cosines, grams, center)


def check_same(
    folder: Folder,
    data: ProbeData,
    place: Place,
    case: Case,
    pool: ThreadPoolExecutor,
    *,
    nodes_only: bool,
) -> None:
    """Raise InputError when affinity.parquet was not made from these shards and settings."""
    once = np.ones((1, len(data.grams[0])), dtype=np.int64)
    for method, matrices in data.affinities(once, place.weight, pool).items():
        if method not in case.matrices or (nodes_only and "-nodes" not in method):
            continue
        far = np.abs(place.cut(matrices[0]) - case.matrices[method]) > _TOLERANCE
        for t, s in np.argwhere(far)[:1]:
            raise InputError(
                f"{folder.uri}/affinity.parquet: {method} of {case.sources[s]} -> {case.targets[t]}"
                f" is not what the shards give; run 'depara-bench reduce' first"
            )
