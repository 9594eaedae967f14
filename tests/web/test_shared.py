"""Signed addresses: a phone without an account sees and hears one event, for a day."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import matplotlib.image
import numpy as np
import pytest

from streamer.capture.ring import Ring
from streamer.capture.tapes import Tapes
from streamer.types import AudioBlock
from streamer.web.shared import KEY_FILE, SHARED_S
from tests.reports import event
from tests.web.conftest import PASSWORD, fill
from tests.web.site import PUBLIC_URL, Site, served
from tests.web.test_api import kept_clip

EVENT = "000000000001"
"""of the kitchen, two minutes ago"""
RATE = 16_000


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Site]:
    """With a password, and clips."""
    (tmp_path / "web-password").write_text(f"{PASSWORD}\n")
    fill(tmp_path, 3)
    with served(tmp_path, hosts=["home.example"], clips={"enabled": True}) as opened:
        yield opened


def path(site: Site, kind: str, *, event_id: str = EVENT, onset: float | None = None) -> str:
    """Path and query as the server gets them from a proxy that strips the path of the page."""
    one = replace(event(event_id=event_id), onset=time.time() if onset is None else onset)
    address = site.shared.links(one)[f"{kind}_url"]
    assert address.startswith(f"{PUBLIC_URL}/api/1/shared/{event_id}.")
    url = urlsplit(address.removeprefix(PUBLIC_URL))
    return f"{url.path}?{url.query}"


def status(site: Site, target: str) -> int:
    return site.ask("GET", target).status


def record(tapes: Tapes, *, seconds_ago: float) -> None:
    """The kitchen has been silent, and there is a tone of 1 kHz from `seconds_ago` on."""
    ring, now = Ring(RATE, 180.0), time.time()
    samples = np.zeros(round((seconds_ago + 10) * RATE), np.float32)
    tone = np.arange(round(seconds_ago * RATE)) / RATE
    samples[-len(tone) :] = 0.3 * np.sin(2 * np.pi * 1000 * tone)
    ring.write(AudioBlock(samples, now - seconds_ago - 10))
    tapes.put("kitchen", ring)


def test_picture_and_clip(guarded: Site, tmp_path: Path) -> None:
    """Without an account: the picture from memory, or from the clip when it is no longer there."""
    picture, clip = path(guarded, "picture"), path(guarded, "clip")
    assert [status(guarded, target) for target in (picture, clip)] == [404, 404]
    record(guarded.tapes, seconds_ago=120.0)
    live = guarded.ask("GET", picture)
    assert (live.status, live.headers["Content-Type"]) == (200, "image/png")
    assert live.headers["Cache-Control"] == "no-store"
    drawn = matplotlib.image.imread(io.BytesIO(live.body), format="png")
    assert drawn.shape[:2] == (3 * 64, 3 * 16 * 10)
    guarded.tapes.remove("kitchen", guarded.tapes._rings["kitchen"])
    file = kept_clip(tmp_path, EVENT)
    assert guarded.ask("GET", clip).body == file.read_bytes()
    assert guarded.ask("GET", clip, headers={"Range": "bytes=0-99"}).status == 206
    later = guarded.ask("GET", picture)
    assert (later.status, later.body[:4]) == (200, b"\x89PNG")


def test_an_address_is_for_one_file_until_one_time(guarded: Site, tmp_path: Path) -> None:
    """Another event, kind, time or signature is refused, and so is one without; nothing else takes it."""
    kept_clip(tmp_path, EVENT)
    clip = path(guarded, "clip")
    bare, _, query = clip.partition("?")
    until, signature = (field.partition("=")[2] for field in query.split("&"))
    assert status(guarded, clip) == 200
    changed = [
        clip.replace(EVENT, "000000000002"),
        clip.replace(".flac", ".png"),
        f"{bare}?until={int(until) + 1}&signature={signature}",
        f"{bare}?until=0{until}0&signature={signature}",
        f"{bare}?until=+{until}&signature={signature}",
        f"{bare}?until={'9' * 5000}&signature={signature}",
        f"{bare}?until=%D9%A1&signature={signature}",
        f"{bare}?until={until}&signature={signature[:-1]}",
        f"{bare}?until={until}&signature={signature.upper()}",
        f"{bare}?until={until}&signature={'0' * 64}",
        f"{bare}?until={until}&signature=%ED%A0%80%00",
        f"{bare}?until={until}&signature=",
        f"{bare}?until={until}",
        bare,
    ]
    assert {target: status(guarded, target) for target in changed} == dict.fromkeys(changed, 401)
    others = [
        f"/api/1/clips/{EVENT}.flac?{query}",
        f"/api/1/clips/{EVENT}/spectrum?{query}",
        f"/api/1/events/{EVENT}?{query}",
        f"/api/1/events?{query}",
        f"/metrics?{query}",
    ]
    assert {target: status(guarded, target) for target in others} == dict.fromkeys(others, 401)
    assert guarded.ask("DELETE", clip).status == 401
    assert status(guarded, clip.replace(EVENT, "..%2fweb-password")) == 401
    bearer = {"Authorization": f"Bearer {signature}"}
    assert guarded.ask("GET", "/api/1/events", headers=bearer).status == 401


def test_an_expired_address_says_so(guarded: Site) -> None:
    """A day after the onset of its event."""
    answer = guarded.ask("GET", path(guarded, "picture", onset=time.time() - SHARED_S - 2))
    assert (answer.status, answer.fields) == (410, {"error": "this address has expired"})
    assert status(guarded, path(guarded, "picture", onset=time.time() - SHARED_S + 60)) == 404


def test_another_key_ends_all_addresses(guarded: Site, tmp_path: Path) -> None:
    """At once, without a restart; a key that is removed is made anew, for its owner alone to read."""
    kept_clip(tmp_path, EVENT)
    before, key = path(guarded, "clip"), tmp_path / KEY_FILE
    assert key.stat().st_mode & 0o777 == 0o600
    old = key.read_text()
    key.unlink()
    assert status(guarded, before) == 401
    after = path(guarded, "clip")
    assert after != before
    assert [status(guarded, target) for target in (before, after)] == [401, 200]
    key.write_text("a word\n")
    assert status(guarded, after) == 401
    key.write_text(old)
    assert [status(guarded, target) for target in (before, after)] == [200, 401]


def test_the_name_that_is_asked_for_still_counts(guarded: Site) -> None:
    """A signature opens no door to another host name: `web.hosts` has that of `public_url`."""
    record(guarded.tapes, seconds_ago=120.0)
    picture = path(guarded, "picture")
    for host, expected in (("home.example", 200), ("evil.com", 421)):
        assert guarded.ask("GET", picture, headers={"Host": host}).status == expected


@pytest.mark.parametrize(
    ("clips", "sound", "expected"),
    [
        ({}, "dog_bark", False),
        ({"enabled": True}, "dog_bark", True),
        ({"enabled": True}, "siren", True),
        ({"enabled": True}, "talk", False),
        ({"enabled": True, "speech": "keep"}, "talk", True),
        ({"enabled": True, "sounds": ["siren"]}, "dog_bark", False),
        ({"enabled": True, "sounds": ["siren"]}, "siren", True),
        ({"enabled": True}, "removed_since", True),
    ],
)
def test_which_events_have_the_address_of_a_clip(
    tmp_path: Path, clips: dict[str, object], sound: str, *, expected: bool
) -> None:
    """Those whose clip may be kept; all have that of a picture, and each phase has the same ones."""
    talk = {"talk": {"labels": ["Child speech, kid speaking"]}}
    with served(tmp_path, clips=clips, sounds=talk) as site:
        phases = [site.shared.links(event(phase, sound=sound)) for phase in ("start", "update", "end")]
    assert phases[0] == phases[1] == phases[2]
    assert phases[0].keys() == {"picture_url", *(["clip_url"] if expected else [])}


def test_a_disk_that_keeps_no_key_signs_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Events then have no address, and the log says why, once."""
    with served(tmp_path) as site:
        (tmp_path / KEY_FILE).mkdir()
        assert [site.shared.links(event()), site.shared.links(event())] == [{}, {}]
    assert [record.message for record in caplog.records if KEY_FILE in record.message] != []
