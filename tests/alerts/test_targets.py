"""Where alerts go: from a file, a credential or the environment, and what is said where that is wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from streamer.alerts.targets import read_targets
from streamer.errors import ConfigError
from tests.alerts.receiver import SECRET

URL = f"json://{SECRET}@127.0.0.1:1/"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("CREDENTIALS_DIRECTORY", "STREAMER_ALERT_URLS"):
        monkeypatch.delenv(variable, raising=False)


def test_a_line_is_a_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the credential, else the file, else the environment; notes and empty lines say nothing."""
    file = tmp_path / "urls"
    file.write_text(f"# the family\n\nphone {URL}\n  mail   {URL}  \n", encoding="utf-8")
    monkeypatch.setenv("STREAMER_ALERT_URLS", f"door {URL}")
    assert [target.name for target in read_targets(None)] == ["door"]
    assert [target.name for target in read_targets(file)] == ["phone", "mail"]
    (tmp_path / "alert-urls").write_text(f"tablet {URL}\n", encoding="utf-8")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert [target.name for target in read_targets(file)] == ["tablet"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "names no target"),
        ("# phone\n", "names no target"),
        (f"{URL}\n", "line 1: should be a name"),
        (f"phone {URL}\nPhone {URL}\n", "line 2: should be a name"),
        ("phone\n", "line 1: should be a name"),
        (f"phone {URL}\nphone {URL}\n", "line 2: there is a target phone already"),
        (f"phone nonsense://{SECRET}\n", "the address of phone is none that Apprise knows"),
        (f"phone {SECRET}\n", "the address of phone is none that Apprise knows"),
    ],
)
def test_a_wrong_line_is_named_and_not_shown(
    tmp_path: Path,
    text: str,
    reason: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """One line for people, in which no address appears: it may be a secret with a mistake in it."""
    file = tmp_path / "urls"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=reason) as found:
        read_targets(file)
    assert SECRET not in f"{found.value}{caplog.text}{''.join(capfd.readouterr())}"
    assert "\n" not in str(found.value)


def test_a_file_that_is_not_there_and_nothing_at_all(tmp_path: Path) -> None:
    """What is missing is said."""
    with pytest.raises(ConfigError, match=r"alerts\.urls_file: .*urls cannot be read: No such file"):
        read_targets(tmp_path / "urls")
    with pytest.raises(ConfigError, match=r"set urls_file, or \$STREAMER_ALERT_URLS"):
        read_targets(None)


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A light installation says what to install, and only where alerts are asked for."""
    monkeypatch.setitem(sys.modules, "apprise", None)
    monkeypatch.setenv("STREAMER_ALERT_URLS", f"phone {URL}")
    with pytest.raises(ConfigError, match=r"pip install 'streamer\[notify\]'"):
        read_targets(None)
