"""What takes long is a command as a user would type it: one at a time, and behind everything else."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from streamer.config.schema import Config
from streamer.errors import StreamerError

TIMEOUT_S = 300.0
WAITING_MAX = 3
"""more than this, and one is refused"""
NICE = 19


class Commands:
    """Runs `streamer …` with the configuration in use."""

    def __init__(self) -> None:
        self._free = asyncio.Lock()
        self._n = 0

    async def run(
        self, config: Config, state: Path, arguments: Sequence[str], source: str | None = None
    ) -> dict[str, Any]:
        """What the command says as JSON. Raises StreamerError with what it says where it fails."""
        if self._n >= WAITING_MAX:
            raise StreamerError("too much of this is asked for at once; try again")
        self._n += 1
        try:
            async with self._free:
                with tempfile.TemporaryDirectory(prefix="streamer-") as folder:
                    path = Path(folder) / "config.yaml"
                    values = config.model_dump(mode="json", exclude_unset=True) | {"state_dir": str(state)}
                    path.write_text(yaml.safe_dump(values), encoding="utf-8")
                    chosen = [] if source is None else ["--source", source]
                    return await _run([*arguments, *chosen, "--config", str(path), "--json"])
        finally:
            self._n -= 1


async def _run(arguments: Sequence[str]) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "streamer",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            output, errors = await process.communicate()
    except TimeoutError:
        raise StreamerError(f"it takes longer than {TIMEOUT_S:g} s; ask for fewer days") from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode:
        said = errors.decode(errors="replace").strip().splitlines()
        raise StreamerError(said[-1].removeprefix("streamer: ") if said else "it failed")
    found: dict[str, Any] = json.loads(output)
    return found
