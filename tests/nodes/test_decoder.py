"""Hops of many nodes are decoded by one process; what ends it costs its own node a hop, and no other."""

from __future__ import annotations

import asyncio

import numpy as np
import psutil

from streamer.nodes.decoder import Decoder
from streamer.nodes.flac import encode
from streamer.nodes.wire import LinkError

RATE = 16_000
N = 60


def hops() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(-1000, 1000, RATE).astype(np.int16) for _ in range(N)]


def process_of_decoder() -> psutil.Process:
    children = psutil.Process().children()
    return next(child for child in children if "streamer.nodes.decoding" in child.cmdline())


async def test_each_gets_its_own() -> None:
    """Whoever asks at the same time gets the audio of his own hop, and what is no FLAC fails alone."""
    samples, decoder = hops(), Decoder()
    payloads = [encode(one, RATE) for one in samples]
    payloads[7], payloads[30] = b"no FLAC at all", payloads[30][:100]
    try:
        answers = await asyncio.gather(
            *(decoder.decode(payload, RATE) for payload in payloads), return_exceptions=True
        )
    finally:
        await decoder.close()
    for k, (answer, wanted) in enumerate(zip(answers, samples, strict=True)):
        if k in (7, 30):
            assert isinstance(answer, LinkError)
        else:
            assert np.array_equal(answer, wanted), k  # type: ignore[arg-type]  # an exception is not equal


async def test_one_hop_ends_with_the_process() -> None:
    """Where the process is killed, one hop is lost at most; all others are decoded by the next process."""
    samples, decoder = hops(), Decoder()
    try:
        await decoder.decode(encode(samples[0], RATE), RATE)
        asked = [decoder.decode(encode(one, RATE), RATE) for one in samples]
        await asked[0]
        process_of_decoder().kill()
        asked[20].cancel()  # its connection has ended meanwhile
        answers = await asyncio.gather(*asked, return_exceptions=True)
    finally:
        await decoder.close()
    lost = [k for k, answer in enumerate(answers) if isinstance(answer, LinkError)]
    assert len(lost) == 1
    for k, (answer, wanted) in enumerate(zip(answers, samples, strict=True)):
        if k not in (*lost, 20):
            assert np.array_equal(answer, wanted), k  # type: ignore[arg-type]  # an exception is not equal


async def test_a_process_that_ended_unasked_costs_nothing() -> None:
    """The next hop after it starts another, and is decoded."""
    samples, decoder = hops()[0], Decoder()
    try:
        await decoder.decode(encode(samples, RATE), RATE)
        process_of_decoder().kill()
        await asyncio.sleep(0.3)
        assert np.array_equal(await decoder.decode(encode(samples, RATE), RATE), samples)
    finally:
        await decoder.close()
