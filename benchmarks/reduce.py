"""Time the reducer against the published loops, on the same random inputs, and compare outputs.

    python benchmarks/reduce.py                 # about five minutes; see README.md
    python benchmarks/reduce.py --full          # every pair of the published edges: longer
    python benchmarks/reduce.py --models 6 --images 200 --values 4096    # a quick look

Every measurement runs in a process of its own, so that its peak memory is its own. The published
loops are written anew here from what they compute, not copied.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.distance import pdist
from threadpoolctl import threadpool_limits

from depara_bench.engine import Resources, open_engine
from depara_bench.reduce import EDGES, reduce
from depara_bench.shards import Shard, encode_shard, shard_path
from depara_bench.similarity.edges import correlations, unit_ranks
from depara_bench.similarity.gram import cosines, gram, pearsons
from depara_bench.similarity.nodes import cosine_sum
from depara_bench.storage import Folder

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
METRICS = ("cosine", "correlation")
PUBLISHED_LIMIT = 24e9  # bytes that the published node loop may take here
Result = dict[str, Any]


def clock() -> float:
    """Seconds on the wall, or with `--cpu` those that processors spent on this process."""
    return time.process_time() if "--cpu" in sys.argv else time.perf_counter()


# --- inputs: the same in every process, from a seed -------------------------------------------


def make_features(args: argparse.Namespace) -> list[np.ndarray]:
    """Features (N, F) float32 of each model: a part all models share, and noise of their own."""
    shared = np.random.default_rng(0).standard_normal((args.images, args.features), np.float32)
    noises = (np.random.default_rng([1, m]) for m in range(args.models))
    return [shared + rng.standard_normal(shared.shape, np.float32) for rng in noises]


def make_maps(args: argparse.Namespace, images: int) -> Iterator[list[np.ndarray]]:
    """Blocks of maps: a list with (n, D) float32 of each model, for the first `images` images."""
    for start in range(0, images, args.block):
        shape = (min(args.block, images - start), args.values)
        rng = np.random.default_rng([2, start])
        shared = rng.standard_normal(shape, np.float32)
        block = [rng.standard_normal(shape, np.float32) for _ in range(args.models)]
        for values in block:  # in place: no second block in memory
            values += shared
        yield block


# --- the published loops ----------------------------------------------------------------------


def published_ranks(distances: np.ndarray) -> np.ndarray:
    """Position of every edge in the sorted order, one Python step each; ties as they fall."""
    ranks = np.zeros(len(distances))
    for position, edge in enumerate(np.argsort(-distances)):
        ranks[edge] = position
    return ranks


def published_edges(args: argparse.Namespace) -> Result:
    """Distances of all models in full; correlations of the first `--pairs` pairs, or all."""
    result: Result = {}
    features = make_features(args)
    published_ranks(np.random.default_rng(3).random(1000))
    pairs = list(combinations(range(args.models), 2))
    chosen = pairs if args.full else pairs[: args.pairs]
    for metric in METRICS:
        start = clock()
        distances = np.stack([pdist(rows - rows.mean(axis=0), metric) for rows in features])
        result[f"{metric} distances"] = clock() - start
        edges = distances.shape[1]
        values, seconds = [], []
        for i, j in chosen:
            start = clock()
            difference = published_ranks(distances[i]) - published_ranks(distances[j])
            values.append(1 - 6 * np.sum(difference**2) / (edges * (edges**2 - 1.0)))
            seconds.append(clock() - start)
        # Of the pairs measured the fastest stands for the rest: what noise there is favours it.
        total = sum(seconds) if args.full else min(seconds) * len(pairs)
        result[metric] = {"seconds": total + result[f"{metric} distances"], "values": values}
        result[f"{metric} per pair"] = min(seconds)
    return {**result, "pairs": chosen, "all": len(pairs)}


def published_nodes(args: argparse.Namespace) -> Result:
    """All maps in memory as float64; for each pair and image a dot product and both norms again."""
    images = published_images(args)
    maps = np.empty((args.models, images, args.values))
    start = 0
    for block in make_maps(args, images):
        for model, rows in enumerate(block):
            maps[model, start : start + len(rows)] = rows
        start += len(block[0])
    del block, rows
    matrix = np.eye(args.models)
    begin = clock()
    for i, j in combinations(range(args.models), 2):
        total = 0.0
        for image in range(images):
            a, b = maps[i, image], maps[j, image]
            total += np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b))
        matrix[i, j] = matrix[j, i] = total / images
    seconds = clock() - begin
    return {"seconds": seconds, "images": images, "matrix": matrix.tolist()}


def published_images(args: argparse.Namespace) -> int:
    """All images, or as many as fit into the limit and into what memory is free."""
    free = PUBLISHED_LIMIT / 0.8
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    fit = int(min(PUBLISHED_LIMIT, 0.8 * free) / (args.models * args.values * 8))
    return min(args.images, fit // args.block * args.block)


# --- ours -------------------------------------------------------------------------------------


def best(call: Callable[[], Any], repeat: int) -> tuple[float, Any]:
    seconds = []
    for _ in range(repeat):
        start = clock()
        value = call()
        seconds.append(clock() - start)
    return min(seconds), value


def our_edges(args: argparse.Namespace) -> Result:
    """As the reducer does it: models in parallel, one Gram matrix and one ranking for each, then
    one product. Both kinds of distance are read off one Gram matrix, so they are also timed
    together: what they share is then computed once.
    """
    features = make_features(args)
    kinds = (cosines, pearsons)

    def ranked(rows: np.ndarray, kinds: Sequence[Any]) -> list[np.ndarray]:
        matrix = gram(rows)
        return [unit_ranks(kind(matrix)[0]) for kind in kinds]

    def all_pairs(kinds: Sequence[Any]) -> list[np.ndarray]:
        found = list(pool.map(lambda rows: ranked(rows, kinds), features))
        units = [np.stack([model[k] for model in found]) for k in range(len(kinds))]
        return [correlations(unit, unit) for unit in units]

    result: Result = {}
    with ThreadPoolExecutor(args.threads) as pool:
        ranked(features[0], kinds)
        for metric, kind in zip(METRICS, kinds, strict=True):
            seconds, (matrix,) = best(lambda kind=kind: all_pairs([kind]), args.repeat)
            result[metric] = {"seconds": seconds, "matrix": matrix.tolist()}
        result["both"], _ = best(lambda: all_pairs(kinds), args.repeat)
    return result


def our_nodes(args: argparse.Namespace) -> Result:
    """Streamed: a block is made, summed and dropped; only the kernel is timed, and apart from it
    what the first call takes longer, which is where numba is loaded.
    """
    if args.blas:
        sys.modules["numba"] = None  # type: ignore[assignment]  # as where it is not installed
    total: Any = None
    with ThreadPoolExecutor(args.threads) as pool:
        image = next(make_maps(args, 1))
        first, second = (best(lambda: cosine_sum(image, None, pool), 1)[0] for _ in range(2))
        seconds = np.zeros(args.repeat)
        for block in make_maps(args, args.of_images):
            for turn in range(args.repeat):
                start = clock()
                part = cosine_sum(block, None, pool)
                seconds[turn] += clock() - start
            total = part if total is None else total + part
            del block  # before the next is made
    matrix = (total.total / args.of_images).tolist()
    return {"seconds": seconds.min(), "matrix": matrix, "loading": first - second}


def write_shards(args: argparse.Namespace) -> Result:
    """The run folder for `our_reduce`, with the maps and features of the other measurements."""
    features = make_features(args)
    for number, block in enumerate(make_maps(args, args.images)):
        first = number * args.block
        index = np.arange(first, first + len(block[0]), dtype=np.int32)
        for model, maps in enumerate(block):
            columns = {"feature": features[model][index], "map": maps}
            shard = Shard(index, [f"{i}" for i in index], columns)
            content = encode_shard(shard, "benchmark")
            Folder(args.folder).write(shard_path(f"m{model}", number), content)
    return {}


def our_reduce(args: argparse.Namespace) -> Result:
    """`depara_bench.reduce.reduce` on Parquet shards: reading, edges and nodes together."""

    def call() -> Any:
        with open_engine("local") as engine:
            return reduce(
                Folder(args.folder),
                [f"m{model}" for model in range(args.models)],
                images=args.images,
                blocks=-(-args.images // args.block),
                methods=["map"],
                center=True,
                engine=engine,
                resources=Resources(gpus=0),
            )

    seconds, found = best(call, args.repeat)
    return {
        "seconds": seconds,
        "edges": found[EDGES].matrix.tolist(),
        "nodes": found["map"].matrix.tolist(),
    }


# --- running and printing ---------------------------------------------------------------------

PARTS = {
    part.__name__: part
    for part in (published_edges, published_nodes, our_edges, our_nodes, write_shards, our_reduce)
}


def measure(part: Callable[[argparse.Namespace], Result], argv: list[str], **more: Any) -> Result:
    """Run one part in a process of its own; its result, and its peak memory in MB as `peak`."""
    options = [f"--{key.replace('_', '-')}={value}" for key, value in more.items()]
    line = [sys.executable, __file__, *argv, "--part", part.__name__, *options]
    print(f"  {part.__name__} {' '.join(options)}", file=sys.stderr, flush=True)
    done = subprocess.run(line, stdout=subprocess.PIPE, check=True)
    return dict(json.loads(done.stdout))


def run_part(args: argparse.Namespace) -> None:
    with threadpool_limits(1, user_api="blas"):
        result = PARTS[args.part](args)
    unit = 1 if sys.platform == "darwin" else 1024
    result["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
    json.dump(result, sys.stdout)


def machine() -> str:
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        name = models[0].split(":", 1)[1].strip() if models else name
    load = os.getloadavg()[0]
    packages = ", ".join(f"{p} {version(p)}" for p in ("numpy", "scipy", "pyarrow"))
    return (
        f"{name}, {CORES} cores, load {load:.1f} at the start; {platform.system()},"
        f" Python {platform.python_version()}, {packages}"
    )


def largest(left: Any, right: Any) -> float:
    return float(np.abs(np.asarray(left) - np.asarray(right)).max())


def row(what: str, theirs: Any, ours: float, goal: str, peak: float, difference: float) -> str:
    ratio = f"{theirs / ours:.1f}" if theirs else "-"
    published = f"{theirs:.1f}" if theirs else "-"
    return (
        f"| {what} | {published} | {ours:.2f} | {ratio} | {goal} | {peak:.0f} | {difference:.0e} |"
    )


def edge_rows(args: argparse.Namespace, argv: list[str]) -> tuple[list[str], Any]:
    theirs = measure(published_edges, argv)
    ours = measure(our_edges, argv, threads=CORES)
    alone = measure(our_edges, argv, threads=1)
    how = "all measured" if args.full else f"{len(theirs['pairs'])} measured and extrapolated"
    print(
        f"Edges, published: {theirs['all']} pairs of models, {how}; peak {theirs['peak']:.0f} MB."
    )
    rows, published, worst = [], 0.0, 0.0
    for metric in METRICS:
        matrix = np.array(ours[metric]["matrix"])
        found = [matrix[i, j] for i, j in theirs["pairs"]]
        difference = largest(found, theirs[metric]["values"])
        times = [side[metric]["seconds"] for side in (theirs, ours)]
        print(
            f"  {metric}: distances {theirs[f'{metric} distances']:.1f} s,"
            f" {theirs[f'{metric} per pair']:.3f} s a pair"
        )
        rows.append(row(f"edges, {metric}", times[0], times[1], "", ours["peak"], difference))
        published, worst = published + times[0], max(worst, difference)
    rows.append(row("**edges, both**", published, ours["both"], "60", ours["peak"], worst))
    rows.append(row("edges, both, 1 thread", published, alone["both"], "", alone["peak"], worst))
    return rows, ours["cosine"]["matrix"]


def node_rows(argv: list[str]) -> tuple[list[str], Result]:
    theirs = measure(published_nodes, argv)
    images = theirs["images"]
    print(f"Nodes: both on {images} images; published peak {theirs['peak']:.0f} MB.")
    rows = []
    for name, options in {
        "**nodes**": {"threads": CORES},
        "nodes, 1 thread": {"threads": 1, "repeat": 1},
        "nodes, without numba": {"threads": CORES, "blas": 1},
        "nodes, without numba, 1 thread": {"threads": 1, "repeat": 1, "blas": 1},
    }.items():
        ours = measure(our_nodes, argv, of_images=images, **options)
        goal = "15, < 1000 MB" if not rows else ""
        difference = largest(ours["matrix"], theirs["matrix"])
        rows.append(row(name, theirs["seconds"], ours["seconds"], goal, ours["peak"], difference))
        if len(rows) == 1:
            print(
                f"  ours: loading numba, once in a process, {ours['loading']:.1f} s, not counted."
            )
    return rows, theirs


def shard_rows(args: argparse.Namespace, argv: list[str], edges: Any, nodes: Result) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="depara-benchmark-") as folder:
        measure(write_shards, argv, folder=folder)
        files = list(Path(folder).rglob("*.parquet"))
        size = sum(path.stat().st_size for path in files) / 1e9
        ours = measure(our_reduce, argv, folder=folder)
    print(f"Shards: {len(files)} files, {size:.1f} GB, just written (page cache as it is).")
    difference = largest(ours["edges"], edges)  # against our edges, checked above
    if nodes["images"] == args.images:
        difference = max(difference, largest(ours["nodes"], nodes["matrix"]))
    what = "reduce() from shards: edges, cosine, and nodes"
    return [row(what, None, ours["seconds"], "", ours["peak"], difference)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in {
        "models": 20,
        "images": 1000,
        "features": 2048,
        "values": 65536,
        "block": 40,
        "pairs": 5,
        "repeat": 3,
        "threads": CORES,
        "of-images": 0,
        "blas": 0,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--full", action="store_true", help="all pairs of the published edge loop")
    parser.add_argument("--cpu", action="store_true", help="CPU seconds, where others are at work")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        run_part(args)
        return
    print(machine())
    print(f"BLAS: 1 thread in all measurements; ours runs models or images on {CORES} threads.")
    print(f"{args.models} models, {args.images} images, {args.features} features,", end=" ")
    print(f"{args.values} values a map (float32 in); best of {args.repeat} for ours.")
    print(f"Seconds are {'of CPU time' if args.cpu else 'on the wall'}.\n")
    argv = sys.argv[1:]
    edges, our_matrix = edge_rows(args, argv)
    nodes, their_nodes = node_rows(argv)
    rows = edges + nodes + shard_rows(args, argv, our_matrix, their_nodes)
    print("\n| what | published s | ours s | ratio | goal | peak MB | largest difference |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
