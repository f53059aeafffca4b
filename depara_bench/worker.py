"""The extracting worker: holds one model at a time, turns image blocks into shards on disk."""

from __future__ import annotations

import hashlib
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from depara_bench import record as records
from depara_bench.engine import Slot
from depara_bench.errors import InputError, RunError
from depara_bench.extract import (
    check_finite,
    exact_arithmetic,
    extract,
    find_embedding,
    pixel_ends,
)
from depara_bench.job import AttributionSettings
from depara_bench.loaders import load
from depara_bench.loaders.digest import digest
from depara_bench.loaders.locate import locate
from depara_bench.preprocess import fit, to_input
from depara_bench.probe import Probe
from depara_bench.shards import Origin, Shard, encode_shard, shard_path
from depara_bench.storage import Folder
from depara_bench.zoo import AnySpec

if TYPE_CHECKING:
    from torch import nn


UNSEEN = "of the cluster does not see"


def file_hash(content: bytes | None) -> str:
    """SHA-256 of what a file holds; "" where there is none."""
    return "" if content is None else hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class Shared:
    """What every worker knows: the probe, the settings, where manifest and run folder are. threads:
    that a model computes with, on every engine alike: of another number, sums are added otherwise.
    record: SHA-256 of the run.json that stands in the run folder while workers work.
    """

    probe: Probe
    attribution: AttributionSettings
    batch_size: int
    block_size: int
    manifest_folder: Path
    allow_code: bool
    folder: Folder
    threads: int
    record: str


@dataclass(frozen=True)
class ModelBlock:
    """One unit of work: a model, a block of images, and what the shard is to be made from."""

    spec: AnySpec
    block: int
    origin: Origin


@dataclass(frozen=True)
class Receipt:
    """What a worker returns: how many images, how many bytes. The data is on disk."""

    images: int
    bytes: int


class Extractor:
    """A worker of the extraction; see `Shared` for what it knows."""

    def __init__(self, shared: Shared, slot: Slot) -> None:
        self.shared = shared
        self.slot = slot
        self._spec: AnySpec | None = None
        self._model: Any = None
        self._blocks = shared.probe.blocks(shared.block_size)
        self._images: dict[int, list[np.ndarray]] = {}
        self._sees = False

    def __call__(self, work: ModelBlock) -> Receipt:
        """Compute and write one shard.

        Raises InputError, before anything else, where this machine does not see the run's files.
        """
        if not self._sees:
            self._look(work.spec)
            self._sees = True
        try:
            with exact_arithmetic(self.shared.threads):
                content = encode_shard(
                    self._compute(work), work.origin.fingerprint, work.origin.loaded
                )
        except InputError as error:
            # Every model was checked before the start. What is wrong with one now (its file was
            # taken away, say) is that model's failure; the others go on.
            raise RunError(str(error)) from error
        self.shared.folder.write(shard_path(work.spec.name, work.block), content)
        return Receipt(images=len(self._blocks[work.block]), bytes=len(content))

    def _look(self, spec: AnySpec) -> None:
        """Raise InputError unless the folder that is here under the run's path is the run's, and
        manifest and weights are here as well.
        """
        shared, lacks = self.shared, None
        if file_hash(shared.folder.read(records.PATH)) != shared.record:
            lacks = f"the run folder {shared.folder.uri}"
        elif not shared.manifest_folder.is_dir():
            lacks = f"the manifest's folder {shared.manifest_folder}"
        elif spec.weights is not None:
            try:
                locate(spec, shared.manifest_folder)
            except InputError:
                lacks = f"the weights {spec.weights} of model '{spec.name}'"
        if lacks is not None:
            raise InputError(
                f"machine '{socket.gethostname()}' {UNSEEN} {lacks}; put run folder, manifest and"
                f" weights on storage that all machines share, under one path"
            )

    def _load(self, work: ModelBlock) -> nn.Module:
        spec, folder = work.spec, self.shared.manifest_folder
        if self._spec != spec:
            self._model = self._spec = None  # free the last model before the next one is loaded
            model = load(spec, folder, allow_code=self.shared.allow_code)
            if digest(spec, model, folder).tensors != work.origin.loaded.tensors:
                raise RunError(
                    f"model '{spec.name}': is another one here than at the check: its file or code"
                    f" was changed meanwhile or differs between machines, or it draws values anew"
                    f" each time it is built, by a generator that the manifest's 'seed' does not"
                    f" reach; mend that, and run again"
                )
            self._model = model.to(self.slot.device)
            self._spec = spec
        loaded: nn.Module = self._model
        return loaded

    def _compute(self, work: ModelBlock) -> Shard:
        shared, spec = self.shared, work.spec
        model = self._load(work)
        block = self._blocks[work.block]
        ids = [shared.probe.ids[i] for i in block]
        images = [fit(image, spec.input) for image in self._decoded(work.block)]
        extracted = extract(
            model,
            find_embedding(model, spec.embedding, spec.name),
            to_input(images, spec.input),
            methods=shared.attribution.made(),
            scalar=shared.attribution.scalar,
            channels=shared.attribution.channels,
            grid=shared.attribution.grid,
            ends=pixel_ends(spec.input),
            batch_size=shared.batch_size,
            device=self.slot.device,
            name=spec.name,
        )
        check_finite(extracted, ids, spec.name)
        return Shard(
            index=np.arange(block.start, block.stop, dtype=np.int32),
            images=ids,
            columns={"feature": extracted.features, **extracted.attributions},
        )

    def _decoded(self, block: int) -> list[np.ndarray]:
        """Images of a block at their own size. Kept for the next model, as far as memory allows."""
        if block not in self._images:
            images = [self.shared.probe.image(i) for i in self._blocks[block]]
            held = sum(image.nbytes for kept in self._images.values() for image in kept)
            if held + sum(image.nbytes for image in images) > _CACHE_BYTES:
                return images
            self._images[block] = images
        return self._images[block]


# Decoding a photograph takes longer than a small model's pass over it; with many models it would
# be done over and over. A thousand photographs of 500 x 400 pixels are 600 MB.
_CACHE_BYTES = 1 << 30
