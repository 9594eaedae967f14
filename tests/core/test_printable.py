"""Nothing that was told in confidence is shown, and nothing that is shown commands a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.printable import address_for_people, printable, without_secrets

CANARY = "S3cretCanary"


@pytest.mark.parametrize(
    "address",
    [
        "rtsp://admin:{}@camera.local:8554/door",
        "rtsp://admin:Hush#{}@10.0.0.5/cam",
        "rtsp://admin:Hush/{}@10.0.0.5/cam",
        "rtsp://admin:Hush?{}@10.0.0.5/cam",
        "rtsp://admin:pa[{}@10.0.0.5/cam",
        "rtsp://admin:a@b{}@10.0.0.5/cam",
        "http://camera.local/stream?user=admin&password={}",
        "http://camera.local/stream#{}",
        "http://camera.local/{}/video",
        "https://{}@camera.local/",
        "rtsp://admin:{} with spaces@camera.local/",
        "rtsp://admin:{}",
        "rtsp://[{}]/",
        "http://camera.local/stream?password=a@{}",
        "http://camera.local/stream?user=a@b.c&password={}",
        "http://camera.local/a@{}/video",
        "rtsp://admin:1/{}@camera.local/live",
        "rtsp://admin:a@{}/b@camera.local/live",
        "{}",
    ],
)
def test_a_secret_in_any_part_of_an_address_is_not_shown(address: str) -> None:
    """Whatever characters it holds; of such an address at most scheme, host and port are."""
    shown = address_for_people(address.format(CANARY))
    assert CANARY.lower() not in shown.lower()
    assert "Hush" not in shown


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://admin:x@camera.local:8554/door", "rtsp://camera.local:8554"),
        ("http://10.0.0.5/audio.wav?token=1", "http://10.0.0.5"),
        ("rtsp://u:p@[fe80::1]:554/a", "rtsp://[fe80::1]:554"),
        ("https://radio.example/live.m3u8", "https://radio.example"),
        ("rtsp://admin:pa[x@cam/", "rtsp://cam"),
        ("http://cam/?mail=a@b&c=d", "http://cam"),
        ("http://radio.example/live@128", "http://…"),
    ],
)
def test_what_is_shown(address: str, shown: str) -> None:
    """Enough to know which device it is."""
    assert address_for_people(address) == shown


@given(st.text())
def test_any_text_becomes_printable(text: str) -> None:
    """No escape sequence, no line end; what is printable stays as it is."""
    assert printable(text).isprintable()
    assert printable(printable(text)) == printable(text)


@given(st.text(max_size=40), st.text(min_size=1, max_size=20))
def test_a_password_is_never_shown(user: str, password: str) -> None:
    """Whatever it is made of, as long as it is longer than a part of the host."""
    secret = f"Zq7{password}Zq7"
    assert "Zq7" not in address_for_people(f"rtsp://{user}:{secret}@camera.local/live")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "rtsp://admin:S3cret@cam:554/x: Connection refused",
            "rtsp://cam:554: Connection refused",
        ),
        ("cannot open 'http://cam/a?token=S3cret'.", "cannot open 'http://cam'."),
        ("from http://u:S3cret@a/1 to http://b/S3cret", "from http://a to http://b"),
        ("nothing in it", "nothing in it"),
    ],
)
def test_addresses_in_text_of_others(text: str, shown: str) -> None:
    """What a library or a program says of an address is shown without the secrets in it."""
    assert without_secrets(text) == shown
