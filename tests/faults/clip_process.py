"""A process that cuts clips of one event after the other, and removes old ones, until it is killed."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from multiprocessing.synchronize import Event
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


def live(folder: Path, life: int, ready: Event) -> None:
    streamer.store.clips.TURN_S = 0.001
    asyncio.run(_cut_for_ever(folder, life, ready))


async def _cut_for_ever(folder: Path, life: int, ready: Event) -> None:
    log = Log(folder, Metrics())
    writer, tapes = Writer(log, Metrics()), Tapes()
    clips = Clips(folder, SETTINGS, tapes, ("Speech",), writer, Metrics(), min_free=0)
    writer.sinks.append(clips)
    running = asyncio.create_task(writer.run())
    now = time.time()
    ring = Ring(RATE)
    tapes.put("kitchen", ring)
    clips._scored["kitchen"] = streamer.store.clips._Scored(until=float("inf"))
    ring.write(AudioBlock(np.random.default_rng(0).uniform(-1, 1, 2 * RATE).astype(np.float32), now - 2))
    number = 0
    ready.set()
    while True:
        number += 1
        for phase in ("start", "end"):
            one = event(phase, event_id=f"{life:06x}{number:06x}")
            offset = now - 0.8 if phase == "end" else None
            writer.put(replace(one, onset=now - 1, offset=offset, heard_at=now - 0.8, emitted_at=now - 0.7))
        await asyncio.sleep(0.01)
        assert not running.done()
