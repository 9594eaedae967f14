"""A small JSON file for state; a damaged one is set aside, and the program starts without it."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from pathlib import Path

from streamer.core.files import write_text

log = logging.getLogger(__name__)

LARGEST = 1 << 20
"""bytes; a larger file was not written by this program"""


class JsonFile:
    """A mapping that survives a restart. Without a directory it is empty, and saved nowhere."""

    def __init__(self, directory: Path | None, name: str) -> None:
        self._path = None if directory is None else directory / name

    def load(self) -> dict[str, object]:
        """What was saved; empty where that is nothing. A damaged file is set aside."""
        if self._path is None or not self._path.exists():
            return {}
        try:
            loaded = json.loads(self._path.read_bytes()) if self._path.stat().st_size <= LARGEST else None
        except (OSError, ValueError, RecursionError) as error:
            log.warning("%s: %s", self._path, error)
            loaded = None
        if isinstance(loaded, dict):
            return loaded
        log.warning("%s: damaged: set aside as %s.damaged", self._path, self._path.name)
        with suppress(OSError):
            self._path.replace(self._path.with_name(f"{self._path.name}.damaged"))
        return {}

    def save(self, values: dict[str, object]) -> None:
        """Write it. A disk that refuses is logged; the values then last as long as the process."""
        if self._path is None:
            return
        try:
            write_text(self._path, json.dumps(values, indent=1, sort_keys=True), mode=0o600)
        except OSError as error:
            log.error(  # noqa: TRY400  # the reason is in the line
                "%s: not saved (%s): it will be lost at the next start", self._path, error.strerror
            )
