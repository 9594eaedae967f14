"""What was sensed, and scores, are all that events depend on."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from streamer.data import synthesis
from streamer.detection.decider import Decider
from streamer.detection.pipeline import Pipeline
from streamer.types import Samples, Scores, Sensed, Window
from tests.detection.synthetic import BEGIN, LABELS, bark, config, frame_scores, occurrences, window
from tests.detection.test_rules import RATE, truth
from tests.detection.test_rules import config as sounds

SOUNDS = sounds(
    dog={"labels": ["Dog", "Bark"], "cooldown_s": 5.0},
    siren={"labels": ["Siren"], "verify": "mark", "merge_gap_s": 3.0, "priority": "critical"},
    loud={"above_background_db": 15},
)


def alarm_at_20_s() -> Samples:
    """And at 50 s what is loud and has no name."""
    rng = np.random.default_rng(1)
    samples = 0.003 * synthesis.coloured_noise(rng, RATE, 60.0, 1.0)
    samples[20 * RATE : 35 * RATE] += 0.1 * synthesis.temporal_three(rng, RATE, 15.0).samples
    samples[50 * RATE : 51 * RATE] *= 30.0
    return samples


def scored(heard: Window) -> Scores:
    spans = [("Bark", at, at + 3.0, 0.8) for at in (3.0, 21.0, 40.0)]
    return frame_scores(heard, truth(*spans, ("Siren", 20.0, 35.0, 0.9)), noise=0.6)


def test_a_log_of_both_replays_to_the_same_events() -> None:
    """Without a sample: levels, beeps and the gate's decisions are in `Sensed`."""
    pipeline = Pipeline("room", SOUNDS, LABELS)
    past = np.concatenate((np.zeros(10 * RATE, np.float32), alarm_at_20_s()))
    kept: list[tuple[Sensed, Scores | None]] = []
    live = []
    for k in range(60):
        heard = Window(
            "room",
            k,
            past[(k + 1) * RATE : (k + 11) * RATE],
            RATE,
            BEGIN + k - 9,
            BEGIN + k + 1,
            warm_up=k < 9,
        )
        sensed = pipeline.sense(heard)
        scores = scored(heard) if sensed.is_wanted else None
        kept.append((sensed, scores))
        live += pipeline.decide(sensed, scores, heard.end)
    live += pipeline.close(BEGIN + 60, BEGIN + 60)

    decider = Decider("room", SOUNDS, LABELS)
    again = [event for sensed, scores in kept for event in decider.decide(sensed, scores, sensed.end)]
    again += decider.close(BEGIN + 60, BEGIN + 60)

    assert again == live
    assert {event.sound for event in live} == {"dog", "siren", "loud"}
    assert any(event.verified for event in live)
    assert any(scores is None for _, scores in kept)


@pytest.mark.parametrize("failed", [{6}, {6, 7, 8}, {0}, {0, 1}])
def test_a_window_that_could_not_be_scored_leaves_its_levels(failed: set[int]) -> None:
    """The next window has scores for the time of a failed one; levels are known from the failed one alone."""

    def loudness(seconds: np.ndarray) -> Samples:
        return np.where((seconds >= 6) & (seconds < 7), 0.1, 0.001)

    pipeline = Pipeline("room", config(), LABELS)
    events = []
    for k in range(20):
        heard = window(k, loudness=loudness)
        sensed = pipeline.sense(heard)
        if k in failed:
            pipeline.miss(sensed)
        else:
            events += pipeline.decide(sensed, frame_scores(heard, bark((5, 8))), heard.end)

    ((_, end),) = occurrences(events)
    assert (end.onset - BEGIN, (end.offset or 0) - BEGIN) == pytest.approx((5, 8), abs=0.1)
    assert end.level_dbfs == pytest.approx(-20, abs=0.1)


def test_a_long_failure_ends_the_event() -> None:
    """Where no window that was scored reaches back to the last one, nobody knows what was between."""
    pipeline = Pipeline("room", config(), LABELS)
    events = []
    for k in range(60):
        heard = window(k)
        sensed = pipeline.sense(heard)
        if 20 <= k < 40:
            pipeline.miss(sensed)
        else:
            events += pipeline.decide(sensed, frame_scores(heard, bark((5, 60))), heard.end)
    events += pipeline.close(BEGIN + 60, BEGIN + 60)

    spans = [(end.onset - BEGIN, (end.offset or 0) - BEGIN) for _, end in occurrences(events)]
    assert spans == [pytest.approx((5, 20), abs=0.1), pytest.approx((31, 60), abs=0.1)]


def test_other_rules_hold_from_the_next_window_on() -> None:
    """Open events end, audio is not sensed again, and what still counts starts anew where the other ended."""
    pipeline = Pipeline("room", config(), LABELS)
    score = partial(frame_scores, truth=bark((5, 30), score=0.8))
    events = []
    for k in range(40):
        heard = window(k)
        sensed = pipeline.sense(heard)
        if k == 20:
            events += pipeline.change(config(on=0.7), sensed.end, sensed.end)
        events += pipeline.decide(sensed, score(heard), heard.end)

    spans = [(end.onset - BEGIN, (end.offset or 0) - BEGIN) for _, end in occurrences(events)]
    assert spans == [pytest.approx((5, 20), abs=0.1), pytest.approx((20, 30), abs=0.1)]


def test_hearing_has_the_score_of_each_sound() -> None:
    """Smoothed, at the newest moment that may start an event, a second ago."""
    pipeline = Pipeline("room", config(), LABELS)
    scores = []
    for k in range(10):
        heard = window(k)
        sensed, given = pipeline.sense(heard), frame_scores(heard, bark((5.5, 7.2)))
        pipeline.decide(sensed, given, heard.end)
        scores.append(pipeline.hearing(sensed, given).sounds)

    assert [round(one.get("dog_bark", 0), 1) for one in scores] == [0.0] * 6 + [0.8, 0.8] + [0.0] * 2
    assert scores[-1].keys() == {"dog_bark", "siren"}
