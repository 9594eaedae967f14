"""What all tests share: fixtures, each in a file of its own, their order, where the best engine is noted."""

from __future__ import annotations

import os

import pytest

pytest_plugins = ["tests.mosquitto", "tests.pulse"]


def pytest_configure(config: pytest.Config) -> None:
    """Daemons of the tests measure the engines once, not each anew, and leave the user's own cache alone."""
    if cache := getattr(config, "cache", None):  # none with `-p no:cacheprovider`
        os.environ["CACHE_DIRECTORY"] = str(cache.mkdir("engines"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each parallel process gets an equal run of the list, its slow tests first: so all end together."""
    n = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    slow = [item for item in items if item.get_closest_marker("slow")]
    quick = [item for item in items if not item.get_closest_marker("slow")]
    items[:] = [item for k in range(n) for part in (slow, quick) for item in _share(part, k, n)]


def _share(items: list[pytest.Item], k: int, n: int) -> list[pytest.Item]:
    return items[k * len(items) // n : (k + 1) * len(items) // n]
