"""Tries each Python that is supported and found: installed as users do, without torch, to the first event.

    make test-pythons PYTHONS="python3.12 python3.13"

Without names those on PATH, of pyenv and of uv: the newest of each minor version in pyproject.toml.
Exit codes: 0 all passed, 1 one failed, or none was found.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[1]
BUILD = PROJECT / "build" / "pythons"
PLACES = (".pyenv/versions/*/bin/python3", ".local/share/uv/python/*/bin/python3")
"""where pyenv and uv keep them, below the user's home"""
VERSION = "import sys; print(*sys.version_info[:3], sep='.')"
NEEDED = ("pytest", "pytest-asyncio", "hypothesis", "psutil", "jsonschema")
PARTS = ("core", "config", "detection", "signal", "store", "mqtt")
"""of the tests, those that neither torch nor the extras are imported for, and that no clock decides"""
WARNINGS = r"filterwarnings=error::DeprecationWarning:streamer\."
LIMIT_S = 900
FIRST_EVENT_S = 120.0
CONFIG = """\
node: pythons
sources: {{here: {{stream: {demo}, loop: true}}}}
model: {{path: ast-tiny}}
sounds: {{smoke_alarm: {{on: 0.6, labels: ["Smoke detector, smoke alarm"]}}}}
mqtt: {{embedded: true, port: {port}}}
"""
DEMO = "import sys, pathlib, streamer.data.synthesis as s; s.write_demo(pathlib.Path(sys.argv[1]))"
SUBSCRIBE = """
import asyncio, sys, aiomqtt
async def main():
    while True:
        try:
            async with aiomqtt.Client("127.0.0.1", int(sys.argv[1])) as client:
                await client.subscribe("streamer/+/+/event/start")
                async for message in client.messages:
                    return print(message.payload.decode())
        except aiomqtt.MqttError:
            await asyncio.sleep(0.1)
asyncio.run(asyncio.wait_for(main(), float(sys.argv[2])))
"""


class StepError(Exception):
    """A step failed; the text is the end of what it printed."""


@dataclass(frozen=True)
class Found:
    """A Python of this machine."""

    version: tuple[int, ...]
    path: str

    def __str__(self) -> str:
        return ".".join(map(str, self.version))


def main(names: Sequence[str]) -> int:
    """Try the Pythons of these names, or all that are found; returns the exit code."""
    declared = supported((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    pythons = [python for name in names if (python := look_at(name))] if names else _found(declared)
    passed = [_try(python) for python in pythons]
    for minor in declared:
        if not names and all(python.version[:2] != minor for python in pythons):
            print(f"{'.'.join(map(str, minor)):<9}not found on this machine", flush=True)
    return 0 if passed and all(passed) and len(pythons) >= len(names) else 1


def supported(pyproject: str) -> list[tuple[int, int]]:
    """The minor versions that the project declares, oldest first."""
    classifiers = tomllib.loads(pyproject)["project"]["classifiers"]
    found = (re.fullmatch(r"Programming Language :: Python :: (\d+)\.(\d+)", line) for line in classifiers)
    return sorted((int(match[1]), int(match[2])) for match in found if match)


def look_at(name: str) -> Found | None:
    """The Python of a name or a path; None, and a line that says so, where there is none."""
    try:
        said = subprocess.run([name, "-c", VERSION], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"{name}: no Python that runs ({error})", file=sys.stderr)
        return None
    return Found(tuple(map(int, said.split("."))), name)


def _found(declared: Sequence[tuple[int, int]]) -> list[Found]:
    """The newest of each minor version."""
    paths = [str(path) for place in PLACES for path in Path.home().glob(place)]
    names = [f"python{major}.{minor}" for major, minor in declared]
    paths += [path for name in names if (path := _on_path(name))]
    newest: dict[tuple[int, ...], Found] = {}
    for python in filter(None, map(look_at, paths)):
        minor = python.version[:2]
        if minor in declared and (minor not in newest or python.version > newest[minor].version):
            newest[minor] = python
    return [newest[minor] for minor in sorted(newest)]


def _on_path(name: str) -> str | None:
    """Its path where it runs; a shim of pyenv for a version that is not in use does not."""
    try:
        subprocess.run([name, "--version"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return name


def _try(python: Found) -> bool:
    """One line a step, as each ends; returns whether all passed."""
    folder = BUILD / ".".join(map(str, python.version[:2]))
    steps: dict[str, Callable[[Path, Found], str]] = {
        "installed": _install,
        "check": _check,
        "tag": _tag,
        "first event": _first_event,
        "tests": _test,
    }
    for name, step in steps.items():
        began = time.monotonic()
        try:
            result, passed = step(folder, python), True
        except (StepError, subprocess.TimeoutExpired, OSError) as error:
            result, passed = f"FAILED\n{error}", False
        print(f"{python!s:<9}{name:<13}{time.monotonic() - began:5.0f} s  {result}", flush=True)
        if not passed:
            return False
    return True


def _install(folder: Path, python: Found) -> str:
    _run([python.path, "-m", "venv", "--clear", str(folder)])
    pip = [str(folder / "bin/pip"), "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "--constraint", "constraints.txt", "."])
    (folder / "try").mkdir()
    _run([str(folder / "bin/python"), "-c", DEMO, str(folder / "try")])
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    demo = next((folder / "try").glob("*.wav"))
    (folder / "try/streamer.yaml").write_text(CONFIG.format(demo=demo, port=port), encoding="utf-8")
    size = sum(file.lstat().st_size for file in folder.rglob("*"))
    return f"{size / 1e6:.0f} MB"


def _check(folder: Path, _: Found) -> str:
    return _streamer(folder, "check", "--config", str(folder / "try/streamer.yaml")).splitlines()[-1]


def _tag(folder: Path, _: Found) -> str:
    printed = _streamer(folder, "tag", str(next((folder / "try").glob("*.wav"))))
    if "Siren" not in printed:
        raise StepError(f"the siren of the demo is not among the labels:\n{printed}")
    return "the siren of the demo is named"


def _first_event(folder: Path, _: Found) -> str:
    config = folder / "try/streamer.yaml"
    port = config.read_text(encoding="utf-8").split("port: ")[1].split("}")[0]
    with _daemon(folder, config):
        subscribe = [str(folder / "bin/python"), "-c", SUBSCRIBE, port, str(FIRST_EVENT_S)]
        try:
            event = _run(subscribe)
        except StepError as error:
            log = (folder / "try/log").read_text(encoding="utf-8")
            raise StepError(f"no event was published\n{error}\n{log[-2000:]}") from None
    return str(json.loads(event)["sound"])


@contextmanager
def _daemon(folder: Path, config: Path) -> Iterator[None]:
    state = {"STATE_DIRECTORY": str(folder / "try"), "CACHE_DIRECTORY": str(folder / "try")}
    with (folder / "try/log").open("w") as log:
        process = subprocess.Popen(
            [str(folder / "bin/streamer"), "run", "--config", str(config)], stdout=log, stderr=log, env=state
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait(LIMIT_S)


def _test(folder: Path, _: Found) -> str:
    pip = [str(folder / "bin/pip"), "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "--constraint", "constraints.txt", *NEEDED])
    pytest = [str(folder / "bin/python"), "-m", "pytest", "-q", "-m", "not slow", "-o", WARNINGS]
    return _run([*pytest, "-p", "no:cacheprovider", *(f"tests/{part}" for part in PARTS)]).splitlines()[-1]


def _streamer(folder: Path, *arguments: str) -> str:
    return _run([str(folder / "bin/streamer"), *arguments])


def _run(command: Sequence[str]) -> str:
    """What it printed. Raises StepError."""
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    if done.returncode:
        raise StepError((done.stdout + done.stderr)[-3000:])
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
