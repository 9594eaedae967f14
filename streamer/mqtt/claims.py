"""Which process detects a source: the one that began last, as a retained topic of the source says.

Each process claims its sources there at each connection, and reads who else does. Knows no connection.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass

from streamer.core.epoch import Epoch, is_epoch
from streamer.mqtt.messages import SCHEMA, Message, encode
from streamer.mqtt.topics import Topics
from streamer.types import SoundEvent


@dataclass(frozen=True, slots=True)
class Claim:
    """What one process says of a source."""

    epoch: int
    node: str
    read_at: float
    """when this process learned of it"""


class Claims:
    """The claims of one process, and those that it lost to a process that began later."""

    def __init__(self, topics: Topics, node: str, epoch: Epoch) -> None:
        """`topics` are those of all shards of a configuration, `node` is the name of this one."""
        self._topics = topics
        self._node = node
        self._epoch = epoch
        self._is_first = True
        self.lost: dict[str, Claim] = {}
        """by source: the claim of the process that detects it instead; for as long as this process lasts"""

    def topics(self, sources: Iterable[str]) -> dict[str, str]:
        """The sources, by the topics of their claims."""
        return {self._topics.epoch(source): source for source in sources}

    def message(self, source: str) -> Message:
        """Claims a source."""
        claim = {"schema": SCHEMA, "epoch": self._epoch.number, "node": self._node}
        return Message(self._topics.epoch(source), encode(claim), qos=1, retain=True)

    def begin(self, payloads: Iterable[bytes]) -> None:
        """Go above each claim that the broker retains at the first connection, of those that are older.

        A clock that is set after the start, or was set back, changes nothing of who began last.
        """
        if self._is_first:
            self._is_first = False
            for claim in filter(None, map(_claim, payloads)):
                if self._epoch.is_before(claim.epoch):
                    self._epoch.exceed(claim.epoch)

    def read(self, source: str, payload: bytes) -> bool:
        """Read a claim to a source; False where it is older than ours, which then has to be made again."""
        claim = _claim(payload)
        if claim is None or claim.epoch < self._epoch.number:
            return source in self.lost
        if claim.epoch > self._epoch.number:
            self.lost[source] = claim
        return True

    def may_publish(self, event: SoundEvent) -> bool:
        """Whether an event is ours: of a source that is lost all that began before the other process did."""
        claim = self.lost.get(event.source_id)
        return claim is None or event.onset < min(claim.epoch / 1000, claim.read_at)

    def why_lost(self, source: str) -> str:
        """A clause for people."""
        claim = self.lost[source]
        return (
            f"{source} is detected by node {claim.node}, which began later "
            f"(epoch {claim.epoch} after {self._epoch.number})"
        )

    def is_replaced(self) -> bool:
        """Whether a process with the very name of this one began later: then all topics are that one's."""
        return any(claim.node == self._node for claim in self.lost.values())


def _claim(payload: bytes) -> Claim | None:
    """None where it is no claim: an empty one was taken back."""
    try:
        values = json.loads(payload)
        epoch, node = values["epoch"], values["node"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return Claim(epoch, node[:64], time.time()) if is_epoch(epoch) and isinstance(node, str) else None
