"""The files in deploy/ say what the command understands, and give each part of the archive to one job."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import typer.main
import yaml

from streamer.archive.output import Shard
from streamer.cli import app

DEPLOY = Path(__file__).parents[2] / "deploy"


def shard(arguments: list[str]) -> Shard:
    """Of a command line, which has to be one that `streamer` takes."""
    command = typer.main.get_command(app)
    with command.make_context("streamer", list(arguments)) as context:
        name, detect, rest = command.resolve_command(context, list(arguments))  # type: ignore[attr-defined]
        assert name == "detect"
        with detect.make_context(name, rest, parent=context) as parsed:
            assert parsed.params["resume"]
            return Shard.parse(parsed.params["shard"])


def test_kubernetes() -> None:
    """Each index is a shard; only what may go better the next time is tried again."""
    spec = yaml.safe_load((DEPLOY / "archive.kubernetes.yaml").read_text(encoding="utf-8"))["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    shards = [
        shard([text.replace("$(JOB_COMPLETION_INDEX)", str(i)) for text in container["args"]])
        for i in range(spec["completions"])
    ]
    assert shards == [Shard(i, spec["completions"]) for i in range(spec["completions"])]
    assert spec["completionMode"] == "Indexed"
    assert pod["restartPolicy"] == "Never"  # which a policy for failures needs
    (rule,) = spec["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["containerName"] == container["name"]
    assert not {70, 74, 75} & set(rule["onExitCodes"]["values"])
    assert {mount["name"] for mount in container["volumeMounts"]} == {one["name"] for one in pod["volumes"]}


def test_slurm(tmp_path: Path) -> None:
    """Each task of the array is a shard, also where folders have spaces in their names."""
    script = DEPLOY / "archive.slurm"
    assert "#SBATCH --array=0-15" in script.read_text(encoding="utf-8")
    streamer = tmp_path / "streamer"
    streamer.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n', encoding="utf-8")
    streamer.chmod(0o755)
    printed = subprocess.run(
        ["sh", script, "the recordings", "the results", "home.yaml"],
        env={
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "SLURM_ARRAY_TASK_ID": "3",
            "SLURM_ARRAY_TASK_COUNT": "16",
        },
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert printed[:4] == ["detect", "the recordings", "--out", "the results"]
    assert shard(printed) == Shard(3, 16)
