"""The files of deploy/ for Ray: known to systemd, Ray and Kubernetes, and never without a token."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click import Group

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNITS = ("ray-head.service", "ray-worker.service")
SAFE = "RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=/etc/streamer/ray-token"


@pytest.fixture(scope="module")
def ray_program() -> Group:
    """The command `ray`."""
    from ray.scripts.scripts import cli  # noqa: PLC0415  # takes a second, which not all workers have to spend

    return cli


def load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / name).read_text(encoding="utf-8"))
    return loaded


def ray_commands() -> Iterator[str]:
    for name in UNITS:
        (line,) = re.findall(
            r"^ExecStart=/opt/streamer/bin/(ray .*)", (DEPLOY / name).read_text(), re.MULTILINE
        )
        yield line
    cluster = load("ray-cluster.yaml")
    for line in cluster["head_start_ray_commands"] + cluster["worker_start_ray_commands"]:
        yield line[line.index("ray ") :] if line.startswith("/opt") else line.partition("/bin/")[2]


@pytest.mark.parametrize("line", list(ray_commands()))
def test_ray_takes_the_commands(ray_program: Group, line: str) -> None:
    """Each option is one that `ray start` or `ray stop` has."""
    program, name, *arguments = shlex.split(re.sub(r"\$RAY_OPTIONS", "--num-cpus=0", line))
    assert program == "ray"
    with ray_program.commands[name].make_context(name, arguments) as context:
        assert context.params.get("head", True) or context.params["address"]


@pytest.mark.parametrize("name", UNITS)
def test_the_units_are_clean(name: str, tmp_path: Path) -> None:
    """Every line is known to systemd; Ray starts again for ever, and with a token."""
    text = (DEPLOY / name).read_text(encoding="utf-8")
    assert f"Environment={SAFE}" in text
    assert "--block" in text and "Restart=always" in text  # else systemd would not see that a part has ended
    unit = tmp_path / name
    unit.write_text(
        text.replace("/opt/streamer/bin/ray", "/usr/bin/env ray").replace("User=streamer", "User=root")
    )
    done = subprocess.run(
        ["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_cluster_launcher_takes_its_file() -> None:
    """By Ray's own schema; each start has a token."""
    cluster = load("ray-cluster.yaml")
    schema = resources.files("ray").joinpath("autoscaler/ray-schema.json")
    jsonschema.validate(cluster, json.loads(schema.read_text(encoding="utf-8")))
    for commands in (cluster["head_start_ray_commands"], cluster["worker_start_ray_commands"]):
        assert [line.startswith(SAFE) for line in commands if "ray start" in line] == [True]
    assert cluster["max_workers"] == len(cluster["provider"]["worker_ips"])


def test_kubernetes(ray_program: Group) -> None:
    """KubeRay sets the token; Ray has the version that is tested; memory is limited to what was asked for."""
    manifest = load("ray.kubernetes.yaml")
    spec = manifest["spec"]
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayCluster")
    assert spec["authOptions"] == {"mode": "token", "secretName": "ray-token"}
    assert f"ray=={spec['rayVersion']}\n" in (ROOT / "constraints.txt").read_text(encoding="utf-8")
    (workers,) = spec["workerGroupSpecs"]
    assert workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]
    start = ray_program.commands["start"]
    known = {option.lstrip("-") for one in start.params for option in one.opts}
    for group in (spec["headGroupSpec"], workers):
        assert set(group["rayStartParams"]) <= known
        for container in group["template"]["spec"]["containers"]:
            assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"]
