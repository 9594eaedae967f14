"""Whether the sound devices of this machine may be others than before, without asking PortAudio."""

from __future__ import annotations

import os
import time
from pathlib import Path

SETTLE_S = 10.0
"""devices and servers take a moment from the first sign of them until they can be used"""
LONGEST_S = 600.0
"""there may be changes that leave no sign"""


class Devices:
    """Remembers the state of the devices at the last call."""

    def __init__(self) -> None:
        self._signs: tuple[object, ...] | None = None
        self._changed_at = self._read_at = 0.0

    def may_differ(self) -> bool:
        """Since the last time that the answer was yes.

        PortAudio loses some 13 kB whenever it reads its list of devices anew. Once a second, while a
        microphone is missing, that would be a gigabyte a day.
        """
        now, signs = time.monotonic(), _signs()
        if signs != self._signs:
            self._signs, self._changed_at = signs, now
        if now - self._changed_at > SETTLE_S and now - self._read_at < LONGEST_S:
            return False
        self._read_at = now
        return True


def _signs() -> tuple[object, ...]:
    """Cards, settings of ALSA, sockets of sound servers: what changes where a device comes or goes."""
    run = os.environ.get("XDG_RUNTIME_DIR", "/run/user/0")
    server = os.environ.get("PULSE_SERVER", "")
    files = [
        "/etc/asound.conf",
        f"{os.environ.get('HOME', '')}/.asoundrc",
        f"{run}/pulse/native",
        f"{run}/pipewire-0",
        "/run/pulse/native",
        server.removeprefix("unix:"),
    ]
    return (_text("/proc/asound/cards"), *map(_identity, files))


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _identity(path: str) -> tuple[int, int, int] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns
