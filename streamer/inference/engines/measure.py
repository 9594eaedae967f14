"""The process that measures one engine: `python -m streamer.inference.engines.measure`.

From stdin it takes `{"settings": {...}}`, which name the engine; to stdout it writes a `Measured`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from streamer.config.schema import ModelSettings
from streamer.errors import StreamerError
from streamer.types import Window

MEASURE_S = 1.0
"""how long it scores"""
FEWEST = 3
"""passes at least"""


@dataclass(frozen=True)
class Measured:
    """What an engine does with the same few windows that any other is given."""

    device: str
    kind: str
    ms: float
    """a window, in the quickest pass: what else the machine does makes no pass quicker"""
    scores: list[list[float]]


def main() -> int:
    """Measure. Returns the exit code; the last line of stderr says what went wrong."""
    from streamer.inference.engines import open_engine  # noqa: PLC0415  # which asks for this process

    settings = ModelSettings.model_validate(json.load(sys.stdin)["settings"], strict=False)
    try:
        engine = open_engine(settings)
        probes = probe_windows(engine.window_s, engine.sample_rate)
        scores = [scores.clip.tolist() for scores in engine.score(probes)]
        seconds: list[float] = []
        while len(seconds) < FEWEST or sum(seconds) < MEASURE_S:
            started = time.perf_counter()
            engine.score(probes[:1])
            seconds.append(time.perf_counter() - started)
    except StreamerError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    json.dump(asdict(Measured(str(engine.device), engine.kind, 1000 * min(seconds), scores)), sys.stdout)
    return 0


def probe_windows(window_s: float, sample_rate: int) -> Sequence[Window]:
    """Noise, silence, a tone that rises, and beeps."""
    t = np.arange(round(window_s * sample_rate)) / sample_rate
    kinds = (
        np.random.default_rng(0).normal(0, 0.1, len(t)),
        np.zeros(len(t)),
        0.3 * np.sin(2 * np.pi * (200 * t + 100 * t**2)),
        0.3 * np.sin(2 * np.pi * 3100 * t) * (t % 1 < 0.5),
    )
    return [
        Window("probe", i, kind.astype(np.float32), sample_rate, 0.0, window_s)
        for i, kind in enumerate(kinds)
    ]


if __name__ == "__main__":
    sys.exit(main())
