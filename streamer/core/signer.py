"""Signs names until a time: whoever shows the signature may have what is named, and nothing else."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import time
from enum import Enum, auto
from pathlib import Path

from streamer.core.files import write_text
from streamer.core.rate_limit import RateLimit

KEY = re.compile(r"[0-9a-f]{64}")

log = logging.getLogger(__name__)


class Signature(Enum):
    """What a signature is worth."""

    VALID = auto()
    EXPIRED = auto()
    WRONG = auto()


class Signer:
    """HMAC-SHA256 (RFC 2104) by a key in a file, which is made where there is none.

    The file is read each time: without it, or with another key, earlier signatures are wrong at once.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._logged = RateLimit()

    def sign(self, name: str, until: int) -> str | None:
        """The signature of a name until a time, seconds since the epoch; None where no key can be kept."""
        key = self._key() or self._new_key()
        return None if key is None else _signature(key, name, until)

    def check(self, name: str, until: str, signature: str) -> Signature:
        """`until` and `signature` are as they came, which may be anything."""
        key = self._key()
        if key is None or not re.fullmatch(r"[0-9]{1,12}", until, re.ASCII):
            return Signature.WRONG
        expected = _signature(key, name, int(until))
        if not hmac.compare_digest(expected.encode(), signature.encode(errors="replace")):
            return Signature.WRONG
        return Signature.EXPIRED if int(until) < time.time() else Signature.VALID

    def _key(self) -> bytes | None:
        try:
            text = self._path.read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            return None
        return bytes.fromhex(text) if KEY.fullmatch(text) else None

    def _new_key(self) -> bytes | None:
        key = secrets.token_bytes(32)
        try:
            write_text(self._path, f"{key.hex()}\n", mode=0o600)
        except OSError as error:
            if self._logged.due():
                log.error("%s: no key can be kept, so nothing is signed: %s", self._path, error.strerror)  # noqa: TRY400  # the reason is in the line
            return None
        return key


def _signature(key: bytes, name: str, until: int) -> str:
    return hmac.new(key, f"{name}\n{until}".encode(), hashlib.sha256).hexdigest()
