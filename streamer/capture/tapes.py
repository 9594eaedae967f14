"""The ring buffers of the sources that are listened to now, for what needs their latest audio."""

from __future__ import annotations

from streamer.capture.ring import Excerpt, Ring


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
