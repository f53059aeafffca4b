"""Training as the command line runs it: with bars, and settings from `--set`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from depara_bench.config import Strict, apply_overrides, validate
from depara_bench.engine import Engine
from depara_bench.rooms.quality import Quality
from depara_bench.rooms.train import Progress, Settings, train_all
from depara_bench.terminal import Terminal


class _Given(Strict):
    images: int = Settings.images
    epochs: int = Settings.epochs
    batch: int = Settings.batch
    learning_rate: float = Settings.learning_rate
    weight_decay: float = Settings.weight_decay
    held_out: int = Settings.held_out
    seed: int = Settings.seed


def training_settings(overrides: Sequence[str]) -> Settings:
    """The recipe with `--set key=value` applied. Raises InputError naming the field."""
    given = validate(_Given, apply_overrides({}, overrides), "rooms train --set")
    return Settings(**given.model_dump())


def train_with_progress(
    out: Path, engine: Engine, settings: Settings, tasks: Sequence[str] | None, terminal: Terminal
) -> list[Quality]:
    """`train_all` with one bar for the scenes and one for the networks."""
    with terminal.stages() as bars:

        def show(progress: Progress) -> None:
            bars(progress.stage, progress.done, progress.total)
            if progress.error is not None:
                terminal.say(progress.error)

        return train_all(out.absolute(), engine, settings, tasks, show)
