"""A sound is held back where it is like events that were marked wrong: live, on replay, after a restart."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from streamer.config.control import Control
from streamer.config.schema import Config
from streamer.core.json_file import JsonFile
from streamer.detection.pipeline import Pipeline
from streamer.detection.steps import scores_in_steps, sensed_in_steps
from streamer.errors import ConfigError, InputError, UsageError
from streamer.metrics import Metrics
from streamer.run.replay import explain_at
from streamer.run.veto import apply, propose
from streamer.store import history
from streamer.store.directory import locked
from streamer.store.edit import editing
from streamer.store.log import Log, Recorded
from streamer.types import Hop, SoundEvent
from tests.detection import test_golden as golden
from tests.detection.test_golden import BEGIN, LABELS, SECONDS
from tests.run.test_replay import from_log, keep

CONFIG = Config.model_validate(
    {
        "sources": {"room": {"demo": True}},
        "windows": {"skip_quiet": False},
        "sounds": {
            "bark": {"labels": ["Bark"], "merge_gap_s": 2.0},
            "siren": {"labels": ["Siren"], "priority": "critical"},
            "loud": {"above_background_db": 20.0},
        },
    }
)


def barks(config: Config) -> tuple[list[Hop], list[SoundEvent]]:
    """Four minutes in which something barks every 12 s, and in every third bark it rains: that is no dog."""
    rng = np.random.default_rng(5)
    truth = np.full((SECONDS * 50, len(LABELS)), 0.02, np.float32)
    for number, at in enumerate(range(4, SECONDS - 8, 12)):
        rows = slice(at * 50, (at + 4) * 50)
        truth[rows, LABELS.index("Bark")] = rng.uniform(0.75, 0.95)
        if number % 3 == 0:
            truth[rows, LABELS.index("Rain")] = rng.uniform(0.6, 0.9)
    pipeline = Pipeline("room", config, LABELS)
    hops, events = list[Hop](), list[SoundEvent]()
    for number, window in enumerate(golden.windows(np.random.default_rng(12))):
        sensed = sensed_in_steps(pipeline.sense(window))
        scores = scores_in_steps(golden.score(window, truth, rng))
        events += pipeline.decide(sensed, scores, window.end)
        hops.append(Hop("room", sensed, scores, pipeline.origin, 1.0, number == 0))
    end = hops[-1].sensed.end
    return hops, events + pipeline.close(end, end)


@cache
def lived() -> tuple[list[Hop], list[SoundEvent]]:
    return barks(CONFIG)


def is_rain(event: SoundEvent) -> bool:
    """Whether it is one of those in which it rains."""
    return round((event.onset - BEGIN - 4) / 12) % 3 == 0


async def lived_in(folder: Path, n_wrong: int = 99) -> list[SoundEvent]:
    """The barks in the log and in the history, of which some are marked; the last message of each."""
    hops, events = lived()
    await keep(folder, hops)
    event_log = Log(folder, Metrics())
    event_log.append([Recorded(event) for event in events])
    event_log.close()
    ends = [event for event in events if event.sound == "bark" and event.phase == "end"]
    wrong = [event for event in ends if is_rain(event)][:n_wrong]
    with editing(folder) as db:
        for event in wrong:
            assert history.review(db, event.id, "wrong", sound=None, note=None)
    return ends


@pytest.mark.parametrize("n_wrong", [1, 99])
async def test_wrong_ones_are_gone_and_others_stay(tmp_path: Path, n_wrong: int) -> None:
    """From one that was marked on: it goes, and of others only what is like it; that is shown at first."""
    ends = await lived_in(tmp_path, n_wrong)
    rain = {event.id for event in ends if is_rain(event)}
    assert 4 <= len(rain) < len(ends) / 2

    found = propose(tmp_path, CONFIG, "bark", BEGIN, BEGIN + 3600, effect_since=BEGIN)

    gone = {event.id for event in found.effect.gone}
    assert gone <= rain
    assert len(gone) == len(rain) or n_wrong == 1
    assert len(found.effect.same) == len(ends) - len(gone)
    assert not found.effect.new
    assert list(found.verdicts.values()).count("wrong") == min(n_wrong, len(rain))
    assert found.learned.weights["Rain"] > 0
    assert Control(CONFIG, JsonFile(tmp_path, "control.json")).in_force("room") is CONFIG

    apply(tmp_path, CONFIG, "bark", found.veto)

    in_force = Control(CONFIG, JsonFile(tmp_path, "control.json")).in_force("room")
    _, live = barks(in_force)
    assert live == from_log(tmp_path, in_force)
    assert not gone.intersection(event.id for event in live)
    _, explained = explain_at(tmp_path, CONFIG, "room", sound="bark", at=ends[0].onset + 2)
    rows = dict(explained.lines())
    assert rows["veto"].endswith("like events that were marked wrong")
    assert rows["decided by"] == "the veto: no event"

    apply(tmp_path, CONFIG, "bark", None)

    assert (
        from_log(tmp_path, Control(CONFIG, JsonFile(tmp_path, "control.json")).in_force("room")) == lived()[1]
    )


async def test_what_stands_in_the_way(tmp_path: Path) -> None:
    """Nothing marked, no scores, a critical sound, a loudness, a daemon that runs: one line each."""
    with pytest.raises(UsageError, match="siren is critical: nothing may hold it back"):
        propose(tmp_path, CONFIG, "siren", BEGIN, BEGIN + 60, effect_since=BEGIN)
    with pytest.raises(UsageError, match="loud is a loudness"):
        propose(tmp_path, CONFIG, "loud", BEGIN, BEGIN + 60, effect_since=BEGIN)
    with pytest.raises(UsageError, match="there is no sound 'cat'; there are: bark, siren, loud"):
        apply(tmp_path, CONFIG, "cat", None)
    with locked(tmp_path), pytest.raises(ConfigError, match="uses this directory"):
        apply(tmp_path, CONFIG, "bark", None)
    await lived_in(tmp_path, 0)
    with pytest.raises(InputError, match="bark: none of its events was marked wrong"):
        propose(tmp_path, CONFIG, "bark", BEGIN, BEGIN + 3600, effect_since=BEGIN)


async def test_another_model_needs_another_veto(tmp_path: Path) -> None:
    """One that was applied counts for nothing any more, nor where the sound is critical by now.

    One in the file is refused, with the way out.
    """
    await lived_in(tmp_path)
    veto = propose(tmp_path, CONFIG, "bark", BEGIN, BEGIN + 3600, effect_since=BEGIN).veto
    apply(tmp_path, CONFIG, "bark", veto)
    file = JsonFile(tmp_path, "control.json")
    assert Control(CONFIG, file).veto("room", "bark") == veto
    critical = CONFIG.model_dump(exclude_unset=True)
    critical["sounds"]["bark"]["priority"] = "critical"
    assert Control(Config.model_validate(critical), file).veto("room", "bark") is None
    other = CONFIG.model_dump(exclude_unset=True) | {"model": {"path": "large"}}
    assert Control(Config.model_validate(other), file).veto("room", "bark") is None
    other["sounds"]["bark"]["veto"] = veto.model_dump()
    with pytest.raises(ValueError, match=r"sounds\.bark\.veto: was made with another model \(ast-tiny\)"):
        Config.model_validate(other)


def test_a_saved_veto_that_makes_no_sense(tmp_path: Path) -> None:
    """It is left out, and what else was saved stays."""
    file = JsonFile(tmp_path, "control.json")
    file.save({"room veto bark": {"model": "ast-tiny"}, "room threshold bark": 0.7})
    control = Control(CONFIG, file)
    assert control.veto("room", "bark") is None
    assert control.threshold("room", "bark") == 0.7


def test_a_label_that_the_model_does_not_have() -> None:
    """The line names the sound and the nearest label."""
    values = CONFIG.model_dump(exclude_unset=True)
    values["sounds"]["bark"]["veto"] = {"model": "ast-tiny", "bias": 0.0, "weights": {"Rains": 1.0}}
    with pytest.raises(
        ConfigError, match=r"sounds\.bark\.veto: the model has no label 'Rains', did you mean"
    ):
        Pipeline("room", Config.model_validate(values), LABELS)
