"""A process that cuts clips of one event after the other, and removes old ones, until it is killed."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

import streamer.store.clips
from streamer.capture.ring import Ring
from streamer.capture.tapes import Tapes
from streamer.config.schema import ClipSettings
from streamer.metrics import Metrics
from streamer.store.clips import Clips
from streamer.store.log import Log
from streamer.store.writer import Writer
from streamer.types import AudioBlock
from tests.reports import event

RATE = 8000
SETTINGS = ClipSettings(enabled=True, before_s=0.1, after_s=0.1, longest_s=1, per_sound=4)


async def main(folder: Path, life: int) -> None:
    log = Log(folder, Metrics())
    writer, tapes = Writer(log, Metrics()), Tapes()
    clips = Clips(folder, SETTINGS, tapes, ("Speech",), writer, Metrics(), min_free=0)
    writer.sinks.append(clips)
    running = asyncio.create_task(writer.run())
    now = time.time()
    ring = Ring(RATE)
    tapes.put("kitchen", ring)
    clips._scored["kitchen"] = streamer.store.clips._Scored(until=float("inf"))
    ring.write(AudioBlock(np.random.default_rng(0).uniform(-1, 1, 2 * RATE).astype(np.float32), now))
    number = 0
    print("ready", flush=True)
    while True:
        number += 1
        for phase in ("start", "end"):
            one = event(phase, event_id=f"{life:06x}{number:06x}")
            offset = now + 1.2 if phase == "end" else None
            writer.put(replace(one, onset=now + 1, offset=offset, heard_at=now + 1.2, emitted_at=now + 1.3))
        await asyncio.sleep(0.01)
        assert not running.done()


if __name__ == "__main__":
    streamer.store.clips.TURN_S = 0.001
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
