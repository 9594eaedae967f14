"""The score log: what is written can be read, and nothing that the disk does stops who hands hops over."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from streamer.detection.steps import scores_in_steps, sensed_in_steps, steps_of
from streamer.metrics import Metrics
from streamer.store import score_files, score_log
from streamer.store.score_files import (
    About,
    append,
    forget_scores,
    minute_record,
    minutes,
    scores_between,
    sizes,
)
from streamer.store.score_log import KeepScores, ScoreLog
from streamer.store.score_minutes import UNREADABLE, encode_minute, goes_on, pack
from streamer.types import Beeps, Hop, Scores, Sensed
from tests.disk import mounted

T0 = 1_790_000_000.0
LABELS = tuple(f"label {number}" for number in range(20))
ABOUT = About("ast-tiny", LABELS, 10.0)
ANY_ROOM = KeepScores(min_free=0)


def hop(
    number: int, *, source: str = "kitchen", scored: bool = True, frames: bool = True, t0: float = T0
) -> Hop:
    """Hop `number` of a source, with three labels that have a score."""
    rng = np.random.default_rng(number)
    end = t0 + number + 1
    sensed = Sensed(
        index=number,
        start=end - 10,
        end=end,
        audio_start=max(t0, end - 10),
        since=end - 1,
        levels=rng.uniform(-90, 20, (8, 2)).astype(np.float32),
        is_wanted=scored,
        beeps=(Beeps("t3", end - 4, end - 1.5),) if number % 7 == 3 else (),
        level_dbfs=-31.4,
        level_dba=None if number % 2 else 43.2,
        problem="muted: it is silence" if 4 <= number < 8 else "",
        is_silent=4 <= number < 8,
    )
    scores = None
    if scored:
        values = np.zeros((63, len(LABELS)), np.float32)
        values[:, [2, 5, 11]] = rng.uniform(0, 1, (63, 3))
        scores = Scores(
            source,
            number,
            end - 10,
            end,
            values.max(axis=0),
            values if frames else None,
            0.16 if frames else 0.0,
        )
        scores = scores_in_steps(scores)
        if scores.frames is not None:  # what is kept of the clip as a whole
            scores = replace(scores, clip=scores.frames.max(axis=0))
    return Hop(source, sensed_in_steps(sensed), scores, t0, 1.0, number == 0)


def write(log: ScoreLog, hops: Iterator[Hop] | list[Hop]) -> None:
    """Hand hops over and wait until all is written."""
    for one in hops:
        log._waiting.put(one)
    log._waiting.put(None)
    log._thread.join()


def read(folder: Path, source: str = "kitchen", since: float = 0.0, until: float = 4e9) -> list[Hop]:
    return [one for _, minute in minutes(folder, source, since, until) for one in minute.hops()]


def assert_equal(found: Hop, written: Hop) -> None:
    for field in fields(Sensed):
        if field.name != "levels":
            assert getattr(found.sensed, field.name) == getattr(written.sensed, field.name), field.name
    assert np.array_equal(found.sensed.levels, written.sensed.levels)
    assert (found.source_id, found.origin, found.is_first) == (
        written.source_id,
        written.origin,
        written.is_first,
    )
    assert (found.scores is None) == (written.scores is None)
    if found.scores is not None and written.scores is not None:
        assert (found.scores.start, found.scores.end, found.scores.index) == (
            written.scores.start,
            written.scores.end,
            written.scores.index,
        )
        assert np.array_equal(found.scores.clip, written.scores.clip)
        assert (found.scores.frames is None) == (written.scores.frames is None)
        if found.scores.frames is not None and written.scores.frames is not None:
            assert np.array_equal(found.scores.frames, written.scores.frames)
            assert found.scores.frame_s == written.scores.frame_s


@pytest.mark.parametrize("frames", [True, False])
def test_what_is_written_is_read(tmp_path: Path, frames: bool) -> None:
    """Everything that decides, to the last bit; windows that were not scored, too."""
    written = [hop(number, scored=number % 5 != 2, frames=frames) for number in range(150)]
    write(ScoreLog(tmp_path, ABOUT, Metrics(), ANY_ROOM), written)

    found = read(tmp_path)
    assert len(found) == 150
    for one, other in zip(found, written, strict=True):
        assert_equal(one, other)
    assert len(read(tmp_path, since=T0 + 70, until=T0 + 80)) == 60
    assert read(tmp_path, "hall") == []
    assert [path.stat().st_mode & 0o777 for path in tmp_path.rglob("*.scores")] == [0o600]


def test_steps_are_fine_and_stable() -> None:
    """A score is off by less than 0.004; what was rounded once stays; no number is 0."""
    scores = np.linspace(0, 1, 10001).astype(np.float32)
    rounded = scores_in_steps(Scores("a", 0, 0, 1, scores)).clip
    assert np.abs(rounded - scores)[scores > 0.02].max() < 0.004
    assert np.array_equal(scores_in_steps(Scores("a", 0, 0, 1, rounded)).clip, rounded)
    assert steps_of(np.array([np.nan, np.inf, -1, 0.01], np.float32)).tolist() == [0, 255, 0, 0]


def test_a_break_begins_a_block() -> None:
    """Another stretch of listening, a hole in time, a clock that was set back; not a hop that is missing."""
    before = pack(hop(5))
    assert goes_on(before, pack(hop(6)))
    assert goes_on(before, pack(hop(9)))
    assert not goes_on(before, pack(hop(30)))
    assert not goes_on(before, pack(replace(hop(6), is_first=True)))
    assert not goes_on(before, pack(hop(6, t0=T0 - 100)))


def test_damage_costs_its_own_minute(tmp_path: Path) -> None:
    """Bytes that changed, and a file that ends in the middle of a minute; what comes after is found again."""
    write(ScoreLog(tmp_path, ABOUT, Metrics(), ANY_ROOM), [hop(number) for number in range(300)])
    (path,) = tmp_path.rglob("*.scores")
    data = bytearray(path.read_bytes())
    for at in (len(data) // 2, len(data) // 2 + 900):
        data[at] ^= 0xFF
    path.write_bytes(data)
    assert len(read(tmp_path)) == 240
    path.write_bytes(data[:-50])
    assert len(read(tmp_path)) == 180
    append(path, minute_record(encode_minute([pack(hop(number)) for number in range(300, 360)], None)))
    assert len(read(tmp_path)) == 240
    for damaged in (b"", os.urandom(5000), b"\x93S" * 3000):
        path.write_bytes(damaged)
        assert read(tmp_path) == []


def test_any_changed_byte_of_a_block_is_survived(tmp_path: Path) -> None:
    """Also behind the checksum, as a bug would do it: an error that readers know, or other values."""
    data = encode_minute([pack(hop(number)) for number in range(8)], None)
    rng = np.random.default_rng(0)
    for _ in range(500):
        changed = bytearray(data)
        changed[rng.integers(len(changed))] = rng.integers(256)
        cut = bytes(changed[: rng.integers(1, len(changed) + 1)]) if rng.random() < 0.3 else bytes(changed)
        with suppress(*UNREADABLE):
            list(score_files.decode_minute(cut, "kitchen", LABELS, 10.0).hops())


def test_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By bytes, file by file, and the newest never; by age, of a source that is gone, too."""
    monkeypatch.setattr(score_log, "SEGMENT", 20_000)
    keep = replace(ANY_ROOM, size=100_000)
    write(ScoreLog(tmp_path, ABOUT, Metrics(), keep), (hop(number) for number in range(1800)))
    assert 50_000 < sizes(tmp_path)["kitchen"] <= 110_000
    found = read(tmp_path)
    assert found[-1].sensed.index == 1799
    assert found[0].sensed.index > 600

    old = time.time() - 31 * 86400
    for path in score_files.segments(tmp_path, "kitchen"):
        os.utime(path, (old, old))
    write(ScoreLog(tmp_path, ABOUT, Metrics(), keep), [hop(0, source="hall")])
    assert sizes(tmp_path) == {"hall": sizes(tmp_path)["hall"], "kitchen": 0}


def test_a_restart_goes_on_in_the_same_file(tmp_path: Path) -> None:
    """Unless another model scores: then another one is begun."""
    for life in range(3):
        write(
            ScoreLog(tmp_path, ABOUT, Metrics(), ANY_ROOM),
            [hop(number, t0=T0 + 100 * life) for number in range(60)],
        )
    assert len(list(tmp_path.rglob("*.scores"))) == 1
    other = replace(ABOUT, model="ast-large")
    write(ScoreLog(tmp_path, other, Metrics(), ANY_ROOM), [hop(n, t0=T0 + 300) for n in range(60)])
    assert len(list(tmp_path.rglob("*.scores"))) == 2
    assert [about.model for about, _ in minutes(tmp_path, "kitchen", 0, 4e9)] == ["ast-tiny"] * 3 + [
        "ast-large"
    ]


def test_a_disk_that_refuses(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Too little room, or no directory: nothing is raised, it is counted, said once, and it goes on later."""
    metrics = Metrics()
    log = ScoreLog(tmp_path, ABOUT, metrics, KeepScores(min_free=1 << 60))
    write(log, [hop(number) for number in range(180)])
    assert metrics.dropped == {"scores": 180}
    assert caplog.text.count("scores are not kept (less than") == 1
    assert not list(tmp_path.rglob("*.scores"))

    gone = ScoreLog(tmp_path / "gone", ABOUT, metrics, ANY_ROOM)
    for number in range(120):
        gone._waiting.put(hop(number))
    while metrics.dropped["scores"] < 300:
        time.sleep(0.01)
    (tmp_path / "gone").mkdir()
    write(gone, [hop(number) for number in range(120, 180)])
    assert "scores are not kept (No such file or directory)" in caplog.text
    assert len(read(tmp_path / "gone")) == 60


def test_a_disk_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`put` never waits: what finds no room in memory is counted."""
    hangs = threading.Event()
    monkeypatch.setattr(score_log, "append", lambda *_: hangs.wait())
    metrics = Metrics()
    log = ScoreLog(tmp_path, ABOUT, metrics, ANY_ROOM)
    one = hop(3)
    for _ in range(60 + score_log.WAITING_MAX + 200):
        log.put(replace(one, sensed=replace(one.sensed, end=one.sensed.end + 1e-6)))
    deadline = time.monotonic() + 10
    while metrics.dropped.get("scores", 0) < 100 and time.monotonic() < deadline:
        log.put(one)
    assert metrics.dropped["scores"] >= 100
    hangs.set()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    with mounted(tmp_path, "1m") as disk:
        yield disk


def test_a_full_disk(small_disk: Path) -> None:
    """No minute is half written; with room it goes on."""
    metrics = Metrics()
    (small_disk / "filling").write_bytes(bytes(800_000))
    write(ScoreLog(small_disk, ABOUT, metrics, ANY_ROOM), (hop(number) for number in range(3000)))
    found = read(small_disk)
    assert len(found) + metrics.dropped["scores"] == 3000
    assert 600 < len(found) < 2900
    (path,) = small_disk.rglob("*.scores")
    size = path.stat().st_size
    assert sum(len(record) for _, _, record in score_files._records(path)) == size

    (small_disk / "filling").unlink()
    write(ScoreLog(small_disk, ABOUT, metrics, ANY_ROOM), [hop(number, t0=2e9) for number in range(60)])
    assert len(read(small_disk, since=2e9)) == 60


def test_a_disk_that_is_read_only(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is counted, and goes on once it may be written again."""
    metrics = Metrics()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    write(ScoreLog(small_disk, ABOUT, metrics, ANY_ROOM), [hop(number) for number in range(60)])
    assert metrics.dropped == {"scores": 60}
    assert "Read-only file system" in caplog.text
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    write(ScoreLog(small_disk, ABOUT, metrics, ANY_ROOM), [hop(number) for number in range(60)])
    assert len(read(small_disk)) == 60


def test_forget(tmp_path: Path) -> None:
    """Of a time, of a source, or all; what is older stays."""
    for source in ("kitchen", "hall"):
        write(
            ScoreLog(tmp_path, ABOUT, Metrics(), ANY_ROOM),
            [hop(number, source=source) for number in range(300)],
        )
    assert forget_scores(tmp_path, since=T0 + 170, source="kitchen") == pytest.approx(180, abs=61)
    assert (len(read(tmp_path)), len(read(tmp_path, "hall"))) == (120, 300)
    assert forget_scores(tmp_path) == pytest.approx(420)
    assert sizes(tmp_path) == {}
    assert forget_scores(tmp_path / "nothing") == 0


def test_scores_of_a_span(tmp_path: Path) -> None:
    """Means over the windows, 0.04 s apart; what no window has scored is no number."""
    write(
        ScoreLog(tmp_path, ABOUT, Metrics(), ANY_ROOM),
        [hop(number, scored=number < 40) for number in range(120)],
    )
    times, scores = scores_between(tmp_path, "kitchen", T0 + 20, T0 + 60, ("label 2", "label 3", "cat"))
    assert scores.shape == (len(times), 3) == (1000, 3)
    assert 0.2 < float(np.nanmean(scores[:400, 0])) < 0.8
    assert float(np.nanmax(scores[:, 1:])) == 0
    assert not np.isnan(scores[:495]).any()
    assert np.isnan(scores[505:]).all()
