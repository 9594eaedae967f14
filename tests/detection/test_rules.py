"""What a sound may ask for beside thresholds: guards, kin, cool-down, priority, n of m, alarms, loudness."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from streamer.config.schema import Config
from streamer.data import synthesis
from streamer.detection.detector import Moment, SoundDetector, SoundScores
from streamer.detection.pipeline import Pipeline
from streamer.model.labels import AUDIOSET, descendants
from streamer.types import Samples, SoundEvent, Window
from tests.detection.synthetic import BEGIN, LABELS, Truth, frame_scores, listen, occurrences


def config(**sounds: dict[str, object]) -> Config:
    return Config.model_validate({"sources": {"room": {"demo": True}}, "sounds": sounds})


def truth(*spans: tuple[str, float, float, float]) -> Truth:
    """(label, onset, offset, score)."""

    def scores(seconds: np.ndarray) -> Samples:
        values = np.full((len(seconds), len(LABELS)), 0.01, np.float32)
        for label, onset, offset, score in spans:
            values[(seconds >= onset) & (seconds < offset), LABELS.index(label)] = score
        return values

    return scores


def told(settings: Config, *spans: tuple[str, float, float, float]) -> list[tuple[SoundEvent, SoundEvent]]:
    pipeline = Pipeline("room", settings, LABELS)
    return occurrences(listen(pipeline, range(60), partial(frame_scores, truth=truth(*spans))))


def test_a_guard_that_is_stronger_hides_a_sound() -> None:
    """A bark counts but where the siren scores higher; where it scores lower it changes nothing."""
    guarded = config(dog={"labels": ["Bark"], "unless": ["siren"]}, siren={"labels": ["Siren"]})
    spans = (
        ("Bark", 5.0, 7.0, 0.7),
        ("Siren", 5.0, 7.0, 0.9),
        ("Bark", 20.0, 22.0, 0.7),
        ("Siren", 20.0, 22.0, 0.6),
    )

    dogs = [end.onset - BEGIN for _, end in told(guarded, *spans) if end.sound == "dog"]

    assert dogs == [pytest.approx(20, abs=0.2)]


def test_a_short_sound_starts_with_the_score_that_made_it_start() -> None:
    """It is over by the time that it is told, and its score by then is none that anybody would act on."""
    ((start, end),) = told(config(siren={"labels": ["Siren"], "on": 0.5}), ("Siren", 5.0, 5.4, 0.6))
    assert start.heard_at > BEGIN + 5.4
    assert start.score == start.peak == pytest.approx(0.6)
    assert end.score == pytest.approx(0.01)


@pytest.mark.parametrize("order", [("animal", "bark"), ("bark", "animal")])
def test_a_kind_of_a_sound_is_told_once(order: tuple[str, str]) -> None:
    """A bark is told as a bark, not as a dog's sound as well; what is only one of them is told as such."""
    sounds = {"animal": {"labels": ["Dog"]}, "bark": {"labels": ["Bark"]}}
    spans = (
        ("Dog", 5.0, 8.0, 0.9),
        ("Bark", 5.0, 8.0, 0.7),
        ("Dog", 20.0, 22.0, 0.9),
        ("Bark", 40.0, 42.0, 0.9),
    )

    found = told(config(**{name: sounds[name] for name in order}), *spans)

    assert [(end.sound, round(end.onset - BEGIN)) for _, end in found] == [
        ("bark", 5),
        ("animal", 20),
        ("bark", 40),
    ]


def test_the_tree_knows_kinds_at_any_depth() -> None:
    """A bark is an animal's; every label is a kind of itself; all names are labels."""
    assert "Bark" in descendants(["Animal"])
    assert descendants(["Bark"]) == {"Bark"}
    assert descendants(AUDIOSET) == set(AUDIOSET)


def test_cool_down_silences_the_alert_not_the_event() -> None:
    """All three are told; the second, within a minute of the first, does not notify."""
    cooled = config(dog={"labels": ["Bark"], "cooldown_s": 20.0, "priority": "high"})

    found = told(cooled, *(("Bark", at, at + 1.0, 0.8) for at in (5.0, 15.0, 30.0)))

    assert [(start.notify, end.notify) for start, end in found] == [
        (True, True),
        (False, False),
        (True, True),
    ]
    assert {start.priority for start, _ in found} == {"high"}


def test_what_happens_at_once_is_told_by_priority() -> None:
    """The critical sound goes first, whatever the order of the file."""
    both = config(dog={"labels": ["Bark"]}, siren={"labels": ["Siren"], "priority": "critical"})
    pipeline = Pipeline("room", both, LABELS)
    score = partial(frame_scores, truth=truth(("Bark", 5, 7, 0.8), ("Siren", 5, 7, 0.8)))

    starts = [event.sound for event in listen(pipeline, range(20), score) if event.phase == "start"]

    assert starts == ["siren", "dog"]


@pytest.mark.parametrize(("confirm_of", "first"), [(None, 6), (4, 4)])
def test_n_of_m_hops_confirm(confirm_of: int | None, first: int) -> None:
    """Hops that see, see, see not, see …: three in a row at the sixth, three of four at the fourth."""
    detector = SoundDetector(
        "room",
        "dog",
        config(dog={"labels": ["Bark"], "confirm": 3, "confirm_of": confirm_of}).sound("dog"),
    )
    told = []
    for hop, hears in enumerate((True, True, False, True, True, True, True, True)):
        scores = np.where((np.arange(200) >= 40) & (np.arange(200) < 60) & hears, 0.8, 0).astype(np.float32)
        sound = SoundScores(
            scores=scores, labels=scores[:, None], levels=scores, first=0, mature=200, final=30
        )
        moment = Moment(BEGIN, BEGIN + 10 + hop, BEGIN + 10 + hop)
        told += [hop for event in detector.update(sound, moment) if event.phase == "start"]

    assert told == [first - 1]


RATE = 16000


def hear(settings: Config, samples: Samples, *spans: tuple[str, float, float, float]) -> list[SoundEvent]:
    """Samples from 0 s on, with these scores."""
    pipeline = Pipeline("room", settings, LABELS)
    past = np.concatenate((np.zeros(10 * RATE, np.float32), samples))
    events = []
    for k in range(len(samples) // RATE):
        heard = past[(k + 1) * RATE : (k + 11) * RATE]
        window = Window("room", k, heard, RATE, BEGIN + k - 9, BEGIN + k + 1, warm_up=k < 9)
        events += pipeline.decide(pipeline.sense(window), frame_scores(window, truth(*spans)), window.end)
    return events + pipeline.close(BEGIN + len(samples) // RATE, BEGIN + len(samples) // RATE)


def recording(sound: synthesis.Generator, at_s: int = 10, seconds: float = 12.0) -> Samples:
    rng = np.random.default_rng(1)
    samples = 0.003 * synthesis.coloured_noise(rng, RATE, 40.0, 1.0)
    made = sound(rng, RATE, seconds).samples
    samples[at_s * RATE : at_s * RATE + len(made)] += 0.1 * made
    return samples


@pytest.mark.parametrize(
    ("sound", "is_real"), [(synthesis.temporal_three, True), (synthesis.alarm_clock, False)]
)
@pytest.mark.parametrize("verify", ["none", "mark", "require"])
def test_alarms_are_verified(sound: synthesis.Generator, is_real: bool, verify: str) -> None:
    """Marked: told at once, and again when the cadence is found. Required: told then, or never."""
    alarm = config(alarm={"labels": ["Siren"], "merge_gap_s": 3.0, "verify": verify, "cadence": "t3"})

    found = occurrences(hear(alarm, recording(sound), ("Siren", 10.0, 22.0, 0.8)))

    if verify == "require" and not is_real:
        assert found == []
        return
    ((start, end),) = found
    assert end.verified == (None if verify == "none" else is_real)
    assert start.verified == {"none": None, "mark": False, "require": True}[verify]
    assert start.emitted_at - BEGIN <= (15.5 if verify == "require" else 12.5)
    assert end.onset - BEGIN == pytest.approx(10, abs=0.2)


def test_loudness_is_a_sound() -> None:
    """30 dB above the room's own background is told, with its times; 15 dB is not; no label is needed."""
    loud = config(loud_noise={"above_background_db": 30})
    samples = 0.003 * np.random.default_rng(0).normal(size=60 * RATE).astype(np.float32)
    for at_s, gain_db in ((20, 40), (40, 15)):
        samples[at_s * RATE : (at_s + 2) * RATE] *= 10 ** (gain_db / 20)

    ((start, end),) = occurrences(hear(loud, samples))

    assert (end.onset - BEGIN, (end.offset or 0) - BEGIN) == pytest.approx((20, 22), abs=0.2)
    assert start.emitted_at - BEGIN <= 21.1
    assert end.level_dbfs == pytest.approx(-10.5, abs=0.5)
    assert end.labels == {}


BANG_S = 20.0
NAMED = {"dog": {"labels": ["Bark"]}, "siren": {"labels": ["Siren"]}, "loud": {"above_background_db": 20}}


def bang(seconds: float = 2.0) -> Samples:
    samples = 0.003 * np.random.default_rng(0).normal(size=60 * RATE).astype(np.float32)
    samples[round(BANG_S * RATE) : round((BANG_S + seconds) * RATE)] *= 100
    return samples


@pytest.mark.parametrize(
    ("onset", "offset", "expected"),
    [
        (20.0, 22.0, {"dog"}),
        (20.9, 21.5, {"dog"}),  # a score that rises later than the level
        (17.0, 20.5, {"dog"}),  # one that was there before
        (21.0, 40.0, {"dog"}),  # one that goes on
        (10.0, 12.0, {"dog", "loud"}),
        (24.0, 26.0, {"dog", "loud"}),
    ],
)
def test_a_loudness_yields_to_what_has_a_name(onset: float, offset: float, expected: set[str]) -> None:
    """Where a sound by its label overlaps it, that one alone starts; apart from it both do."""
    found = occurrences(hear(config(**NAMED), bang(), ("Bark", onset, offset, 0.9)))

    assert {end.sound for _, end in found} == expected


@pytest.mark.parametrize("seconds", [0.3, 2.0, 10.0])
def test_a_loudness_without_a_name_is_told(seconds: float) -> None:
    """However short, with its true times, and late by what a name would have taken."""
    ((start, end),) = occurrences(hear(config(**NAMED), bang(seconds)))

    assert end.sound == "loud"
    offset = end.offset or 0
    assert (end.onset - BEGIN, offset - BEGIN) == pytest.approx((BANG_S, BANG_S + seconds), abs=0.2)
    assert start.emitted_at - BEGIN <= BANG_S + 3.1


def test_a_named_sound_yields_to_no_loudness() -> None:
    """Also where that has started, since the name came much later."""
    found = occurrences(hear(config(**NAMED), bang(10.0), ("Bark", 26.0, 28.0, 0.9)))

    assert [(start.sound, end.sound) for start, end in found] == [("loud", "loud"), ("dog", "dog")]


@pytest.mark.parametrize(("length_s", "expected"), [(3.0, ["dog"]), (1.0, ["loud"])])
def test_a_loudness_waits_for_what_is_held_back(length_s: float, expected: list[str]) -> None:
    """A sound that reached `on` and waits by a rule of its own: a loudness starts only where that did not."""
    slow = config(**NAMED | {"dog": {"labels": ["Bark"], "min_duration_s": 2.5}})

    found = occurrences(hear(slow, bang(0.5), ("Bark", BANG_S, BANG_S + length_s, 0.9)))

    assert [end.sound for _, end in found] == expected


def test_a_calibrated_source_has_a_level_in_dba() -> None:
    """The offset is added to the A-weighted level; a fault of the input that recurs is a problem."""
    settings = Config.model_validate(
        {
            "sources": {"room": {"demo": True, "calibration_db": 94.0}},
            "sounds": {"dog": {"labels": ["Bark"]}},
        }
    )
    tone = np.sin(2 * np.pi * 1000 * np.arange(10 * RATE) / RATE).astype(np.float32)
    samples = 0.5 * tone + np.float32(0.1)
    windows = [Window("room", 20 + k, samples, RATE, BEGIN + k, BEGIN + k + 10) for k in range(5)]

    pipeline = Pipeline("room", settings, LABELS)
    hearings = [pipeline.hearing(pipeline.sense(window), None) for window in windows]

    assert hearings[-1].level_dba == pytest.approx(94 - 9.03, abs=0.1)
    assert hearings[0].problem == ""
    assert "constant offset" in hearings[-1].problem
    assert hearings[-1].top == {}
