"""Chooses the engine: what is asked for, or for `auto` the fastest on this machine, measured once."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from streamer.config.schema import ModelSettings
from streamer.core.json_file import JsonFile
from streamer.errors import ModelError
from streamer.inference.engines.measure import Measured
from streamer.inference.engines.processor import processor_name
from streamer.model import hub

log = logging.getLogger(__name__)

PACKAGES = {"torch": "torch", "onnx": "onnxruntime", "openvino": "openvino"}
"""that each engine needs"""
DTYPES = {
    "torch": {"auto", "float32", "bfloat16"},
    "onnx": {"auto", "float32", "int8"},
    "openvino": {"auto", "float32", "bfloat16"},
}
"""that `auto` takes each engine for"""
REFERENCE = "onnx"
"""the engine whose scores, in float32, the others are held to"""
TOLERANCE = 0.02
"""by which scores may differ from the reference's, as bfloat16 does from float32"""
MEASURING_S = 45.0
"""after which an engine is too slow to be measured; three of them fit into the time of a service's start"""
FILE = "engines.json"
KEPT = 32
"""choices that are remembered"""
_NVIDIA = Path("/dev/nvidiactl")


@dataclass(frozen=True)
class Choice:
    engine: str
    why: str
    """a clause for people; empty where there was nothing to choose"""


def choose(settings: ModelSettings, engines: Collection[str]) -> tuple[str, str]:
    """The name of one of `engines`, and why, where it was measured. Raises ModelError."""
    installed = [name for name in engines if find_spec(PACKAGES[name]) is not None]
    wanted: str = settings.engine
    if wanted == "auto":
        on_cuda = settings.first_device.startswith("cuda")
        able = [
            name for name in engines if settings.dtype in DTYPES[name] and (name == "torch" or not on_cuda)
        ]
        among = [name for name in able if name in installed]
        if len(among) > 1:
            choice = _remembered(settings, among)
            return choice.engine, choice.why
        wanted = (among or able or list(engines))[0]
    if wanted not in engines:
        raise ModelError(f"engine {wanted}: it does not compute this kind of model; set engine: auto")
    if wanted not in installed:
        raise ModelError(
            f"engine {wanted}: {PACKAGES[wanted]} is not installed: pip install 'streamer[{wanted}]'"
        )
    return wanted, ""


def _remembered(settings: ModelSettings, engines: Collection[str]) -> Choice:
    """What was chosen before on this machine for this model, or what is chosen now."""
    file = JsonFile(_directory(), FILE)
    key, choices = _key(settings, engines), file.load()
    try:
        known = TypeAdapter(Choice).validate_python(choices.get(key))
    except ValidationError:
        known = None
    if known is not None and known.engine in engines:
        return known
    found = {name: _measure(name, settings) for name in engines}
    working = {name: measured for name, measured in found.items() if measured is not None}
    if not working:  # the engine says itself, when it is opened, what is wrong
        return Choice(REFERENCE, "")
    chosen = _fastest(working)
    file.save(dict(list(choices.items())[1 - KEPT :]) | {key: asdict(chosen)})
    return chosen


def _fastest(working: Mapping[str, Measured]) -> Choice:
    """Of those that agree with the reference."""
    if "torch" in working and working["torch"].device != "cpu":
        return Choice("torch", f"torch has {working['torch'].device}")
    reference = working.get(REFERENCE, next(iter(working.values())))
    agree: dict[str, Measured] = {}
    for name, measured in working.items():
        apart = float(np.abs(np.subtract(measured.scores, reference.scores)).max())
        if apart <= TOLERANCE:
            agree[name] = measured
        else:
            log.warning("engine %s: its scores are off by %.2f: it is not used", name, apart)
    best = min(agree, key=lambda name: agree[name].ms)
    times = "; ".join(f"{one.kind}: {one.ms:.0f} ms a window" for one in agree.values())
    return Choice(best, f"the fastest here of {times}" if len(agree) > 1 else "")


def _measure(name: str, settings: ModelSettings) -> Measured | None:
    """In a process of its own: what was tried and not taken leaves neither memory nor threads behind."""
    log.info("engine %s: measured once, a few seconds", name)
    order = {"settings": settings.model_dump(mode="json") | {"engine": name}}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "streamer.inference.engines.measure"],
            input=json.dumps(order),
            capture_output=True,
            text=True,
            timeout=MEASURING_S,
            check=True,
        )
        return TypeAdapter(Measured).validate_json(done.stdout)
    except subprocess.CalledProcessError as error:
        last = (str(error.stderr).strip().splitlines() or [f"exit code {error.returncode}"])[-1]
        log.warning("engine %s cannot be used: %s", name, last)
    except (OSError, subprocess.TimeoutExpired, ValidationError) as error:
        log.warning("engine %s cannot be used: %s", name, str(error).splitlines()[0])
    return None


def _key(settings: ModelSettings, engines: Collection[str]) -> str:
    """What a choice depends on: the machine, the model, the versions and the settings."""
    directory = hub.resolve(settings.path)
    files = [
        f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}"
        for path in sorted((*directory.glob("*.safetensors"), *directory.glob("config.json")))
        if path.is_file()
    ]
    versions = [f"{PACKAGES[name]} {metadata.version(PACKAGES[name])}" for name in engines]
    own = settings.model_dump_json(include={"device", "dtype", "threads", "window_s", "position"})
    machine = f"{processor_name()}, {os.cpu_count()} CPUs{', NVIDIA' if _NVIDIA.exists() else ''}"
    return " | ".join((machine, str(directory.resolve()), *files, *versions, own))


def _directory() -> Path | None:
    """Where choices are remembered: systemd's cache directory, or the user's; None where there is none."""
    given = os.environ.get("CACHE_DIRECTORY", "").partition(":")[0]
    home = os.environ.get("XDG_CACHE_HOME", "") or os.environ.get("HOME", "")
    if not given and not home:
        return None
    cache = Path(home) if os.environ.get("XDG_CACHE_HOME") else Path(home) / ".cache"
    directory = Path(given) if given else cache / "streamer"
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        log.info("%s: %s: engines are measured at each start", directory, error.strerror)
        return None
    return directory
