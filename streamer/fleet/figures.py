"""What one microphone, window, message or process costs, each with where the figure comes from.

"CPU" figures are processor time on one core of an AMD EPYC (Zen 4), on a machine that was busy. Those of the
pipeline are the median of 80 windows with `configs/home.yaml`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Figure:
    """A number with its unit and its source."""

    value: float
    unit: str
    source: str


_PROTOTYPE = "measured with a prototype, Ray 2.60, int16 windows, 16 a call"
_LOOP = "measured: tools.shard, 25 nodes: the daemon's 4.2, less sensing, deciding and the way to the engine"
_CELL = "chosen: what a failure may take down at once"


@dataclass(frozen=True, slots=True)
class Figures:
    """All that the sums use. `streamer fleet plan --figures` prints them."""

    sample_rate: Figure = Figure(16_000, "Hz", "the rate of the models")
    window_s: Figure = Figure(10.0, "s", "the window of ast-tiny")
    hop_bytes: Figure = Figure(18_700, "bytes a second of audio", "measured: FLAC of ESC-50 at 16 kHz, int16")
    window_bytes: Figure = Figure(320_000, "bytes", "10 s of int16 at 16 kHz")
    score_bytes: Figure = Figure(11_500, "bytes a window", "64 frames of 90 labels as float16")

    decode_ms: Figure = Figure(0.6, "ms CPU a second of audio", "measured: FLAC, in the process that decodes")
    sense_ms: Figure = Figure(0.9, "ms CPU a window", "measured: Pipeline.sense, quiet")
    decide_ms: Figure = Figure(0.2, "ms CPU a window", "measured: Pipeline.decide, quiet")
    loop_ms: Figure = Figure(2.8, "ms CPU a window", _LOOP)
    alarm_ms: Figure = Figure(6.5, "ms CPU a window", "measured: both, while a smoke alarm sounds")
    call_ms: Figure = Figure(1.63, "ms CPU a window, both sides", _PROTOTYPE)
    local_ms: Figure = Figure(0.3, "ms CPU a window", "estimated: a copy, and a line of JSON")

    ring_s: Figure = Figure(20.0, "s", "windows.ring_s that windows and alarms need")
    ring_bytes: Figure = Figure(2, "bytes a sample", "int16, as capture nodes send it")
    pipeline_bytes: Figure = Figure(1.3e6, "bytes a source", "measured: RSS of 100 pipelines of home.yaml")
    process_bytes: Figure = Figure(80e6, "bytes a process", "measured: RSS of a daemon without the model")

    messages: Figure = Figure(3, "messages an event", "start, update, end")
    events: Figure = Figure(10, "events an hour", "assumed")
    level_s: Figure = Figure(30, "s", "what the program does: a level every 30 s")
    publish_ms: Figure = Figure(0.075, "ms CPU of the broker a message", "measured: Mosquitto 2.0.11, QoS 0")

    busy: Figure = Figure(0.7, "share of the time", "chosen: an engine or a core that is busier makes queues")
    shard: Figure = Figure(500, "microphones", "chosen: the most of one process; less where it needs a core")
    cell: Figure = Figure(10_000, "microphones", _CELL)
    gpus_a_machine: Figure = Figure(8, "GPUs", "the largest common machine; within it no network is needed")

    def rows(self) -> list[tuple[str, Figure]]:
        return [(field.name, getattr(self, field.name)) for field in fields(self)]


FIGURES = Figures()

MODELS = {
    "ast-base": Figure(1_800, "windows/s of an H200", "named: estimated from the matrix rate, not measured"),
    "ast-tiny": Figure(43.6, "windows/s of two CPU cores", "measured by streamer bench, batch 4, bfloat16"),
}
"""what one engine scores"""
