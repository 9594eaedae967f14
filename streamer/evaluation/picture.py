"""A picture of a file: its spectrogram, the scores of its sounds, and its events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streamer.config.schema import Config
from streamer.detection.pipeline import Pipeline
from streamer.detection.sounds import Sounds
from streamer.errors import UsageError
from streamer.evaluation.plots import missing
from streamer.signal.spectrum import power_spectra
from streamer.types import Samples, Scores, SoundEvent, Window

_COLUMN_S = 0.1
_TOP_HZ, _N_BANDS = 8000.0, 128
_RANGE_DB = 70.0
_N_SOUNDS = 8
"""curves that can be told apart"""


class Picture:
    """Collects what `detect` shows, and draws it. Raises UsageError where there is nothing to draw with."""

    def __init__(self, config: Config, labels: Sequence[str]) -> None:
        if why_not := missing():
            raise UsageError(why_not)
        self._hop_s, self._announce_s = config.hop_s, config.detection.announce_s
        rules = {name: config.sound(name) for name in config.sounds}
        self._sounds = Sounds({name: rule.labels for name, rule in rules.items() if rule.labels}, labels)
        self._spectra: list[npt.NDArray[np.float64]] = []
        self._scores: list[Samples] = []
        self._score_times: list[float] = []
        self._ends: list[float] = []
        self._unscored: list[float] = []
        self._events: dict[str, SoundEvent] = {}

    def see(self, _: Pipeline, window: Window, scores: Scores | None) -> None:
        """For `streamer.run.offline.detect`."""
        self._ends.append(window.end)
        self._spectra.append(_spectrum(window.samples[-round(self._hop_s * window.sample_rate) :], window))
        if scores is None:
            self._unscored.append(window.end)
            return
        frames, at = scores.clip[None], window.end
        if scores.frames is not None:
            # The newest seconds are uncertain: what is old enough to start an event is shown.
            at = window.end - self._announce_s
            last = round((at - window.start) / scores.frame_s)
            frames = scores.frames[max(0, last - round(self._hop_s / scores.frame_s)) : last]
        self._score_times.append(at - self._hop_s / 2)
        self._scores.append(self._sounds.highest(self._sounds.pick(frames)).max(axis=0))

    def observe(self, events: Iterable[SoundEvent]) -> Iterator[SoundEvent]:
        """Hand events on; the latest message of each counts."""
        for event in events:
            self._events[event.id] = event
            yield event

    def draw(self, title: str, out: Path, *, origin: float) -> None:
        """Write a PNG, or what the name's end says, of a file that began at `origin`. Raises UsageError."""
        from matplotlib.figure import Figure  # noqa: PLC0415  # optional, and slow to import

        if not self._ends:
            raise UsageError(f"{title} is shorter than a hop: there is nothing to draw")
        figure = Figure(figsize=(14, 9), dpi=110, layout="constrained")
        above, middle, below = figure.subplots(3, 1, sharex=True, height_ratios=(3, 2, 2))
        image = np.concatenate(self._spectra).T
        begin, end = self._ends[0] - self._hop_s - origin, self._ends[-1] - origin
        loudest = float(image.max())
        above.imshow(
            image,
            aspect="auto",
            origin="lower",
            extent=(begin, end, 0, _TOP_HZ / 1000),
            vmin=loudest - _RANGE_DB,
            vmax=loudest,
            cmap="magma",
        )
        above.set_ylabel("kHz")
        above.set_title(title)
        scores = np.array(self._scores) if self._scores else np.zeros((0, len(self._sounds.parts)))
        names = list(self._sounds.parts)
        colours = {}
        for place, i in enumerate(np.argsort(-scores.max(axis=0, initial=0))[:_N_SOUNDS].tolist()):
            colours[names[i]] = f"C{place}"
            middle.plot(np.array(self._score_times) - origin, scores[:, i], color=f"C{place}", label=names[i])
        for at in self._unscored:
            middle.axvspan(at - origin - self._hop_s, at - origin, color="0.92", linewidth=0)
        middle.set_ylim(0, 1)
        middle.set_ylabel("score (grey: not scored)")
        middle.legend(loc="upper right", ncols=4, fontsize="small")
        rows = sorted({event.sound for event in self._events.values()}, reverse=True)
        for event in self._events.values():
            onset = event.onset - origin
            length = (end if event.offset is None else event.offset - origin) - onset
            row = rows.index(event.sound)
            below.barh(row, max(length, 0.05), left=onset, color=colours.get(event.sound, "0.5"))
        below.set_yticks(range(len(rows)), rows)
        below.set_xlim(begin, end)
        below.set_xlabel("seconds")
        below.grid(axis="x", alpha=0.3)
        try:
            figure.savefig(out)
        except (OSError, ValueError) as error:
            raise UsageError(f"cannot write {out}: {error}") from error


def _spectrum(samples: Samples, window: Window) -> npt.NDArray[np.float64]:
    """(n_columns, _N_BANDS) dB of one hop, from 0 to _TOP_HZ."""
    n = max(1, round(len(samples) / window.sample_rate / _COLUMN_S))
    size = max(1, len(samples) // n)
    n_bins = round(_TOP_HZ * size / window.sample_rate) + 1
    power = power_spectra(samples[: n * size], size, size, np.hanning(size))[:, :n_bins]
    edges = np.linspace(0, _TOP_HZ, _N_BANDS + 1)[:-1]
    bins = np.clip(
        np.searchsorted(np.fft.rfftfreq(size, 1 / window.sample_rate), edges), 0, power.shape[1] - 1
    )
    return np.asarray(10 * np.log10(np.add.reduceat(power, bins, axis=1) + 1e-9))
