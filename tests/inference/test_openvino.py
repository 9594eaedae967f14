"""What is OpenVINO's alone; the rest is held to the other engines in `test_engines.py`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.inference import models

_DROPPED_BY_ANOTHER_THREAD = """
import os, signal, sys, threading
from streamer.config.schema import ModelSettings
from streamer.inference.engines import open_engine

held = [open_engine(ModelSettings(path=sys.argv[1], engine="openvino"))]
dropping = threading.Thread(target=held.clear)
dropping.start()
dropping.join()
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
os.kill(os.getpid(), signal.SIGUSR1)
"""


def test_a_signal_after_an_engine_was_dropped(tmp_path: Path) -> None:
    """It is handled, whichever thread dropped the engine: OpenVINO's signal stack must not be gone."""
    directory = models.directory(tmp_path / "small")

    done = subprocess.run(
        [sys.executable, "-c", _DROPPED_BY_ANOTHER_THREAD, str(directory)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "handled\n", "")


_SAYS_WHAT_IT_ASKS = """
import sys
sys.addaudithook(lambda name, args: name.startswith("socket.") and print(name, args))
from streamer.config.schema import ModelSettings
from streamer.inference.engines import open_engine
open_engine(ModelSettings(path=sys.argv[1], engine="openvino"))
"""


def test_its_use_is_told_to_nobody(tmp_path: Path) -> None:
    """OpenVINO by itself counts and reports each import: here no socket is opened, no file left at home."""
    directory, home = models.directory(tmp_path / "small"), tmp_path / "home"
    home.mkdir()

    done = subprocess.run(
        [sys.executable, "-c", _SAYS_WHAT_IT_ASKS, str(directory)],
        env={"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(home.iterdir()) == []
