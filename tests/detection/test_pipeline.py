"""From windows and scores to events."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamer.config.schema import Config
from streamer.detection.pipeline import Pipeline
from streamer.errors import ConfigError
from streamer.types import SILENCE_DBFS, Samples, Scores, SoundEvent, Window
from tests.detection.synthetic import (
    BEGIN,
    LABELS,
    Truth,
    bark,
    clip_scores,
    config,
    frame_scores,
    listen,
    occurrences,
    window,
)

Model = Callable[..., Scores]


def pipeline(settings: Config | None = None) -> Pipeline:
    return Pipeline("room", settings or config(), LABELS)


def spans(events: list[SoundEvent], begin: float = BEGIN) -> list[tuple[float, float]]:
    """Onset and offset of each occurrence as its end says them, in seconds since the source's start."""
    return [(end.onset - begin, (end.offset or 0) - begin) for _, end in occurrences(events)]


@pytest.mark.parametrize("hop_s", [0.25, 0.5, 1.0, 2.0])
def test_frames_say_when_a_sound_was(hop_s: float) -> None:
    """Noisy windows give both times to 0.2 s; the start is said within announce_s, a hop and 0.3 s."""
    score = partial(frame_scores, truth=bark((3.2, 5.7)), noise=0.25)

    events = listen(pipeline(config(hop_s=hop_s)), range(int(20 / hop_s)), score, hop_s=hop_s)

    ((start, end),) = occurrences(events)
    assert (end.onset - BEGIN, (end.offset or 0) - BEGIN) == pytest.approx((3.2, 5.7), abs=0.2)
    assert start.emitted_at - BEGIN - 3.2 <= 1.0 + hop_s + 0.3
    assert start.sound == "dog_bark"


def test_windows_that_know_better_correct_what_was_said() -> None:
    """The first windows hear only the later half, those after them all of it: the end has the true onset."""

    def score(heard: Window) -> Scores:
        late = heard.end - BEGIN < 5.5
        return frame_scores(heard, bark((4.0, 7.0) if late else (2.0, 7.0)))

    ((start, end),) = occurrences(listen(pipeline(), range(20), score))

    assert start.onset - BEGIN == pytest.approx(4.0, abs=0.1)
    assert end.onset - BEGIN == pytest.approx(2.0, abs=0.1)


def test_a_sound_may_be_found_late() -> None:
    """What only windows with more context recognise is told when they do, with its own times."""

    def score(heard: Window) -> Scores:
        return frame_scores(heard, bark((3.0, 4.0)) if heard.end - BEGIN > 5.5 else bark())

    ((start, end),) = occurrences(listen(pipeline(config(on=0.2)), range(20), score))

    assert start.emitted_at - BEGIN >= 6
    assert (end.onset - BEGIN, (end.offset or 0) - BEGIN) == pytest.approx((3.0, 4.0), abs=0.1)


def test_a_clip_level_score_becomes_times_by_window_edges() -> None:
    """A sound enters with a window's end and leaves with its start: right to a hop, not ten seconds long."""
    events = listen(pipeline(), range(40), partial(clip_scores, truth=bark((12.3, 13.4))))

    assert spans(events) == [pytest.approx((12.3, 13.4), abs=1.0)]


@pytest.mark.parametrize("score_of", [frame_scores, clip_scores])
def test_skipped_windows_neither_split_nor_hang_an_event(score_of: Model) -> None:
    """Time decides, not the count: with windows missing it is the same event, as exact as hops allow."""
    score = partial(score_of, truth=bark((12.0, 30.0)))
    every = range(50)
    some = [k for k in every if k % 2 or k < 3 or k > 45]
    few = [0, 5, 13, 20, 24, 31, 38, 44, 49]

    assert spans(listen(pipeline(), every, score)) == [pytest.approx((12, 30), abs=0.1)]
    assert spans(listen(pipeline(), some, score)) == [pytest.approx((12, 30), abs=1.1)]
    assert spans(listen(pipeline(), few, score)) == [pytest.approx((12, 30), abs=8.1)]


@pytest.mark.parametrize("score_of", [frame_scores, clip_scores])
def test_constant_scores(score_of: Model) -> None:
    """Nothing from low ones; from high ones one event, from the start to the close."""
    assert listen(pipeline(), range(60), partial(score_of, truth=bark())) == []

    events = listen(pipeline(), range(60), partial(score_of, truth=bark((0, 60))))
    assert spans(events) == [pytest.approx((0, 60), abs=0.1)]
    assert [event.phase for event in events] == ["start", "end"]


def test_a_score_that_oscillates_around_a_threshold_is_one_event() -> None:
    """Around `on` hysteresis holds it together, around `off` the merge gap does."""
    for low, high in ((0.4, 0.6), (0.2, 0.6)):

        def truth(seconds: np.ndarray, low: float = low, high: float = high) -> np.ndarray:
            scores = np.zeros((len(seconds), len(LABELS)), np.float32)
            inside = (seconds >= 3) & (seconds < 23)
            scores[inside, 0] = np.where(seconds[inside] % 1 < 0.5, high, low)
            return scores

        assert len(spans(listen(pipeline(), range(40), partial(frame_scores, truth=truth)))) == 1


def test_the_end_of_the_audio_is_heard() -> None:
    """A sound in the last second, too young to start an event, starts and ends one when the source closes."""
    events = listen(pipeline(), range(10), partial(frame_scores, truth=bark((9.3, 9.9))))

    assert [event.phase for event in events] == ["start", "end"]
    assert spans(events) == [pytest.approx((9.3, 9.9), abs=0.1)]


def test_time_that_breaks_off_ends_the_event() -> None:
    """After a minute without a window the event has ended where hearing ended; what goes on is another."""
    windows = [*range(20), *range(80, 100)]

    events = listen(pipeline(), windows, partial(frame_scores, truth=bark((5, 100))))

    assert spans(events) == [pytest.approx((5, 20), abs=0.1), pytest.approx((71, 100), abs=0.1)]


def test_a_clock_that_is_set_back_ends_the_event() -> None:
    """What goes on begins again, by the new time; nothing that was told is told again."""
    listening = pipeline()
    before = listen(listening, range(20), partial(frame_scores, truth=bark((5, 99))), close=False)
    late = partial(frame_scores, truth=bark((5 - 3600, 99)), begin=BEGIN - 3600)
    after = listen(listening, range(20, 40), late, begin=BEGIN - 3600)

    new, old = spans(before + after)
    assert old == pytest.approx((5, 20), abs=0.1)
    assert new == pytest.approx((20 - 3600, 40 - 3600), abs=0.1)


def test_after_a_close_nothing_is_told_twice() -> None:
    """Windows that follow a close reach back before it; only what is new in them counts."""
    listening = pipeline()
    score = partial(frame_scores, truth=bark((5, 8), (25, 27)))
    events = listen(listening, range(10), score) + listen(listening, range(10, 40), score)

    assert spans(events) == [pytest.approx((5, 8), abs=0.1), pytest.approx((25, 27), abs=0.1)]


def test_an_event_says_which_labels_and_how_loud() -> None:
    """Labels have their scores at the peak, strongest first, none faint; the level is of its own time."""

    def truth(seconds: np.ndarray) -> Samples:
        scores = np.zeros((len(seconds), len(LABELS)), np.float32)
        scores[(seconds >= 12) & (seconds < 16)] = (0.6, 0.7, 0.04, 0.9)
        return scores

    def loudness(seconds: np.ndarray) -> Samples:
        loud = np.where((seconds >= 12.5) & (seconds < 14), 0.1, 0.001)
        return np.where(seconds < 5, 1.0, loud)

    listening = pipeline()
    events = []
    for k in range(30):
        heard = window(k, loudness=loudness)
        events += listening.decide(listening.sense(heard), frame_scores(heard, truth), heard.end)

    ((start, end),) = occurrences(events)
    assert end.sound == "dog_bark"
    assert list(end.labels) == ["Bark", "Dog"]
    assert end.labels == pytest.approx({"Bark": 0.7, "Dog": 0.6})
    assert end.peak == pytest.approx(0.7)
    assert end.score == pytest.approx(0)
    assert end.level_dbfs == pytest.approx(-20, abs=0.1)
    assert start.heard_at == pytest.approx(BEGIN + 13), "what counts by then ends at 12, and is faint"
    assert start.level_dbfs == pytest.approx(-20, abs=0.1)


def test_hearing_names_the_strongest_labels_and_the_level_of_the_newest_hop() -> None:
    """The past of the window does not count for the level; digital silence has the floor."""
    heard = window(30, loudness=lambda seconds: np.where(seconds < 30, 1.0, 0.1))
    scores = replace(frame_scores(heard, bark()), clip=np.array([0.1, 0.7, 0.2, 0.3], np.float32))

    listening = pipeline()
    hearing = listening.hearing(listening.sense(heard), scores)

    assert list(hearing.top) == ["Bark", "Rain", "Siren", "Dog"]
    assert hearing.at == heard.end
    assert hearing.level_dbfs == pytest.approx(-20, abs=0.01)
    silent = window(30, loudness=np.zeros_like)
    assert listening.hearing(listening.sense(silent), scores).level_dbfs == SILENCE_DBFS


def test_a_label_that_the_model_does_not_have_is_refused() -> None:
    """Before the first window, by name."""
    with pytest.raises(ConfigError, match=r"sounds\.dog_bark\.labels: .*'Barking', did you mean 'Bark'\?"):
        pipeline(config(sound={"labels": ["Barking"]}))


def test_the_same_audio_has_the_same_events_at_any_time() -> None:
    """Live today or from a file that counts from 0: the same times from the source's start."""
    truth = bark((3.3, 4.1), (7.77, 12), (20, 20.4))
    for hop_s in (0.25, 0.3, 1.0):
        found = [
            spans(
                listen(
                    pipeline(config(hop_s=hop_s)),
                    range(int(30 / hop_s)),
                    partial(frame_scores, truth=truth, begin=begin),
                    hop_s=hop_s,
                    begin=begin,
                ),
                begin,
            )
            for begin in (0.0, BEGIN, BEGIN + 0.123456)
        ]

        assert len(found[0]) == 3
        assert found[1] == [pytest.approx(span, abs=1e-3) for span in found[0]]
        assert found[2] == [pytest.approx(span, abs=1e-3) for span in found[0]]


def random_truth(blocks: list[tuple[float, float, float]]) -> Truth:
    """Two sounds whose scores change at the ends of blocks of so many seconds."""

    def truth(seconds: np.ndarray) -> Samples:
        edges = np.cumsum([0.0] + [length for length, _, _ in blocks])
        block = np.clip(np.searchsorted(edges, seconds, side="right") - 1, 0, len(blocks) - 1)
        values = np.array([[dog, 0, siren, 0] for _, dog, siren in blocks], np.float32)
        return np.where((seconds < 0)[:, None], 0, values[block])

    return truth


score = st.floats(0, 1, width=32)


@settings(max_examples=60, deadline=None)
@example(  # a hop that no float has
    blocks=[(1.0, 0.0, 1.0)],
    hop_s=0.3,
    skipped={0, 1, 2},
    frames=False,
    noise=0.0,
    sound={"confirm": 1, "min_duration_s": 0.0, "merge_gap_s": 0.0},
    announce_s=0.0,
)
@given(
    blocks=st.lists(st.tuples(st.floats(0.1, 8), score, score), min_size=1, max_size=12),
    hop_s=st.sampled_from([0.3, 0.5, 1.0, 2.0, 7.0]),
    skipped=st.sets(st.integers(0, 40)),
    frames=st.booleans(),
    noise=st.sampled_from([0.0, 0.5]),
    sound=st.fixed_dictionaries(
        {
            "confirm": st.integers(1, 3),
            "min_duration_s": st.sampled_from([0.0, 0.5, 3.0]),
            "merge_gap_s": st.sampled_from([0.0, 1.0, 15.0]),
        }
    ),
    announce_s=st.sampled_from([0.0, 1.0, 2.5]),
)
def test_whatever_is_heard_the_life_cycle_holds(
    blocks: list[tuple[float, float, float]],
    hop_s: float,
    skipped: set[int],
    frames: bool,
    noise: float,
    sound: dict[str, object],
    announce_s: float,
) -> None:
    """Each start has one end; onset before offset; nothing overlaps, leaves the audio or is told early."""
    truth = random_truth(blocks)
    indexes = [k for k in range(max(1, int(40 / hop_s))) if k not in skipped]
    model = partial(frame_scores, truth=truth, noise=noise) if frames else partial(clip_scores, truth=truth)
    listening = pipeline(config(hop_s=hop_s, sound=sound, announce_s=announce_s))

    end_s = BEGIN + (max(indexes, default=0) + 1) * hop_s - BEGIN  # as rounded as the times of the events

    events = listen(listening, indexes, model, hop_s=hop_s)

    occurrences(events)  # holds the messages to the life cycle
    for name in ("dog_bark", "siren"):
        edges = [edge for span in spans([event for event in events if event.sound == name]) for edge in span]
        assert edges == sorted(edges)
        assert all(0 <= edge <= end_s for edge in edges)


def test_importing_it_leaves_torch_alone() -> None:
    """Configuration, detection and pipeline start in milliseconds."""
    code = "import sys, streamer.detection.pipeline; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
