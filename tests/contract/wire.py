"""Holds a message against the JSON Schema of its topic."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

from jsonschema import Draft202012Validator

SCHEMAS = {
    r"[^/]+/status|[^/]+/[^/]+/status": "status",
    r"[^/]+/stats": "stats",
    r"[^/]+/[^/]+/epoch": "epoch",
    r"[^/]+/[^/]+/event/(start|update|end)": "event",
    r"[^/]+/[^/]+/sound/[^/]+/state": "state",
    r"[^/]+/[^/]+/sound/[^/]+/attributes": "attributes",
    r"[^/]+/[^/]+/sound/[^/]+/overdue": "state",
    r"[^/]+/[^/]+/sound/[^/]+/overdue/attributes": "overdue",
    r"[^/]+/[^/]+/sound/state": "state",
    r"[^/]+/[^/]+/sound/attributes": "day",
    r"[^/]+/[^/]+/sound/[^/]+/listen/state": "state",
    r"[^/]+/[^/]+/mute/state": "state",
    r"[^/]+/[^/]+/labels": "labels",
    r"[^/]+/[^/]+/problem": "state",
    r"[^/]+/[^/]+/listen/state": "state",
    r"[^/]+/[^/]+/profile/state": "profile",
    r"[^/]+/[^/]+/sound/[^/]+/threshold/state": "threshold",
    r"[^/]+/[^/]+/last": "event",
    r"[^/]+/[^/]+/level": "level",
    r"[^/]+/[^/]+/level_dba": "level_dba",
    r"[^/]+/[^/]+/problem/attributes": "problem",
}
_PLAIN = {"status", "state", "profile", "labels"}
"""payloads that are words, not JSON"""


def check(topic: str, payload: str, prefix: str = "streamer") -> None:
    """Raises where the topic is not of the contract or its message is not as the contract says."""
    name = next(
        (
            name
            for pattern, name in SCHEMAS.items()
            if re.fullmatch(f"{re.escape(prefix)}/(?:{pattern})", topic)
        ),
        None,
    )
    assert name is not None, f"{topic} is not a topic of the contract"
    _validator(name).validate(payload if name in _PLAIN else json.loads(payload, parse_constant=_no_constant))


def _no_constant(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


@cache
def _validator(name: str) -> Draft202012Validator:
    schema = json.loads((Path(__file__).parent / f"{name}.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)
