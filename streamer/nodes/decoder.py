"""Decodes hops in a child process, in order, so that whose hop has ended the process is known."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections import deque
from dataclasses import dataclass

import numpy as np

from streamer.core.tasks import cancel_and_wait
from streamer.nodes.decoding import ANSWER, REQUEST
from streamer.nodes.flac import Int16
from streamer.nodes.wire import LinkError

DEADLINE_S = 10.0
"""a hop takes a millisecond, the start of the process a second"""
AHEAD = 32
"""hops that are with the process at once: it need not wait for us between two of them"""
TOGETHER_S = 0.01
"""between two turns: hops of many nodes go and come together"""
READ_MAX = 1 << 20
"""bytes of answers"""


@dataclass(frozen=True, slots=True, eq=False)
class _Request:
    payload: bytes
    n_samples: int
    answer: asyncio.Future[Int16]


class Decoder:
    """The process is started with the first hop, and again after its end."""

    def __init__(self) -> None:
        self._waiting: deque[_Request] = deque()
        self._sent: deque[_Request] = deque()
        """answers come in this order: where the process ends, the first of them has ended it"""
        self._serving: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._answers = bytearray()

    def decode(self, payload: bytes, n_samples: int) -> asyncio.Future[Int16]:
        """(n_samples,). Raises LinkError where the payload is something else, or ends the process."""
        request = _Request(payload, n_samples, asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        if self._serving is None or self._serving.done():
            self._serving = asyncio.create_task(self._serve(), name="decoder")
        return request.answer

    async def close(self) -> None:
        """End the process. May be called twice."""
        if self._serving is not None:
            await cancel_and_wait(self._serving)
        await self._end()
        for request in (*self._sent, *self._waiting):
            request.answer.cancel()
        self._sent.clear()
        self._waiting.clear()

    async def _serve(self) -> None:
        """Until nothing waits."""
        while self._waiting or self._sent:
            try:
                async with asyncio.timeout(DEADLINE_S):
                    await self._exchange()
            except (TimeoutError, OSError, EOFError):
                await self._end()
                if self._sent:
                    _fail(self._sent.popleft(), "the FLAC of a hop has ended the decoder")
                else:
                    _fail(self._waiting.popleft(), "no decoder could be started")
                self._waiting.extendleft(reversed(self._sent))
                self._sent.clear()

    async def _exchange(self) -> None:
        """Send what there is room for, and take the answers that are there."""
        is_gone = self._process is not None and self._process.returncode is not None
        if self._process is None or (
            is_gone and not self._sent
        ):  # else it has ended by a hop, which is found below
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "streamer.nodes.decoding",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=READ_MAX,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
                start_new_session=True,  # Ctrl-C is for the parent
            )
        requests, answers = self._process.stdin, self._process.stdout
        if requests is None or answers is None:
            raise RuntimeError("a process without pipes")
        while self._waiting and len(self._sent) < AHEAD:
            request = self._waiting.popleft()
            self._sent.append(request)
            requests.write(REQUEST.pack(request.n_samples, len(request.payload)) + request.payload)
        answered = await answers.read(READ_MAX)
        if not answered:
            raise EOFError
        self._answers += answered
        while (answer := self._next_answer()) is not None:
            request = self._sent.popleft()
            if isinstance(answer, str):
                _fail(request, answer)
            elif not request.answer.done():  # its connection may be gone
                request.answer.set_result(answer)
        await asyncio.sleep(TOGETHER_S)

    def _next_answer(self) -> Int16 | str | None:
        """Samples, or why there are none; None where the next answer is not whole."""
        if len(self._answers) < ANSWER.size:
            return None
        (length,) = ANSWER.unpack_from(self._answers)
        end = ANSWER.size + (-length if length < 0 else 2 * length)
        if len(self._answers) < end:
            return None
        answer = bytes(self._answers[ANSWER.size : end])
        del self._answers[:end]
        return answer.decode() if length < 0 else np.frombuffer(answer, "<i2")

    async def _end(self) -> None:
        process, self._process = self._process, None
        self._answers.clear()
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _fail(request: _Request, reason: str) -> None:
    if not request.answer.done():
        request.answer.set_exception(LinkError(reason))
