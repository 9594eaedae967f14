"""What the API answers, over a real history and a real connection."""

from __future__ import annotations

import csv
import io
import json
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import psutil
import pytest

from streamer.store.clips import clip_path
from streamer.store.edit import editing
from streamer.store.flac import encode
from streamer.store.history import CLIP_ID, set_clip, table_of
from streamer.store.query import reading
from tests.web.conftest import N, fill
from tests.web.site import Answer, Site, served
from tests.web.test_guard import owner_token


def days(site: Site) -> tuple[str, str]:
    """The days of the history, in the home's zone."""
    today = datetime.fromisoformat(site.get("info")["today"])
    return (today - timedelta(days=1)).date().isoformat(), today.date().isoformat()


def test_what_the_page_begins_with(site: Site) -> None:
    """Names as people gave them, what may be done, and the home's day."""
    info = site.get("info")
    assert [(one["id"], one["name"]) for one in info["sources"]] == [("kitchen", "Küche"), ("hall", "Hall")]
    assert [one["name"] for one in info["sounds"]] == ["Dog bark", "Siren", "Smoke alarm", "Loud noise"]
    assert [one["heard"] for one in info["sounds"]][3] == ""
    assert info["scopes"] == ["hear", "look", "owner", "write"]


def test_every_event_once(site: Site) -> None:
    """Page by page, newest first, and none twice, whatever comes meanwhile."""
    seen, after = list[str](), ""
    while True:
        found = site.get(f"events?limit=25&after={after}")
        seen += [event["id"] for event in found["events"]]
        if found["next"] is None:
            break
        after = found["next"]
    assert seen == [f"{k:012x}" for k in range(N)]


def test_filters(site: Site) -> None:
    """By source, sound, verdict and day; a name that nothing has finds nothing."""
    assert {e["sound"] for e in site.get("events?sound=siren&limit=200")["events"]} == {"siren"}
    assert {e["source"] for e in site.get("events?source=hall&limit=200")["events"]} == {"hall"}
    assert site.get("events?source=%27%20OR%201=1--")["events"] == []
    assert site.get("events?verdict=right")["events"] == []
    assert site.get("events?day=2001-01-01")["events"] == []
    found = [e for day in days(site) for e in site.get(f"events?day={day}&limit=200")["events"]]
    assert len(found) == N
    first, last = days(site)
    assert len(site.get(f"events?from={first}&to={last}&limit=200")["events"]) == N
    assert len(site.get(f"events?from={first}&limit=200")["events"]) == N
    assert site.get("events?to=2001-01-01")["events"] == []


def test_filters_of_score_and_clip(site: Site, tmp_path: Path) -> None:
    """In the list, in files and among reports: those of such a peak at least, those that can be heard."""
    kept_clip(tmp_path, "000000000003")
    peak = site.get("events/000000000003")["event"]["peak"]
    assert len(site.get(f"events?min_peak={peak}&limit=200")["events"]) == N
    assert site.get(f"events?min_peak={peak + 0.001}")["events"] == []
    assert [e["id"] for e in site.get("events?clip=kept")["events"]] == ["000000000003"]
    assert site.get("events?clip=kept&sound=dog_bark")["events"] == []
    lines = site.ask("GET", "/api/1/events.jsonl?clip=kept&min_peak=0.5").body.decode().splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["000000000003"]
    assert site.get("missed?clip=kept") == site.get("missed?min_peak=0.1") == {"missed": []}
    for query in ("clip=no", "min_peak=2", "min_peak=nan", "min_peak=x"):
        assert site.ask("GET", f"/api/1/events?{query}").status == 400


def test_one_event(site: Site) -> None:
    """With all that is known, and why it is there, in words."""
    found = site.get("events/000000000000")
    assert found["event"]["duration_s"] == 2.5
    assert found["event"]["onset"].endswith("Z")
    assert found["explain"][0] == "Its score reached 0.93; it starts at 0.66 and ends below 0.33."
    assert site.ask("GET", "/api/1/events/ffffffffffff").status == 404
    assert site.ask("GET", "/api/1/events/0").status == 404


def test_a_review(site: Site) -> None:
    """Stands at once, does not count in the hours when it is wrong, and can be taken back."""
    first, last = days(site)

    def n_counted() -> int:
        return sum(one["n"] for one in site.get(f"hours?from={first}&to={last}&by=hour")["counts"])

    assert n_counted() == N
    path = "/api/1/events/000000000002/review"
    answer = site.ask("PUT", path, body={"verdict": "wrong", "sound": "siren", "note": "<img src=x>"})
    assert answer.fields["event"]["verdict"] == "wrong"
    assert answer.fields["event"]["verdict_sound"] == "siren"
    assert answer.fields["event"]["note"] == "<img src=x>"
    assert [e["id"] for e in site.get("events?verdict=wrong")["events"]] == ["000000000002"]
    assert n_counted() == N - 1
    assert site.ask("DELETE", path).fields["event"]["verdict"] is None
    assert n_counted() == N


def test_a_review_of_many(site: Site) -> None:
    """All of them in one request, or none where one is not there."""
    path, ids = "/api/1/events/review", [f"{k:012x}" for k in range(3)]
    body = {"ids": ids, "verdict": "wrong", "sound": "siren"}
    assert site.ask("POST", path, body={**body, "ids": [*ids, "f" * 12]}).status == 404
    assert site.get("events?verdict=wrong")["events"] == []
    assert site.ask("POST", path, body=body).status == 204
    assert [one["id"] for one in site.get("events?verdict=wrong")["events"]] == ids
    for wrong in ([], "0" * 12, [1], ids * 200):
        answer = site.ask("POST", path, body={**body, "ids": wrong})
        assert (answer.status, answer.fields["error"]) == (400, "ids are those of at most 500 events")


def test_hours_of_a_day_without_an_hour(site: Site) -> None:
    """Each event is counted in one hour, by weekday too, and none is lost between days."""
    first, last = days(site)
    by_weekday = site.get(f"hours?from={first}&to={last}&by=weekday")["counts"]
    assert sum(one["n"] for one in by_weekday) == N
    assert all(0 <= one["hour"] < 24 and 0 <= one["weekday"] < 7 for one in by_weekday)


def test_a_spreadsheet(site: Site) -> None:
    """Every event, a row; no cell is a formula."""
    answer = site.ask("GET", "/api/1/events.csv")
    rows = list(csv.DictReader(io.StringIO(answer.body.decode())))
    assert len(rows) == N
    assert (rows[0]["id"], rows[0]["level_dbfs"]) == ("000000000000", "-31.3")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="events.csv"'


def test_other_files(site: Site) -> None:
    """Lines of JSON with all fields; a label track that begins with the first event."""
    lines = site.ask("GET", "/api/1/events.jsonl?sound=siren").body.decode().splitlines()
    assert len(lines) == N // 2
    assert json.loads(lines[0])["rule"]["on"] == 0.66
    labels = site.ask("GET", "/api/1/events.audacity?sound=siren").body.decode().splitlines()
    assert labels[0] == "0.000\t2.500\tsiren"
    assert labels[1].split("\t")[0] == "120.000"


def test_a_sound_that_was_missed(site: Site, tmp_path: Path) -> None:
    """Is noted, with the time that it lasted; it is listed with its clip, and may be taken back."""
    body = {
        "source": "kitchen",
        "sound": "siren",
        "onset": "2026-11-25T03:00:00Z",
        "offset": "2026-11-25T03:00:02.5Z",
    }
    added = site.ask("POST", "/api/1/missed", body=body)
    assert (added.status, added.fields["id"]) == (201, "missed-1")
    with reading(tmp_path) as reader:
        (missed,) = reader.missed()
    assert (missed.source, missed.sound, missed.offset - missed.onset) == ("kitchen", "siren", 2.5)
    assert site.get("missed?day=2026-11-25")["missed"] == [added.fields]
    for other in ("day=2026-11-23", "sound=dog_bark", "source=hall"):
        assert site.get(f"missed?{other}")["missed"] == []
    assert site.ask("GET", "/api/1/clips/missed-1.flac").status == 404
    path = kept_clip(tmp_path, "missed-1")
    assert site.get("missed/missed-1")["clip"] == "kept"
    assert site.ask("GET", "/api/1/clips/missed-1.flac").body == path.read_bytes()
    assert site.get("clips/missed-1/spectrum")["n"] == 96
    assert site.ask("DELETE", "/api/1/missed/missed-1").status == 204
    assert not path.exists()
    assert site.ask("DELETE", "/api/1/missed/missed-1").status == 404
    for wrong, words in (
        ({"onset": "yesterday"}, "onset is a time, as in"),
        ({"onset": "2026-11-25T03:00:00"}, "onset is a time, as in"),
        ({"offset": "2026-11-25T03:00:00Z"}, "offset is after onset"),
        ({"sound": "cat"}, "source and sound are those of the configuration"),
        ({"source": []}, "source and sound are those of the configuration"),
    ):
        answer = site.ask("POST", "/api/1/missed", body={**body, **wrong})
        assert answer.status == 400
        assert words in answer.fields["error"]


def test_what_is_in_force(site: Site) -> None:
    """The same values as over MQTT: whoever changes one, the others see it."""
    changed = list[str]()
    site.control.subscribe(changed.append)
    site.ask("PUT", "/api/1/control/kitchen/threshold/dog_bark", body={"value": 0.9})
    site.ask("PUT", "/api/1/control/kitchen/profile", body={"value": "eager"})
    site.ask("PUT", "/api/1/control/kitchen/sound/siren", body={"value": False})
    site.ask("PUT", "/api/1/control/kitchen/mute", body={"value": True})
    found = site.ask("PUT", "/api/1/control/hall/listen", body={"value": False}).fields
    assert changed == ["kitchen"] * 4 + ["hall"]
    assert found == site.get("control")
    assert found["kitchen"]["thresholds"]["dog_bark"] == {"set": 0.9, "on": 0.8182, "off": 0.4091}
    assert found["kitchen"]["sounds"] == {
        "dog_bark": True,
        "siren": False,
        "smoke_alarm": True,
        "loud_noise": True,
    }
    assert 3590 <= found["kitchen"]["muted_s"] <= 3600
    assert (found["kitchen"]["listen"], found["hall"]["listen"]) == (True, False)
    assert "siren" not in site.control.in_force("kitchen").sounds


@pytest.mark.parametrize(
    ("method", "path", "body", "words"),
    [
        ("GET", "events?limit=0", None, "limit is a number from 1 to 200"),
        ("GET", "events?limit=nan", None, "limit is a number from 1 to 200"),
        ("GET", "events?after=x", None, "after is the `next` of an earlier answer"),
        ("GET", "events?after=inf,1", None, "after is the `next` of an earlier answer"),
        ("GET", "events?verdict=maybe", None, "verdict is right, wrong or none"),
        ("GET", "events?day=tomorrow", None, "day is a day, as in 2026-11-25"),
        ("GET", "hours?from=2026-01-01&to=2026-12-31", None, "from and to are days, at most 92 apart"),
        ("GET", "hours?from=2026-01-01", None, "to is a day, as in 2026-11-25"),
        ("PUT", "events/000000000001/review", {"verdict": "maybe"}, "a verdict is right or wrong"),
        (
            "PUT",
            "events/000000000001/review",
            {"verdict": "wrong", "sound": "cat"},
            "sound is none of the configuration's",
        ),
        (
            "PUT",
            "events/000000000001/review",
            {"verdict": "wrong", "note": ["x"]},
            "a note is a text of at most 1000 characters",
        ),
        (
            "PUT",
            "control/kitchen/threshold/dog_bark",
            {"value": 1.5},
            "value is a number from 0.01 to 0.99",
        ),
        (
            "PUT",
            "control/kitchen/threshold/dog_bark",
            {"value": True},
            "value is a number from 0.01 to 0.99",
        ),
        ("PUT", "control/kitchen/listen", {"value": "yes"}, "value is true or false"),
        ("PUT", "control/kitchen/profile", {"value": "loud"}, "value is one of: quiet, balanced, eager"),
        ("PUT", "control/kitchen/profile", {"value": ["low"]}, "value is one of: quiet, balanced, eager"),
        (
            "PUT",
            "events/000000000001/review",
            {"verdict": "wrong", "sound": {}},
            "sound is none of the configuration's",
        ),
        ("POST", "tokens", {"name": "x", "scopes": [[]]}, "scopes are: hear, look, owner, write"),
        ("PUT", "control/kitchen/listen", [], "the body is a JSON object"),
        ("PUT", "control/kitchen/listen", b"{", "the body is not JSON"),
        ("PUT", "control/kitchen/listen", b"[" * 50_000, "the body is not JSON"),
        ("POST", "tokens", {"name": "", "scopes": ["look"]}, "a token has a name, at most 60 long"),
        ("POST", "tokens", {"name": "x", "scopes": ["root"]}, "scopes are: hear, look, owner, write"),
        ("POST", "session", {"password": 7}, "a password is a text"),
    ],
)
def test_what_cannot_be(site: Site, method: str, path: str, body: object, words: str) -> None:
    """One sentence that says what is right."""
    answer = site.ask(method, f"/api/1/{path}", body=body)
    assert answer.status == 400
    assert words in answer.fields["error"]


@pytest.mark.parametrize(
    "path", ["control/cellar/listen", "control/kitchen/threshold/loud_noise", "control/kitchen/sound/cat"]
)
def test_what_is_not_there(site: Site, path: str) -> None:
    """No source, no sound, or a sound without a threshold."""
    assert site.ask("PUT", f"/api/1/{path}", body={"value": True}).status == 404


def test_no_history(site: Site, tmp_path: Path) -> None:
    """A history that is gone is said; the page goes on."""
    for file in tmp_path.glob("events.sqlite3*"):
        file.unlink()
    answer = site.ask("GET", "/api/1/events")
    assert answer.status == 404
    assert "there is no history" in answer.fields["error"]
    assert "there is no history" in site.get("health")["store"]["problem"]
    assert site.get("info")["version"]


def test_health(site: Site) -> None:
    """What the daemon says of itself, and what the history takes."""
    health = site.get("health")
    assert health["line"] == "all is well"
    assert health["store"]["events"] == N
    assert health["store"]["bytes"] > 0
    assert datetime.fromisoformat(health["store"]["since"]) < datetime.now(UTC)
    assert health["store"]["rooms"] == {"scores": {"bytes": 0, "most": 2 * 1024 << 20}}  # two sources


def kept_clip(directory: Path, event_id: str, seconds: float = 6.0) -> Path:
    """A clip of an event that begins a second before its onset."""
    table = table_of(event_id)
    with editing(directory) as db:
        query = f"SELECT onset FROM {table} WHERE {CLIP_ID[table]} = ?"  # noqa: S608  constants
        (onset,) = db.execute(query, (event_id,)).fetchone()
        set_clip(db, event_id, "kept", onset - 1, onset - 1 + seconds, 1000)
    path = clip_path(directory, event_id, onset - 1)
    path.parent.mkdir(parents=True)
    times = np.arange(round(16_000 * seconds)) / 16_000
    path.write_bytes(encode((0.1 * np.sin(2 * np.pi * 1000 * times)).astype(np.float32), 16_000))
    return path


def test_a_clip(site: Site, tmp_path: Path) -> None:
    """The file as it is, a part of it, and its spectrogram; it may be pinned, and deleted."""
    path = kept_clip(tmp_path, "000000000001")
    whole = site.ask("GET", "/api/1/clips/000000000001.flac")
    assert (whole.status, whole.headers["Content-Type"]) == (200, "audio/flac")
    assert whole.body == path.read_bytes()
    part = site.ask("GET", "/api/1/clips/000000000001.flac", headers={"Range": "bytes=0-99"})
    assert (part.status, part.body) == (206, whole.body[:100])
    drawn = site.get("clips/000000000001/spectrum")
    assert (drawn["n"], drawn["end"] - drawn["start"]) == (96, pytest.approx(6.0))
    pinned = site.ask("PUT", "/api/1/events/000000000001/pin", body={"value": True})
    assert pinned.fields["event"]["pinned"] is True
    assert site.get("health")["store"]["rooms"]["clips"] == {"bytes": 1000, "most": 2000 << 20}
    assert site.ask("DELETE", "/api/1/clips/000000000001").status == 204
    assert not path.exists()
    assert site.get("events/000000000001")["event"]["clip"] == "deleted"
    assert site.ask("DELETE", "/api/1/clips/000000000001").status == 404


@pytest.mark.parametrize(
    "event_id",
    [
        *("000000000002", "ffffffffffff", "..%2f..%2fetc%2fpasswd", "%252e%252e%252fweb-password"),
        *("..\\web-password", "000000000001%00", "0" * 10_000),
    ],
)
def test_a_clip_that_is_not_there(site: Site, event_id: str) -> None:
    """Not kept, no event, or no id at all."""
    assert site.ask("GET", f"/api/1/clips/{event_id}.flac").status == 404
    assert site.ask("GET", f"/api/1/clips/{event_id}/spectrum").status == 404


def test_a_link_in_place_of_a_clip(site: Site, tmp_path: Path) -> None:
    """Is not followed."""
    path = kept_clip(tmp_path, "000000000001")
    path.unlink()
    path.symlink_to("/etc/passwd")
    assert site.ask("GET", "/api/1/clips/000000000001.flac").status == 404


def test_why_without_scores(site: Site) -> None:
    """What is asked for is checked, and what was not kept is said."""
    at = "at=2026-11-25T03:00:00Z"
    for query, words in (
        (f"source=kitchen&sound=cat&{at}", "source and sound are those of the configuration"),
        (f"source=--config&sound=siren&{at}", "source and sound are those of the configuration"),
        ("source=kitchen&sound=siren&at=yesterday", "at is a time, as in"),
    ):
        refused = site.ask("GET", f"/api/1/explain?{query}")
        assert (refused.status, words in refused.fields["error"]) == (400, True)
    answer = site.ask("GET", f"/api/1/explain?source=kitchen&sound=siren&{at}")
    assert (answer.status, "scores" in answer.fields["error"]) == (409, True)


def test_no_log_of_scores(site: Site) -> None:
    """What was not kept is null, and says so where it is asked for."""
    scores = site.get("events/000000000001/scores")
    assert list(scores["labels"]) == ["Dog"]
    assert set(scores["labels"]["Dog"]) == {None}
    answer = site.ask("GET", "/api/1/sounds/siren/curve")
    assert answer.status == 409
    assert answer.fields["error"].startswith("no scores were kept")  # and no path of the machine
    assert site.ask("GET", "/api/1/sounds/loud_noise/curve").status == 404
    assert site.ask("GET", "/api/1/sounds/siren/curve?source=cellar").status == 404


def trial_of(site: Site, **body: object) -> Answer:
    return site.ask("POST", "/api/1/replay", body={"thresholds": {"siren": 0.7}, **body})


def test_a_trial(site: Site) -> None:
    """One runs at a time; it can be ended; one that fails says why; its answer stays until the next."""
    first = trial_of(site, source="kitchen", days=3)
    assert (first.status, first.fields["state"]) == (202, "running")
    assert trial_of(site).status == 409
    path = f"/api/1/replay/{first.fields['job']}"
    assert site.ask("DELETE", path).status == 204
    assert site.ask("GET", path).status == 404
    second = trial_of(site).fields
    deadline = time.monotonic() + 60
    while (now := site.get(f"replay/{second['job']}"))["state"] == "running":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert now["state"] == "failed"
    assert "no scores were kept" in now["error"]
    assert site.get(f"replay/{second['job']}") == now


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"thresholds": None}, 400),
        ({"thresholds": {}}, 400),
        ({"thresholds": {"siren": "0.5"}}, 400),
        ({"thresholds": {"siren": True}}, 400),
        ({"thresholds": {"siren": 1e9}}, 400),
        ({"thresholds": {"loud_noise": 0.5}}, 404),
        ({"thresholds": {"--config=/etc/passwd": 0.5}}, 404),
        ({"source": "cellar"}, 404),
        ({"source": ["kitchen"]}, 404),
        ({"days": 0}, 400),
        ({"days": 31}, 400),
        ({"days": 1.5}, 400),
    ],
)
def test_a_trial_of_nonsense(site: Site, body: dict[str, object], status: int) -> None:
    """Begins nothing: each value is one of the configuration's, or a number within its bounds."""
    assert trial_of(site, **body).status == status


def test_a_trial_ends_with_the_page(tmp_path: Path) -> None:
    """No process of it is left, though it had only begun."""
    fill(tmp_path, 1)
    others = set(psutil.Process().children())  # of tests before, as a fork server
    with served(tmp_path) as site:
        assert trial_of(site).status == 202
        deadline = time.monotonic() + 30
        while not (children := set(psutil.Process().children()) - others):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert not any(child.is_running() and child.status() != "zombie" for child in children)


def test_the_description_is_whole(site: Site) -> None:
    """Every route of the API is in the OpenAPI document, with a sentence, its parameters and its scope."""
    document = site.get("openapi.json")
    assert document["openapi"].startswith("3.1")
    described = {
        (method.upper(), path): one for path, of in document["paths"].items() for method, one in of.items()
    }
    served = {
        (method, route.path): route
        for route in site.page.routes
        if route.path.startswith("/api/1/")
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert described.keys() == served.keys()
    for key, one in described.items():
        assert one["summary"], key
        assert [p["name"] for p in one["parameters"] if p["in"] == "path"] == re.findall(r"{(\w+)}", key[1])
        needs = served[key].needs
        assert one["security"] == ([] if needs is None else [{"session": [needs]}, {"token": [needs]}])
    assert len({one["operationId"] for one in described.values()}) == len(described)
    text = json.dumps(document)
    referenced = set(re.findall(r'"#/components/schemas/(\w+)"', text))
    schemas = document["components"]["schemas"]
    assert referenced | {name for name in schemas if name.startswith("Live")} == set(schemas)


def test_a_script_cannot_weaken_an_alarm(guarded: Site) -> None:
    """A token that may write may not switch off what is critical, nor make it harder to hear."""
    token = owner_token(guarded, ("write",))
    for path, value in (
        ("listen", False),
        ("sound/smoke_alarm", False),
        ("threshold/smoke_alarm", 0.9),
        ("profile", "quiet"),
    ):
        answer = guarded.ask("PUT", f"/api/1/control/kitchen/{path}", body={"value": value}, token=token)
        assert (answer.status, answer.fields["error"]) == (
            403,
            "a critical sound: this needs the scope owner",
        )
    answer = guarded.ask("PUT", "/api/1/control/kitchen/sound/siren", body={"value": False}, token=token)
    assert answer.status == 200
