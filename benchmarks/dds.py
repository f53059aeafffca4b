"""Time all 42 forms of DDS over a zoo: 20 models, 1,000 images, 2,048 features on 2 threads.

    python benchmarks/dds.py
    python benchmarks/dds.py --models 4 --images 200 --features 512    # a quick look

One model is one task of one thread, as in a run; what is kept of it is 4 MB for each form.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from depara_bench.similarity.dds import DDS
from depara_bench.similarity.method import State


def features(args: argparse.Namespace, model: int) -> np.ndarray:
    """Features (N, F) float32: a part all models share, and noise of their own."""
    shape = (args.images, args.features)
    shared = np.random.default_rng(0).standard_normal(shape, np.float32)
    return shared + np.random.default_rng([1, model]).standard_normal(shape, np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=20)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--features", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    torch.set_num_threads(1)
    zoo = [features(args, model) for model in range(args.models)]

    def states(rows: np.ndarray) -> dict[str, State]:
        return dict(DDS.models(rows, DDS.names))

    with threadpool_limits(1), ThreadPoolExecutor(args.threads) as pool:
        start, busy = time.perf_counter(), time.process_time()
        kept = list(pool.map(states, zoo))
        middle = time.perf_counter()

        def pairs(name: str) -> np.ndarray:
            side = [state[name] for state in kept]
            return DDS.pairs(side, side)

        found = list(pool.map(pairs, DDS.names))
        end, busy = time.perf_counter(), time.process_time() - busy

    assert all(np.allclose(matrix.diagonal(), 1.0) for matrix in found)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, {args.threads} threads")
    print(f"{args.models} models x {args.images} images x {args.features} features")
    print(f"per model {middle - start:7.1f} s")
    print(f"per pair  {end - middle:7.1f} s")
    print(f"together  {end - start:7.1f} s for {len(found)} forms; peak memory {peak:.1f} GiB")
    print(f"          {busy / args.threads:7.1f} s of processor time on each thread")


if __name__ == "__main__":
    main()
