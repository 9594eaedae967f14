"""The file: its room is its own, its changes of layout keep what is there."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from streamer.store import database as module
from streamer.store.database import Database, NewerError, Room, back_up, check
from tests.disk import mounted

pytestmark = pytest.mark.slow

FIRST = "CREATE TABLE thing (id INTEGER PRIMARY KEY, content BLOB)"
SECOND = "ALTER TABLE thing ADD COLUMN colour TEXT DEFAULT 'red'; CREATE INDEX thing_colour ON thing (colour)"
BROKEN = "ALTER TABLE thing ADD COLUMN colour TEXT; CREATE TABLE thing (id)"
SMALL = Room(reserve=512 << 10, log=256 << 10)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    with mounted(tmp_path, "4m") as disk:
        yield disk


def fill(disk: Path) -> None:
    with (disk / "filling").open("ab", buffering=0) as filling:
        for block in (4096, 1):
            try:
                while True:
                    filling.write(bytes(block))
            except OSError:
                pass


def put(database: Database, n: int) -> None:
    with database.transaction() as db:
        db.executemany("INSERT INTO thing (content) VALUES (?)", [(os.urandom(400),)] * n)


def put_many(database: Database, n: int) -> None:
    rows = [(os.urandom(400),)] * 100
    for _ in range(n // 100):
        database.change(lambda db: db.executemany("INSERT INTO thing (content) VALUES (?)", rows))


def count(database: Database) -> int:
    return int(database.connection.execute("SELECT count(*) FROM thing").fetchone()[0])


def test_a_full_disk_takes_as_much_as_was_kept(small_disk: Path) -> None:
    """Half a MiB that was kept takes half a MiB, whatever was in the file before; deleting always works."""
    for backlog in (0, 4000):
        path = small_disk / f"{backlog}.sqlite3"
        database = Database(path, [FIRST], room=SMALL)
        put_many(database, backlog)
        fill(small_disk)
        taken = 0
        while True:
            try:
                put(database, 10)
                taken += 10
            except sqlite3.OperationalError as error:
                assert module.is_full(error)
                if not database.use_reserve():
                    break
        assert taken * 400 > SMALL.reserve * 0.8
        for _ in range(10):
            with database.transaction() as db:
                db.execute("DELETE FROM thing WHERE id IN (SELECT id FROM thing LIMIT 50)")
        put(database, 300)
        check(database.connection)
        database.close()
        (small_disk / "filling").unlink()
        path.unlink()


def test_the_file_never_grows_by_itself(small_disk: Path) -> None:
    """A checkpoint needs no space that was not allocated before: the log never gets stuck."""
    database = Database(small_disk / "a.sqlite3", [FIRST], room=SMALL)
    fill(small_disk)
    sizes = set()
    with pytest.raises(sqlite3.OperationalError, match="full"):
        while True:
            put(database, 10)
            sizes.add((database.path.stat().st_size, database._log.stat().st_size))
    assert len(sizes) == 1
    assert database.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    database.close()


def test_the_room_comes_back(small_disk: Path) -> None:
    """What was used of the reserve is kept again as soon as the disk has space."""
    database = Database(small_disk / "a.sqlite3", [FIRST], room=SMALL)
    while database.use_reserve():
        pass
    assert not database.has_reserve
    database.keep_room()
    assert database.has_reserve
    database.close()


def test_no_room_at_the_first_start_is_said(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With its numbers, once; what room there is serves all the same."""
    with (small_disk / "filling").open("wb") as file:
        file.write(bytes(3 << 20))
    database = Database(small_disk / "a.sqlite3", [FIRST], room=Room(reserve=2 << 20, log=256 << 10))
    put_many(database, 100)
    assert caplog.text.count("free at least 3 MiB") == 1
    database.close()


def test_another_layout(tmp_path: Path) -> None:
    """It is brought up to date with all that is in it, and a copy of the old one is kept beside it."""
    path = tmp_path / "a.sqlite3"
    database = Database(path, [FIRST])
    put_many(database, 100_000)
    database.close()
    began = time.monotonic()
    database = Database(path, [FIRST, SECOND])
    assert time.monotonic() - began < 60  # 10 s on a quiet machine
    assert count(database) == 100_000
    assert database.connection.execute("SELECT DISTINCT colour FROM thing").fetchall() == [("red",)]
    database.close()
    with closing(sqlite3.connect(tmp_path / "a.sqlite3.layout-1")) as copy:
        check(copy)
        assert copy.execute("PRAGMA user_version").fetchone() == (1,)
        assert copy.execute("SELECT count(*) FROM thing").fetchone() == (100_000,)
    with pytest.raises(NewerError, match="layout 2, not 1"):
        Database(path, [FIRST])


def test_a_change_of_layout_that_fails(tmp_path: Path) -> None:
    """It changes nothing."""
    path = tmp_path / "a.sqlite3"
    database = Database(path, [FIRST])
    put(database, 10)
    database.close()
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        Database(path, [FIRST, BROKEN])
    database = Database(path, [FIRST])
    assert count(database) == 10
    database.close()


def test_kills_while_it_grows(tmp_path: Path) -> None:
    """A process that is killed anywhere leaves a whole file, with every row that it has acknowledged."""
    program = (
        "import os, sys; from pathlib import Path;"
        "from streamer.store.database import Database, Room\n"
        "database = Database(Path(sys.argv[1]), [sys.argv[2]], room=Room(reserve=1 << 19, log=1 << 18))\n"
        "while True:\n"
        "    with database.transaction() as db:\n"
        "        row = db.execute('INSERT INTO thing (content) VALUES (zeroblob(3000))').lastrowid\n"
        "    database.keep_room()\n"
        "    os.write(1, b'%d\\n' % row)\n"
    )
    path = tmp_path / "a.sqlite3"
    for life in range(20):
        command = [sys.executable, "-c", program, str(path), FIRST]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        acknowledged = [int(process.stdout.readline()) for _ in range(1 + 7 * life)][-1]
        process.send_signal(signal.SIGKILL)
        acknowledged = max([acknowledged, *(int(line) for line in process.stdout if line.endswith(b"\n"))])
        process.wait()
        database = Database(path, [FIRST], room=SMALL)
        check(database.connection)
        assert count(database) >= acknowledged
        database.close()


def test_a_file_put_in_its_place(tmp_path: Path) -> None:
    """After a stop the log holds nothing: a copy that is put back is read as it is."""
    path = tmp_path / "a.sqlite3"
    database = Database(path, [FIRST])
    put(database, 10)
    back_up(database.connection, tmp_path / "copy")
    put_many(database, 1000)
    database.close()
    (tmp_path / "copy").replace(path)
    database = Database(path, [FIRST])
    check(database.connection)
    assert count(database) == 10
    database.close()


def test_only_the_owner_reads_it(tmp_path: Path) -> None:
    """What is heard at home is nobody else's business."""
    database = Database(tmp_path / "a.sqlite3", [FIRST])
    put(database, 10)
    database.back_up(tmp_path / "copy")
    database.close()
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_a_reader_holds_nobody_up(tmp_path: Path) -> None:
    """Somebody who reads for long sees the file as it was, and events go on."""
    database = Database(tmp_path / "a.sqlite3", [FIRST], room=SMALL)
    put(database, 10)
    with closing(sqlite3.connect(f"file:{database.path}?mode=ro", uri=True, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM thing").fetchone() == (10,)
        for _ in range(100):
            put(database, 50)
            database.keep_room()
        assert reader.execute("SELECT count(*) FROM thing").fetchone() == (10,)
    assert count(database) == 5010
    database.close()
