"""What is loud again and again and has no name is found in what was kept, unless it is ignored."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from streamer.config.schema import Config
from streamer.core.json_file import JsonFile
from streamer.detection.pipeline import Pipeline
from streamer.detection.steps import scores_in_steps, sensed_in_steps
from streamer.errors import InputError, UsageError
from streamer.metrics import Metrics
from streamer.run.discover import Discovery, discover, ignore
from streamer.store.log import Log, Recorded
from streamer.teaching.recurring import Cluster, Stretch, clusters
from streamer.types import Hop, SoundEvent, Window
from tests.cli.command import streamer
from tests.detection import test_golden as golden
from tests.detection.test_golden import LABELS, RATE
from tests.run.test_replay import keep

VALUES = {
    "sources": {"room": {"demo": True}},
    "windows": {"skip_quiet": False},
    "sounds": {"bark": {"labels": ["Bark"]}, "loud": {"above_background_db": 15.0}},
}
CONFIG = Config.model_validate(VALUES)
SECONDS = 240
RAIN = 140
KNOCKS = (25, 61, 119, 160, 215)
"""one of them lies across two minutes of the log"""


async def lived_in(folder: Path, begin: float) -> None:
    """Four minutes: something knocks loudly five times, a dog barks, once in rain; a siren is loud."""
    rng = np.random.default_rng(7)
    truth = np.full((SECONDS * 50, len(LABELS)), 0.01, np.float32)
    loudness = np.full(SECONDS * RATE, 0.002)
    for label, times, length_s in (
        ("Knock", KNOCKS, 2),
        ("Bark", (40, 80, 140, 180), 2),
        ("Rain", (RAIN,), 2),
        ("Siren", (200,), 4),
    ):
        for at in times:
            truth[at * 50 : (at + length_s) * 50, LABELS.index(label)] = rng.uniform(0.6, 0.9)
            loudness[at * RATE : (at + length_s) * RATE] = 0.1
    noise = np.concatenate((np.zeros(10 * RATE), loudness * rng.uniform(-1, 1, SECONDS * RATE)))
    pipeline = Pipeline("room", CONFIG, LABELS)
    hops, events = list[Hop](), list[SoundEvent]()
    for number in range(SECONDS):
        part, end = noise[(number + 1) * RATE : (number + 11) * RATE].astype(np.float32), begin + number + 1
        window = Window("room", number, part, RATE, end - 10, end, warm_up=number < 9)
        sensed = sensed_in_steps(pipeline.sense(window))
        true = golden.score(replace(window, start=golden.BEGIN + number - 9), truth, rng)
        scores = scores_in_steps(replace(true, start=window.start))
        events += pipeline.decide(sensed, scores, end)
        hops.append(Hop("room", sensed, scores, pipeline.origin, 1.0, number == 0))
    events += pipeline.close(begin + SECONDS, begin + SECONDS)
    await keep(folder, hops)
    event_log = Log(folder, Metrics())
    event_log.append([Recorded(event) for event in events])
    event_log.close()


def found(folder: Path, begin: float, fewest: int = 3) -> Discovery:
    return discover(folder, CONFIG, begin, begin + 3600, loud_db=12.0, fewest=fewest)


async def test_what_recurs_is_found(tmp_path: Path) -> None:
    """The knocks, with length and labels; not the dog, which has a name, nor what came once."""
    begin = time.time() - 3600
    await lived_in(tmp_path, begin)

    (knock,) = found(tmp_path, begin).found

    assert [round(one.begin - begin) for one in knock.cluster.stretches] == list(KNOCKS)
    assert knock.cluster.seconds == pytest.approx(2.0, abs=0.5)
    assert knock.most_like[0] == "Knock"

    ignore(tmp_path, found(tmp_path, begin), knock.id)

    again = found(tmp_path, begin)
    assert (again.found, again.n_ignored) == ([], 1)
    assert [one.most_like[0] for one in found(tmp_path, begin, fewest=1).found] == ["Siren"]
    with pytest.raises(UsageError, match="'0000' is no sound of these: none"):
        ignore(tmp_path, again, "0000")
    JsonFile(tmp_path, "ignored.json").save({"x": {"seconds": "long"}, "y": 3})
    assert len(found(tmp_path, begin).found) == 1


async def test_the_command(tmp_path: Path) -> None:
    """Words for people, JSON for programs, and a number that can be ignored."""
    await lived_in(tmp_path, time.time() - 3600)
    config = tmp_path / "home.yaml"
    config.write_text(yaml.safe_dump({**VALUES, "state_dir": str(tmp_path)}))

    def said(*arguments: str) -> str:
        return streamer(tmp_path, "discover", "--config", config, *arguments)

    found = json.loads(said("--json"))
    (one,) = found["sounds"]
    assert (found["stretches"], found["ignored"], one["most_like"][0]) == (6, 0, "Knock")
    assert len(one["times"]) == len(KNOCKS)
    words = said()
    assert words.startswith(
        "0.1 hours of listening: 6 loud stretches that no sound explains, sounds that recur: 1"
    )
    assert f"{one['id']}  room" in words
    assert "5 times, mostly " in words
    assert "most like Knock" in words
    assert said("--ignore", one["id"]) == f"{one['id']}: is left out from now on\n"
    found = json.loads(said("--json"))
    assert (found["sounds"], found["ignored"]) == ([], 1)


def test_without_scores(tmp_path: Path) -> None:
    """One line says what keeps them."""
    with pytest.raises(InputError, match=r"no scores were kept in this time; `store\.scores` keeps them"):
        found(tmp_path, 0.0)


def stretch(at: float, seconds: float, *evidence: float, source: str = "room") -> Stretch:
    return Stretch(source, at, at + seconds, 20.0, np.array(evidence, np.float32))


def test_what_is_alike() -> None:
    """Labels in proportion and a length not far off, at one source; the largest first."""
    day = 86400.0
    beeps = [stretch(n * day, 2 + 0.1 * n, 4.0, 0.5 * (n % 2), 0.0) for n in range(6)]
    long = [stretch(n * day + 50, 12.0, 4.0, 0.0, 0.0) for n in range(4)]
    other = [stretch(n * day + 90, 2.0, 0.0, 0.0, 3.0) for n in range(3)]
    away = [stretch(n * day + 99, 2.0, 4.0, 0.0, 0.0, source="hall") for n in range(2)]

    result = clusters([*away, *other, *long, *beeps], 3)

    assert [len(one.stretches) for one in result] == [6, 4, 3]
    assert result[0].stretches == beeps


def test_when_it_comes() -> None:
    """Around one time of the day, also across midnight; nothing is said of what comes at any time."""
    midnight = time.mktime((2026, 11, 2, 0, 0, 0, 0, 0, -1))
    hours = (23.9, 24.1, 48.05, 71.95, 60.0)
    around = _cluster([midnight + 3600 * hour for hour in hours])
    begin, end = around.time_of_day() or (0.0, 0.0)
    assert (begin, end) == (pytest.approx(23.9, abs=0.01), pytest.approx(24.1, abs=0.01))
    assert _cluster([midnight + 3600 * 5 * n for n in range(5)]).time_of_day() is None


def _cluster(begins: list[float]) -> Cluster:
    (one,) = clusters([stretch(at, 2.0, 1.0) for at in begins], 1)
    return one
