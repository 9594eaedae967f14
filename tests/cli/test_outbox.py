"""`streamer outbox`: a look, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from streamer.cli import outbox as command
from streamer.metrics import Metrics
from streamer.store.outbox import FILE, Outbox
from tests.reports import occurrence


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory, as systemd gives one."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    return tmp_path


def show(*arguments: str) -> str:
    app = typer.Typer()
    command.register(app)
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_what_waits_and_what_was_refused(directory: Path) -> None:
    """Depth, age, and each refused event with its reason; damaged files are named."""
    box = Outbox(directory, "pi", Metrics())
    box.append(occurrence("e1"))
    first = box.first()
    assert first is not None
    box.refuse(first.id, "the broker refuses it (Not authorized)")
    (directory / f"{FILE}.damaged-1").touch()
    said = show()
    assert "2 events" in said
    assert "kitchen/event/start  dog_bark: the broker refuses it (Not authorized)" in said
    assert f"{FILE}.damaged-1" in said
    told = json.loads(show("--json"))
    assert (told["depth"], len(told["refused"]), told["directory"]) == (2, 1, str(directory))
    box.close()


def test_nothing_waits(directory: Path) -> None:
    """That all was delivered is said in words."""
    box = Outbox(directory, "pi", Metrics())
    box.append(())
    box.close()
    assert "the broker has it all" in show()
