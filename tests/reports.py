"""Reports as the pipeline makes them, for tests."""

from __future__ import annotations

import time

from hypothesis import strategies as st

from streamer.metrics import Metrics
from streamer.types import Phase, SoundEvent, Stats

T0 = 1_790_000_000.0


def event(
    phase: Phase = "start", *, event_id: str = "e1", source: str = "kitchen", sound: str = "dog_bark"
) -> SoundEvent:
    """One phase of a bark of 2.5 s."""
    return SoundEvent(
        id=event_id,
        source_id=source,
        sound=sound,
        phase=phase,
        onset=T0,
        offset=T0 + 2.5 if phase == "end" else None,
        peak=0.93,
        score=0.4 if phase == "end" else 0.91,
        labels={"Dog": 0.7, "Bark": 0.93},
        level_dbfs=-31.26,
        emitted_at=T0 + 4.0,
        heard_at=T0 + 3.4,
    )


def occurrence(event_id: str) -> list[SoundEvent]:
    """A whole event: its start, an update and its end."""
    return [event(phase, event_id=event_id) for phase in ("start", "update", "end")]


def stats() -> Stats:
    """As the daemon says it every 30 s."""
    metrics = Metrics()
    metrics.source("kitchen").blocks = 10
    metrics.latencies_s.append(0.4)
    metrics.drop("mqtt", 3)
    return Stats(time.time(), {"uptime_s": 12, **metrics.snapshot()})


_any_float = st.floats(allow_nan=True, allow_infinity=True)
_times = st.floats(min_value=0, max_value=4e9)
_names = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,63}", fullmatch=True)


@st.composite
def events(draw: st.DrawFn) -> SoundEvent:
    """Any event, also with scores and levels that are no numbers, and with a clock that stepped."""
    phase: Phase = draw(st.sampled_from(("start", "update", "end")))
    return SoundEvent(
        id=draw(st.text(min_size=1)),
        source_id=draw(_names),
        sound=draw(_names),
        phase=phase,
        onset=draw(_times),
        offset=draw(_times) if phase == "end" else None,
        peak=draw(_any_float),
        score=draw(_any_float),
        labels=draw(st.dictionaries(st.text(), _any_float, max_size=5)),
        level_dbfs=draw(st.one_of(st.floats(max_value=10), st.just(float("nan")))),
        emitted_at=draw(_times),
        heard_at=draw(_times),
    )
