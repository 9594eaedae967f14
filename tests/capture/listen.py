"""Listen to a microphone in a process of its own, as `python -m tests.capture.listen NAME CHANNEL OUT`.

Prints `listening` at the first block; a line on standard input ends it. What was heard is saved to OUT:
samples, and of each block its capture time, its mark of lost audio and its length. A SourceError is printed
as `error: …`.
"""

from __future__ import annotations

import asyncio
import sys
import threading

import numpy as np

from streamer.capture.microphone import Microphone
from streamer.errors import SourceError
from streamer.types import AudioBlock


async def listen(name: str, channel: str, out: str) -> None:
    blocks: list[AudioBlock] = []

    def write(block: AudioBlock) -> None:
        if not blocks:
            print("listening", flush=True)
        blocks.append(block)

    microphone = Microphone(name, channel="mix" if channel == "mix" else int(channel))
    try:
        await microphone.open()
        running = asyncio.create_task(microphone.run(write))
        loop = asyncio.get_running_loop()
        threading.Thread(
            target=lambda: (sys.stdin.readline(), loop.call_soon_threadsafe(running.cancel)), daemon=True
        ).start()
        await asyncio.wait([running])
        if not running.cancelled():
            await running
    except SourceError as error:
        print(f"error: {error}", flush=True)
    try:
        await microphone.close()
    except SourceError as error:
        print(f"error: {error}", flush=True)
    np.savez(
        out,
        rate=microphone.sample_rate,
        samples=np.concatenate([block.samples for block in blocks] or [np.zeros(0, np.float32)]),
        captured_at=[block.captured_at for block in blocks],
        discontinuity=[block.discontinuity for block in blocks],
        lengths=[len(block.samples) for block in blocks],
    )


asyncio.run(listen(*sys.argv[1:]))
