"""What takes long is a command as a user would type it: one at a time, and behind everything else."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
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
OUTPUT_MAX = 4 << 20
"""bytes of an answer"""


class Commands:
    """Runs `streamer …` with the configuration in use."""

    def __init__(self) -> None:
        self._free = asyncio.Lock()
        self._n = 0

    async def run(
        self,
        config: Config,
        state: Path,
        arguments: Sequence[str],
        source: str | None = None,
        *,
        on_line: Callable[[str], None] = lambda _: None,
    ) -> dict[str, Any]:
        """What the command says as JSON; `on_line` gets each line of its stderr. A cancelled one is killed.

        Raises StreamerError with what it says where it fails.
        """
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
                    try:
                        return await _run([*arguments, *chosen, "--config", str(path), "--json"], on_line)
                    except StreamerError as error:  # no path leaves the daemon
                        reason = str(error).removeprefix(f"{state}: ").replace(f"{state}/", "")
                        raise StreamerError(reason.replace(f"{folder}/", "")) from None
        finally:
            self._n -= 1


async def _run(arguments: Sequence[str], on_line: Callable[[str], None]) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "streamer",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _put_behind_everything(process.pid)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            last, output, _ = await asyncio.gather(
                _follow(process.stderr, on_line), _all_of(process.stdout), process.wait()
            )
    except TimeoutError:
        raise StreamerError(
            f"it takes longer than {TIMEOUT_S:g} s: ask for fewer days, or give it fewer examples"
        ) from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode:
        raise StreamerError(last.removeprefix("streamer: ") or "it failed")
    found: dict[str, Any] = json.loads(output)
    return found


def _put_behind_everything(pid: int) -> None:
    """It gets the processor that others leave, and is the first to go where memory runs out."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, NICE)
        Path(f"/proc/{pid}/oom_score_adj").write_text("1000", encoding="ascii")


async def _follow(stream: asyncio.StreamReader | None, on_line: Callable[[str], None]) -> str:
    """The last line that is not empty; each is handed to `on_line`."""
    last = ""
    while stream is not None and (line := await stream.readline()):
        if text := line.decode(errors="replace").strip():
            last = text
            on_line(text)
    return last


async def _all_of(stream: asyncio.StreamReader | None) -> bytes:
    """Raises StreamerError where it is too much to be kept in memory."""
    content = bytearray()
    while stream is not None and (part := await stream.read(1 << 16)):
        content += part
        if len(content) > OUTPUT_MAX:
            raise StreamerError("the answer is too long; ask for fewer days")
    return bytes(content)
