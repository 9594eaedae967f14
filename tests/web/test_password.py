"""`streamer web password`: the real command, from a pipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.command import Outcome, outcome
from tests.web.conftest import fill
from tests.web.site import served


def set_password(state: Path, text: str, *arguments: str) -> Outcome:
    return outcome("web", "password", *arguments, state=state, given=f"{text}\n")


def test_a_password(tmp_path: Path) -> None:
    """Kept as a hash that its owner alone can read; it holds at once, also for a page that is served."""
    fill(tmp_path, 1)
    with served(tmp_path) as site:
        assert site.ask("GET", "/api/1/events").status == 200
        done = set_password(tmp_path, "correct horse")
        assert (done.code, done.err) == (0, "")
        file = tmp_path / "web-password"
        assert file.stat().st_mode & 0o777 == 0o600
        assert file.read_text().startswith("scrypt$")
        assert "correct horse" not in file.read_text()
        assert site.ask("GET", "/api/1/events").status == 401
        assert site.ask("POST", "/api/1/session", body={"password": "correct horse"}).status == 200
        set_password(tmp_path, "for visitors", "--guest")
        answer = site.ask("POST", "/api/1/session", body={"password": "for visitors"})
        assert answer.fields == {"scopes": ["look"]}


@pytest.mark.parametrize("text", ["", "short", "nine char"])
def test_a_password_that_is_too_short(tmp_path: Path, text: str) -> None:
    """Nothing is written."""
    done = set_password(tmp_path, text)
    assert done.code == 78
    assert "at least 10 characters" in done.err
    assert list(tmp_path.iterdir()) == []
