"""The command in the process of the tests, for where its start and its end as a process are not the point."""

from __future__ import annotations

import io
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest

from streamer.cli import main

ZONE = "Pacific/Auckland"
"""of all commands: hours from UTC, so that a time in the wrong zone is seen"""


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


def outcome(*arguments: object, state: Path | None = None, given: str = "") -> Outcome:
    """What the command does with a state directory, and `given` on its standard input."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["streamer", *map(str, arguments)])
        patch.setattr(sys, "stdin", io.StringIO(given))
        if state is not None:
            patch.setenv("STATE_DIRECTORY", str(state))
        patch.setenv("COLUMNS", "200")
        patch.setenv("TZ", ZONE)
        time.tzset()
        with pytest.raises(SystemExit) as stop:
            main()
            raise SystemExit(0)
    time.tzset()
    code = stop.value.code
    return Outcome(code if isinstance(code, int) else int(code is not None), out.getvalue(), err.getvalue())


def streamer(state: Path, *arguments: object, fails: int = 0) -> str:
    """What the command says: on success its output, else its one line of error."""
    code, out, err = outcome(*arguments, state=state)
    assert code == fails, out + err
    if fails:
        assert err.count("\n") == 1, err
        return err
    assert err == ""
    return out
