"""Hysteresis over the scores of one sound."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.config.schema import SoundRule
from streamer.detection.detector import TRANSITIONS, Moment, SoundDetector, SoundScores
from streamer.detection.timeline import CELL_S
from streamer.types import SoundEvent
from tests.detection.synthetic import BEGIN, occurrences

MEMORY = 300
"""cells"""


def rule(**changes: object) -> SoundRule:
    plain = {"on": 0.5, "off": 0.25, "smoothing_s": 0.0, "merge_gap_s": 1.0, "labels": ("Bark",)}
    settings = {"confirm_of": changes.get("confirm", 1), **plain, **changes}
    return SoundRule.model_validate(settings)


def feed(
    detector: SoundDetector, scores: Sequence[float], *, hop: int = 25, lag: int = 0
) -> list[SoundEvent]:
    """Let a detector see scores, a cell each, `hop` cells at a time, and close it."""
    seen = np.asarray(scores, np.float32)
    ends = [*range(hop, len(seen), hop), len(seen)]
    events: list[SoundEvent] = []
    for until in ends:
        first = max(0, until - MEMORY)
        heard = seen[first:until]
        sound = SoundScores(
            scores=heard,
            labels=heard[:, None],
            levels=np.full(len(heard), -20, np.float32),
            first=first,
            mature=until,
            final=until,
            late_by=lag,
            resolution=hop if lag else 1,
        )
        end = BEGIN + until * CELL_S
        state = detector.state
        events += detector.update(sound, Moment(BEGIN, end, end, closing=until == len(seen)))
        assert detector.state is state or detector.state in TRANSITIONS[state]
    return events


def spans(events: list[SoundEvent]) -> list[tuple[int, int]]:
    """Onset and offset of each occurrence, in cells."""
    return [
        (round((end.onset - BEGIN) / CELL_S), round(((end.offset or 0) - BEGIN) / CELL_S))
        for _, end in occurrences(events)
    ]


def test_an_event_begins_where_the_score_rose_above_off() -> None:
    """It takes `on` to start an event, but the sound lasted from its rise above `off` to its fall below."""
    scores = [0.1] * 40 + [0.3] * 5 + [0.6] * 10 + [0.3] * 7 + [0.1] * 60

    assert spans(feed(SoundDetector("room", "dog_bark", rule()), scores)) == [(40, 62)]


def test_what_never_reaches_on_is_no_event() -> None:
    """Above `off` is not enough."""
    assert feed(SoundDetector("room", "dog_bark", rule()), [0.49] * 200) == []


def test_a_pause_shorter_than_the_merge_gap_does_not_end_an_event() -> None:
    """Two barks 0.96 s apart are one event, 1.0 s apart they are two."""
    for pause, expected in ((24, [(10, 54)]), (25, [(10, 20), (45, 55)])):
        scores = [0.0] * 10 + [0.8] * 10 + [0.0] * pause + [0.8] * 10 + [0.0] * 50

        assert spans(feed(SoundDetector("room", "dog_bark", rule()), scores)) == expected
        assert spans(feed(SoundDetector("room", "dog_bark", rule()), scores, hop=105)) == expected


def test_what_is_shorter_than_the_minimum_is_no_event() -> None:
    """A click of 0.36 s is dropped where 0.4 s are asked for, and does not hide the bark after it."""
    scores = [0.0] * 10 + [0.8] * 9 + [0.0] * 30 + [0.8] * 10 + [0.0] * 50

    assert spans(feed(SoundDetector("room", "dog_bark", rule(min_duration_s=0.4)), scores)) == [(49, 59)]


def test_hops_must_confirm() -> None:
    """With confirm: 3, what is over after two hops was nothing; the third starts the event."""
    short = [0.0] * 25 + [0.8] * 20 + [0.0] * 80
    long = [0.0] * 25 + [0.8] * 60 + [0.0] * 80

    assert feed(SoundDetector("room", "dog_bark", rule(confirm=3)), short) == []

    events = feed(SoundDetector("room", "dog_bark", rule(confirm=3)), long)
    assert spans(events) == [(25, 85)]
    assert events[0].emitted_at == pytest.approx(BEGIN + 100 * CELL_S)


def test_an_event_longer_than_the_memory_keeps_its_onset() -> None:
    """A minute of siren is one event of a minute."""
    scores = [0.0] * 30 + [0.9] * 1500 + [0.0] * 50

    assert spans(feed(SoundDetector("room", "siren", rule()), scores)) == [(30, 1530)]


def test_updates_come_at_their_pace_and_only_with_news() -> None:
    """A louder, surer sound is told again after update_s; one that stays as it is is not."""
    rising = list(np.linspace(0.5, 0.9, 500))

    events = feed(SoundDetector("room", "siren", rule(update_s=5.0)), [0.0] * 25 + rising)
    updates = [event for event in events if event.phase == "update"]
    assert [round(event.emitted_at - events[0].emitted_at) for event in updates] == [5, 10, 15]
    assert [event.peak for event in updates] == sorted(event.peak for event in updates)

    steady = feed(SoundDetector("room", "siren", rule(update_s=5.0)), [0.0] * 25 + [0.7] * 500)
    assert [event.phase for event in steady] == ["start", "end"]


def test_the_same_scores_have_the_same_ids() -> None:
    """An id is made of source, sound and the onset first said; other sources and sounds have other ids."""
    scores = [0.0] * 10 + [0.8] * 10 + [0.0] * 50
    ids = [
        feed(SoundDetector(source, sound, rule()), scores)[0].id
        for source, sound in (
            ("room", "dog_bark"),
            ("room", "dog_bark"),
            ("hall", "dog_bark"),
            ("room", "siren"),
        )
    ]

    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


def test_the_lag_of_a_clip_level_model_is_taken_off() -> None:
    """An event ends where the first window below `off` begins; if that is before its onset, after one hop."""
    detector = SoundDetector("room", "dog_bark", rule())

    assert spans(feed(detector, [0.0] * 25 + [0.8] * 300 + [0.0] * 50, lag=225)) == [(25, 100)]
    detector.reset()
    assert spans(feed(detector, [0.0] * 25 + [0.8] * 100 + [0.0] * 50, lag=225)) == [(25, 50)]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 60), st.floats(0, 1, width=32)), max_size=30),
    st.integers(1, 250),
    st.sampled_from([0, 225]),
    st.builds(
        rule,
        on=st.just(0.5),
        off=st.sampled_from([0.1, 0.25, 0.5]),
        confirm=st.integers(1, 3),
        min_duration_s=st.sampled_from([0.0, 0.4, 3.0]),
        merge_gap_s=st.sampled_from([0.0, 0.1, 1.0, 20.0]),
        smoothing_s=st.sampled_from([0.0, 0.12, 0.44]),
    ),
)
def test_whatever_the_scores_the_life_cycle_holds(
    blocks: list[tuple[int, float]], hop: int, lag: int, rule: SoundRule
) -> None:
    """Starts and ends alternate, with one id; occurrences lie within the audio, in order, without overlap."""
    scores = [score for n, score in blocks for _ in range(n)] or [0.0]

    found = spans(feed(SoundDetector("room", "dog_bark", rule), scores, hop=hop, lag=lag))

    edges = [edge for span in found for edge in span]
    assert edges == sorted(edges)
    assert all(onset < offset for onset, offset in found)
    assert all(0 <= edge <= len(scores) for edge in edges)
