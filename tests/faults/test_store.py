"""History, clips and scores where the disk is full, read only or damaged, and where processes are killed."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import random
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from streamer.errors import InputError
from streamer.store import clips as module
from streamer.store import history
from streamer.store.clips import clip_path
from streamer.store.edit import editing
from streamer.store.layouts import FILE
from streamer.store.query import reading
from streamer.store.score_files import LAYOUT, minutes, segments
from streamer.store.score_log import KeepScores, ScoreLog
from tests.disk import fill, mounted
from tests.faults.clip_process import live
from tests.faults.table import FAULTS, Fault
from tests.mosquitto import until
from tests.store import test_scores
from tests.store.test_clips import T0, Home, bark, hear, home, hop
from tests.store.test_scores import ABOUT

pytestmark = pytest.mark.slow

CYCLES = os.environ.get("FAULTS_CYCLES")
KILLS = int(CYCLES or 8)
N_EVENTS = 2 * int(CYCLES or 20)
MIN_FREE = 1 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB, of which the event log takes 8."""
    with mounted(tmp_path, "16m") as disk:
        yield disk


async def bark_again(one: Home, number: int) -> str:
    """The same bark as another event; its id. All of it was heard."""
    event_id = f"{number:012x}"
    one.writer.put(bark("start", event_id=event_id))
    one.writer.put(bark("end", event_id=event_id))
    return event_id


async def becomes(one: Home, event_id: str, clip: str) -> float:
    """When the clip of an event is in that state, monotonic."""

    def state() -> str | None:
        with contextlib.suppress(InputError):  # it is not in the history yet
            return one.event(event_id).clip
        return None

    await until(lambda: state() == clip)
    return time.monotonic()


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)


def score(one: Home, first: int) -> None:
    """A minute of hops for the score log, and what it has written so far."""
    log = ScoreLog(one.folder, ABOUT, one.metrics, KeepScores(min_free=MIN_FREE))
    test_scores.write(log, [test_scores.hop(number) for number in range(first, first + 60)])


def n_scored(folder: Path) -> int:
    return sum(minute.n_hops for _, minute in minutes(folder, "kitchen", 0, 4e9))


async def test_a_disk_that_is_full(disk: Path) -> None:
    """Events are kept, clips and scores are left out and counted; with room all goes on."""
    async with home(disk) as one:
        one.clips._bounds = replace(one.clips._bounds, min_free=MIN_FREE)
        await hear(one)
        assert await one.state() == "kept"
        score(one, 0)
        filling = fill(disk)
        await becomes(one, await bark_again(one, 1), "full")
        score(one, 60)
        assert one.metrics.outbox.on_disk
        assert one.metrics.dropped == {"scores": 60}
        filling.unlink()
        began = time.monotonic()
        recovered_s = await becomes(one, await bark_again(one, 2), "kept") - began
        score(one, 120)
        assert (len(one.files()), n_scored(disk)) == (2, 120)
    FAULTS.append(Fault("disk full", None, recovered_s, "clips and scores meanwhile, counted; no event"))


async def test_clips_never_outgrow_their_bounds(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More events than there is room for: their clips, and the disk's free room, stay within what is set."""
    monkeypatch.setattr(module, "TURN_S", 0.01)
    used, free = list[int](), list[int]()

    async def poll() -> None:
        while True:
            status = os.statvfs(disk)
            used.append(sum(path.stat().st_size for path in (disk / "clips").rglob("*.flac")))
            free.append(status.f_bavail * status.f_frsize)
            await asyncio.sleep(0.005)

    async with home(disk, max_mb=1) as one:
        one.clips._bounds = replace(one.clips._bounds, min_free=MIN_FREE)
        await hear(one)
        assert await one.state() == "kept"
        largest = one.event().clip_bytes
        with editing(disk) as db:
            assert history.pin(db, "a" * 12, True, most=1 << 19)
        polling = asyncio.create_task(poll())
        for number in range(N_EVENTS):
            await becomes(one, await bark_again(one, number), "kept")
        polling.cancel()
        with reading(disk) as reader:
            kept = [event for event in reader.events() if event.clip == "kept"]
        paths = {clip_path(disk, event.id, event.clip_start or 0) for event in kept}
        assert paths == set(one.files())
        assert any(event.pinned for event in kept)
    assert largest < max(used) <= (1 << 20) + largest
    assert min(free) >= MIN_FREE
    lost = "the oldest; never a pinned one"
    FAULTS.append(Fault(f"{N_EVENTS} clips where {(1 << 20) // largest} have room", lost=lost))


async def test_a_disk_that_is_read_only(disk: Path) -> None:
    """Events wait in memory; clips and scores are left out and counted; then all goes on."""
    async with home(disk) as one:
        await hear(one)
        assert await one.state() == "kept"
    remount(disk, "ro")
    async with home(disk) as one:
        await hear(one)
        meanwhile = await bark_again(one, 1)
        await until(lambda: one.metrics.dropped.get("clips") == 2)
        score(one, 0)
        assert not one.metrics.outbox.on_disk
        assert one.metrics.dropped == {"clips": 2, "scores": 60}
        remount(disk, "rw")
        began = time.monotonic()
        recovered_s = await becomes(one, await bark_again(one, 2), "kept") - began
        score(one, 60)
        assert one.metrics.outbox.on_disk
        assert one.event(meanwhile).clip == "none"
        assert (len(one.files()), n_scored(disk)) == (2, 60)
    FAULTS.append(Fault("disk read only", None, recovered_s, "clips and scores meanwhile, counted; no event"))


def test_a_page_of_scores_that_is_overwritten(tmp_path: Path) -> None:
    """It costs the minutes that it touches; those beside it are read, and writing goes on."""
    write, some = test_scores.write, [test_scores.hop(number) for number in range(1200)]
    write(ScoreLog(tmp_path, ABOUT, test_scores.Metrics(), test_scores.ANY_ROOM), some)
    (path,) = segments(tmp_path, "kitchen")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4096] = random.Random(1).randbytes(4096)
    path.write_bytes(data)
    n_lost = 1200 - n_scored(tmp_path)
    assert 0 < n_lost <= 60 * (2 + 4096 * 20 // len(data))
    more = [test_scores.hop(number) for number in range(1200, 1260)]
    write(ScoreLog(tmp_path, ABOUT, test_scores.Metrics(), test_scores.ANY_ROOM), more)
    assert n_scored(tmp_path) == 1260 - n_lost
    FAULTS.append(Fault("4 kB of the scores overwritten", lost=f"{n_lost // 60} minutes of scores"))


@pytest.mark.parametrize("page", [0, 1, -1], ids=["first", "second", "last"])
async def test_a_page_of_the_history_that_is_overwritten(tmp_path: Path, page: int) -> None:
    """It is set aside or goes on; new events are kept, and no clip of the old ones is deleted."""
    async with home(tmp_path) as one:
        await hear(one)
        assert await one.state() == "kept"
        before = one.files()
    with (tmp_path / FILE).open("r+b") as file:
        file.seek(4096 * page, os.SEEK_END if page < 0 else os.SEEK_SET)
        file.write(random.Random(1).randbytes(4096))
    os.utime(before[0], (T0 - 86400, T0 - 86400))
    async with home(tmp_path) as one:
        await hear(one)
        assert await one.state() in ("kept", "expired")
        await until(lambda: one.clips._tended_at > 0)
        assert set(before) <= set(one.files())
        assert one.metrics.outbox.on_disk
    if page == 0:
        lost = "what it held; set aside"
        FAULTS.append(Fault("4 kB of the event log overwritten", lost=lost))


async def test_a_newer_layout(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What a newer version has written is left as it is; events wait in memory, scores begin a new file."""
    async with home(tmp_path) as one:
        await hear(one)
        assert await one.state() == "kept"
        score(one, 0)
    with closing(sqlite3.connect(tmp_path / FILE)) as db:
        db.execute("PRAGMA user_version = 99")
    (old,) = segments(tmp_path, "kitchen")
    about = test_scores.score_files.about_record
    test_scores.score_files.LAYOUT = 99
    try:
        old.write_bytes(about(ABOUT) + old.read_bytes()[len(about(ABOUT)) :])
    finally:
        test_scores.score_files.LAYOUT = LAYOUT
    contents = {path: path.read_bytes() for path in (tmp_path / FILE, old)}
    async with home(tmp_path) as one:
        await hear(one)
        await until(lambda: one.metrics.dropped == {"clips": 1})
        assert not one.metrics.outbox.on_disk
        score(one, 600)
    assert {path: path.read_bytes() for path in contents} == contents
    assert n_scored(tmp_path) == 60
    assert len(segments(tmp_path, "kitchen")) == 2
    assert "a newer version of the program: layout 99" in caplog.text
    FAULTS.append(Fault("state of a newer version", lost="history meanwhile; its files are left as they are"))


async def test_a_clock_that_steps_in_an_event(tmp_path: Path) -> None:
    """Where its audio is then nobody knows: that clip is left out, and the next one is true."""
    async with home(tmp_path) as one:
        await hear(one, hop(23))
        one.ring._move(86400.0)  # as the ring does when blocks have another time
        for end in (33, 40):
            one.clips.watch(hop(end))
        assert await one.state() == "failed"
        assert one.files() == []
        one.ring._move(-86400.0)
        await becomes(one, await bark_again(one, 1), "kept")
    FAULTS.append(Fault("wall clock set in an event", lost="its clip"))


async def test_kills_leave_no_row_without_a_file_nor_a_file_without_a_row(tmp_path: Path) -> None:
    """A process that cuts and removes clips as fast as it can is killed; after the next start all agrees."""
    rng = random.Random(7)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.clip_process"])
    n_files = 0
    for life in range(KILLS):
        ready = context.Event()
        process = context.Process(target=live, args=(tmp_path, life, ready), daemon=True)
        process.start()
        assert await asyncio.to_thread(ready.wait, 30)
        await asyncio.sleep(rng.uniform(0, 0.5))
        process.kill()
        process.join()
        n_files += bool(list((tmp_path / "clips").rglob("*.flac")))
    assert n_files > KILLS // 2
    async with home(tmp_path, per_sound=4) as one:
        await until(lambda: one.clips._tended_at > 0)
        await asyncio.sleep(1)
    with reading(tmp_path) as reader:
        kept = {
            clip_path(tmp_path, found.id, found.clip_start or 0)
            for found in reader.events()
            if found.clip == "kept"
        }
    assert kept == set(one.files())
    assert 0 < len(kept) <= 4
    FAULTS.append(Fault(f"killed while clips are written ({KILLS} times)", lost="no row without its file"))
