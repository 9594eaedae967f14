"""The ring buffers of the sources that are listened to now, for what needs their latest audio."""

from __future__ import annotations

from streamer.capture.ring import Excerpt, Ring

BEFORE_S, AFTER_S = 6.0, 4.0
"""seconds around an onset that a picture of an event shows, as far as they are there"""
SHORTEST_S = 1.0
"""a picture of less shows nothing"""


class Tapes:
    """Recent audio by source: clips and the page's spectrogram read it; only the source's listener writes."""

    def __init__(self) -> None:
        self._rings: dict[str, Ring] = {}

    def put(self, source_id: str, ring: Ring) -> None:
        """The source is listened to again, with another ring."""
        self._rings[source_id] = ring

    def remove(self, source_id: str, ring: Ring) -> None:
        """The ring is no longer written. One that has taken its place stays."""
        if self._rings.get(source_id) is ring:
            del self._rings[source_id]

    def ring(self, source_id: str) -> Ring | None:
        return self._rings.get(source_id)

    def between(self, source_id: str, start: float, end: float) -> tuple[Excerpt, int] | None:
        """The samples of a stretch of time and their rate, Hertz; None while the source is closed."""
        ring = self._rings.get(source_id)
        return None if ring is None else (ring.between(start, end), ring.sample_rate)

    def around(self, source_id: str, onset: float) -> tuple[Excerpt, int] | None:
        """What a picture of an event shows, and its rate, Hertz; None where it is not in memory."""
        ring = self._rings.get(source_id)
        if ring is None:
            return None
        begin = max(onset - BEFORE_S, ring.time(ring.start))
        end = min(onset + AFTER_S, ring.time(ring.end))
        if end <= onset or end - begin < SHORTEST_S:
            return None
        return ring.between(begin, end), ring.sample_rate
