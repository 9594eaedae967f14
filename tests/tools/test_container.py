"""Dockerfile, .dockerignore, compose.yaml and what they name agree, without a container engine."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
import yaml

from streamer.config.schema import load_config
from tests.daemon import configuration, running
from tests.mosquitto import HOST, free_port
from tests.pulse import FakeMicrophone
from tools.container.dockerfile import DockerfileError, Ignored, Stage, read

PROJECT = Path(__file__).parents[2]
STAGES = read(PROJECT / "Dockerfile")
COMPOSE = yaml.safe_load((PROJECT / "compose.yaml").read_text(encoding="utf-8"))
OURS = {name: service for name, service in COMPOSE["services"].items() if "build" in service}
DEADLINE_S = 30


def lineage(stage: Stage) -> Iterator[Stage]:
    """A stage and those that it is made from."""
    yield stage
    if stage.base in STAGES:
        yield from lineage(STAGES[stage.base])


def said(target: str, name: str) -> str:
    """The last instruction of a kind that holds for a target."""
    return next(
        step.text for stage in lineage(STAGES[target]) for step in reversed(stage.steps) if step.name == name
    )


def copies() -> Iterator[tuple[str, list[str]]]:
    """Of each COPY: the stage it takes from, nothing for the context, and the names."""
    for stage in STAGES.values():
        for step in stage.steps:
            if step.name == "COPY":
                words = step.text.split()
                origin = words.pop(0).removeprefix("--from=") if words[0].startswith("--from=") else ""
                yield origin, words[:-1]


def test_what_is_copied_is_there_and_nothing_else_is_sent() -> None:
    """Each COPY finds its files; .dockerignore lets through what is copied and nothing else."""
    ignored = Ignored((PROJECT / ".dockerignore").read_text(encoding="utf-8"))
    names = [name for origin, found in copies() if not origin for name in found]
    assert [name for name in names if not (PROJECT / name).exists() or ignored(PurePosixPath(name))] == []
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout
    sent = {path for path in tracked.splitlines() if not ignored(PurePosixPath(path))}
    assert {
        path for path in sent if not any(path == name or path.startswith(f"{name}/") for name in names)
    } == set()
    assert ignored(PurePosixPath("streamer/ops/__pycache__/status.cpython-311.pyc"))


def test_the_light_image_has_no_torch_and_the_other_has() -> None:
    """`light` is the last stage, what `docker build` makes unasked; torch is for `cuda` alone."""
    assert list(STAGES)[-1] == "light"
    texts = {name: " ".join(step.text for step in stage.steps) for name, stage in STAGES.items()}
    assert [name for name, text in texts.items() if "[torch]" in text] == ["build-cuda"]
    assert ("build", ["/opt/streamer"]) in copies() and ("build-cuda", ["/opt/streamer"]) in copies()
    assert {stage.base for stage in STAGES.values() if stage.base not in STAGES} == {"debian:bookworm-slim"}


@pytest.mark.parametrize("target", ["light", "cuda"])
def test_the_daemon_is_not_root_and_is_watched(target: str) -> None:
    """Whichever image it is: a user of its own, its state in a volume, its own answer as health check."""
    assert said(target, "USER") == "streamer"
    environment = next(step for step in STAGES["base"].steps if step.name == "ENV").pairs()
    assert environment["STATE_DIRECTORY"] == said(target, "VOLUME")
    assert json.loads(said(target, "ENTRYPOINT")) + json.loads(said(target, "CMD"))[:2] == [
        "streamer",
        "run",
        "--config",
    ]
    assert said(target, "HEALTHCHECK").endswith('CMD ["python3", "-m", "streamer.ops.healthcheck"]')


def test_packages_are_those_of_the_makefile() -> None:
    """What `make run` installs with apt is in the image; pip takes our versions, hashed where they can be."""
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    run = re.search(r"^run:.*?\n\n", makefile, re.MULTILINE | re.DOTALL)
    assert run is not None
    wanted = re.findall(r"debian-packages ([a-z0-9 -]+)", run[0])[0].split()
    assert set(wanted) <= set(STAGES["base"].packages())
    installs = {
        name: "\n".join(s.text for s in stage.steps if "pip install" in s.text)
        for name, stage in STAGES.items()
    }
    assert {name for name, text in installs.items() if text} == {"build", "build-cuda"}
    assert "--constraint constraints.txt" in installs["build-cuda"]
    hashed, own = re.findall(r"pip install ([^&]*)", installs["build"])
    assert "--require-hashes --requirement requirements.txt" in hashed
    assert "--no-deps --no-build-isolation" in own  # nothing else is fetched


def test_what_the_build_loads_can_be_loaded() -> None:
    """The modules that are compiled into the image exist; a name that was changed would end the build."""
    step = next(s.text for s in STAGES["light"].steps if s.name == "RUN")
    command = re.search(r'-c "(.*)"', step)
    assert command is not None
    names = [name.strip() for name in command[1].removeprefix("import ").split(",")]
    modules = [name for name in names if name.startswith("streamer.")]
    missing = [name for name in modules if not (PROJECT / f"{name.replace('.', '/')}.py").exists()]
    assert [name for name in missing if not (PROJECT / name.replace(".", "/") / "__init__.py").exists()] == []


def test_an_unknown_step_is_an_error(tmp_path: Path) -> None:
    """What cannot be carried out without an engine is not passed over."""
    path = tmp_path / "Dockerfile"
    path.write_text("FROM debian:bookworm-slim\nADD x y\n", encoding="utf-8")
    with pytest.raises(DockerfileError, match="Dockerfile:2: ADD cannot be carried out"):
        read(path)


def test_continued_lines_and_comments_between_them() -> None:
    """A step over several lines is one, with the line that it begins in."""
    steps = [(stage.name, step.line) for stage in STAGES.values() for step in stage.steps]
    lines = (PROJECT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    begins = [line for line in lines if re.match(r"[A-Z]+ ", line) and not line.startswith("FROM ")]
    assert len(steps) == len(begins)
    assert STAGES["base"].packages()[0] == "ca-certificates"


def test_the_services_use_what_the_image_has() -> None:
    """Stages, paths and the broker's name of compose.yaml are those of Dockerfile and configuration."""
    command = json.loads(said("light", "CMD"))
    for name, service in OURS.items():
        assert service["build"]["target"] in STAGES
        assert service["build"]["context"] == "."
        parts = (volume.removesuffix(":ro").rpartition(":") for volume in service["volumes"])
        mounts = {inside: outside for outside, _, inside in parts}
        assert mounts[said("light", "VOLUME")] in COMPOSE["volumes"]
        config = load_config(PROJECT / mounts[command[-1]])
        assert config.mqtt.host in COMPOSE["services"]
        assert service["depends_on"] == [config.mqtt.host]
        assert service["profiles"] == [name]
        if "PULSE_SERVER" in service["environment"]:
            assert service["environment"]["PULSE_SERVER"].removeprefix("unix:") in mounts


def test_every_profile_is_explained() -> None:
    """The head of compose.yaml and the manual name each."""
    head = (PROJECT / "compose.yaml").read_text(encoding="utf-8").partition("\n\n")[0]
    manual = (PROJECT / "docs" / "container.md").read_text(encoding="utf-8")
    assert [name for name in OURS if f"--profile {name} up" not in head or f"`{name}`" not in manual] == []


@pytest.mark.slow
def test_the_broker_takes_its_configuration(tmp_path: Path) -> None:
    """A real Mosquitto starts with the one that compose.yaml gives it."""
    (service,) = COMPOSE["services"]["mosquitto"]["configs"]
    port = free_port()
    content = COMPOSE["configs"][service["source"]]["content"]
    content = content.replace("listener 1883", f"listener {port} {HOST}").replace(
        "/mosquitto/data/", f"{tmp_path}/"
    )
    (tmp_path / "mosquitto.conf").write_text(content, encoding="utf-8")
    broker = subprocess.Popen(
        ["mosquitto", "-c", tmp_path / "mosquitto.conf"], stderr=subprocess.PIPE, text=True
    )
    try:
        assert broker.stderr is not None
        assert any("running" in line for line in broker.stderr)
        socket.create_connection((HOST, port)).close()
    finally:
        broker.kill()
        broker.wait()


def healthcheck(state: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "streamer.ops.healthcheck"],
        env={"STATE_DIRECTORY": str(state), "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )
    return done.returncode, done.stdout


@pytest.mark.slow
def test_the_health_check_asks_the_daemon(tmp_path: Path) -> None:
    """0 with its line while it is well; 1 where none runs: an engine knows no other codes."""
    config = configuration(tmp_path, {"demo": True}, mqtt={"enabled": False})
    state = tmp_path / "state"
    with running(config, {"STATE_DIRECTORY": str(state)}) as daemon:
        daemon.until_says("listening")
        code, line = healthcheck(state)
        assert (code, "1 of 1 sources listening" in line) == (0, True)
    code, line = healthcheck(state)
    assert (code, "no daemon is running" in line) == (1, True)


def devices(home: Path, environment: dict[str, str]) -> str:
    settings = (PROJECT / "container/asound.conf").read_text(encoding="utf-8")
    default = PROJECT / "container/pulse-is-default.conf"
    (home / ".asoundrc").write_text(settings.replace("/etc/alsa/pulse-is-default.conf", str(default)))
    return subprocess.run(
        [sys.executable, "-m", "streamer", "devices"],
        env={**environment, "HOME": str(home), "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=DEADLINE_S,
    ).stdout


@pytest.mark.slow
def test_a_sound_server_is_the_default_where_there_is_one(
    fake_microphone: FakeMicrophone, tmp_path: Path
) -> None:
    """The container's ALSA settings find it by PULSE_SERVER, and do no harm where none answers."""
    assert "default   " in devices(tmp_path, fake_microphone.environment)
    nowhere = {**fake_microphone.environment, "PULSE_SERVER": f"unix:{tmp_path}/none"}
    assert "default   " not in devices(tmp_path, nowhere)
