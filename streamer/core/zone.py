"""The time zone of this machine."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


def home_zone() -> tuple[ZoneInfo, str]:
    """The time zone of this machine and its name: days begin at the home's midnight, not the browser's."""
    names = [os.environ.get("TZ", "").lstrip(":")]
    with suppress(OSError):
        names.append(Path("/etc/timezone").read_text(encoding="utf-8").strip())
    with suppress(OSError, ValueError):
        names.append(str(Path("/etc/localtime").resolve()).split("zoneinfo/", 1)[1])
    for name in names:
        with suppress(ZoneInfoNotFoundError, ValueError, OSError, IndexError):
            if name:
                return ZoneInfo(name), name
    return ZoneInfo("UTC"), "UTC"
