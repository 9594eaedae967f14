"""The short form of `make chaos`."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

DEADLINE_S = 420


def test_nothing_is_lost_in_sixty_faults() -> None:
    """Kills, resets, black holes, a broker that restarts or freezes, a full disk: all is told, in order."""
    command = [sys.executable, "-m", "tests.chaos", "--faults", "60", "--pause", "0.9", "--seed", "5"]
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=DEADLINE_S)
    print(result.stdout)
    assert result.returncode == 0, result.stdout + result.stderr
