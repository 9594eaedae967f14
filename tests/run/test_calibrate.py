"""A threshold is the lowest that keeps to the false alarms one accepts; none falls without reviews."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamer.config.control import Control, SetProfile
from streamer.core.json_file import JsonFile
from streamer.errors import ConfigError, InputError, UsageError
from streamer.metrics import Metrics
from streamer.run.calibrate import Proposal, apply, calibrate, choose
from streamer.run.curve import Curve, Point
from streamer.store import history
from streamer.store.directory import locked
from streamer.store.edit import editing
from streamer.store.log import Log, Recorded
from tests.detection.test_golden import BEGIN, CONFIG
from tests.run.test_replay import keep, lived


def of(rows: dict[float, tuple[int, int, int, int]], n_right: int, days: float = 1.0) -> Curve:
    """By threshold: events, reviewed ones, wrong ones, right ones that are kept."""
    return Curve([Point(on, *row) for on, row in rows.items()], days, n_right)


REVIEWED = of({0.2: (40, 20, 10, 10), 0.4: (12, 10, 2, 8), 0.6: (6, 6, 1, 5), 0.8: (2, 2, 0, 2)}, n_right=10)


@pytest.mark.parametrize(
    ("per_day", "proposed"),
    [(20.0, 0.2), (3.0, 0.4), (1.0, 0.6), (0.5, 0.8), (0.0, 0.8)],
)
def test_the_lowest_threshold_that_keeps_to_the_false_alarms(per_day: float, proposed: float) -> None:
    """The more are accepted the lower it is; today's threshold does not matter where events were reviewed."""
    assert {choose(REVIEWED, on, per_day).on for on in (0.2, 0.4, 0.8)} == {proposed}


def test_the_days_count() -> None:
    """The same events in ten days are a tenth of them a day."""
    assert choose(of({0.2: (40, 20, 10, 10), 0.8: (2, 2, 0, 2)}, 10, days=10.0), 0.8, 3.0).on == 0.2


def test_where_nothing_was_reviewed_each_event_counts_as_false() -> None:
    """Too many: the threshold rises. Few: it stays, since nobody knows what a lower one would find."""
    unknown = of({0.2: (40, 0, 0, 0), 0.4: (12, 0, 0, 0), 0.6: (1, 0, 0, 0), 0.8: (0, 0, 0, 0)}, n_right=0)

    assert choose(unknown, 0.4, 1.0).on == 0.6
    assert choose(unknown, 0.8, 1.0).on == 0.8


def test_none_is_good_enough() -> None:
    """Where every threshold has too many, the highest is the best there is."""
    assert choose(of({0.2: (40, 9, 9, 0), 0.8: (30, 9, 9, 0)}, 0), 0.2, 1.0).on == 0.8


async def test_thresholds_of_a_room(tmp_path: Path) -> None:
    """Over what was heard there: fewer false alarms, what is lost is counted, and it holds after a start."""
    hops, events = lived()
    await keep(tmp_path, hops)
    event_log = Log(tmp_path, Metrics())
    event_log.append([Recorded(event) for event in events])
    event_log.close()
    knocks = sorted({event.id for event in events if event.sound == "knock"})
    with editing(tmp_path) as db:
        for number, event_id in enumerate(knocks):
            verdict = "wrong" if number % 3 == 0 else "right"
            assert history.review(db, event_id, verdict, sound=None, note=None)

    proposals = calibrate(tmp_path, CONFIG, BEGIN, BEGIN + 3600, per_day=1.0)

    assert {one.source for one in proposals} == {"room"}
    assert "loud" not in {one.sound for one in proposals}  # a loudness has no threshold of this kind
    (knock,) = (one for one in proposals if one.sound == "knock")
    assert (knock.now.on, knock.now.n_right_kept) == (0.5, knock.found.n_right)
    assert knock.proposed.on > 0.5
    assert knock.lost > 0

    n_changed = apply(tmp_path, CONFIG, proposals)

    assert n_changed == sum(one.proposed.on != one.now.on for one in proposals)
    control = Control(CONFIG, JsonFile(tmp_path, "control.json"))
    assert control.on_off("room", "knock")[0] == pytest.approx(knock.proposed.on)


def test_what_stands_in_the_way(tmp_path: Path) -> None:
    """A daemon that runs, a profile that shifts all thresholds, an empty log: one line each."""
    with locked(tmp_path), pytest.raises(ConfigError, match="uses this directory"):
        apply(tmp_path, CONFIG, [])
    with pytest.raises(InputError, match="no scores of a source"):
        calibrate(tmp_path, CONFIG, BEGIN, BEGIN + 3600, per_day=1.0)
    proposal = Proposal("room", "knock", REVIEWED.points[0], REVIEWED.points[1], REVIEWED)
    Control(CONFIG, JsonFile(tmp_path, "control.json")).apply(SetProfile("room", "eager"))
    with pytest.raises(UsageError, match="room: its profile is eager"):
        apply(tmp_path, CONFIG, [proposal])
