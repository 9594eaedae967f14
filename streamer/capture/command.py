"""Raw PCM from the standard output of a program."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from streamer.capture.channels import Channel, Mixer
from streamer.capture.pcm import DTYPES, Format, frames
from streamer.core.clock import Clock
from streamer.core.printable import printable, without_secrets
from streamer.core.tasks import cancel_and_wait
from streamer.errors import SourceError
from streamer.types import AudioBlock

BLOCK_S = 0.1
STALL_S = 10.0
"""a program that writes nothing for this long has failed, though it still runs"""
TERM_S = 2.0
"""how long a program may take to end when asked to"""
GUARD = ("/bin/sh", "-c", 'read -r _; kill -s KILL -- "-$0"')
"""reads a pipe that nobody writes to: it ends with this process, and then the group is killed"""


class Command:
    """A source that starts a program and listens to what it writes.

    The program gets a process group of its own, so that its children end with it. A guard ends the group
    where this process is killed and can end nothing any more.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        sample_rate: int = 16000,
        channels: int = 1,
        sample_format: Format = "s16le",
        channel: Channel = "mix",
    ) -> None:
        self._command = command
        self._sample_rate = sample_rate
        self._channels = channels
        self._format = sample_format
        self._channel = channel
        self._process: asyncio.subprocess.Process | None = None
        self._guard: asyncio.subprocess.Process | None = None
        self._listener: asyncio.Task[None] | None = None
        self._tail = b""

    @property
    def sample_rate(self) -> int:
        return self._sample_rate

    async def open(self) -> None:
        if self._channel != "mix" and self._channel > self._channels:
            raise SourceError(f"{self._command[0]}: no channel {self._channel}: it has {self._channels}")
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
            self._guard = await asyncio.create_subprocess_exec(
                *GUARD,
                str(self._process.pid),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise SourceError(
                f"{self._command[0]}: no such program; is it installed, is it on PATH?"
            ) from error
        except OSError as error:
            raise SourceError(f"{self._command[0]}: cannot be started: {error.strerror}") from error
        if self._process.stderr is not None:
            name = f"stderr[{self._command[0]}]"
            self._listener = asyncio.create_task(self._keep_tail(self._process.stderr), name=name)

    async def run(self, write: Callable[[AudioBlock], None]) -> None:
        clock = Clock()
        mixer = Mixer(self._command[0], self._channel)
        n_frames = round(BLOCK_S * self._sample_rate)
        discontinuity = True
        while (interleaved := await self._read(n_frames)).size:
            samples = mixer.mono(interleaved.T)
            write(AudioBlock(samples, clock.now() - len(samples) / self._sample_rate, discontinuity))
            discontinuity = False
        raise SourceError(await self._last_words())

    async def close(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        self._signal(process, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), TERM_S)
        self._signal(process, signal.SIGKILL)  # whatever is left of the group
        guard, self._guard = self._guard, None
        if guard is not None:
            with contextlib.suppress(ProcessLookupError):
                guard.kill()
            await guard.wait()
        if self._listener is not None:
            await cancel_and_wait(self._listener)
        with contextlib.suppress(TimeoutError):  # what it wrote last: a pipe that holds something stays open
            await asyncio.wait_for(process.communicate(), TERM_S)
        await process.wait()

    async def _read(self, n_frames: int) -> npt.NDArray[np.float32]:
        """(n_frames, channels), fewer at the end of the program's output."""
        if self._process is None or self._process.stdout is None:
            raise RuntimeError("open comes before run")
        n_bytes = n_frames * self._channels * DTYPES[self._format].itemsize
        try:
            async with asyncio.timeout(STALL_S):
                raw = await self._process.stdout.readexactly(n_bytes)
        except asyncio.IncompleteReadError as end:
            raw = end.partial
        except TimeoutError as error:
            raise SourceError(f"{self._command[0]}: it wrote nothing for {STALL_S:g} s") from error
        return frames(raw, self._format, self._channels)

    async def _keep_tail(self, stderr: asyncio.StreamReader) -> None:
        self._tail = b""
        while text := await stderr.read(4096):
            self._tail = (self._tail + text)[-4096:]

    async def _last_words(self) -> str:
        """Why there is no more output: the exit code and the program's last line on the error stream."""
        if self._process is None or self._listener is None:
            return f"{self._command[0]}: closed"
        ended = asyncio.gather(self._process.wait(), self._listener)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended, TERM_S)
        code = self._process.returncode
        match code:
            case None:
                how = "it closed its output"
            case _ if code < 0:
                how = f"it was ended by signal {-code} ({signal.Signals(-code).name})"
            case _:
                how = f"it ended with exit code {code}"
        lines = self._tail.decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"{self._command[0]}: {how}" + (f": {printable(without_secrets(last))}" if last else "")

    @staticmethod
    def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
