"""What comes over the link is what was agreed on, or a LinkError: nothing else is raised, whatever comes."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.nodes import flac
from streamer.nodes.decoder import Decoder
from streamer.nodes.wire import HEADER, Ack, Codec, Hello, Hop, LinkError, Note, Welcome, pack, parse, unpack

RATE = 16000
PLAIN = Hop(7, Codec.INT16, 3, 10.0, -42.5, True, b"\x01\x00\x02\x00\x03\x00")


def header(**changes: Any) -> bytes:
    """The header of a hop of three plain samples, with some fields changed."""
    fields = {
        "codec": 1,
        "flags": 0,
        "n_samples": 3,
        "sequence": 0,
        "captured": 1.0,
        "sent": 2.0,
        "level": -50.0,
    } | changes
    return HEADER.pack(*fields.values())


def test_a_hop_comes_back_as_it_was() -> None:
    """Packed and unpacked, it is the same, with the time at which it was sent."""
    assert unpack(pack(PLAIN, 11.5), RATE) == (PLAIN, 11.5)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", "no header"),
        (header()[:-1], "no header"),
        (header(codec=9) + bytes(6), "codec 9"),
        (header(flags=2) + bytes(6), "flags"),
        (header() + bytes(5), "5 bytes are not 3 samples"),
        (header(n_samples=0), "0 samples are no hop"),
        (header(n_samples=2**32 - 1), "are no hop at 16000 Hz"),
        (header(sequence=2**64 - 1) + bytes(6), "out of range"),
        (header(captured=float("nan")) + bytes(6), "no numbers"),
        (header(sent=float("inf")) + bytes(6), "no numbers"),
        (header(captured=3.0) + bytes(6), "after it was sent"),
        (header(codec=3) + bytes(6), "a level has no payload"),
    ],
)
def test_what_is_no_hop_is_said(message: bytes, reason: str) -> None:
    """Each fault of a hop has its clause."""
    with pytest.raises(LinkError, match=reason):
        unpack(message, RATE)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200) | st.binary(max_size=40).map(lambda tail: header() + tail))
def test_bytes_are_a_hop_or_an_error(message: bytes) -> None:
    """No bytes raise anything but LinkError."""
    try:
        hop, _ = unpack(message, RATE)
    except LinkError:
        return
    assert 0 < hop.n_samples <= 2 * RATE


@settings(max_examples=500, deadline=None)
@given(
    st.sampled_from([Hello, Welcome, Ack, Note]),
    st.text() | st.binary() | st.recursive(st.none() | st.floats() | st.text(), st.lists).map(str),
)
def test_text_is_a_message_or_an_error(kind: Any, text: str | bytes) -> None:
    """No text raises anything but LinkError."""
    try:
        parse(kind, text)
    except LinkError as error:
        assert str(error).isprintable()


@pytest.mark.parametrize(
    "text",
    [
        '{"epoch": 0, "sample_rate": 16000, "sent": 1.0, "wall": 1.0}',
        '{"epoch": null, "sample_rate": 1, "sent": 1.0, "wall": 1.0}',
        '{"epoch": null, "sample_rate": 16000, "sent": NaN, "wall": 1.0}',
        '{"epoch": null, "sample_rate": 16000, "sent": 1.0}',
        "[" * 10000,
    ],
)
def test_a_hello_is_held_to_its_bounds(text: str) -> None:
    """An epoch, a rate and times that cannot be are refused."""
    with pytest.raises(LinkError):
        parse(Hello, text)


@pytest.mark.parametrize("n", [1, 15, 16000, 31999])
def test_flac_loses_nothing(n: int) -> None:
    """Encoded and decoded, each sample is the same, at full scale, too."""
    samples = np.random.default_rng(n).integers(-32768, 32768, n).astype(np.int16)
    assert np.array_equal(flac.decode(flac.encode(samples, RATE), n), samples)


def test_flac_of_another_length_is_refused() -> None:
    """A small payload that stands for more samples than were announced is read no further."""
    payload = flac.encode(np.zeros(10 * RATE, np.int16), RATE)
    with pytest.raises(LinkError, match="has 16001, or more"):
        flac.decode(payload, RATE)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2000), st.binary(min_size=1, max_size=300))
def test_damaged_flac_is_samples_or_an_error(at: int, damage: bytes) -> None:
    """Bytes that are changed within a FLAC file raise LinkError or nothing."""
    payload = bytearray(flac.encode(np.arange(-2000, 2000, dtype=np.int16), RATE))
    payload[at % len(payload) : at % len(payload) + len(damage)] = damage
    try:
        assert len(flac.decode(bytes(payload), 4000)) == 4000
    except LinkError:
        return


@pytest.mark.slow
async def test_the_decoder_outlives_what_it_is_given() -> None:
    """What is damaged is said, and where its process ends, the next hop has another one."""
    decoder = Decoder()
    samples = np.random.default_rng(0).integers(-3000, 3000, RATE).astype(np.int16)
    good = flac.encode(samples, RATE)
    try:
        assert np.array_equal(await decoder.decode(good, RATE), samples)
        with pytest.raises(LinkError, match="no FLAC"):
            await decoder.decode(struct.pack("!I", 7) + good[4:], RATE)
        assert decoder._process is not None
        decoder._process.kill()
        await decoder._process.wait()
        assert np.array_equal(await decoder.decode(good, RATE), samples)
    finally:
        await decoder.close()
        await decoder.close()
    assert decoder._process is None
