"""What was decided live is decided again from the log, to the last digit; other rules decide on the same."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from streamer.config.schema import Config, SoundSettings
from streamer.detection.pipeline import Pipeline
from streamer.detection.steps import scores_in_steps, sensed_in_steps
from streamer.errors import ConfigError, InputError, UsageError
from streamer.inference.heads import Head
from streamer.metrics import Metrics
from streamer.run.curve import curve
from streamer.run.fingerprints import MODEL, fingerprints
from streamer.run.replay import (
    Coverage,
    Replayed,
    _needed,
    as_json,
    compare,
    decided,
    explain_at,
    match,
    of_one_model,
)
from streamer.run.trial import with_threshold
from streamer.store import history
from streamer.store.edit import editing
from streamer.store.log import Log, Recorded
from streamer.store.score_files import About, minutes
from streamer.store.score_log import ScoreLog
from streamer.teaching import record
from streamer.types import Hop, SoundEvent, Window
from tests.detection import test_golden as golden
from tests.detection.test_golden import BEGIN, CONFIG, LABELS, SECONDS

ABOUT = About("ast-tiny", LABELS, 10.0)
NONE, CLIPS = np.zeros((1, 1), np.float32), np.zeros(1, np.int64)


def live(
    windows: Iterable[Window],
    config: Config = CONFIG,
    *,
    quiet: float = 0.0,
    fails: float = 0.0,
    seed: int = 12,
) -> tuple[list[Hop], list[SoundEvent]]:
    """What the daemon does with windows of dense scores: its hops and its events.

    A share of minutes is `quiet`, all labels far below their thresholds; of some windows the scoring `fails`.
    """
    rng = np.random.default_rng(seed)
    truth = golden.random_scores(rng)
    for minute in range(SECONDS // 60):
        if rng.random() < quiet:
            truth[minute * 3000 : (minute + 1) * 3000] *= 0.2
    pipeline = Pipeline("room", config, LABELS)
    hops, events = list[Hop](), list[SoundEvent]()
    for number, window in enumerate(windows):
        sensed = sensed_in_steps(pipeline.sense(window))
        scores = scores_in_steps(golden.score(window, truth, rng))
        if rng.random() < fails:
            pipeline.miss(sensed)
            hops.append(Hop("room", sensed, None, pipeline.origin, 1.0, number == 0))
            continue
        events += pipeline.decide(sensed, scores if sensed.is_wanted else None, window.end)
        is_first = number == 0
        hops.append(Hop("room", sensed, scores if sensed.is_wanted else None, pipeline.origin, 1.0, is_first))
    end = hops[-1].sensed.end
    return hops, events + pipeline.close(end, end)


def dense() -> list[Window]:
    return list(golden.windows(np.random.default_rng(12)))


@cache
def lived() -> tuple[list[Hop], list[SoundEvent]]:
    """Four minutes of dense audio."""
    return live(dense())


async def keep(folder: Path, hops: Iterable[Hop], about: About = ABOUT) -> None:
    """Put hops into the log; here, where they come faster than from any source, it is waited for."""
    score_log = ScoreLog(folder, about, Metrics())
    for hop in hops:
        score_log._waiting.put(hop)
    score_log._waiting.put(None)
    await asyncio.to_thread(score_log._thread.join)


def from_log(folder: Path, config: Config = CONFIG) -> list[SoundEvent]:
    found = (minute for _, minute in minutes(folder, "room", 0, 4e9))
    return list(decided(found, config))


async def test_dense_audio_gives_back_every_event(tmp_path: Path) -> None:
    """Same configuration: the same messages in the same order, equal to the last digit."""
    hops, events = lived()
    await keep(tmp_path, hops)

    assert from_log(tmp_path) == events
    assert len({event.id for event in events}) > 50


@pytest.mark.parametrize("seed", range(2))
async def test_quiet_minutes_are_passed_over(tmp_path: Path, seed: int) -> None:
    """Unread, and the events about them are still the same; also where windows could not be scored."""
    config = CONFIG.model_copy(update={"sounds": {k: v for k, v in CONFIG.sounds.items() if k != "loud"}})
    windows = [
        Window(
            "room",
            number,
            window.samples,
            window.sample_rate,
            window.start + 240 * lap,
            window.end + 240 * lap,
        )
        for lap in range(2)
        for number, window in enumerate(dense(), 1000 * lap)
    ]
    hops, events = live(windows, config, quiet=0.7, fails=0.03, seed=seed)
    await keep(tmp_path, hops)

    found = (minute for _, minute in minutes(tmp_path, "room", 0, 4e9))
    assert not all(is_needed for _, is_needed in _needed(found, config))
    assert [_told(event) for event in from_log(tmp_path, config)] == [_told(event) for event in events]


async def test_other_rules(tmp_path: Path) -> None:
    """Lower thresholds, or a sound nobody listened for, decide on what was kept as they would have live."""
    lower = CONFIG.model_copy(
        update={
            "sounds": {
                name: sound.model_copy(update={"on": 0.8 * CONFIG.sound(name).on, "off": 0.3})
                for name, sound in CONFIG.sounds.items()
                if sound.labels and name != "rain"
            }
        }
    )
    hops, events = live(dense(), lower)
    await keep(tmp_path, hops)

    assert from_log(tmp_path, lower) == events
    assert from_log(tmp_path) == lived()[1]
    assert any(event.sound == "rain" for event in lived()[1])


async def test_what_would_be_new_and_gone(tmp_path: Path) -> None:
    """Against the history: nothing with the same configuration; with another one what differs, by day."""
    hops, events = lived()
    await keep(tmp_path, hops)
    event_log = Log(tmp_path, Metrics())
    event_log.append([Recorded(event) for event in events])
    event_log.close()

    same = compare(tmp_path, CONFIG, BEGIN, BEGIN + 3600)
    assert (same.new, same.gone, same.unknown) == ([], [], [])
    assert len(same.same) == len({event.id for event in events})
    assert all(was.id == would_be.id for was, would_be in same.same)
    assert same.coverage.listened_s == pytest.approx(SECONDS - 29, abs=11)

    fewer = CONFIG.model_copy(
        update={"sounds": CONFIG.sounds | {"rain": CONFIG.sounds["rain"].model_copy(update={"on": 0.97})}}
    )
    other = compare(tmp_path, fewer, BEGIN, BEGIN + 3600)
    assert {event.sound for event in other.gone} == {"rain"}
    assert other.new == []
    ((_, day),) = other.per_day().items()
    assert day == {
        "were": len(same.same),
        "same": len(same.same) - len(other.gone),
        "new": 0,
        "gone": len(other.gone),
    }
    assert '"new": []' in as_json(other)

    shares: list[float] = []
    tried = compare(tmp_path, CONFIG, BEGIN, BEGIN + 3600, thresholds={"rain": 0.97}, progress=shares.append)
    assert tried.gone == other.gone
    assert {was.sound for was, _ in tried.same} <= {"rain"}
    assert shares == sorted(shares)
    assert 0 < shares[-1] <= 1
    assert len(json.loads(as_json(tried, most=1))["gone"]) == 1


def test_an_event_that_moved_is_the_same_event() -> None:
    """Of one source and sound, where they overlap; each pairs with one, in order of time."""

    def one(event_id: str, onset: float, offset: float | None, sound: str = "rain") -> Replayed:
        return Replayed(event_id, "room", sound, onset, offset, 0.9)

    were = [one("a", 10, 20), one("b", 30, 40), one("c", 50, 60), one("d", 70, None), one("e", 10, 20, "dog")]
    would_be = [one("f", 5, 9), one("g", 12, 33), one("h", 35, 38), one("i", 80, 90), one("k", 61, 65)]
    coverage = Coverage(spans={"room": [(0, 65)]})
    found = match(were, would_be, coverage, 0, 100)
    assert [(was.id, other.id) for was, other in found.same] == [("a", "g"), ("b", "h"), ("d", "i")]
    assert [event.id for event in found.new] == ["f", "k"]
    assert [event.id for event in found.gone] == ["e", "c"]
    assert match([one("l", 70, 72)], [], coverage, 0, 100).unknown[0].id == "l"


async def test_what_cannot_be_replayed_is_said(tmp_path: Path) -> None:
    """Another model, a label that the model does not have, a source or a time without scores."""
    hops, events = lived()
    await keep(tmp_path, hops)
    event_log = Log(tmp_path, Metrics())
    event_log.append([Recorded(event) for event in events])
    event_log.close()
    other = CONFIG.model_copy(update={"model": CONFIG.model.model_copy(update={"path": "ast-large"})})
    with pytest.raises(InputError, match="scored by ast-tiny"):
        compare(tmp_path, other, BEGIN, BEGIN + 3600)
    with pytest.raises(InputError, match="there are of: room"):
        compare(tmp_path, CONFIG, BEGIN, BEGIN + 3600, source="hall")
    with pytest.raises(InputError, match="no scores were kept in this time"):
        compare(tmp_path, CONFIG, BEGIN + 7200, BEGIN + 7300)
    unknown = CONFIG.sounds | {"cat": CONFIG.sounds["rain"].model_copy(update={"labels": ("Cat",)})}
    with pytest.raises(ConfigError, match="Cat"):
        compare(tmp_path, CONFIG.model_copy(update={"sounds": unknown}), BEGIN, BEGIN + 3600)


async def test_a_label_that_was_added(tmp_path: Path) -> None:
    """What was scored before a sound was taught counts as before; only that sound is not known of it."""
    hops, events = lived()
    half = len(hops) // 2
    await keep(tmp_path, hops[:half])
    await keep(tmp_path, map(_with_label, hops[half:]), About("ast-tiny", (*LABELS, "taught: gong"), 10.0))
    event_log = Log(tmp_path, Metrics())
    event_log.append([Recorded(event) for event in events])
    event_log.close()

    found = compare(tmp_path, CONFIG, BEGIN, BEGIN + SECONDS)
    assert found.coverage.other_model_until is None
    assert len(found.same) > 0.9 * len({event.id for event in events})
    gong = CONFIG.sounds | {"gong": CONFIG.sounds["rain"].model_copy(update={"labels": ("taught: gong",)})}
    found = compare(tmp_path, CONFIG.model_copy(update={"sounds": gong}), BEGIN, BEGIN + SECONDS)
    assert found.coverage.other_model_until is not None


async def test_a_head_or_a_model_that_was_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under its own name: what another one has scored is left out, and what it would say is not guessed."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    hops, events = lived()
    half = len(hops) // 2
    gong, labels = "taught: gong", (*LABELS, "taught: gong")
    first, second = (record.Taught(_taught(), Head("gong", [0.0], [w], 0.0), NONE, CLIPS) for w in (1.0, 2.0))
    asks = CONFIG.sounds | {"gong": SoundSettings.model_validate({"taught": "gong"})}
    with_gong = CONFIG.model_copy(update={"sounds": asks})
    record.write(tmp_path, first)
    before = fingerprints(with_gong)
    record.write(tmp_path, second)
    after = fingerprints(with_gong)
    assert set(before) == {MODEL, gong}
    assert before[MODEL] == after[MODEL] == fingerprints(CONFIG)[MODEL]
    assert before[gong] != after[gong]

    await keep(tmp_path, map(_with_label, hops[:half]), About("ast-tiny", labels, 10.0, before))
    with pytest.raises(InputError, match=r"scored by another head of 'taught: gong' than is here now"):
        replayed_span(tmp_path, with_gong)
    assert replayed_span(tmp_path, CONFIG).other_model_until is None  # nobody asks for that sound
    await keep(tmp_path, map(_with_label, hops[half:]), About("ast-tiny", labels, 10.0, after))
    event_log = Log(tmp_path, Metrics())
    event_log.append([Recorded(event) for event in events])
    event_log.close()
    middle = hops[half - 1].sensed.end
    assert compare(tmp_path, with_gong, BEGIN, BEGIN + SECONDS).coverage.other_model_until == middle
    assert compare(tmp_path, CONFIG, BEGIN, BEGIN + SECONDS).coverage.other_model_until is None

    other = tmp_path / "other"
    other.mkdir()
    await keep(other, hops, About("ast-tiny", LABELS, 10.0, {MODEL: "of other weights"}))
    with pytest.raises(InputError, match="scored by another ast-tiny than is here now"):
        replayed_span(other, CONFIG)
    old = tmp_path / "old"
    old.mkdir()
    await keep(old, hops, ABOUT)  # as before fingerprints were kept
    assert replayed_span(old, CONFIG).other_model_until is None


def replayed_span(directory: Path, config: Config) -> Coverage:
    coverage = Coverage()
    assert list(of_one_model(directory, config, "room", BEGIN, BEGIN + SECONDS, coverage))
    return coverage


def _taught() -> record.About:
    return record.About("gong", "ast-tiny", "0" * 64, 1.7e9, ["a.wav"], [], 1, 5, 0)


def _with_label(hop: Hop) -> Hop:
    if hop.scores is None or hop.scores.frames is None:
        return hop
    frames = np.pad(hop.scores.frames, ((0, 0), (0, 1)))
    return replace(hop, scores=replace(hop.scores, clip=frames.max(axis=0), frames=frames))


async def test_a_curve(tmp_path: Path) -> None:
    """At the threshold in force as many as there were; of reviewed events, the share that was wrong."""
    hops, events = lived()
    await keep(tmp_path, hops)
    event_log = Log(tmp_path, Metrics())
    event_log.append([Recorded(event) for event in events])
    event_log.close()
    knocks = sorted({event.id for event in events if event.sound == "knock"})
    found = curve(tmp_path, CONFIG, "knock", BEGIN, BEGIN + 3600)
    assert [point.on for point in found.points] == [round(0.05 * n, 2) for n in range(1, 20)]
    (now,) = (point for point in found.points if point.on == 0.5)
    assert now.n_events == len(knocks)
    assert found.false_alarms_a_day(now) is None

    with editing(tmp_path) as db:
        for number, event_id in enumerate(knocks):
            verdict = "wrong" if number % 3 == 0 else "right"
            assert history.review(db, event_id, verdict, sound=None, note=None)
    n_wrong = len(knocks[::3])
    found = curve(tmp_path, CONFIG, "knock", BEGIN, BEGIN + 3600)
    (now,) = (point for point in found.points if point.on == 0.5)
    assert (now.n_reviewed, now.n_wrong, now.n_right_kept) == (len(knocks), n_wrong, found.n_right)
    estimate = found.false_alarms_a_day(now)
    assert estimate is not None
    assert estimate[0] == pytest.approx(n_wrong / found.days)
    assert estimate[1] < estimate[0] < estimate[2]
    higher = with_threshold(CONFIG, "knock", 0.7)
    by_replay = compare(tmp_path, higher, BEGIN, BEGIN + 3600)
    kept = [was.id for was, _ in by_replay.same if was.sound == "knock"]
    n_new = sum(event.sound == "knock" for event in by_replay.new)
    (at_07,) = (point for point in found.points if point.on == 0.7)
    assert (at_07.n_events, at_07.n_reviewed) == (len(kept) + n_new, len(kept))
    assert at_07.n_wrong == len(set(kept) & set(knocks[::3]))
    assert 0 < at_07.n_wrong < now.n_wrong
    strict = found.points[-1]
    assert strict.n_events < now.n_events
    assert strict.n_right_kept < now.n_right_kept
    with pytest.raises(UsageError, match="loudness"):
        curve(tmp_path, CONFIG, "loud", BEGIN, BEGIN + 3600)


async def test_why(tmp_path: Path) -> None:
    """For a moment of the log: the event that there was, with its rules; and where there was none, why."""
    hops, events = lived()
    await keep(tmp_path, hops)
    end = next(event for event in events if event.sound == "siren" and event.phase == "end")
    middle = (end.onset + (end.offset or 0)) / 2
    source, found = explain_at(tmp_path, CONFIG, None, sound="siren", at=middle)
    lines = dict(found.lines(lambda at: f"{at - BEGIN:.2f}"))
    assert source == "room"
    assert lines["decided by"].startswith(f"event {end.id}, from {end.onset - BEGIN:.2f}")
    assert "confirm" in lines

    spans = [(e.onset - 2, (e.offset or 0) + 2) for e in events if e.sound == "siren" and e.phase == "end"]
    free = next(at for at in np.arange(BEGIN + 5, BEGIN + 90, 1.0) if not any(a < at < b for a, b in spans))
    _, found = explain_at(tmp_path, CONFIG, "room", sound="siren", at=float(free))
    assert "no event" in dict(found.lines())["decided by"]
    with pytest.raises(InputError, match="of that moment"):
        explain_at(tmp_path, CONFIG, "room", sound="siren", at=BEGIN + 110)


def _told(event: SoundEvent) -> tuple[object, ...]:
    """All of it; a score to what floats leave open, where minutes were passed over."""
    times = (event.onset, event.offset, event.heard_at)
    return (event.id, event.sound, event.phase, *times, round(event.peak, 4), round(event.level_dbfs, 2))
