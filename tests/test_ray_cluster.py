"""ray_cluster.yaml: what `ray up` would say to it, and what Ray does not check."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT

pytest.importorskip("ray")
launcher = pytest.importorskip("ray.autoscaler._private.util")
pytest.importorskip("jsonschema")

Config = dict[str, Any]

# Ray passes these on to the cloud unread, so a slip of the pen shows when machines are started.
PROVIDER_KEYS = {"type", "region", "availability_zone", "cache_stopped_nodes", "use_internal_ips"}
NODE_KEYS = {
    "InstanceType",
    "ImageId",
    "IamInstanceProfile",
    "BlockDeviceMappings",
    "InstanceMarketOptions",
    "KeyName",
    "SubnetIds",
    "SecurityGroupIds",
}


class Refused(Exception):
    """What is wrong with a cluster file."""


def require(holds: object, what: str) -> None:
    if not holds:
        raise Refused(what)


def check(config: Config) -> None:
    """Raise Refused where Ray would refuse the file, or where it would not do what it is for."""
    check_with_ray(config)
    check_keys(config)
    check_nodes(config)
    check_commands(config)


def check_with_ray(config: Config) -> None:
    try:  # the order matters: validation wants the defaults that preparation fills in
        launcher.validate_config(launcher.prepare_config(copy.deepcopy(config)))
    except Exception as error:
        raise Refused(f"ray: {str(error).splitlines()[0]}") from error


def check_keys(config: Config) -> None:
    unknown = set(config["provider"]) - PROVIDER_KEYS
    require(not unknown, f"provider: {unknown}")
    for name, node in config["available_node_types"].items():
        unknown = set(node["node_config"]) - NODE_KEYS
        require(not unknown, f"{name}: node_config: {unknown}")
        missing = {"InstanceType", "ImageId"} - set(node["node_config"])
        require(not missing, f"{name}: node_config lacks {missing}")


def check_nodes(config: Config) -> None:
    nodes = dict(config["available_node_types"])
    head = nodes.pop(config["head_node_type"])
    require(head["resources"].get("CPU") == 0, "head takes CPU work")
    require(head["resources"].get("GPU") == 0, "head takes GPU work")
    require(head.get("max_workers") == 0, "more machines of the head's type")
    require(nodes, "no workers")
    for name, node in nodes.items():
        require(node["resources"].get("GPU", 0) >= 1, f"{name}: no GPU")
        require(node["resources"].get("CPU", 0) >= 1, f"{name}: no CPU for the worker's process")
        least, most = node.get("min_workers", 0), node.get("max_workers", config["max_workers"])
        require(least == 0, f"{name}: machines without work")
        require(least <= most <= config["max_workers"] and most > 1, f"{name}: min, max workers")
    require(config["idle_timeout_minutes"] > 0, "idle workers")


def check_commands(config: Config) -> None:
    mounted = {Path(target).name: source for target, source in config["file_mounts"].items()}
    for target, source in config["file_mounts"].items():
        require(target.startswith("~/depara-bench/"), f"file_mounts: {target}")
        require((ROOT / source).exists(), f"file_mounts: {source}: no such file")
    needed = {"depara_bench", "zoo", "jobs", "pyproject.toml", "constraints.txt", "README.md"}
    require(needed <= set(mounted), f"file_mounts: {needed - set(mounted)}")
    setup = config["setup_commands"]
    install = [c for c in setup if "uv pip install" in c and "cd ~/depara-bench " in c]
    require(len(install) == 1, "the package is not installed on all machines")
    require("-c constraints.txt" in install[0] and install[0].endswith(" '.[fast]'"), "not pinned")
    require(any("constraints.txt uv" in c for c in setup), "uv is not pinned")
    require(any("boto3" in c for c in config["head_setup_commands"]), "no boto3 on the head")
    head = " ".join(config["head_start_ray_commands"])
    require("ray start --head" in head, "the head's Ray is not started")
    require("--autoscaling-config=~/ray_bootstrap_config.yaml" in head, "it would not scale")
    worker = " ".join(config["worker_start_ray_commands"])
    require("ray start --address=$RAY_HEAD_IP:6379" in worker, "workers do not join")


def read() -> Config:
    return dict(yaml.safe_load((ROOT / "ray_cluster.yaml").read_text()))


def test_the_cluster_file_is_accepted():
    check(read())


def test_the_command_and_the_job_in_its_comments_are_valid():
    from typer.main import get_command

    from depara_bench.cli import app
    from depara_bench.job import ResourceSettings

    text = (ROOT / "ray_cluster.yaml").read_text()
    (line,) = re.findall(r"'depara-bench run (.*)'", text)
    options = get_command(app).commands["run"].make_context("run", line.split()).params
    assert (options["engine"], options["address"]) == ("ray", "auto")
    assert options["out"].startswith("s3://")
    (resources,) = re.findall(r"resources: (\{gpus.*\})", text)
    settings = ResourceSettings.model_validate(yaml.safe_load(resources))
    worker = read()["available_node_types"]["gpu-worker"]["resources"]
    assert settings.gpus is not None and settings.gpus <= worker["GPU"]
    assert settings.cpus <= worker["CPU"] and settings.workers == read()["max_workers"]


def edit(*path: str, to: Any = None, rename: str | None = None) -> Callable[[Config], None]:
    """A mistake: the value at `path` set, renamed, or (neither given) left out."""

    def apply(config: Config) -> None:
        *parents, last = path
        for key in parents:
            config = config[key]
        if rename is not None:
            config[rename] = config.pop(last)
        elif to is None:
            del config[last]
        else:
            config[last] = to

    return apply


NODES = "available_node_types"
MISTAKES = {
    "unknown key": (edit("max_workers", rename="max_worker"), "ray: .*max_worker"),
    "unknown cloud": (edit("provider", "type", to="awz"), "ray: .*awz"),
    "unknown key of a node type": (edit(NODES, "head", "gpus", to=1), "ray: .*gpus"),
    "half a GPU": (edit(NODES, "gpu-worker", "resources", "GPU", to=0.5), "ray: .*0.5"),
    "unknown head type": (edit("head_node_type", to="boss"), "ray: .*head_node_type"),
    "too many at the start": (edit(NODES, "gpu-worker", "min_workers", to=9), "ray: .*min_workers"),
    "commands as text": (edit("setup_commands", to="pip install ."), "ray: "),
    "misspelt region": (edit("provider", "region", rename="regoin"), "regoin"),
    "misspelt instance": (
        edit(NODES, "gpu-worker", "node_config", "InstanceType", rename="InstanceTpye"),
        "InstanceTpye",
    ),
    "no image": (edit(NODES, "head", "node_config", "ImageId"), "ImageId"),
    "head works": (edit(NODES, "head", "resources", "CPU", to=4), "head takes CPU"),
    "head's CPUs are counted": (edit(NODES, "head", "resources", to={}), "head takes CPU"),
    "worker without GPU": (edit(NODES, "gpu-worker", "resources", to={"CPU": 8}), "no GPU"),
    "more than the whole": (edit(NODES, "gpu-worker", "max_workers", to=9), "min, max"),
    "workers that always run": (edit(NODES, "gpu-worker", "min_workers", to=1), "without work"),
    "no package": (edit("setup_commands", to=["pip install ray"]), "not installed"),
    "package without its zoo": (edit("file_mounts", "~/depara-bench/zoo"), "zoo"),
    "no such folder": (edit("file_mounts", "~/depara-bench/zoo", to="zooo"), "zooo"),
    "never scales": (edit("head_start_ray_commands", to=["ray start --head"]), "not scale"),
    "workers on their own": (edit("worker_start_ray_commands", to=["ray start"]), "do not join"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_broken_cluster_file_is_refused(name: str):
    mistake, message = MISTAKES[name]
    config = read()
    mistake(config)
    with pytest.raises(Refused, match=message):
        check(config)
