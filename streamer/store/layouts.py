"""The tables of the event log and the history, as scripts from each layout to the next. Forward only."""

from __future__ import annotations

LAYOUT_1 = """
CREATE TABLE install (id TEXT NOT NULL, taken_over TEXT, taken_to INTEGER NOT NULL DEFAULT 0);
INSERT INTO install (id) VALUES (lower(hex(randomblob(8))));

CREATE TABLE message (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    created REAL NOT NULL,
    message_id TEXT NOT NULL,
    event TEXT NOT NULL
);
CREATE TABLE cursor (consumer TEXT PRIMARY KEY, seq INTEGER NOT NULL);
CREATE TABLE refused (
    id INTEGER PRIMARY KEY,
    seq INTEGER NOT NULL,
    consumer TEXT NOT NULL,
    at REAL NOT NULL,
    reason TEXT NOT NULL,
    event TEXT NOT NULL,
    UNIQUE (consumer, seq)
);

CREATE TABLE model (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    fingerprint TEXT NOT NULL UNIQUE,
    labels TEXT NOT NULL
);
CREATE TABLE rule (id INTEGER PRIMARY KEY, rule TEXT NOT NULL UNIQUE);
CREATE TABLE event (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    source TEXT NOT NULL,
    sound TEXT NOT NULL,
    onset REAL NOT NULL,
    offset REAL,
    seen_at REAL NOT NULL,
    cut INTEGER NOT NULL DEFAULT 0,
    peak REAL NOT NULL,
    level_dbfs REAL NOT NULL,
    labels TEXT NOT NULL,
    verified INTEGER,
    notify INTEGER NOT NULL,
    priority TEXT NOT NULL,
    latency_ms INTEGER NOT NULL,
    model INTEGER REFERENCES model,
    rule INTEGER REFERENCES rule,
    clip TEXT NOT NULL DEFAULT 'none'
        CHECK (clip IN ('none', 'waiting', 'kept', 'speech', 'full', 'failed', 'expired', 'deleted')),
    clip_start REAL,
    clip_end REAL,
    clip_bytes INTEGER NOT NULL DEFAULT 0,
    pinned INTEGER NOT NULL DEFAULT 0,
    verdict TEXT CHECK (verdict IN ('right', 'wrong')),
    verdict_sound TEXT,
    note TEXT
);
CREATE INDEX event_time ON event (onset, seq);
CREATE INDEX event_sound ON event (sound, onset, seq);
CREATE INDEX event_source ON event (source, onset, seq);
CREATE INDEX event_judged ON event (verdict, onset, seq) WHERE verdict IS NOT NULL;
CREATE INDEX event_clip ON event (sound, onset) WHERE clip = 'kept';
CREATE INDEX event_open ON event (source) WHERE offset IS NULL;

CREATE TABLE review (
    seq INTEGER PRIMARY KEY,
    event TEXT NOT NULL,
    verdict TEXT,
    sound TEXT,
    note TEXT,
    at REAL NOT NULL,
    reviewer TEXT NOT NULL
);
CREATE INDEX review_event ON review (event);
CREATE TABLE missed (
    seq INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    sound TEXT NOT NULL,
    onset REAL NOT NULL,
    offset REAL NOT NULL,
    note TEXT,
    at REAL NOT NULL
);
CREATE INDEX missed_time ON missed (onset, seq)
"""

LAYOUT_2 = """
CREATE TABLE listened (
    quarter INTEGER NOT NULL,
    source TEXT NOT NULL,
    seconds REAL NOT NULL,
    PRIMARY KEY (quarter, source)
) WITHOUT ROWID
"""
"""`quarter`: quarters of an hour since the Unix epoch"""

QUARTER_S = 900


def _counted(row: str, sign: str) -> str:
    """Add an event's row, or take it away again, unless it was judged wrong."""
    quarter = f"CAST({row}.onset / {QUARTER_S} AS INTEGER)"
    return f"""
    INSERT INTO counted SELECT {quarter}, {row}.source, {row}.sound, {sign}1,
        {sign}(coalesce({row}.offset, {row}.seen_at) - {row}.onset)
        WHERE {row}.verdict IS NOT 'wrong'
        ON CONFLICT DO UPDATE SET n = n + excluded.n, seconds = seconds + excluded.seconds"""


LAYOUT_3 = f"""
CREATE TABLE counted (
    quarter INTEGER NOT NULL,
    source TEXT NOT NULL,
    sound TEXT NOT NULL,
    n INTEGER NOT NULL,
    seconds REAL NOT NULL,
    PRIMARY KEY (quarter, source, sound)
) WITHOUT ROWID;
INSERT INTO counted
    SELECT CAST(onset / {QUARTER_S} AS INTEGER), source, sound, count(*),
        sum(coalesce(offset, seen_at) - onset)
    FROM event WHERE verdict IS NOT 'wrong' GROUP BY 1, 2, 3;
CREATE TRIGGER count_new AFTER INSERT ON event BEGIN
    {_counted("new", "+")};
END;
CREATE TRIGGER count_changed AFTER UPDATE OF source, sound, onset, offset, seen_at, verdict ON event BEGIN
    {_counted("old", "-")};
    {_counted("new", "+")};
END;
CREATE TRIGGER count_removed AFTER DELETE ON event BEGIN
    {_counted("old", "-")};
    DELETE FROM counted WHERE n = 0 AND quarter = CAST(old.onset / {QUARTER_S} AS INTEGER)
        AND source = old.source AND sound = old.sound;
END
"""  # noqa: S608  constants
"""Events that began in a quarter, without those judged wrong; whoever changes an event, it is right."""

LAYOUT_4 = """
ALTER TABLE missed ADD COLUMN clip TEXT NOT NULL DEFAULT 'none';
ALTER TABLE missed ADD COLUMN clip_start REAL;
ALTER TABLE missed ADD COLUMN clip_end REAL;
ALTER TABLE missed ADD COLUMN clip_bytes INTEGER NOT NULL DEFAULT 0
"""
"""as in `event`"""

LAYOUT_5 = "ALTER TABLE event ADD COLUMN epoch INTEGER"
"""of the process that detected it; NULL in events of versions that had none"""

LAYOUTS = (LAYOUT_1, LAYOUT_2, LAYOUT_3, LAYOUT_4, LAYOUT_5)
"""the script from each version to the next; the first makes everything"""

FILE = "events.sqlite3"
CURSORS = "cursors"
