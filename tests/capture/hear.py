"""Hear files as the daemon does, in a process of its own, as `python -m tests.capture.hear`.

Each line of standard input is the name of a file, in JSON. The line that answers says in JSON what became of
it: `[samples, peak]` of what reached the ring, or `[name of the exception, its text]`.
"""

from __future__ import annotations

import asyncio
import json
import sys

import numpy as np

from streamer.capture.ring import Ring
from streamer.capture.stream import Stream, read_file
from streamer.types import AudioBlock


def hear(path: str) -> tuple[int, float]:
    """How many samples, and the largest; NaN where any is none."""
    ring: Ring | None = None
    peak = 0.0

    def write(block: AudioBlock) -> None:
        nonlocal ring, peak
        ring = ring or Ring(source.sample_rate)
        first = ring.end
        ring.write(block)
        peak = float(np.max(np.abs(ring.read(first, ring.end).samples), initial=peak))

    source = Stream(path, pace="fast")
    asyncio.run(source.open())
    asyncio.run(source.run(write))
    samples, _ = read_file(path)  # as whole files are tagged
    return len(samples), peak


def main() -> None:
    """Answer until there are no more questions."""
    for line in sys.stdin:
        try:
            answer: tuple[object, object] = hear(json.loads(line))
        except Exception as error:  # that none but InputError comes is for the test to say
            answer = (type(error).__name__, str(error))
        print(json.dumps(answer), flush=True)


main()
