"""Clips: what is in them and where, what is never written, and that rows and files agree."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamer.capture.ring import Ring
from streamer.capture.stream import read_file
from streamer.capture.tapes import Tapes
from streamer.config.schema import ClipSettings
from streamer.errors import ConfigError
from streamer.metrics import Metrics
from streamer.store import clips as module
from streamer.store import history
from streamer.store.clips import Clips, clip_path
from streamer.store.edit import editing, forget_missed, kept_clips
from streamer.store.flac import encode
from streamer.store.log import Log
from streamer.store.query import Event, Missed, reading
from streamer.store.retention import ClipBounds, KeptClip, clips_to_remove
from streamer.store.writer import Writer
from streamer.types import AudioBlock, Hop, Samples, Scores, Sensed, SoundEvent
from tests.mosquitto import until
from tests.reports import event

RATE = 16000
T0 = 1_790_000_000.0
LABELS = ("Bark", "Speech", "Male speech, man speaking", "Whispering")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clips look more often for what is due: ten turns are half a second."""
    monkeypatch.setattr(module, "TURN_S", 0.05)
    monkeypatch.setattr(module, "ASK_S", 0.1)


def audio(seconds: float = 40.0) -> Samples:
    """Faint noise with a click at 20.000 s."""
    samples = np.random.default_rng(0).uniform(-0.01, 0.01, round(seconds * RATE)).astype(np.float32)
    samples[20 * RATE] = 0.9
    return samples


def bark(phase: str, onset: float = 20.5, offset: float = 22.0, event_id: str = "a" * 12) -> SoundEvent:
    one = event(phase, event_id=event_id)  # type: ignore[arg-type]  # one of the phases
    return replace(
        one,
        onset=T0 + onset,
        offset=T0 + offset if phase == "end" else None,
        heard_at=T0 + offset + 1,
        emitted_at=T0 + offset + 1,
    )


def hop(end: float, scores: Sequence[float] = (0.9, 0.0, 0.0, 0.0), *, at: float = 0.0) -> Hop:
    """A window that ends then, in whose frame `at` seconds after T0 there are these scores."""
    frames = np.zeros((50, len(LABELS)), np.float32)
    frames[min(49, max(0, round((at - end + 10) / 0.2)))] = scores
    start, stop = T0 + end - 10, T0 + end
    sensed = Sensed(round(end), start, stop, start, stop - 1, np.zeros((8, 2), np.float32))
    return Hop("kitchen", sensed, Scores("kitchen", 0, start, stop, frames.max(axis=0), frames, 0.2), T0, 1.0)


class Home:
    """An event log, clips, and a ring that is written to 40 s."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.metrics = Metrics()
        self.tapes = Tapes()
        self.ring = Ring(RATE)
        self.tapes.put("kitchen", self.ring)
        self.writer = Writer(Log(folder, self.metrics), self.metrics)
        chosen = ClipSettings(enabled=True, **{"days": 36500, **settings})  # T0 is long ago
        self.clips = Clips(folder, chosen, self.tapes, LABELS, self.writer, self.metrics, min_free=0)
        self.writer.sinks.append(self.clips)

    def event(self, event_id: str = "a" * 12) -> Event:
        with reading(self.folder) as reader:
            return reader.event(event_id)

    async def state(self, event_id: str = "a" * 12) -> str:
        """What became of the clip."""
        await until(lambda: event_id not in self.clips._jobs and self.event(event_id).clip != "none")
        return self.event(event_id).clip

    def files(self) -> list[Path]:
        return sorted(
            path for path in self.folder.rglob("*") if path.suffix == ".flac" or "part" in path.name
        )


@asynccontextmanager
async def home(folder: Path, **settings: Any) -> AsyncIterator[Home]:
    one = Home(folder, **settings)
    task = asyncio.create_task(one.writer.run())
    try:
        yield one
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def hear(one: Home, *hops: Hop) -> None:
    """A bark from 20.5 to 22 s, all of the ring, and the windows that saw it."""
    one.ring.write(AudioBlock(audio()[: 22 * RATE], T0))
    one.writer.put(bark("start"))
    await until(lambda: bool(one.clips._jobs))
    one.ring.write(AudioBlock(audio()[22 * RATE :], T0 + 22))
    one.writer.put(bark("end"))
    for found in hops or (hop(30), hop(40)):
        one.clips.watch(found)


async def test_what_is_in_a_clip_and_where(tmp_path: Path) -> None:
    """The whole event with what was before and after; its place is true to the sample, well below 20 ms."""
    async with home(tmp_path) as one:
        await hear(one)
        assert await one.state() == "kept"
    found = one.event()
    assert found.clip_start == pytest.approx(T0 + 17.5, abs=1e-4)
    assert found.clip_end == pytest.approx(T0 + 24.0, abs=1e-4)
    path = clip_path(tmp_path, found.id, found.clip_start or 0)
    assert one.files() == [path]
    assert (path.stat().st_size, path.stat().st_mode & 0o777) == (found.clip_bytes, 0o600)
    samples, rate = read_file(path)
    assert (len(samples), rate) == (round(6.5 * RATE), RATE)
    click = int(np.argmax(samples))
    assert (found.clip_start or 0) + click / rate == pytest.approx(T0 + 20.0, abs=0.001)
    assert np.abs(samples - audio()[round(17.5 * RATE) : 24 * RATE]).max() < 1e-4


async def test_a_long_event_and_a_young_source(tmp_path: Path) -> None:
    """A clip ends after `longest_s`, before the event does; it begins where the source did."""
    async with home(tmp_path, longest_s=5, before_s=3) as one:
        one.ring.write(AudioBlock(audio()[: 12 * RATE], T0))
        one.writer.put(bark("start", onset=1.0))
        await until(lambda: bool(one.clips._jobs))
        one.clips.watch(hop(18))
        assert await one.state() == "kept"
    found = one.event()
    assert (found.clip_start, found.clip_end) == (
        pytest.approx(T0, abs=1e-4),
        pytest.approx(T0 + 8, abs=1e-4),
    )
    assert found.offset is None


@pytest.mark.parametrize("scores", [(0.9, 0.1, 0, 0), (0.9, 0, 0.2, 0), (0.9, 0, 0, 0.11)])
async def test_voices_are_dropped(tmp_path: Path, scores: tuple[float, ...]) -> None:
    """Any label of speech at 0.1, in any window that saw the clip, also one that ends long after it."""
    async with home(tmp_path) as one:
        await hear(one, hop(23), hop(33, scores, at=23.5), hop(40))
        assert await one.state() == "speech"
        assert one.files() == []
        assert one.event().clip_start is None


async def test_voices_elsewhere_or_kept(tmp_path: Path) -> None:
    """Before and after the clip nobody minds; `speech: keep` has them all."""
    async with home(tmp_path / "a") as one:
        await hear(one, hop(26, (0.9, 0.9, 0, 0), at=17.0), hop(40, (0.9, 0.9, 0, 0), at=31.0))
        assert await one.state() == "kept"
    async with home(tmp_path / "b", speech="keep") as one:
        await hear(one, hop(30, (0.9, 0.9, 0, 0), at=21.0), hop(40))
        assert await one.state() == "kept"


async def test_windows_that_were_not_scored(tmp_path: Path) -> None:
    """Nobody knows whether somebody speaks there: no clip, unless voices may be in it."""
    lost = replace(hop(30), scores=None)
    assert lost.sensed.is_wanted
    async with home(tmp_path / "a") as one:
        await hear(one, lost, hop(40))
        assert await one.state() == "failed"
        assert one.files() == []
    async with home(tmp_path / "b") as one:  # the source is closed before its last windows are scored
        await hear(one, hop(23))
        one.tapes.remove("kitchen", one.ring)
        assert await one.state() == "failed"
    async with home(tmp_path / "c", speech="keep") as one:
        await hear(one, lost, hop(40))
        assert await one.state() == "kept"


async def test_windows_that_were_skipped(tmp_path: Path) -> None:
    """A model that stood still has left audio that no window saw: nobody knows whether somebody speaks."""
    async with home(tmp_path / "a") as one:
        await hear(one, hop(20), hop(32), hop(40))  # 20 to 22 is in none
        assert await one.state() == "failed"
        assert one.files() == []
    async with home(tmp_path / "b") as one:
        first = replace(hop(31), is_first=True)  # 0 to 21 is in none
        await hear(one, first, hop(40))
        assert await one.state() == "failed"


async def test_a_voice_in_a_long_ring(tmp_path: Path) -> None:
    """It is remembered for as long as its audio is, and longer."""
    async with home(tmp_path, longest_s=300, after_s=0) as one:
        one.ring = Ring(RATE, 400)
        one.tapes.put("kitchen", one.ring)
        one.ring.write(AudioBlock(np.tile(audio(40), 8), T0))
        one.writer.put(bark("start", 20.5))
        await until(lambda: bool(one.clips._jobs))
        for end in range(10, 320, 10):
            one.clips.watch(hop(end, (0.9, 0.9 if end == 30 else 0, 0, 0), at=25.0))
        one.writer.put(bark("end", 20.5, 300.0))
        assert await one.state() == "speech"


async def test_a_clip_comes_as_soon_as_it_may(tmp_path: Path) -> None:
    """One that may hold voices waits for its audio alone, and one that holds a voice for nothing."""
    async with home(tmp_path / "a", speech="keep") as one:
        await hear(one, hop(23))
        assert await one.state() == "kept"
    async with home(tmp_path / "b") as one:
        await hear(one, hop(24, (0.9, 0.9, 0, 0), at=21.0))
        assert await one.state() == "speech"


async def test_an_event_that_ends_with_the_daemon(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its clip is written where all windows that saw it were scored; else its row and the log say so."""
    async with home(tmp_path / "a") as one:
        one.ring.write(AudioBlock(audio(), T0))
        one.writer.put(bark("start"))
        await until(lambda: bool(one.clips._jobs))
        for found in (hop(30), hop(40)):
            one.clips.watch(found)
        one.writer.put(bark("end"))  # and the daemon stops
    assert one.event().clip == "kept"
    assert len(one.files()) == 1
    async with home(tmp_path / "b") as one:
        await hear(one, hop(23))
    assert one.event().clip == "failed"
    assert one.files() == []
    assert one.metrics.dropped == {"clips": 1}
    assert "no clip of 1 events: the program ends" in caplog.text


def test_a_model_that_knows_no_speech(tmp_path: Path) -> None:
    """Cannot keep the promise that voices are dropped: that is said at the start."""
    writer = Writer(Log(tmp_path, Metrics()), Metrics())
    with pytest.raises(ConfigError, match="no label of speech: set `keep`"):
        Clips(tmp_path, ClipSettings(enabled=True), Tapes(), ["Dog"], writer, Metrics(), min_free=0)


async def test_a_history_that_was_lost(tmp_path: Path) -> None:
    """Clips of the one before are not the new one's to delete."""
    (tmp_path / "clips/2026-01-01").mkdir(parents=True)
    old = tmp_path / "clips/2026-01-01/dddddddddddd.flac"
    old.write_bytes(b"fLaC")
    async with home(tmp_path) as one:  # no event yet
        await until(lambda: one.clips._tended_at > 0)
        await hear(one)
        assert await one.state() == "kept"
    os.utime(old, (T0 - 86400, T0 - 86400))
    async with home(tmp_path) as one:  # older than all of this history
        await until(lambda: one.clips._tended_at > 0)
        await asyncio.sleep(10 * module.TURN_S)
        assert old in one.files()


async def test_it_waits_for_the_windows_that_saw_it(tmp_path: Path) -> None:
    """Nothing is written before the last of them was scored."""
    async with home(tmp_path) as one:
        await hear(one, hop(33))
        await asyncio.sleep(10 * module.TURN_S)
        assert one.files() == []
        one.clips.watch(hop(34))
        assert await one.state() == "kept"


async def test_only_sounds_that_are_named(tmp_path: Path) -> None:
    async with home(tmp_path, sounds=("siren",)) as one:
        one.ring.write(AudioBlock(audio(), T0))
        one.writer.put(bark("start"))
        one.writer.put(replace(bark("start", event_id="b" * 12), sound="siren"))
        await until(lambda: bool(one.clips._jobs))
        assert list(one.clips._jobs) == ["b" * 12]


async def test_a_disk_without_room(tmp_path: Path) -> None:
    """`full`, and no file; the daemon goes on."""
    async with home(tmp_path) as one:
        one.clips._bounds = replace(one.clips._bounds, min_free=1 << 60)
        await hear(one)
        assert await one.state() == "full"
        assert one.files() == []


async def test_an_event_that_is_forgotten_meanwhile(tmp_path: Path) -> None:
    """Its clip is not left behind."""
    async with home(tmp_path) as one:
        await hear(one, hop(33))
        await until(lambda: one.event().offset is not None)
        with editing(tmp_path) as db:
            history.remove(db, ["a" * 12])
        one.clips.watch(hop(40))
        await until(lambda: not one.clips._jobs)
        await asyncio.sleep(10 * module.TURN_S)
        assert one.files() == []


async def test_files_and_rows_are_made_to_agree(tmp_path: Path) -> None:
    """At a start files without a row go, and rows without a file say so."""
    async with home(tmp_path) as one:
        await hear(one)
        assert await one.state() == "kept"
    (kept,) = one.files()
    (kept.parent / "bbbbbbbbbbbb.flac").write_bytes(b"fLaC")
    (kept.parent / ".cccccccccccc.flac.part").write_bytes(b"fLaC")
    async with home(tmp_path) as one:
        await until(lambda: one.files() == [kept])
    kept.unlink()
    async with home(tmp_path) as one:
        await until(lambda: one.event().clip == "expired")


async def test_a_sound_that_was_missed(tmp_path: Path) -> None:
    """A report brings a clip of what memory still holds, by the same rules; `forget` knows it."""
    now = time.time()
    async with home(tmp_path) as one:
        begin = now - 40
        one.ring.write(AudioBlock(audio(), begin))
        for end in (10, 20, 30, 40):
            scores = (0.0, 0.5 if end == 10 else 0.0, 0.0, 0.0)
            one.clips.watch(_moved(hop(end, scores, at=5.0), begin - T0))
        await one.writer.change(lambda _: None)  # the history is there
        with editing(tmp_path) as db:
            for onset, source in ((20, "kitchen"), (4, "kitchen"), (-60, "kitchen"), (20, "hall")):
                history.add_missed(db, source, "bark", begin + onset, begin + onset + 1.5, None)
        await until(lambda: sum(found.clip != "none" for found in _missed(tmp_path)) == 2)
        states = {(found.source, round(found.onset - begin)): found for found in _missed(tmp_path)}
        assert {key: found.clip for key, found in states.items()} == {
            ("kitchen", 20): "kept",
            ("kitchen", 4): "speech",
            ("kitchen", -60): "none",
            ("hall", 20): "none",
        }
        kept = states["kitchen", 20]
        assert kept.clip_start == pytest.approx(begin + 17, abs=1e-3)
        (path,) = one.files()
        assert path == clip_path(tmp_path, kept.clip_id, kept.clip_start or 0)
        samples, rate = read_file(path)
        assert int(np.argmax(samples)) / rate == pytest.approx(3.0, abs=0.02)
    async with home(tmp_path) as one:  # a start leaves it alone
        await until(lambda: one.clips._tended_at > 0)
        assert one.files() == [path]
    with editing(tmp_path) as db:
        assert kept_clips(db, since=begin, source="kitchen") == [(kept.clip_id, kept.clip_start)]
        assert history.expire_clips(db, [kept.clip_id]) == 1
        assert history.kept_clips(db) == []
    with editing(tmp_path) as db:
        assert forget_missed(db, since=begin) == 3


def _moved(hop: Hop, by_s: float) -> Hop:
    sensed, scores = hop.sensed, hop.scores
    assert scores is not None
    sensed = replace(
        sensed,
        start=sensed.start + by_s,
        end=sensed.end + by_s,
        audio_start=sensed.audio_start + by_s,
        since=sensed.since + by_s,
    )
    return replace(hop, sensed=sensed, scores=replace(scores, start=sensed.start, end=sensed.end))


def _missed(folder: Path) -> list[Missed]:
    with reading(folder) as reader:
        return reader.missed()


def clip(name: str, sound: str = "dog", *, age_d: float = 1, size: int = 100, **rest: Any) -> KeptClip:
    return KeptClip(name, sound, T0 - age_d * 86400, size, rest.get("is_pinned", False), rest.get("verdict"))


def gone(clips: list[KeptClip], *, needed: int = 0, free: int = 10**9, **bounds: Any) -> tuple[str, bool]:
    limits = ClipBounds(**{"days": 14, "size": 10**6, "per_sound": 100, "min_free": 0, **bounds})
    found, is_enough = clips_to_remove(clips, now=T0, free=free, needed=needed, bounds=limits)
    return " ".join(sorted(one.id for one in found)), is_enough


def test_which_clips_go() -> None:
    """The old, the many, then of the sound with most bytes: wrong, not reviewed, right; never pinned ones."""
    assert gone([clip("old", age_d=15), clip("new"), clip("pinned", age_d=99, is_pinned=True)]) == (
        "old",
        True,
    )
    assert gone([clip(f"d{n}", age_d=n) for n in range(1, 6)], per_sound=3) == ("d4 d5", True)
    mixed = [
        clip("right", age_d=9, verdict="right"),
        clip("unsure", age_d=2),
        clip("wrong", age_d=1, verdict="wrong"),
        clip("cat", "cat", age_d=10),
    ]
    assert gone(mixed, size=400, needed=100) == ("wrong", True)
    assert gone(mixed, size=400, needed=200) == ("unsure wrong", True)
    assert gone(mixed, free=50, min_free=100) == ("wrong", True)
    assert gone(mixed, size=50)[0].count(" ") == 3
    assert gone([clip("a", is_pinned=True)], size=150, needed=100) == ("", False)
    assert gone([], needed=10, size=5) == ("", False)
    # Something else fills the disk: all clips together would not free what is missing.
    assert gone(mixed, free=50, min_free=1000) == ("", False)
    assert gone(mixed, free=0, min_free=1000, needed=100) == ("", False)
    assert gone([*mixed, clip("old", age_d=15)], free=50, min_free=1000) == ("old", False)


def test_pinned_clips_are_bounded(tmp_path: Path) -> None:
    """They may not fill all that there is."""
    log = Log(tmp_path, Metrics())
    log.append(())
    log.change_history(lambda db: [history.record(db, bark("end", event_id=name * 12)) for name in "ab"])
    for name in "ab":
        log.change_history(lambda db, name=name: history.set_clip(db, name * 12, "kept", T0, T0 + 1, 60))
    assert log.change_history(lambda db: history.pin(db, "a" * 12, True, most=100))
    assert log.change_history(lambda db: history.pin(db, "b" * 12, True, most=100)) is False
    assert log.change_history(lambda db: history.pin(db, "a" * 12, False, most=100))
    assert log.change_history(lambda db: history.pin(db, "b" * 12, True, most=100))
    log.close()


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100, 48000, 96000, 768_000])
def test_flac_is_true_to_the_sample(tmp_path: Path, rate: int) -> None:
    samples = np.random.default_rng(1).uniform(-1, 1, 12345).astype(np.float32)
    path = tmp_path / "a.flac"
    path.write_bytes(encode(samples, rate))
    found, found_rate = read_file(path)
    assert (len(found), found_rate) == (12345, rate)
    assert np.abs(found - samples).max() < 1e-4
