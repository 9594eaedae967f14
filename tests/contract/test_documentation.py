"""The messages that the documentation shows are those of the contract."""

from __future__ import annotations

import re
from pathlib import Path

from tests.contract.wire import SCHEMAS, check

DOCUMENT = Path(__file__).parents[2] / "docs" / "mqtt.md"


def test_documented_messages_keep_the_contract() -> None:
    """Whoever copies a message from the page meets the same in the broker; every kind of message is shown."""
    shown = re.findall(r"^(streamer/\S+) (\S.*)$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    for topic, payload in shown:
        check(topic, payload)
    for pattern in SCHEMAS:
        assert any(re.fullmatch(f"streamer/(?:{pattern})", topic) for topic, _ in shown), pattern
