"""Prints the table of faults at the end."""

from __future__ import annotations

import pytest

from tests.faults.table import FAULTS, lines


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if FAULTS:
        terminalreporter.section("faults")
        for line in lines():
            terminalreporter.write_line(line)
