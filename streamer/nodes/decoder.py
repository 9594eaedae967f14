"""Decodes hops in a child process, one at a time, so that whose hop has ended the process is known."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys

import numpy as np

from streamer.nodes.decoding import ANSWER, REQUEST
from streamer.nodes.flac import Int16
from streamer.nodes.wire import LinkError

DEADLINE_S = 10.0
"""a hop takes a millisecond, the start of the process a second"""


class Decoder:
    """The process is started with the first hop, and again after its end."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None

    async def decode(self, payload: bytes, n_samples: int) -> Int16:
        """(n_samples,). Raises LinkError where the payload is something else, or ends the process."""
        async with self._turn:
            try:
                async with asyncio.timeout(DEADLINE_S):
                    return await self._ask(payload, n_samples)
            except (TimeoutError, OSError, EOFError):
                await self._end()
                raise LinkError("the FLAC of a hop has ended the decoder") from None
            except asyncio.CancelledError:  # the answer that is due is not that of the next one
                await self._end()
                raise

    async def close(self) -> None:
        """End the process. May be called twice."""
        await self._end()

    async def _ask(self, payload: bytes, n_samples: int) -> Int16:
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "streamer.nodes.decoding",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
                start_new_session=True,  # Ctrl-C is for the parent
            )
        requests, answers = self._process.stdin, self._process.stdout
        if requests is None or answers is None:
            raise RuntimeError("a process without pipes")
        requests.write(REQUEST.pack(n_samples, len(payload)) + payload)
        await requests.drain()
        (length,) = ANSWER.unpack(await answers.readexactly(ANSWER.size))
        if length < 0:
            raise LinkError((await answers.readexactly(-length)).decode())
        return np.frombuffer(await answers.readexactly(2 * length), "<i2")

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
