"""Where addresses are, and where one may lead."""

from __future__ import annotations

import pytest

from streamer.core.addresses import may_lead


@pytest.mark.parametrize(
    ("address", "other", "may"),
    [
        ("http://8.8.8.8/a.m3u", "http://1.1.1.1/a.mp3", True),
        ("http://192.168.1.4/a.m3u", "http://1.1.1.1/a.mp3", True),
        ("http://192.168.1.4/a.m3u", "http://10.0.0.9/a.mp3", True),
        ("http://127.0.0.1:8000/a.m3u", "http://localhost/a.mp3", True),
        ("http://8.8.8.8/a.m3u", "http://192.168.1.4/a.mp3", False),
        ("http://8.8.8.8/a.m3u", "http://127.0.0.1:8927/api/1/info", False),
        ("http://8.8.8.8/a.m3u", "http://[::1]/", False),
        ("http://8.8.8.8/a.m3u", "http://[::ffff:127.0.0.1]/", False),
        ("http://8.8.8.8/a.m3u", "http://0.0.0.0/", False),
        ("http://8.8.8.8/a.m3u", "http://2130706433/", False),
        ("http://192.168.1.4/a.m3u", "http://169.254.169.254/latest", False),
        ("http://192.168.1.4/a.m3u", "http://127.0.0.1/", False),
        ("http://8.8.8.8/a.m3u", "http://no.such.name.invalid/", False),
        ("http://8.8.8.8/a.m3u", "http://[::1", False),
    ],
)
def test_where_an_address_may_lead(address: str, other: str, may: bool) -> None:
    """To the internet or within its own network; never from there into the home or to this machine."""
    assert may_lead(address, other) is may
