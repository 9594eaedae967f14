"""What a node and a gateway say to each other, over one WebSocket.

The node asks for `/nodes/NAME` with `Authorization: Bearer TOKEN` and the subprotocol `streamer-audio.1`,
which is the version. Then, in text, JSON:

    node     {"epoch": 1764288000123 | null, "sample_rate": 16000, "sent": 5021.3, "wall": 1764288000.1}
    gateway  {"epoch": 1764288000123, "next": 17}        `next` is the first hop that it does not have
    gateway  {"next": 18}                                after each hop that it has taken
    node     {"problem": "microphone USB: the device is gone"}

and, in binary, hops: a header and the payload. Times but `wall` are seconds of the node's own clock since its
start, which nobody sets: the gateway finds out what they are on its clock.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from enum import IntEnum
from typing import Any, TypeAlias, TypeVar

SUBPROTOCOL = "streamer-audio.1"
PATH = "/nodes/"
MESSAGE_MAX = 1 << 20
"""bytes of a message; a second at 192 kHz is 384 000"""
HOP_MAX_S = 2.0
RATES = range(8000, 192_001)
"""Hertz"""
NOTE_MAX = 500
"""characters of a problem"""
HEADER = struct.Struct("!BBxxIQddf")
Q_MAX = (1 << 63) - 1
UNDER_WAY = 4
"""hops that a node may have sent and the gateway has not acknowledged"""
NUMBER_MAX = 1e15
"""of a time, seconds"""


class LinkError(Exception):
    """What came is not what was agreed on; the text is one clause for the other end."""


class Codec(IntEnum):
    """What the payload of a hop is."""

    INT16 = 1
    """little endian"""
    FLAC = 2
    """a whole file"""
    LEVEL = 3
    """nothing: the hop was below the gate of the node"""


@dataclass(frozen=True, slots=True)
class Hop:
    """About a second of mono audio."""

    sequence: int
    """counts the hops of an epoch from 0"""
    codec: Codec
    n_samples: int
    captured: float
    """when the first sample was captured, on the node's clock"""
    level_dbfs: float
    """of the loudest 125 ms"""
    discontinuity: bool
    """audio was lost before it"""
    payload: bytes


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message of a node."""

    epoch: int | None
    """what the gateway gave it before; None at first"""
    sample_rate: int
    """Hertz"""
    sent: float
    """now, on the clock of its hops"""
    wall: float
    """now, on its wall clock"""


@dataclass(frozen=True, slots=True)
class Welcome:
    """The answer to it."""

    epoch: int | None
    """of two nodes with one name, that with the greater one is heard"""
    next: int
    """the first hop that the gateway does not have"""


@dataclass(frozen=True, slots=True)
class Ack:
    """All hops before `next` have been taken."""

    next: int


@dataclass(frozen=True, slots=True)
class Note:
    """Why no audio comes."""

    problem: str


Message: TypeAlias = Hello | Welcome | Ack | Note
M = TypeVar("M", Hello, Welcome, Ack, Note)


def text_of(message: Message) -> str:
    return json.dumps(asdict(message))


def parse(kind: type[M], text: str | bytes) -> M:
    """A message of a kind; further keys are of a later version. Raises LinkError."""
    name = kind.__name__.lower()
    if isinstance(text, bytes):
        raise LinkError(f"{name}: text is due, not bytes")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        raise LinkError(f"{name}: this is not JSON") from None
    if not isinstance(values, dict):
        raise LinkError(f"{name}: this is not an object")
    found: dict[str, Any] = {field.name: values.get(field.name) for field in fields(kind)}
    for key, value in found.items():
        if not _IS_GOOD[key](value):
            raise LinkError(f"{name}: {key} is missing, or cannot be")
    return kind(**found)


def _is_integer(value: object, allowed: range) -> bool:
    return type(value) is int and value in allowed


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and abs(value) < NUMBER_MAX  # type: ignore[arg-type]  # NaN is not less


_IS_GOOD: Mapping[str, Callable[[object], bool]] = {
    "epoch": lambda value: value is None or _is_integer(value, range(1, Q_MAX)),
    "next": lambda value: _is_integer(value, range(Q_MAX)),
    "sample_rate": lambda value: _is_integer(value, RATES),
    "sent": _is_number,
    "wall": _is_number,
    "problem": lambda value: isinstance(value, str) and len(value) <= NOTE_MAX,
}


def pack(hop: Hop, sent: float) -> bytes:
    """`sent` is now, on the node's clock."""
    header = HEADER.pack(
        hop.codec, hop.discontinuity, hop.n_samples, hop.sequence, hop.captured, sent, hop.level_dbfs
    )
    return header + hop.payload


def unpack(message: bytes, sample_rate: int) -> tuple[Hop, float]:
    """A hop, and when it was sent. Raises LinkError."""
    if len(message) < HEADER.size:
        raise LinkError(f"a hop of {len(message)} bytes has no header")
    number, flags, n_samples, sequence, captured, sent, level = HEADER.unpack_from(message)
    payload = message[HEADER.size :]
    try:
        codec = Codec(number)
    except ValueError:
        raise LinkError(f"codec {number} is not known") from None
    if flags > 1:
        raise LinkError(f"flags {flags:#x} are not known")
    if not 0 < n_samples <= HOP_MAX_S * sample_rate:
        raise LinkError(f"{n_samples} samples are no hop at {sample_rate} Hz")
    if sequence > Q_MAX:
        raise LinkError("a sequence number out of range")
    if not all(map(math.isfinite, (captured, sent, level))) or captured > sent:
        raise LinkError("times or level are no numbers, or it was captured after it was sent")
    if codec is Codec.INT16 and len(payload) != 2 * n_samples:
        raise LinkError(f"{len(payload)} bytes are not {n_samples} samples")
    if codec is Codec.LEVEL and payload:
        raise LinkError("a level has no payload")
    return Hop(sequence, codec, n_samples, captured, level, bool(flags), payload), sent
