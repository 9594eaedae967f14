"""What a model hears: verdicts, the file in its directory, and the sounds that it names."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from streamer.config.schema import load_config
from streamer.data.synthesis import write_wav
from streamer.errors import InputError, ModelError
from streamer.evaluation.support import (
    JudgedClip,
    halves,
    highest,
    listed_clips,
    measure,
    threshold,
)
from streamer.model import hub, support
from streamer.model.support import Heard, Measured, Support, Tally, bounds
from streamer.types import Scores
from tests.cli.command import outcome

pytestmark = pytest.mark.slow

QUICKSTART = Path("configs/quickstart.yaml")
NOTHING = Tally()
WELL = Measured(0.4, Tally(clips=40, sources=5, found=30, false=2), NOTHING)


def test_bounds_are_those_of_wilson() -> None:
    """Values of the closed form: 8 of 10, none of 10, and nothing at all."""
    assert bounds(8, 10) == pytest.approx((0.490, 0.943), abs=0.001)
    assert bounds(0, 10) == pytest.approx((0.0, 0.278), abs=0.001)
    assert bounds(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("recordings", "synthesised", "heard"),
    [
        (Tally(40, 5, 30, 2), NOTHING, Heard.WELL),
        (Tally(40, 5, 30, 20), NOTHING, Heard.POORLY),  # other sounds are taken for it
        (Tally(40, 5, 8, 0), NOTHING, Heard.POORLY),  # it is missed
        (Tally(19, 5, 19, 0), NOTHING, Heard.UNKNOWN),  # too few clips
        (Tally(40, 2, 40, 0), NOTHING, Heard.UNKNOWN),  # two people's recordings
        (Tally(8, 5, 0, 0), Tally(40, 2, 38, 1), Heard.SYNTHESISED),
        (Tally(8, 5, 8, 30), Tally(40, 2, 38, 0), Heard.POORLY),  # recordings of others are taken for it
        (Tally(40, 5, 4, 0), Tally(40, 2, 40, 0), Heard.POORLY),  # recordings decide where there are enough
    ],
)
def test_a_verdict_needs_clips_sources_and_lower_bounds(
    recordings: Tally, synthesised: Tally, heard: Heard
) -> None:
    """20 recordings of 3 sources, precision surely above 0.7 and recall surely above 0.3."""
    assert Measured(0.4, recordings, synthesised).heard is heard


def test_precision_weighs_more_than_recall() -> None:
    """Ten true clips, of which the weakest two lie among others: eight are found, none is wrong."""
    scores = np.float32([0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.3, 0.2, 0.4, 0.35, 0.25, 0.1])
    truth = np.arange(14) < 10
    at = threshold(truth, scores)
    assert at == pytest.approx(0.475)
    assert truth[scores >= at].sum() == (scores >= at).sum() == 8
    assert threshold(np.zeros(14, bool), scores) == 1.0


def test_a_source_is_in_one_half() -> None:
    """Who recorded a clip that chooses the threshold has none among those that are counted at it."""
    sources = ["a"] * 10 + ["b"] * 6 + ["c"] * 4 + ["d"]
    first = halves(sources)
    assert first.tolist() == [True] * 10 + [False] * 10 + [True]


def clips(n: int, source: str, **facts: bool) -> list[JudgedClip]:
    return [JudgedClip(np.zeros(1, np.float32), frozenset(), frozenset(), source, **facts) for _ in range(n)]


def test_no_clip_judges_the_threshold_that_it_chose() -> None:
    """One half scores 0.8 over 0.7, the other 0.4 over 0.3: at its own threshold all would be found."""
    judged = [*clips(10, "a"), *clips(10, "b"), *clips(10, "c"), *clips(10, "d")]
    truth = np.arange(40) < 20
    scores = np.repeat(np.float32([0.8, 0.4, 0.7, 0.3]), 10)
    one = measure(judged, truth, scores)
    assert one.recordings == Tally(clips=20, sources=2, found=10, false=10)
    assert one.synthesised == NOTHING


def test_synthesised_sounds_are_counted_apart() -> None:
    """They are no recordings, however many there are."""
    judged = [*clips(4, "a"), *clips(4, "b"), *clips(20, "x", is_synthesised=True), *clips(20, "c")]
    truth = np.arange(48) < 28
    one = measure(judged, truth, np.where(truth, 0.9, 0.1).astype(np.float32))
    assert one.recordings == Tally(clips=8, sources=2, found=8, false=0)
    assert one.synthesised == Tally(clips=20, sources=1, found=20, false=0)


def test_a_clip_counts_with_what_the_detection_would_see() -> None:
    """A single high frame is smoothed away; three in a row count; without frames it is the clip's score."""
    frames = np.zeros((60, 2), np.float32)
    frames[10, 0] = 0.9
    frames[20:23, 1] = 0.8
    scores = Scores("clip", 0, 0.0, 9.6, frames.max(axis=0), frames, 0.16)
    assert highest(scores).tolist() == pytest.approx([0.0, 0.8])
    assert highest(Scores("clip", 0, 0.0, 9.6, np.float32([0.3, 0.4]))).tolist() == pytest.approx([0.3, 0.4])


def test_clips_of_a_table(tmp_path: Path) -> None:
    """Labels, what nobody is sure of, and the source; unreadable files are left out, other tables refused."""
    write_wav(tmp_path / "a.wav", np.ones(1600, np.float32), 16000)
    with (tmp_path / "more.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [
                ["file", "labels", "unsure", "source"],
                ["a.wav", "Dog|Bark", "Animal", "somebody"],
                ["none.wav", "", "", ""],
            ]
        )
    (one,) = listed_clips(tmp_path / "more.csv", 16000)
    assert (one.own, one.near, one.source) == ({"Dog", "Bark"}, {"Dog", "Bark", "Animal"}, "somebody")
    assert not one.is_synthesised
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"other\.csv: not a table of clips"):
        list(listed_clips(tmp_path / "other.csv", 16000))


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    """No file, or one of the first format, is nothing measured; a damaged file is refused by name."""
    assert support.read(tmp_path) is None
    measured = Support("ten clips", {"Siren": WELL})
    path = support.write(tmp_path, measured)
    assert support.read(tmp_path) == measured
    assert measured.by_verdict({"siren": ["Siren", "Alarm"], "cat": ["Cat"], "loud": []}) == {
        Heard.WELL: ["siren"],
        Heard.UNKNOWN: ["cat"],
    }
    path.write_text('{"measured_on": "ten clips", "labels": {"Siren": {"threshold": 0.4, "precision": 1.0}}}')
    assert support.read(tmp_path) is None
    path.write_text("{")
    with pytest.raises(ModelError, match=r"sounds\.json: is damaged"):
        support.read(tmp_path)


def test_sounds_that_the_model_may_not_hear_are_named(tmp_path: Path) -> None:
    """`streamer check` says of the sounds of a configuration which are heard poorly, or were not measured."""
    path = tmp_path / "config.yaml"
    path.write_text(
        "sources: {here: {demo: true}}\n"
        "sounds:\n  siren: {labels: [Siren]}\n  squeezebox: {labels: [Shofar]}\n"
        "mqtt: {enabled: false}\n"
    )
    said = outcome("check", "--config", path)
    assert said.code == 0, said.err
    assert "not measured: squeezebox" in said.out


def test_the_shipped_model_was_measured() -> None:
    """`sounds.json` beside its weights has the present format, and names labels that it has."""
    directory = hub.resolve("ast-tiny")
    measured = support.read(directory)
    assert measured is not None
    assert set(measured.labels) <= set(hub.info(directory)["labels"])  # type: ignore[call-overload]


def test_the_quick_start_asks_for_nothing_that_is_heard_poorly() -> None:
    """The sounds of the first configuration that people see were not measured to be missed or mistaken."""
    measured = support.read(hub.resolve("ast-tiny"))
    assert measured is not None
    sounds = {name: sound.labels for name, sound in load_config(QUICKSTART).sounds.items()}
    assert Heard.POORLY not in measured.by_verdict(sounds)
