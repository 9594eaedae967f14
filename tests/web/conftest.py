"""A history to look at, and the page that shows it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from streamer.metrics import Metrics
from streamer.store.history import Model
from streamer.store.log import Log, Recorded
from tests.reports import occurrence
from tests.web.site import Site, served

N = 120
"""events, a minute apart, the newest a minute ago"""
PASSWORD = "correct horse"  # noqa: S105  # of this test
RULE = json.dumps({"labels": ["Dog"], "on": 0.66, "off": 0.33, "confirm": 1, "merge_gap_s": 2.0})


def fill(directory: Path, n: int = N) -> None:
    """In one transaction."""
    now = time.time()
    event_log = Log(directory, Metrics(), consumers=["mqtt"], model=Model("ast-tiny", ("Dog",)))
    event_log.append([message for k in range(n) for message in _messages(k, now - 60 * (k + 1))])
    event_log.close()


def _messages(k: int, onset: float) -> Iterator[Recorded]:
    for one in occurrence(""):
        yield Recorded(
            replace(
                one,
                id=f"{k:012x}",
                sound=("dog_bark", "siren")[k % 2],
                source_id=("kitchen", "hall")[k % 3 == 0],
                onset=onset,
                offset=None if one.offset is None else onset + 2.5,
                heard_at=onset + 3.0,
                emitted_at=onset + 3.5,
            ),
            RULE,
        )


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Without a password, as on loopback."""
    fill(tmp_path)
    with served(tmp_path) as opened:
        yield opened


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Site]:
    """With a password, and one for guests."""
    (tmp_path / "web-password").write_text(f"{PASSWORD}\n")
    (tmp_path / "web-guest-password").write_text("guests are welcome\n")
    fill(tmp_path, 3)
    with served(tmp_path, hosts=["home.example"], ingress_proxies=["127.0.0.2"]) as opened:
        yield opened
