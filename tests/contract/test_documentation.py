"""The messages that the documentation shows are those of the contract."""

from __future__ import annotations

import re
from pathlib import Path

from tests.contract.wire import SCHEMAS, check

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "mqtt.md"


def test_documented_messages_keep_the_contract() -> None:
    """Whoever copies a message from the page meets the same in the broker; every kind of message is shown."""
    shown = re.findall(r"^(streamer/\S+) (\S.*)$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    for topic, payload in shown:
        check(topic, payload)
    for pattern in SCHEMAS:
        assert any(re.fullmatch(f"streamer/(?:{pattern})", topic) for topic, _ in shown), pattern


def test_recipes_name_files_that_exist() -> None:
    """Each path in the lists of CONTRIBUTING is one of the package or of the repository."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    paths = {path for path in re.findall(r"`([\w./-]+/[\w.-]*)`", text) if "NAME" not in path}
    places = (ROOT, ROOT / "streamer", ROOT / "streamer/inference")
    missing = [path for path in paths if not any((place / path).exists() for place in places)]
    assert missing == []
    assert len(paths) > 20
