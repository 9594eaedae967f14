"""Sounds that a program can make: alarms, bells, signals, knocks, noise, and the demonstration recording.

Every generator takes a random generator, a sample rate in Hertz and a length in seconds, and returns a
`Sound`: float32 samples, peak about 1, with the AudioSet labels that are true of it.
"""

from __future__ import annotations

import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from streamer.types import Samples


@dataclass(frozen=True, slots=True, eq=False)
class Sound:
    samples: Samples
    labels: tuple[str, ...]
    """AudioSet display names, surest first"""


Rng: TypeAlias = np.random.Generator
Generator: TypeAlias = Callable[[Rng, int, float], Sound]

SHAPES = ("sine", "square", "harmonic")


def _phase(frequency: Samples | float, n: int, rate: int) -> npt.NDArray[np.float64]:
    """The integral of the frequency: what a tone of changing pitch needs so that it does not click."""
    steps = np.broadcast_to(np.asarray(frequency, np.float64), n)
    return np.asarray(2 * np.pi * np.cumsum(steps) / rate)


def _tone(rng: Rng, frequency: Samples | float, n: int, rate: int, shape: str = "sine") -> Samples:
    """A tone without aliases: harmonics end below 0.45 of the rate."""
    phase = _phase(frequency, n, rate)
    if shape == "sine":
        return np.sin(phase).astype(np.float32)
    top = float(np.max(frequency))
    out = np.zeros(n)
    step, decay = (2, 1.0) if shape == "square" else (1, float(rng.uniform(0.8, 1.6)))
    for k in range(1, 16, step):
        if k * top > 0.45 * rate:
            break
        out += np.sin(k * phase) / k**decay
    return (out / np.max(np.abs(out) + 1e-9)).astype(np.float32)


def _gate(pattern: list[tuple[float, float]], n: int, rate: int, ramp_s: float = 0.005) -> Samples:
    """On and off, in seconds, again and again, with short ramps against clicks."""
    gate = np.zeros(n, np.float32)
    at = 0.0
    while at * rate < n:
        for on_s, off_s in pattern:
            gate[int(at * rate) : int((at + on_s) * rate)] = 1
            at += on_s + off_s
    width = max(1, int(ramp_s * rate))
    return np.convolve(gate, np.ones(width, np.float32) / width, "same").astype(np.float32)


def _strikes(
    rng: Rng, n: int, rate: int, times: list[float], partials: list[tuple[float, float, float]]
) -> Samples:
    """Struck things: at each time, decaying partials of (Hertz, amplitude, seconds to 1/e)."""
    out = np.zeros(n, np.float32)
    for at in times:
        start = int(at * rate)
        if start >= n:
            continue
        longest = max(decay for _, _, decay in partials)
        t = np.arange(min(n - start, int(6 * longest * rate))) / rate
        gain = rng.uniform(0.8, 1.0)
        for frequency, amplitude, decay in partials:
            if frequency < 0.45 * rate:
                phase = rng.uniform(0, 2 * np.pi)
                out[start : start + len(t)] += (
                    gain * amplitude * np.exp(-t / decay) * np.sin(2 * np.pi * frequency * t + phase)
                ).astype(np.float32)
    return np.asarray(out / (np.max(np.abs(out)) + 1e-9), np.float32)


def temporal_three(rng: Rng, rate: int, seconds: float) -> Sound:
    """A smoke alarm: ISO 8201 T3, three beeps of half a second and a pause of one and a half."""
    n, low = int(seconds * rate), rng.random() < 0.2
    frequency = rng.uniform(500, 540) if low else rng.uniform(2700, 3600)
    shape = "square" if low else rng.choice(SHAPES)
    tone = _tone(rng, frequency, n, rate, str(shape))
    speed = rng.uniform(0.92, 1.08)
    pattern = [(0.5 * speed, 0.5 * speed)] * 2 + [(0.5 * speed, 1.5 * speed)]
    labels = ("Smoke detector, smoke alarm", "Fire alarm", "Alarm")
    return Sound(tone * _gate(pattern, n, rate), labels)


def temporal_four(rng: Rng, rate: int, seconds: float) -> Sound:
    """A carbon monoxide alarm: four beeps of a tenth of a second and a pause of five."""
    n = int(seconds * rate)
    tone = _tone(rng, rng.uniform(2800, 3500), n, rate, str(rng.choice(SHAPES)))
    pattern = [(0.1, 0.1)] * 3 + [(0.1, 5.0 if rng.random() < 0.7 else 1.0)]
    return Sound(tone * _gate(pattern, n, rate), ("Smoke detector, smoke alarm", "Alarm", "Beep, bleep"))


def fast_smoke_beeps(rng: Rng, rate: int, seconds: float) -> Sound:
    """An older smoke alarm: fast beeps, or a horn that hardly stops."""
    n = int(seconds * rate)
    tone = _tone(rng, rng.uniform(2700, 3500), n, rate, str(rng.choice(SHAPES)))
    on_s = rng.uniform(0.08, 0.6)
    return Sound(
        tone * _gate([(on_s, rng.uniform(0.04, 0.25))], n, rate),
        ("Smoke detector, smoke alarm", "Fire alarm", "Alarm"),
    )


def warbling_smoke_alarm(rng: Rng, rate: int, seconds: float) -> Sound:
    """A smoke alarm as EN 14604 allows: a pitch that sweeps or alternates, held or in long beeps."""
    n = int(seconds * rate)
    t = np.arange(n) / rate
    low = rng.uniform(2200, 3100)
    high = low * rng.uniform(1.08, 1.5)
    cycle = (t * rng.uniform(1.5, 12)) % 1
    kind = rng.choice(["saw", "triangle", "two tones"])
    swing = cycle if kind == "saw" else np.abs(2 * cycle - 1) if kind == "triangle" else (cycle < 0.5)
    tone = _tone(rng, (low + (high - low) * swing).astype(np.float32), n, rate, str(rng.choice(SHAPES)))
    if rng.random() < 0.5:
        tone = tone * _gate([(rng.uniform(0.3, 1.5), rng.uniform(0.1, 1.0))], n, rate)
    return Sound(tone, ("Smoke detector, smoke alarm", "Fire alarm", "Alarm"))


def siren(rng: Rng, rate: int, seconds: float) -> Sound:
    """Wail, yelp, or two tones in turn."""
    n = int(seconds * rate)
    t = np.arange(n) / rate
    kind = rng.choice(["wail", "yelp", "hi-lo", "civil"])
    if kind == "hi-lo":
        low, step_s = rng.uniform(380, 700), rng.uniform(0.35, 0.9)
        pitch = np.where((t / step_s).astype(int) % 2 == 0, low, low * rng.uniform(1.2, 1.45))
        labels: tuple[str, ...] = ("Siren", "Emergency vehicle", "Ambulance (siren)")
    else:
        period_s = {"wail": rng.uniform(2.5, 6), "yelp": rng.uniform(0.25, 0.5), "civil": rng.uniform(6, 12)}[
            kind
        ]
        low, high = (rng.uniform(250, 350), rng.uniform(450, 900)) if kind == "civil" else (
            rng.uniform(450, 750), rng.uniform(1100, 1700))  # fmt: skip
        swing = 0.5 - 0.5 * np.cos(2 * np.pi * (t / period_s + rng.random()))
        pitch = low + (high - low) * swing ** rng.uniform(0.6, 1.2)
        labels = ("Siren", "Civil defense siren") if kind == "civil" else (
            "Siren", "Emergency vehicle", "Police car (siren)")  # fmt: skip
    pitch = pitch * (1 + 0.002 * np.sin(2 * np.pi * rng.uniform(3, 8) * t))
    return Sound(
        _tone(rng, pitch.astype(np.float32), n, rate, str(rng.choice(["square", "harmonic"]))), labels
    )


def telephone_bell(rng: Rng, rate: int, seconds: float) -> Sound:
    """Two gongs and a hammer between them, two seconds on and four off, or the British double ring."""
    n = int(seconds * rate)
    first = rng.uniform(900, 1600)
    partials = [
        (first * k, a, 0.12) for k, a in ((1.0, 1.0), (1.21, 0.8), (2.7, 0.5), (3.3, 0.4), (5.2, 0.2))
    ]
    rate_hz = rng.uniform(18, 26)
    times = list(np.arange(0, seconds, 1 / rate_hz) + rng.uniform(0, 0.002))
    rings = [(0.4, 0.2), (0.4, 2.0)] if rng.random() < 0.4 else [(rng.uniform(1, 2), rng.uniform(1, 4))]
    out = _strikes(rng, n, rate, times, partials) * _gate(rings, n, rate, 0.03)
    return Sound(out, ("Telephone", "Telephone bell ringing"))


def ringtone(rng: Rng, rate: int, seconds: float) -> Sound:
    """An electronic warble, or a short melody again and again."""
    n = int(seconds * rate)
    t = np.arange(n) / rate
    if rng.random() < 0.5:
        low, up, speed = rng.uniform(700, 1500), rng.uniform(1.15, 1.4), rng.uniform(10, 25)
        pitch = np.where((t * speed).astype(int) % 2 == 0, low, low * up)
        gate = _gate([(rng.uniform(0.6, 1.5), rng.uniform(0.6, 2.0))], n, rate)
    else:
        notes = 600 * 2 ** (rng.integers(0, 20, rng.integers(4, 9)) / 12)
        note_s = rng.uniform(0.09, 0.22)
        pitch = notes[(t / note_s).astype(int) % len(notes)]
        gate = _gate([(note_s * len(notes), rng.uniform(0.3, 1.0))], n, rate)
    tone = _tone(rng, pitch.astype(np.float32), n, rate, str(rng.choice(SHAPES)))
    return Sound(tone * gate, ("Ringtone", "Telephone", "Telephone bell ringing"))


def line_signal(rng: Rng, rate: int, seconds: float) -> Sound:
    """A telephone: dial tone, busy signal, or dialled digits."""
    n = int(seconds * rate)
    kind = rng.choice(["dial", "busy", "dtmf"])
    if kind == "dtmf":
        out = np.zeros(n, np.float32)
        at, digit_s = 0, int(rng.uniform(0.1, 0.25) * rate)
        while at < n:
            for f in (rng.choice([697, 770, 852, 941]), rng.choice([1209, 1336, 1477])):
                out[at : at + digit_s] += 0.5 * _tone(rng, float(f), len(out[at : at + digit_s]), rate)
            at += digit_s + int(rng.uniform(0.05, 0.25) * rate)
        return Sound(out, ("Telephone dialing, DTMF", "Telephone"))
    pair = [(350.0, 440.0), (425.0, 425.0)][int(rng.integers(2))] if kind == "dial" else (480.0, 620.0)
    out = 0.5 * (_tone(rng, pair[0], n, rate) + _tone(rng, pair[1], n, rate))
    if kind == "dial":
        return Sound(out, ("Dial tone", "Telephone"))
    return Sound(out * _gate([(0.5, 0.5)], n, rate), ("Busy signal", "Telephone"))


def alarm_clock(rng: Rng, rate: int, seconds: float) -> Sound:
    """Groups of short beeps and a pause, as a digital alarm clock has."""
    n = int(seconds * rate)
    beep_s = rng.uniform(0.05, 0.15)
    group = [(beep_s, beep_s * rng.uniform(0.6, 1.2))] * int(rng.integers(2, 5))
    group[-1] = (beep_s, rng.uniform(0.3, 0.8))
    tone = _tone(rng, rng.uniform(1500, 2600), n, rate, str(rng.choice(SHAPES)))
    return Sound(tone * _gate(group, n, rate), ("Alarm clock", "Alarm", "Beep, bleep"))


def doorbell(rng: Rng, rate: int, seconds: float) -> Sound:
    """Ding, dong: two struck bars, the second a third or a fourth below."""
    n = int(seconds * rate)
    ding, gap_s, ring_s = rng.uniform(550, 900), rng.uniform(0.35, 0.7), rng.uniform(0.3, 0.8)
    out = np.zeros(n, np.float32)
    fall = rng.choice([5 / 6, 4 / 5, 3 / 4])
    bar = ((1.0, 1.0), (2.76, 0.25), (5.4, 0.08))
    again_s = gap_s + 4 * ring_s
    for i, frequency in ((0, ding), (1, ding * fall)):
        partials = [(frequency * k, a, ring_s / k**0.5) for k, a in bar]
        out += _strikes(rng, n, rate, list(np.arange(i * gap_s, seconds, again_s)), partials)
    return Sound(np.asarray(out / 2, np.float32), ("Doorbell", "Ding-dong", "Bell"))


def church_bell(rng: Rng, rate: int, seconds: float) -> Sound:
    """Hum, prime, tierce, quint, nominal: the partials of a cast bell."""
    n, prime = int(seconds * rate), rng.uniform(180, 600)
    ratios = ((0.5, 0.5), (1.0, 0.8), (1.2, 0.7), (1.5, 0.3), (2.0, 1.0), (2.6, 0.3), (3.0, 0.4), (4.1, 0.2))
    partials = [(prime * k, a, rng.uniform(1.5, 3.0) / k) for k, a in ratios]
    times = list(np.arange(0, seconds, rng.uniform(0.8, 2.5)))
    return Sound(_strikes(rng, n, rate, times, partials), ("Church bell", "Bell"))


def bicycle_bell(rng: Rng, rate: int, seconds: float) -> Sound:
    n, first = int(seconds * rate), rng.uniform(1800, 3200)
    partials = [(first * k, a, 0.25) for k, a in ((1.0, 1.0), (1.02, 0.8), (2.4, 0.4), (4.1, 0.2))]
    times = [t + d for t in np.arange(0, seconds, rng.uniform(0.7, 1.6)) for d in (0, 0.05, 0.1)]
    return Sound(_strikes(rng, n, rate, times, partials), ("Bicycle bell", "Bell"))


def reversing_beeps(rng: Rng, rate: int, seconds: float) -> Sound:
    n = int(seconds * rate)
    tone = _tone(rng, rng.uniform(1000, 1400), n, rate, str(rng.choice(SHAPES)))
    return Sound(tone * _gate([(0.5, 0.5)], n, rate), ("Reversing beeps", "Beep, bleep"))


def horn(rng: Rng, rate: int, seconds: float) -> Sound:
    """A car's two-note horn, or a truck's deep one."""
    n, deep = int(seconds * rate), rng.random() < 0.3
    root = rng.uniform(130, 220) if deep else rng.uniform(330, 480)
    tone = _tone(rng, root, n, rate, "harmonic") + _tone(
        rng, root * rng.uniform(1.18, 1.27), n, rate, "harmonic"
    )
    pattern = [(float(rng.uniform(0.2, 1.5)), float(rng.uniform(0.2, 1.2))) for _ in range(3)]
    labels = ("Vehicle horn, car horn, honking", "Air horn, truck horn" if deep else "Toot")
    return Sound(np.asarray(tone / 2 * _gate(pattern, n, rate, 0.02), np.float32), labels)


def buzzer(rng: Rng, rate: int, seconds: float) -> Sound:
    n = int(seconds * rate)
    tone = _tone(rng, rng.uniform(90, 400), n, rate, "square")
    return Sound(tone * _gate([(rng.uniform(0.4, 2), rng.uniform(0.3, 1))], n, rate), ("Buzzer", "Alarm"))


def car_alarm(rng: Rng, rate: int, seconds: float) -> Sound:
    """A fast sweep, over and over."""
    n = int(seconds * rate)
    saw = (np.arange(n) / rate * rng.uniform(2, 6)) % 1
    pitch = rng.uniform(600, 1000) + rng.uniform(600, 1600) * (saw if rng.random() < 0.5 else 1 - saw)
    return Sound(_tone(rng, pitch.astype(np.float32), n, rate, "square"), ("Car alarm", "Alarm"))


def knocks(rng: Rng, rate: int, seconds: float) -> Sound:
    """Knuckles on a door: groups of two to six short, low, dull strikes."""
    n, body = int(seconds * rate), rng.uniform(90, 260)
    times: list[float] = []
    at = 0.0
    while at < seconds:
        for _ in range(int(rng.integers(2, 7))):
            times.append(at)
            at += rng.uniform(0.12, 0.3)
        at += rng.uniform(0.7, 2.0)
    ratios = ((1.0, 1.0), (1.8, 0.7), (2.9, 0.5), (4.3, 0.35), (7.0, 0.2), (11.0, 0.1))
    partials = [(body * k * rng.uniform(0.95, 1.05), a, rng.uniform(0.015, 0.04) / k**0.3) for k, a in ratios]
    return Sound(_strikes(rng, n, rate, times, partials), ("Knock", "Door"))


def clock_ticks(rng: Rng, rate: int, seconds: float) -> Sound:
    n = int(seconds * rate)
    period_s = rng.choice([0.25, 0.5, 1.0]) * rng.uniform(0.97, 1.03)
    partials = [(rng.uniform(1500, 5000), 1.0, 0.004), (rng.uniform(5000, 9000), 0.6, 0.002)]
    return Sound(
        _strikes(rng, n, rate, list(np.arange(0, seconds, period_s)), partials),
        ("Tick-tock", "Clock", "Tick"),
    )


def sine(rng: Rng, rate: int, seconds: float) -> Sound:
    n = int(seconds * rate)
    return Sound(_tone(rng, float(np.exp(rng.uniform(np.log(100), np.log(6000)))), n, rate), ("Sine wave",))


def coloured_noise(rng: Rng, rate: int, seconds: float, exponent: float) -> Samples:
    """Noise whose power falls with frequency to the `exponent`: 0 white, 1 pink, 2 brown; RMS 1."""
    n = int(seconds * rate)
    spectrum = rng.standard_normal(n // 2 + 1) + 1j * rng.standard_normal(n // 2 + 1)
    f = np.fft.rfftfreq(n, 1 / rate)
    out = np.fft.irfft(spectrum / np.maximum(f, 20) ** (exponent / 2), n)
    return np.asarray(out / (out.std() + 1e-12), np.float32)


ALARMS: tuple[Generator, ...] = (
    temporal_three,
    temporal_four,
    fast_smoke_beeps,
    warbling_smoke_alarm,
    siren,
    telephone_bell,
    ringtone,
    line_signal,
    alarm_clock,
    doorbell,
    church_bell,
    bicycle_bell,
    reversing_beeps,
    horn,
    buzzer,
    car_alarm,
    knocks,
    clock_ticks,
    sine,
)

DEMO_SOUNDS: tuple[tuple[float, Generator, float], ...] = (
    (4.0, temporal_three, 8.0),
    (17.0, doorbell, 2.0),
    (25.0, siren, 6.0),
    (37.0, knocks, 3.0),
    (46.0, alarm_clock, 5.0),
)
"""The demonstration recording: when, what, for how many seconds."""
DEMO_S = 60.0


DEMO_RATE = 16000
"""Hertz"""


def demo_recording(rate: int = DEMO_RATE, seed: int = 3) -> Samples:
    """One minute of a quiet room in which a few things sound."""
    rng = np.random.default_rng(seed)
    out = 0.002 * coloured_noise(rng, rate, DEMO_S, 1.0)
    for at_s, generator, seconds in DEMO_SOUNDS:
        sound = generator(rng, rate, seconds).samples
        out[int(at_s * rate) : int(at_s * rate) + len(sound)] += 0.25 * sound
    return np.asarray(np.clip(out, -1, 1), np.float32)


def write_demo(folder: Path) -> Path:
    """Write the demonstration recording into a folder, once."""
    path = folder / "demo.wav"
    if not path.exists():
        write_wav(path, demo_recording(), DEMO_RATE)
    return path


def write_wav(path: Path, samples: Samples, rate: int) -> None:
    """Mono, 16 bits."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
