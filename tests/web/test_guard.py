"""Who is let in, and to what: each rule of the guard over a real connection."""

from __future__ import annotations

import http.client
from pathlib import Path

import pytest

from streamer.errors import ConfigError
from streamer.web.guard import BODY_MAX, ScopedRoute
from tests.cli.command import outcome
from tests.web.conftest import PASSWORD
from tests.web.site import WRITING, Site, served

FOR_EVERYBODY = {("GET", "/"), ("GET", "/static/{name:path}"), ("POST", "/api/1/session")}


def routes(site: Site) -> list[ScopedRoute]:
    return list(site.page.routes)


def filled(path: str) -> str:
    """A path that a route matches."""
    values = {
        "{name:path}": "app.js",
        "{event_id}": "000000000001",
        "{clip_id}": "000000000001",
        "{source}": "kitchen",
        "{sound}": "siren",
        "{session_id}": "0" * 64,
        "{job}": "000000000001",
        "{name}": "chime",
    }
    for name, value in values.items():
        path = path.replace(name, value)
    assert "{" not in path, f"say here what stands for {path}"
    return path


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:8927", 200),
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("[::1]:8927", 200),
        ("home.example", 200),
        ("evil.com", 421),
        ("127.0.0.1.evil.com", 421),
        ("evil.com:127.0.0.1", 421),
        ("127.0.0.1@evil.com", 421),
        ("", 421),
        ("home.example.", 421),
    ],
)
def test_the_name_that_is_asked_for(guarded: Site, host: str, status: int) -> None:
    """A page of another name that leads here (DNS rebinding) reaches nothing."""
    assert guarded.ask("GET", "/", headers={"Host": host}).status == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (WRITING, 200),
        ({**WRITING, "Sec-Fetch-Site": "same-origin"}, 200),
        ({**WRITING, "Content-Type": "application/json; charset=utf-8"}, 200),
        ({"Content-Type": "application/json"}, 403),
        ({**WRITING, "X-Streamer": "2"}, 403),
        ({**WRITING, "Origin": "http://evil.com"}, 403),
        ({**WRITING, "Origin": "null"}, 403),
        ({**WRITING, "Sec-Fetch-Site": "cross-site"}, 403),
        ({**WRITING, "Sec-Fetch-Site": "same-site"}, 403),
        ({**WRITING, "Content-Type": "application/x-www-form-urlencoded"}, 403),
        ({**WRITING, "Content-Type": "text/plain"}, 403),
    ],
)
def test_pages_of_others_change_nothing(site: Site, headers: dict[str, str], status: int) -> None:
    """What changes something comes from this page or from a script."""
    answer = site.ask("PUT", "/api/1/control/kitchen/listen", headers=headers, body={"value": False})
    assert answer.status == status
    assert site.control.listens("kitchen") is (status != 200)


def test_no_page_of_another_origin_may_read(site: Site) -> None:
    """Nothing allows it: not a preflight, not the answer itself."""
    preflight = site.ask("OPTIONS", "/api/1/events", headers={"Origin": "http://evil.com"})
    answer = site.ask("GET", "/api/1/events", headers={"Origin": "http://evil.com"})
    for one in (preflight, answer):
        assert not [name for name in one.headers if name.lower().startswith("access-control")]


def test_every_route_says_whom_it_is_for(guarded: Site) -> None:
    """Without signing in, all but the page itself and signing in is refused; so is what does not exist."""
    open_to_all = set()
    for route in routes(guarded):
        for method in sorted((route.methods or set()) - {"HEAD"}):
            status = guarded.ask(method, filled(route.path), body={}).status
            if status == 401 and (method, route.path) != ("POST", "/api/1/session"):
                continue
            open_to_all.add((method, route.path))
    assert open_to_all == FOR_EVERYBODY
    assert guarded.ask("GET", "/api/1/nothing").status == 401


def test_the_routes_are_listed(site: Site) -> None:
    """`streamer web routes` has those of the server, and who may reach them."""
    listed = {tuple(line.split()) for line in outcome("web", "routes").out.splitlines()}
    served = {
        (method, route.path, route.needs or "everybody")
        for route in routes(site)
        for method in (route.methods or set()) - {"HEAD"}
    }
    metrics = {("GET", "/metrics", "look"), ("GET", "/healthz", "everybody")}  # the site is without them
    assert listed == served | metrics


def test_signing_in(guarded: Site) -> None:
    """A cookie that scripts of a page cannot read, and that is over when the browser signs out."""
    answer = guarded.ask("POST", "/api/1/session", body={"password": PASSWORD})
    assert answer.fields == {"scopes": ["hear", "look", "owner", "write"]}
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    secret = {"Cookie": cookie.partition(";")[0]}
    assert guarded.ask("GET", "/api/1/events", headers=secret).status == 200
    assert guarded.ask("DELETE", "/api/1/session", headers={**WRITING, **secret}).status == 204
    assert guarded.ask("GET", "/api/1/events", headers=secret).status == 401


def test_guests_look(guarded: Site) -> None:
    """And hear and change nothing."""
    answer = guarded.ask("POST", "/api/1/session", body={"password": "guests are welcome"})
    secret = {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}
    assert guarded.ask("GET", "/api/1/events", headers=secret).status == 200
    clip = guarded.ask("GET", "/api/1/clips/000000000001.flac", headers=secret)
    assert (clip.status, clip.fields) == (403, {"error": "this needs the scope hear"})
    path = "/api/1/events/000000000001/review"
    refused = guarded.ask("PUT", path, headers={**WRITING, **secret}, body={"verdict": "right"})
    assert (refused.status, refused.fields) == (403, {"error": "this needs the scope write"})


def test_guessing(guarded: Site) -> None:
    """The sixth wrong password within a minute has to wait, and so has the right one."""
    for _ in range(5):
        assert guarded.ask("POST", "/api/1/session", body={"password": "wrong again"}).status == 401
    refused = guarded.ask("POST", "/api/1/session", body={"password": PASSWORD})
    assert refused.status == 429
    assert 0 < int(refused.headers["Retry-After"]) <= 61


def test_a_new_password_ends_every_session(guarded: Site, tmp_path: Path) -> None:
    """A stolen cookie is worth nothing any more, nor is a token."""
    token = owner_token(guarded)
    assert guarded.ask("GET", "/api/1/events", token=token).status == 200
    (tmp_path / "web-password").write_text("another password\n")
    assert guarded.ask("GET", "/api/1/events", token=token).status == 401


def owner_token(site: Site, scopes: tuple[str, ...] = ("look",)) -> str:
    """By the password of the owner."""
    answer = site.ask("POST", "/api/1/session", body={"password": PASSWORD})
    cookie = {"Cookie": answer.headers["Set-Cookie"].partition(";")[0], **WRITING}
    made = site.ask("POST", "/api/1/tokens", headers=cookie, body={"name": "script", "scopes": list(scopes)})
    assert made.status == 201
    token: str = made.fields["token"]
    return token


def test_tokens_of_scripts(guarded: Site, tmp_path: Path) -> None:
    """They can what they were made for, and are kept as hashes."""
    token = owner_token(guarded)
    assert guarded.ask("GET", "/api/1/events", token=token).status == 200
    assert (
        guarded.ask("PUT", "/api/1/control/kitchen/listen", body={"value": True}, token=token).status == 403
    )
    assert guarded.ask("GET", "/api/1/tokens", token=token).status == 403
    assert token not in (tmp_path / "web-sessions.json").read_text()


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Ingress-Path": "/api/hassio_ingress/abc", "X-Remote-User-Id": "1"},
        {"X-Forwarded-For": "127.0.0.2"},
        {"Forwarded": "for=127.0.0.2"},
    ],
)
def test_headers_of_a_proxy_that_is_none(guarded: Site, headers: dict[str, str]) -> None:
    """Whoever is not a trusted proxy cannot say who somebody is."""
    assert guarded.ask("GET", "/api/1/events", headers=headers).status == 401


def test_ingress_of_home_assistant(tmp_path: Path) -> None:
    """The supervisor has signed the user in; the page may stand in its frame, and in no other."""
    (tmp_path / "web-password").write_text(f"{PASSWORD}\n")
    with served(tmp_path, ingress_proxies=["127.0.0.1"]) as site:
        headers = {"Host": "homeassistant.local:8123", "X-Ingress-Path": "/api/hassio_ingress/ab-c_1"}
        answer = site.ask("GET", "/api/1/info", headers=headers)
        assert (answer.status, answer.fields["signed_in"]) == (200, False)
        assert "owner" in answer.fields["scopes"]
        assert "frame-ancestors 'self'" in answer.headers["Content-Security-Policy"]
        headers["X-Ingress-Path"] = "/api/hassio_ingress/../x"
        assert site.ask("GET", "/api/1/info", headers=headers).status == 421
        assert "frame-ancestors 'none'" in site.ask("GET", "/").headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "name",
    [
        "../api.py",
        "..%2f..%2fapi.py",
        "%252e%252e/api.py",
        "vendor/../../api.py",
        "..\\api.py",
        "app.js%00",
        "/etc/passwd",
        "a" * 5000,
        "vendor",
        "",
    ],
)
def test_files_outside(site: Site, name: str) -> None:
    """Files are those that were read at the start, by their exact names."""
    assert site.ask("GET", f"/static/{name}").status == 404


def test_large_requests(site: Site) -> None:
    """Refused by their header, and by their bytes where the header does not say."""
    assert site.ask("PUT", "/api/1/control/kitchen/listen", body=b"x" * (BODY_MAX + 1)).status == 413
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=30)
    chunks = (b"x" * 4096 for _ in range(BODY_MAX // 4096 + 2))
    connection.request("PUT", "/api/1/control/kitchen/listen", chunks, WRITING, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


def test_an_open_page_needs_a_password(tmp_path: Path) -> None:
    """Else everybody on the network would own the daemon."""
    web = {"host": "0.0.0.0"}  # noqa: S104  # what is refused
    with pytest.raises(ConfigError, match="streamer web password") as refused, served(tmp_path, **web):
        pass
    assert refused.value.exit_code == 78


def test_a_password_that_is_lost(tmp_path: Path) -> None:
    """Beyond loopback nobody gets in while there is none, rather than everybody."""
    (tmp_path / "web-password").write_text(f"{PASSWORD}\n")
    with served(tmp_path, host="0.0.0.0") as site:  # noqa: S104  # beyond loopback
        (tmp_path / "web-password").unlink()
        assert site.ask("GET", "/api/1/events").status == 401
