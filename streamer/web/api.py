"""The page's HTTP API: all its routes, each with the scope that it needs. JSON; times RFC 3339 in UTC.

Nothing is taken from a request but ids, names and numbers, all of which are looked up or checked.
"""

from __future__ import annotations

import shutil
from datetime import datetime

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from streamer import __version__
from streamer.config.control import PROFILES
from streamer.core.times import utc
from streamer.store.query import reading
from streamer.store.score_files import sizes
from streamer.web.account import Account
from streamer.web.clips import Clips
from streamer.web.events import Events
from streamer.web.exports import Exports
from streamer.web.guard import RequestError, ScopedRoute
from streamer.web.live import Live
from streamer.web.missed import MissedSounds
from streamer.web.openapi import OpenApi
from streamer.web.parts import Parts
from streamer.web.recurring import Recurring
from streamer.web.request import answered, caller_of
from streamer.web.settings import Settings
from streamer.web.static_files import StaticFiles
from streamer.web.teaching import Teaching
from streamer.web.trials import Trials
from streamer.web.vetoes import Vetoes


class Api:
    """The routes and what they answer."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.settings = Settings(parts.control)
        self.trials = Trials(parts)
        routes = [
            *StaticFiles(lambda: parts.config().names).routes,
            *Account(parts.sessions).routes,
            ScopedRoute("/api/1/info", self.info, needs="look", answers="Info"),
            ScopedRoute("/api/1/health", self.health, needs="look", answers="Health"),
            *Exports(parts).routes,
            *Events(parts).routes,
            *Clips(parts).routes,
            *(parts.shared.routes if parts.shared is not None else ()),
            *MissedSounds(parts).routes,
            *self.settings.routes,
            *self.trials.routes,
            *Teaching(parts).routes,
            *Vetoes(parts).routes,
            *Recurring(parts).routes,
            *Live(parts.config, parts.feed).routes,
        ]
        self.routes = [*routes, *OpenApi(routes).routes]

    async def info(self, request: Request) -> Response:
        """Version, sources, sounds, the home's zone and day, and what the caller may do."""
        config, caller = self._parts.config(), caller_of(request)
        now, names = datetime.now(self._parts.zone), config.names
        return JSONResponse(
            {
                "version": __version__,
                "node": config.node,
                "zone": self._parts.zone_name,
                "today": now.date().isoformat(),
                "sources": [
                    {
                        "id": source_id,
                        "name": names.source(source_id),
                        "calibrated": own.calibration_db is not None,
                        "demo": source_id in self._parts.demos,
                    }
                    for source_id, own in config.sources.items()
                ],
                "sounds": [
                    {
                        "id": sound_id,
                        "name": names.sound(sound_id),
                        "priority": own.priority,
                        "heard": self._parts.heard(sound_id),
                    }
                    for sound_id, own in config.sounds.items()
                ],
                "profiles": list(PROFILES),
                "scopes": sorted(caller.scopes),
                "signed_in": caller.session is not None,
            }
        )

    async def health(self, _: Request) -> Response:
        """What `streamer status` says, and what the history takes on disk; null where it cannot be read."""
        directory, config = self._parts.directory, self._parts.config()
        settings = config.store

        def read() -> dict[str, object] | None:
            if directory is None:
                return None
            with reading(directory) as reader:
                found = reader.contents()
            most = (settings.scores_max_mb << 20) * len(config.sources)
            rooms = {"scores": {"bytes": sum(sizes(directory).values()), "most": most}}
            if found.clips_bytes or config.clips.enabled:
                rooms["clips"] = {"bytes": found.clips_bytes, "most": config.clips.max_mb << 20}
            return {
                "events": found.n_events,
                "since": None if found.first is None else utc(found.first),
                "bytes": found.bytes,
                "free_bytes": shutil.disk_usage(directory).free,
                "days": settings.events_days,
                "set_aside": found.set_aside,
                "rooms": rooms,
            }

        try:
            store = await answered(read)
        except RequestError as error:
            store = {"problem": str(error)}
        return JSONResponse({**self._parts.report(), "streams": self._parts.feed.n_clients, "store": store})
