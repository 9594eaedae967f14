"""A sound that should be heard again and again: overdue after so much listening without it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from streamer.config.schema import Expectation
from streamer.metrics import Metrics
from streamer.ops.health import Health
from streamer.ops.systemd import Notifier
from streamer.store import history
from streamer.store.layouts import QUARTER_S
from streamer.store.listened import add_listened
from streamer.store.log import Log, Recorded
from streamer.store.recurrence import RecurrenceWatch
from streamer.types import Recurrence, Report
from tests.reports import T0, event

HOUR_S = 3600.0
WASHER = Expectation("cellar", "washer", 24 * HOUR_S)


class Cellar:
    """A state directory in which something was heard and listened to, and the watch over it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = Log(folder, Metrics())
        self.log.append([])
        self.expected = [WASHER]
        self.is_on = True
        self.start()

    def start(self) -> None:
        """As a daemon does, also again."""
        self.metrics = Metrics()
        self.told: list[Recurrence] = []
        self.watch = RecurrenceWatch(
            self.folder, lambda: self.expected, lambda *_: self.is_on, self._take, self.metrics
        )

    def _take(self, report: Report) -> None:
        assert isinstance(report, Recurrence)
        self.told.append(report)

    def listen(self, begin_h: float, end_h: float) -> None:
        """Whole quarters, counted from T0."""
        quarters = range(int((T0 + begin_h * HOUR_S) // QUARTER_S), int((T0 + end_h * HOUR_S) // QUARTER_S))
        self.log.change_history(
            lambda db: add_listened(db, {(n, "cellar"): float(QUARTER_S) for n in quarters})
        )

    def hear(self, at_h: float, event_id: str = "e1") -> None:
        at = T0 + at_h * HOUR_S
        found = replace(event("end", event_id=event_id, source="cellar", sound="washer"), onset=at, offset=at)
        self.log.append([Recorded(found)])

    async def at(self, hours: float) -> Recurrence:
        await self.watch.check(T0 + hours * HOUR_S)
        return self.told[-1]


@pytest.fixture
def cellar(tmp_path: Path) -> Cellar:
    return Cellar(tmp_path)


async def test_overdue_after_so_much_listening(cellar: Cellar) -> None:
    """Not before, then until it is heard; a restart changes nothing, since the history knows it all."""
    await cellar.at(0)
    cellar.hear(1)
    cellar.listen(0, 30)
    found = await cellar.at(24.5)
    assert (found.is_overdue, found.was_heard) == (False, True)
    found = await cellar.at(30)
    assert found.is_overdue
    assert (found.since, found.was_heard, found.note) == (T0 + HOUR_S, True, "")
    assert cellar.metrics.overdue == {("cellar", "washer"): "no washer at cellar since 2026-09-21 15:13 UTC"}
    assert cellar.metrics.unheard_s == {("cellar", "washer"): found.listened_s}
    health = Health(cellar.metrics, Notifier())
    health.set_parts({}, lambda: True)
    assert "no washer at cellar since 2026-09-21 15:13 UTC" in health.line()
    assert health.report()["healthy"]
    cellar.start()
    assert (await cellar.at(31)).is_overdue
    cellar.hear(32, "e2")
    assert not (await cellar.at(32.1)).is_overdue
    assert not cellar.metrics.overdue


async def test_what_nobody_could_hear_is_not_missed(cellar: Cellar) -> None:
    """The clock stands still while the source is not listened to, and that is said."""
    await cellar.at(0)
    cellar.hear(1)
    cellar.listen(0, 6)
    found = await cellar.at(48)
    assert not found.is_overdue
    assert found.note == "listened to for 5 of 47 hours since then"
    cellar.listen(48, 68)
    assert (await cellar.at(68)).is_overdue


async def test_heard_ends_it_at_once(cellar: Cellar) -> None:
    """The event itself does, not the next question to the history; one of another source does not."""
    await cellar.at(0)
    cellar.listen(0, 30)
    assert (await cellar.at(30)).is_overdue
    cellar.watch.put(event(source="attic", sound="washer"))
    assert cellar.told[-1].is_overdue
    cellar.watch.put(event(source="cellar", sound="washer"))
    assert not cellar.told[-1].is_overdue
    assert not cellar.metrics.overdue


async def test_reviews_count(cellar: Cellar) -> None:
    """An event that was judged wrong was not the sound; one that was reported as missed was."""
    await cellar.at(0)
    cellar.listen(0, 40)
    cellar.hear(20)
    assert not (await cellar.at(40)).is_overdue
    cellar.log.change_history(lambda db: history.review(db, "e1", "wrong", sound=None, note=None))
    assert (await cellar.at(40)).is_overdue
    at = T0 + 30 * HOUR_S
    cellar.log.change_history(lambda db: history.add_missed(db, "cellar", "washer", at, at + 5, None))
    found = await cellar.at(40)
    assert not found.is_overdue
    assert found.since == at + 5


async def test_never_heard_counts_from_when_it_is_expected(cellar: Cellar) -> None:
    """Also over a restart; a sound that was switched off is expected anew."""
    cellar.listen(0, 80)
    assert not (await cellar.at(0)).is_overdue
    cellar.start()
    found = await cellar.at(25)
    assert (found.is_overdue, found.was_heard, found.since) == (True, False, T0)
    cellar.is_on = False
    found = await cellar.at(26)
    assert (found.is_overdue, found.note) == (False, "switched off")
    cellar.is_on = True
    cellar.start()
    assert (await cellar.at(60)).since == T0 + 60 * HOUR_S


async def test_what_is_no_longer_expected_is_no_problem(cellar: Cellar) -> None:
    """After a reload without it, it is not in the health any more."""
    await cellar.at(0)
    cellar.listen(0, 30)
    await cellar.at(30)
    assert cellar.metrics.overdue
    cellar.expected = []
    await cellar.watch.check(T0 + 31 * HOUR_S)
    assert not cellar.metrics.overdue
