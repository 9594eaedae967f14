"""What a number of microphones needs: bandwidth, engines, cores, memory, brokers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from streamer.fleet.figures import FIGURES, Figures


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked for."""

    microphones: int
    hop_s: float
    engine_rate: float
    """windows a second of one engine"""
    scored: float = 1.0
    """share of the windows that pass the silence gate, 0..1"""
    alarms: float = 0.0
    """share of the microphones at which an alarm sounds at the same time, 0..1"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What that needs in all cells together."""

    cells: int
    """groups that share nothing: network, engines, broker"""
    shards: int
    """processes that keep rings and detectors"""
    windows_a_second: float
    """that are scored"""
    audio_mbit_s: float
    """from the microphones, as FLAC"""
    window_mbit_s: float
    """within the cells, where engines are on other machines than shards; else nothing"""
    engines: int
    """besides spare ones"""
    spare_engines: int
    """one a cell, from more microphones on than one process has"""
    machines: int
    """that hold the engines, by the most of them in one"""
    cores: float
    """of shards: decoding, sensing, deciding, handing windows to engines; not those of engines"""
    memory_gb: float
    """of shards: rings, detectors, processes"""
    messages_a_second: float
    broker_cores: float
    """of all brokers; one broker is one core"""


def plan(load: Load, figures: Figures = FIGURES) -> Plan:
    """The sums. `docs/fleet.md` has them for ten to a million microphones."""
    n, per_s = load.microphones, 1 / load.hop_s
    cells = math.ceil(n / figures.cell.value)
    scored_s = n * per_s * load.scored

    in_a_cell = math.ceil(scored_s / cells / (load.engine_rate * figures.busy.value))
    engines = max(in_a_cell * cells, 1) if cells > 1 else max(in_a_cell, 1)
    spares = cells if n > figures.shard.value else 0
    machines = cells * math.ceil((engines + spares) / cells / figures.gpus_a_machine.value)
    # Where a cell has several machines, windows go from one to the other.
    is_remote = machines > cells
    window_ms = figures.loop_ms.value + figures.sense_ms.value + load.scored * figures.decide_ms.value
    window_ms += load.alarms * (figures.alarm_ms.value - figures.sense_ms.value - figures.decide_ms.value)
    window_ms += load.scored * (figures.call_ms.value if is_remote else figures.local_ms.value)
    # Audio is decoded outside of the process that has the rings; all the rest is on one core of it.
    shard = min(figures.shard.value, 1000 * figures.busy.value / (per_s * window_ms))
    shards = math.ceil(n / max(1, math.floor(shard)))
    source_ms = figures.decode_ms.value + per_s * window_ms

    ring = figures.ring_s.value * figures.sample_rate.value * figures.ring_bytes.value
    memory = n * (ring + figures.pipeline_bytes.value) + shards * figures.process_bytes.value
    messages = n * (figures.events.value * figures.messages.value / 3600 + 1 / figures.level_s.value)
    window_bytes = figures.window_bytes.value + figures.score_bytes.value
    return Plan(
        cells=cells,
        shards=shards,
        windows_a_second=scored_s,
        audio_mbit_s=8e-6 * n * figures.hop_bytes.value,
        window_mbit_s=8e-6 * scored_s * window_bytes if is_remote else 0.0,
        engines=engines,
        spare_engines=spares,
        machines=machines,
        cores=n * source_ms / 1000 / figures.busy.value,
        memory_gb=memory / 1e9,
        messages_a_second=messages,
        broker_cores=messages * figures.publish_ms.value / 1000,
    )
