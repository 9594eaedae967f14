"""What all tests share: fixtures, each in a file of its own, and where it is kept which engine is fastest."""

from __future__ import annotations

import os

import pytest

pytest_plugins = ["tests.mosquitto", "tests.pulse"]


def pytest_configure(config: pytest.Config) -> None:
    """Daemons of the tests measure the engines once, not each anew, and leave the user's own cache alone."""
    if cache := getattr(config, "cache", None):  # none with `-p no:cacheprovider`
        os.environ["CACHE_DIRECTORY"] = str(cache.mkdir("engines"))
