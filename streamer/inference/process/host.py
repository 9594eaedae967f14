"""The process that has the model: takes windows, gives scores, and holds nothing that is worth saving.

Started by `child.py` as `python -m streamer.inference.process.host SOCKET MEMORY`, two inherited descriptors.
Over the socket go lines of JSON, in turns; samples and scores lie in the memory.

    {"engine": "module:Class" | null, "settings": {...}, "heads": [...], "n_sources": 2 | null,
     "fleet": {...} | null, "wanted": ["Speech", ...] | null}                                        once
    {"labels": [...], "window_s": 10.24, "device": "cpu", "engine": "...", "describe": "...", "hop_s": null}
    {"windows": [{"offset": 0, "n_samples": 480000, "sample_rate": 48000, "source_id": "room", ...}]}
    {"scores": [{"offset": 0, "n_labels": 527, "n_frames": 50 | null, "frame_s": 0.2}, {"failure": "…"}],
     "seconds": 0.085}
    {"failure": "what went wrong", "kind": "ModelError"}                       then the process ends
"""

from __future__ import annotations

import ctypes
import faulthandler
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, TypeAlias

from streamer.config.schema import FleetSettings, ModelSettings
from streamer.errors import InferenceError, StreamerError
from streamer.inference.engines import open_engine
from streamer.inference.heads import Head
from streamer.inference.process.arena import Arena
from streamer.inference.worker import Engine
from streamer.types import Scores, Window

Outcomes: TypeAlias = Callable[[Sequence[Window]], Sequence[Scores | InferenceError]]

PR_SET_PDEATHSIG = 1
"""prctl(2)"""
OOM_SCORE_ADJ = "500"
"""where memory runs out, the kernel ends this process before the one that listens (proc(5))"""


def main(socket_number: int, memory_number: int) -> int:
    """Serve until the parent closes the socket. Returns the exit code."""
    _end_with_the_parent()
    with (
        socket.socket(fileno=socket_number) as connection,
        connection.makefile("rw", encoding="utf-8") as line,
    ):
        try:
            return _serve(line, Arena(memory_number))
        except (BrokenPipeError, ConnectionResetError):
            return 0  # the parent is gone
        except Exception as error:  # the parent decides what follows
            _send(line, {"failure": str(error) or repr(error), "kind": type(error).__name__})
            return error.exit_code if isinstance(error, StreamerError) else 70


def _serve(line: IO[str], arena: Arena) -> int:
    order = json.loads(line.readline() or "null")
    if order is None:
        return 0
    engine, outcomes = _open(order)
    n_sources = order["n_sources"]
    _return_memory()
    _send(
        line,
        {
            "labels": list(engine.labels),
            "window_s": engine.window_s,
            "device": str(engine.device),
            "engine": engine.kind,
            "describe": engine.describe(),
            "hop_s": None if n_sources is None else engine.fastest_hop(n_sources),
        },
    )
    while text := line.readline():
        started = time.monotonic()
        scores = outcomes([_window(arena, fields) for fields in json.loads(text)["windows"]])
        seconds = time.monotonic() - started
        _send(line, {"scores": _written(arena, scores), "seconds": seconds})
    return 0


def _open(order: dict[str, Any]) -> tuple[Engine, Outcomes]:
    """An engine here, which does not survive an error, or one that other machines are behind, which does."""
    settings = ModelSettings.model_validate(order["settings"], strict=False)
    heads = [Head(**head) for head in order["heads"]]
    if order["fleet"] is None:
        engine = open_engine(settings, order["engine"], heads=heads)
        return engine, engine.score
    from streamer.inference.ray.engine import RayEngine  # noqa: PLC0415  # what is not asked for is not loaded

    fleet = FleetSettings.model_validate(order["fleet"], strict=False)
    remote = RayEngine(fleet, settings, order["engine"], heads=heads, labels=order["wanted"])
    return remote, remote.outcomes


def _window(arena: Arena, fields: dict[str, Any]) -> Window:
    offset, n_samples = fields.pop("offset"), fields.pop("n_samples")
    return Window(samples=arena.read(offset, (n_samples,)), **fields)


def _written(arena: Arena, scores: Sequence[Scores | InferenceError]) -> list[dict[str, object]]:
    """Scores overwrite the windows in the arena, which are scored by now."""
    end = 0
    places: list[dict[str, object]] = []
    for score in scores:
        if isinstance(score, InferenceError):
            places.append({"failure": str(score)})
            continue
        places.append(
            {
                "offset": end,
                "n_labels": len(score.clip),
                "n_frames": None if score.frames is None else len(score.frames),
                "frame_s": score.frame_s,
            }
        )
        end = arena.write(end, score.clip)
        if score.frames is not None:
            end = arena.write(end, score.frames)
    return places


def _send(line: IO[str], message: dict[str, object]) -> None:
    line.write(json.dumps(message) + "\n")
    line.flush()


def _return_memory() -> None:
    """Give what loading took and left back to the system; of a large model that is a gigabyte."""
    if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:  # glibc's
        trim(0)


def _end_with_the_parent() -> None:
    """End when the parent ends, also where it is killed or a driver hangs here; ignore its signals."""
    faulthandler.enable()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(0)
    try:
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE_ADJ)
    except OSError as error:
        print(f"the kernel may end the wrong process where memory runs out: {error}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
