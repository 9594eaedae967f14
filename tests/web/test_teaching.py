"""Sounds that are taught on the page: examples, what is learned from them, vetoes, what recurs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from streamer.capture.ring import Ring
from streamer.core.times import utc
from streamer.errors import OutputError
from streamer.inference.heads import Head
from streamer.store import examples
from streamer.store.flac import encode
from streamer.store.query import Filter, reading
from streamer.teaching import record
from streamer.types import AudioBlock
from tests.run.test_discover import KNOCKS, RAIN, VALUES
from tests.run.test_discover import lived_in as knocked_in
from tests.teaching.melody import RATE, recording
from tests.web.conftest import fill
from tests.web.site import CONFIG, Answer, Site, served
from tests.web.test_api import kept_clip

LATEST_S = 70


def listened(site: Site, source: str = "kitchen") -> float:
    """A minute and more in which the melody begins each 10 s is in memory; when that began."""
    begin = time.time() - LATEST_S
    ring = Ring(RATE, LATEST_S + 5)
    for number in range(LATEST_S // 10):
        part = recording(10.0, 4.0, seed=number, level=0.1 + 0.02 * number)
        ring.write(AudioBlock(part, begin + 10 * number))
    site.tapes.put(source, ring)
    return begin


def keep(site: Site, begin: float, end: float, name: str = "chime", **body: object) -> Answer:
    fields = {"source": "kitchen", "begin": utc(begin), "end": utc(end), "keep_audio": True, **body}
    return site.ask("POST", f"/api/1/teaching/{name}/examples", body=fields)


def test_examples(site: Site, tmp_path: Path) -> None:
    """Stretches of the last minute are kept where that is asked for, can be heard, and go again."""
    assert site.get("teaching") == {"needed": 3, "good": 5, "sounds": []}
    begin = listened(site)
    refused = keep(site, begin + 3, begin + 7, keep_audio=False)
    assert (refused.status, "may be kept" in refused.fields["error"]) == (400, True)
    assert not list(tmp_path.rglob("*.flac"))
    for number in range(3):
        answer = keep(site, begin + 3 + 10 * number, begin + 7 + 10 * number)
        assert (answer.status, answer.fields["state"]) == (201, "untaught")
    (chime,) = site.get("teaching")["sounds"]
    assert len(chime["examples"]) == 3
    first = f"/api/1/teaching/chime/examples/{chime['examples'][0]['id']}"
    heard = site.ask("GET", f"{first}.flac")
    assert (heard.status, heard.headers["Content-Type"]) == (200, "audio/flac")
    assert {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*.flac")} == {0o600}
    assert site.ask("DELETE", first).status == 204
    assert site.ask("GET", f"{first}.flac").status == 404
    assert site.ask("DELETE", "/api/1/teaching/chime").status == 204
    assert site.get("teaching")["sounds"] == []
    assert not list((tmp_path / "examples").iterdir())


def test_a_counter_example(site: Site, tmp_path: Path) -> None:
    """What is not the sound is kept beside its examples, can be heard, and goes with them."""
    begin = listened(site)
    for number in range(2):
        keep(site, begin + 3 + 10 * number, begin + 7 + 10 * number)
    wrong = keep(site, begin + 23, begin + 27, is_not=True).fields
    assert [one["is_not"] for one in wrong["examples"]] == [False, False, True]
    assert keep(site, begin + 33, begin + 37, is_not="yes").status == 400
    assert sorted(path.parent.name for path in tmp_path.rglob("*.flac")) == ["chime", "chime", "chime.not"]
    kept = wrong["examples"][2]["id"]
    assert site.ask("GET", f"/api/1/teaching/chime/examples/{kept}.flac").status == 200
    assert site.ask("DELETE", "/api/1/teaching/chime").status == 204
    assert not list((tmp_path / "examples").iterdir())


def test_an_event_is_on_one_side(site: Site, tmp_path: Path) -> None:
    """An event that was kept as the sound and then as what it is not is the latter alone."""
    kept_clip(tmp_path, "000000000001")
    for is_not in (False, True):
        fields = {"event": "000000000001", "is_not": is_not, "keep_audio": True}
        answer = site.ask("POST", "/api/1/teaching/beep/examples", body=fields)
        assert [one["is_not"] for one in answer.fields["examples"]] == [is_not]


def test_an_event_as_an_example(site: Site, tmp_path: Path) -> None:
    """From its clip, where one is kept; once, however often it is asked for; else its audio is gone."""
    kept_clip(tmp_path, "000000000001")
    for _ in range(2):
        answer = site.ask(
            "POST", "/api/1/teaching/beep/examples", body={"event": "000000000001", "keep_audio": True}
        )
        assert [one["id"] for one in answer.fields["examples"]] == ["000000000001"]
    gone = site.ask(
        "POST", "/api/1/teaching/beep/examples", body={"event": "000000000002", "keep_audio": True}
    )
    assert (gone.status, "clips.enabled" in gone.fields["error"]) == (409, True)
    listened(site, "hall")
    recent = site.ask(
        "POST", "/api/1/teaching/chime/examples", body={"event": "000000000000", "keep_audio": True}
    )
    assert (recent.status, len(recent.fields["examples"])) == (201, 1)


def test_an_example_of_nonsense(site: Site, tmp_path: Path) -> None:
    """One line, and nothing is written; no name becomes a path."""
    begin = listened(site)
    cases: list[tuple[str, dict[str, object], int]] = [
        ("chime", {"source": "garden"}, 400),
        ("chime", {"source": ["kitchen"]}, 400),
        ("chime", {"begin": "yesterday"}, 400),
        ("chime", {"end": "2999-01-01T00:00:00Z"}, 400),
        ("chime", {"event": "../../etc"}, 404),
        ("chime", {"event": ["000000000001"]}, 404),
        ("chime", {"event": "f" * 12}, 404),
        ("show", {}, 400),
        ("Chime", {}, 400),
        ("..%2f..", {}, 404),
        ("a%00b", {}, 400),
        ("x" * 65, {}, 400),
    ]
    for name, body, status in cases:
        fields = {"source": "kitchen", "begin": utc(begin + 3), "end": utc(begin + 7), "keep_audio": True}
        answer = site.ask("POST", f"/api/1/teaching/{name}/examples", body={**fields, **body})
        assert (answer.status, bool(answer.fields["error"])) == (status, True), (name, body)
    assert not list(tmp_path.rglob("*.flac"))


def test_a_stretch_from_which_nothing_is_learned(site: Site, tmp_path: Path) -> None:
    """Silence, and what is no longer in memory: said before anything is written."""
    begin = time.time() - 30
    ring = Ring(RATE, 60)
    ring.write(AudioBlock(np.zeros(30 * RATE, np.float32), begin))
    site.tapes.put("kitchen", ring)
    silent, gone = keep(site, begin + 1, begin + 3), keep(site, begin - 60, begin - 55)
    assert (silent.status, silent.fields["error"].partition(":")[0]) == (409, "this stretch")
    assert (gone.status, "last minute" in gone.fields["error"]) == (409, True)
    assert not list(tmp_path.rglob("*.flac"))


def test_examples_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more are kept than may be, and none where the disk is nearly full."""
    flac = encode(recording(2.0, 0.2, seed=1), RATE)
    with pytest.raises(OutputError, match="the disk is full"):
        examples.keep(tmp_path, "chime", "0" * 12, flac, min_free=1 << 60)
    assert examples.names(tmp_path) == []
    monkeypatch.setattr(examples, "MOST_BYTES", 2 * len(flac))
    for number in range(2):
        examples.keep(tmp_path, "chime", f"{number:012x}", flac, min_free=0)
    with pytest.raises(OutputError, match="remove some"):
        examples.keep(tmp_path, "gong", "0" * 12, flac, min_free=0)
    assert [one.id for one in examples.examples(tmp_path, "chime")] == ["0" * 12, f"{1:012x}"]


def test_a_link_in_place_of_an_example(site: Site, tmp_path: Path) -> None:
    """Whoever puts one there does not have the page serve what it leads to."""
    (tmp_path / "secret").write_text("secret")
    path = tmp_path / "examples/chime/000000000001.flac"
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "secret")
    assert site.ask("GET", "/api/1/teaching/chime/examples/000000000001.flac").status == 404


def taught(name: str, at: float, clips: int = 3) -> record.Taught:
    about = record.About(name, "ast-tiny", "f", at, ["a.wav"] * clips, [], 1, 200, 4)
    rng = np.random.default_rng(1)
    embeddings = rng.normal(size=(12, 8)).astype(np.float32) + 3
    head = Head(name, [0.0] * 8, [4.0] * 8, 0.0)
    return record.Taught(about, head, embeddings, np.repeat(np.arange(3), 4))


def test_what_was_taught(tmp_path: Path) -> None:
    """What may be expected of it, what sounds alike, and whether the daemon has taken it up."""
    fill(tmp_path, 1)
    base = {
        **CONFIG,
        "sounds": {**CONFIG["sounds"], "bell": {"taught": "bell"}, "chime": {"taught": "chime"}},
    }
    now = time.time()
    record.write(tmp_path, taught("bell", now - 100))
    with served(tmp_path, base=base) as site:
        record.write(tmp_path, taught("chime", now + 100))
        record.write(tmp_path, taught("gong", now - 100, clips=5))
        (tmp_path / "taught" / "horn.npz").write_bytes(b"no archive")
        found = {one["name"]: one for one in site.get("teaching")["sounds"]}
        states = {name: one["state"] for name, one in found.items()}
        assert states == {"bell": "in use", "chime": "restart", "gong": "unused", "horn": "untaught"}
        chime = found["chime"]["taught"]
        assert (chime["clips"], chime["heard"], chime["others"], chime["false"]) == (3, 1, 200, 4)
        assert (chime["too_few"], chime["too_different"]) == (True, True)
        assert {one["name"] for one in chime["alike"]} == {"bell", "gong"}
        assert not found["gong"]["taught"]["too_few"]
        assert found["horn"]["problem"].startswith("taught/horn.npz: is damaged")
        refused = site.ask("DELETE", "/api/1/teaching/chime")
        assert (refused.status, "listens for it as chime" in refused.fields["error"]) == (409, True)
        assert site.ask("DELETE", "/api/1/teaching/gong").status == 204
        assert site.ask("DELETE", "/api/1/teaching/gong").status == 404


def test_too_few_examples(site: Site, tmp_path: Path) -> None:
    """It is what `streamer teach` says, without a path of the machine; a counter-example is none of them."""
    begin = listened(site)
    assert site.ask("POST", "/api/1/teaching/chime", body={}).status == 404
    keep(site, begin + 3, begin + 7)
    keep(site, begin + 13, begin + 17, is_not=True)
    answer = site.ask("POST", "/api/1/teaching/chime", body={})
    expected = "chime: 1 clips are too few: 3 are needed, 5 and more are better"
    assert (answer.status, answer.fields["error"]) == (409, expected)


def test_who_may_teach(guarded: Site) -> None:
    """Guests see what was taught; they hear, keep and change nothing."""
    token = guarded.ask("POST", "/api/1/session", body={"password": "guests are welcome"})
    cookie = {"Cookie": token.headers["Set-Cookie"].partition(";")[0]}
    writing = {**cookie, "Content-Type": "application/json", "X-Streamer": "1"}
    assert guarded.ask("GET", "/api/1/teaching", headers=cookie).status == 200
    assert guarded.ask("GET", f"/api/1/teaching/a/examples/{'0' * 12}.flac", headers=cookie).status == 403
    for method, path in (
        ("POST", "teaching/a/examples"),
        ("DELETE", f"teaching/a/examples/{'0' * 12}"),
        ("POST", "teaching/a"),
        ("DELETE", "teaching/a"),
        ("POST", "sounds/siren/veto"),
        ("PUT", "sounds/siren/veto"),
        ("DELETE", "sounds/siren/veto"),
        ("POST", "recurring/ignored"),
    ):
        assert guarded.ask(method, f"/api/1/{path}", headers=writing, body={}).status == 403, path


@contextmanager
def lived(directory: Path) -> Iterator[Site]:
    """An hour ago something knocked and a dog barked, once in rain."""
    with served(directory, base=VALUES) as site:
        yield site


async def test_a_veto_is_shown_before_it_is_applied(tmp_path: Path) -> None:
    """What was proposed, and nothing else, is put in force, at once; it can be taken back."""
    begin = time.time() - 3600
    await knocked_in(tmp_path, begin)
    with reading(tmp_path) as reader:
        barks = list(reader.events(Filter(sound="bark")))
    (in_rain,) = [event for event in barks if abs(event.onset - begin - RAIN) < 3]
    with lived(tmp_path) as site:
        veto = "/api/1/sounds/bark/veto"
        early = site.ask("POST", veto, body={})
        assert (early.status, early.fields["error"]) == (409, "bark: none of its events was marked wrong")
        site.ask("PUT", f"/api/1/events/{in_rain.id}/review", body={"verdict": "wrong"})
        found = site.ask("POST", veto, body={}).fields
        assert (found["n_wrong"], found["n_unreviewed"]) == (1, 3)
        assert (found["same"], found["new"], found["gone"]) == (3, 0, 1)
        assert [(one["id"], one["verdict"]) for one in found["gone_events"]] == [(in_rain.id, "wrong")]
        assert "Rain" in found["held_back_by"]
        assert site.get("control")["room"]["vetoes"] == []
        assert site.ask("PUT", veto, body={"proposal": "0" * 12}).status == 409
        assert site.ask("PUT", veto, body={"proposal": found["proposal"]}).status == 204
        assert site.get("control")["room"]["vetoes"] == ["bark"]
        rule = site.control.in_force("room").sounds["bark"]
        assert rule.veto is not None and rule.veto.weights["Rain"] > 0
        assert site.ask("DELETE", veto).status == 204
        assert site.get("control")["room"]["vetoes"] == []


def test_what_nothing_may_hold_back(site: Site) -> None:
    """What is critical, what has no labels, and what does not exist."""
    for sound, status in {"smoke_alarm": 409, "loud_noise": 404, "nothing": 404, "--help": 404}.items():
        for method in ("POST", "PUT", "DELETE"):
            assert site.ask(method, f"/api/1/sounds/{sound}/veto", body={}).status == status


async def test_what_recurs(tmp_path: Path) -> None:
    """It is listed with when and what it is most like, and is left out once it is ignored."""
    await knocked_in(tmp_path, time.time() - 3600)
    with lived(tmp_path) as site:
        found = site.get("recurring?days=1")
        (one,) = found["sounds"]
        assert (one["n"], one["source"], one["most_like"][0]) == (len(KNOCKS), "room", "Knock")
        assert one["latest"] == sorted(one["latest"], reverse=True)
        left = site.ask("POST", "/api/1/recurring/ignored", body={"id": one["id"], "days": 1})
        assert (left.fields["sounds"], left.fields["ignored"]) == ([], 1)
        for body in (
            {"id": "--help"},
            {"id": 3},
            {"id": "0" * 6, "days": 1e9},
            {"id": "0" * 6, "days": True},
        ):
            assert site.ask("POST", "/api/1/recurring/ignored", body=body).status == 400
