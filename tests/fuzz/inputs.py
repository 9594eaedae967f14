"""Odd inputs, made quickly from a random generator: most of the time of a fuzz run goes to what is tested."""

from __future__ import annotations

import json
import random
import re
import string
from collections.abc import Sequence

Random = random.Random

TEXT = string.printable + "äß€犬\u202e\x00\x1b\x85\u2028\ud7ff\U0001f415"
BYTES_OF_NUMBERS = (b"\xff" * 4, bytes(4), b"\x7f" + b"\xff" * 3, b"\xff" * 8, b"\x80" + bytes(3))
"""what counts and lengths are at their ends"""
ODD_NUMBERS = (0, -1, 1, 255, 2**31, 2**32, 2**63, 10**30, 0.0, -0.0, 0.5, 1e-320, 1e308)


def damaged(rng: Random, whole: bytes) -> bytes:
    """`whole` with pieces changed, cut out, doubled, or swapped for others, and sometimes cut off."""
    data = bytearray(whole)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data) or 1)
        length = rng.randint(0, 64)
        match rng.randrange(5):
            case 0:
                data[at : at + length] = rng.randbytes(rng.randint(0, 64))
            case 1:
                del data[at : at + length]
            case 2:
                data[at:at] = data[at : at + length]
            case 3 if data:
                data[at] ^= 1 << rng.randrange(8)
            case _:
                data[at : at + 4] = rng.choice(BYTES_OF_NUMBERS)
    return bytes(data[: rng.randint(0, len(data))] if rng.random() < 0.3 else data)


def text(rng: Random, longest: int) -> str:
    return "".join(rng.choices(TEXT, k=rng.randint(0, longest)))


def value(rng: Random, words: Sequence[str], depth: int = 3) -> object:
    """Whatever JSON can hold; names and keys are often from `words`."""
    simple = (
        None,
        rng.random() < 0.5,
        rng.choice(ODD_NUMBERS),
        rng.randint(-300, 300),
        rng.uniform(-2, 2),
        text(rng, 20),
        rng.choice(words),
    )
    if depth and rng.random() < 0.2:
        return mapping(rng, words, depth - 1)
    if depth and rng.random() < 0.2:
        return [value(rng, words, depth - 1) for _ in range(rng.randint(0, 4))]
    return rng.choice(simple)


def mapping(rng: Random, words: Sequence[str], depth: int = 3) -> dict[str, object]:
    keys = (rng.choice(words) if rng.random() < 0.7 else text(rng, 8) for _ in range(rng.randint(0, 5)))
    return {key: value(rng, words, depth) for key in keys}


def configuration(rng: Random, examples: Sequence[Sequence[bytes]], words: Sequence[str]) -> bytes:
    """A few sections of an example with other values or damage; sensible keys with any value; any bytes."""
    sections = rng.choice(examples)
    needed = (b"sources:", b"sounds:")
    chosen = (part for part in sections if part.startswith(needed) or rng.random() < 0.3)
    some = b"".join(part for section in chosen for part in few(rng, section))
    match rng.randrange(10):
        case 0 | 1 | 2 | 3 | 4 | 5:
            return with_other_values(rng, some, words)
        case 6 | 7:
            return damaged(rng, some)
        case 8:
            return json.dumps(mapping(rng, words)).encode()
        case _:
            return rng.randbytes(rng.randint(0, 400))


def few(rng: Random, section: bytes) -> list[bytes]:
    """Its first line and up to three of its entries: a long file says no more than a short one."""
    head, *entries = re.split(rb"^(?=  [a-z_0-9]+:)", section, flags=re.MULTILINE)
    return [head, *rng.sample(entries, min(3, len(entries)))]


def with_other_values(rng: Random, example: bytes, words: Sequence[str]) -> bytes:
    """YAML of which one to three lines have another value."""
    lines = [line for line in example.split(b"\n") if line.strip() and not line.lstrip().startswith(b"#")]
    with_value = [at for at, line in enumerate(lines) if b": " in line]
    for at in rng.choices(with_value, k=rng.randint(1, 3)):
        key, colon, _ = lines[at].partition(b": ")
        lines[at] = key + colon + json.dumps(value(rng, words)).encode()
    return b"\n".join(lines)


LEVELS = (
    "streamer",
    "pi",
    "room",
    "bark",
    "listen",
    "threshold",
    "profile",
    "mute",
    "sound",
    "set",
    "#",
    "+",
    "",
)
PAYLOADS = (
    b"ON",
    b"OFF",
    b"0.5",
    b".5",
    b"1",
    b"NaN",
    b"1e400",
    b"0.0000001",
    b"quiet",
    b"\xff",
    b"x" * 5000,
)


def message(rng: Random, topics: Sequence[str]) -> tuple[str, bytes, bool]:
    """A topic, mostly one that is subscribed to; a payload; whether it is retained."""
    match rng.randrange(6):
        case 0:
            topic = "/".join(rng.choices(LEVELS, k=rng.randint(0, 8)))
        case 1:
            topic = text(rng, 40)
        case _:
            topic = rng.choice(topics)
    match rng.randrange(4):
        case 0:
            payload = rng.randbytes(rng.randint(0, 60))
        case 1:
            payload = text(rng, 20).encode()
        case 2:
            payload = damaged(rng, rng.choice(PAYLOADS[:-1]))
        case _:
            payload = rng.choice(PAYLOADS)
    return topic, payload, rng.random() < 0.1
