"""A small JSON file in the state directory: written whole or not at all, and never a reason not to start."""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)

LARGEST = 1 << 20
"""bytes; a larger file is not ours"""


class Kept:
    """What the program remembers over a restart; nothing where there is no directory."""

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
        log.warning("%s: not as it was saved: it is set aside as %s.damaged", self._path, self._path.name)
        with suppress(OSError):
            self._path.replace(self._path.with_name(f"{self._path.name}.damaged"))
        return {}

    def save(self, values: dict[str, object]) -> None:
        """A disk that does not take it is said, and the program goes on with what it has in memory."""
        if self._path is None:
            return
        draft = self._path.with_name(f"{self._path.name}.new")
        try:
            with draft.open("w", encoding="utf-8") as file:
                json.dump(values, file, indent=1, sort_keys=True)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._path)
        except OSError as error:
            log.error(  # noqa: TRY400  # the reason is in the line
                "%s: cannot be saved (%s): it is forgotten at the next start", self._path, error.strerror
            )
