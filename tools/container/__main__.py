"""Builds the image in directories, starts it beside a Mosquitto, and waits for its first event.

    scripts/container-proof        (root, on Debian, some minutes)

The container gets what `docker compose --profile stream up` would give it: the configuration, a volume, the
service `mosquitto` in its network, and no device, so that it plays the demo.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.container.dockerfile import DockerfileError, read
from tools.container.image import Builder, Image, log, size

PROJECT = Path(__file__).parents[2]
CONFIG = PROJECT / "configs" / "container.yaml"
GOAL_MB = 350
DEADLINE_S = 180
STOP_S = 10
"""an engine kills what has not stopped by then"""
HOSTS = "127.0.0.1 localhost mosquitto\n"
"""the broker has the name of its service in the network of the containers"""
BROKER = "listener 1883 127.0.0.1\nallow_anonymous true\nuser root\n"
CLONE_NEWNET = 0x40000000


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="container-proof", description=__doc__.splitlines()[0])
    parser.add_argument("--target", default="light", help="the stage to build")
    parser.add_argument("--folder", type=Path, help="an empty one, to build in and keep")
    parser.add_argument("--mirror", help="of Debian, where it is not the first one of this machine's apt")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="container-") as temporary:
        folder = (arguments.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        try:
            stages = read(PROJECT / "Dockerfile")
            image = Builder(stages, PROJECT, folder, arguments.mirror or _mirror()).image(arguments.target)
        except DockerfileError as error:
            log(str(error))
            return 1
        mb = _report_size(image)
        _report_first_event(image, folder)
        return 0 if mb <= GOAL_MB or arguments.target != "light" else 1


def _mirror() -> str:
    """Where this machine's apt has the main archive from."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE)"], capture_output=True, text=True, check=True
    ).stdout
    return listed.splitlines()[0]


def _report_size(image: Image) -> float:
    """In MB, of what an image would have in its layers."""
    base, python = size(image.root.parent / "debian-bookworm-slim"), size(image.root / "opt/streamer")
    whole = size(image.root)
    parts = {"slim Debian": base, "its packages": whole - base - python, "Python packages": python}
    for name, n in parts.items():
        print(f"{name:<24}{n / 1e6:6.0f} MB")
    print(f"{'image':<24}{whole / 1e6:6.0f} MB   (goal: {GOAL_MB})")
    return whole / 1e6


def _report_first_event(image: Image, folder: Path) -> None:
    """Raises CalledProcessError where none comes, or the health check fails."""
    etc = image.root / "etc/streamer"
    etc.mkdir(exist_ok=True)
    shutil.copy(CONFIG, etc / "streamer.yaml")
    (image.root / "etc/hosts").write_text(HOSTS, encoding="utf-8")
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "no network namespace")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    (folder / "mosquitto.conf").write_text(BROKER, encoding="utf-8")
    with _process(["mosquitto", "-c", str(folder / "mosquitto.conf")]):
        _wait_for_broker()
        subscriber = subprocess.Popen(
            ["mosquitto_sub", "-t", "streamer/+/+/event/start", "-C", "1", "-W", str(DEADLINE_S)],
            stdout=subprocess.PIPE,
            text=True,
        )
        began = time.monotonic()
        with _process(image.line((*image.entrypoint, *image.command))) as daemon:
            event, _ = subscriber.communicate()
            if subscriber.returncode:
                raise subprocess.CalledProcessError(subscriber.returncode, "mosquitto_sub")
            sound = json.loads(event)["sound"]
            print(f"{'start to first event':<24}{time.monotonic() - began:6.1f} s   ({sound})")
            print(f"{'memory of the daemon':<24}{_pss_mb(daemon.pid):6.0f} MB  (PSS)")
            began = time.monotonic()
            health = subprocess.run(image.line(image.health), capture_output=True, text=True, check=True)
            print(f"{'health check':<24}{time.monotonic() - began:6.1f} s   ({health.stdout.strip()})")
            # To the first process inside, as an engine sends it; unshare itself heeds no signal.
            began = time.monotonic()
            os.kill(_children(daemon.pid)[0], signal.SIGTERM)
            code = daemon.wait(STOP_S)
            print(f"{'stop':<24}{time.monotonic() - began:6.1f} s   (exit code {code})")


@contextmanager
def _process(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdout=sys.stderr)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _wait_for_broker() -> None:
    deadline = time.monotonic() + STOP_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", 1883)).close()
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text(encoding="ascii").split()]


def _pss_mb(ancestor: int) -> float:
    """Of a process and all that it started."""
    total, todo = 0, [ancestor]
    while todo:
        pid = todo.pop()
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
            todo += _children(pid)
        except OSError:  # it has ended since
            continue
        if match := re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE):
            total += int(match[1]) * 1024
    return total / 1e6


if __name__ == "__main__":
    sys.exit(main())
