"""The daemon's status over a unix socket: each connection gets one line of JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from streamer.errors import SourceError, StreamerError

TIMEOUT_S = 5.0
SYSTEM = Path("/run/streamer")
"""where the daemon's socket is when systemd started it as streamer.service"""

log = logging.getLogger(__name__)


def socket_path(state: Path) -> Path:
    """In the runtime directory that systemd gives, else beside the state."""
    given = os.environ.get("RUNTIME_DIRECTORY")
    return Path(given.split(":")[0] if given else state) / "status.sock"


@contextlib.asynccontextmanager
async def status_server(path: Path, report: Callable[[], Mapping[str, object]]) -> AsyncIterator[None]:
    """Answer in the block. Where the socket cannot be made, a line is logged, and the block runs without."""

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            writer.write(json.dumps(report()).encode() + b"\n")
            await writer.drain()
        writer.close()

    server = None
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if await asyncio.to_thread(_answers, path):
            log.warning("%s: another daemon answers `streamer status` there", path)
        else:
            server = await asyncio.start_unix_server(answer, path)
    except OSError as error:
        log.warning("%s: `streamer status` will not work: %s", path, error.strerror or error)
    try:
        yield
    finally:
        if server is not None:
            server.close()
            with contextlib.suppress(OSError):
                path.unlink()  # noqa: ASYNC240  # a name in a directory of ours, at the end


def ask(paths: Sequence[Path]) -> dict[str, Any]:
    """The report of the daemon behind the first of these sockets that answers. Raises StreamerError."""
    for path in paths:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(TIMEOUT_S)
                connection.connect(str(path))
                with connection.makefile("rb") as answer:
                    report: dict[str, Any] = json.loads(answer.readline())
                    return report
        except TimeoutError:
            raise StreamerError(
                f"{path}: the daemon does not answer within {TIMEOUT_S:g} s: it hangs"
            ) from None
        except (OSError, ValueError):
            continue
    places = ", ".join(str(path) for path in paths)
    raise SourceError(f"no daemon is running, or it belongs to someone else (looked at {places})")


def _answers(path: Path) -> bool:
    """Whether a daemon answers; a socket that a dead one has left does not."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(TIMEOUT_S)
        return connection.connect_ex(str(path)) == 0
