"""Routes of what is in force: listening, mute, profiles, thresholds; the same as over MQTT."""

from __future__ import annotations

import time
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from streamer.config.control import (
    HIGHEST,
    LOWEST,
    MUTE_S,
    PROFILES,
    Command,
    Control,
    SetListen,
    SetListenFor,
    SetMute,
    SetProfile,
    SetThreshold,
    profile_of,
)
from streamer.web.guard import RequestError, ScopedRoute
from streamer.web.request import body_of, caller_of


class Settings:
    """Reads and applies what the control has."""

    def __init__(self, control: Control) -> None:
        self._control = control
        at = "/api/1/control"
        self.routes = [ScopedRoute(at, self.show_control, needs="look", answers="Control")] + [
            ScopedRoute(
                f"{at}/{{source}}/{path}", endpoint, needs="write", answers="Control", methods=["PUT"]
            )
            for path, endpoint in {
                "listen": self.set_listen,
                "profile": self.set_profile,
                "mute": self.set_mute,
                "sound/{sound}": self.set_listen_for,
                "threshold/{sound}": self.set_threshold,
            }.items()
        ]

    async def show_control(self, _: Request) -> Response:
        """What is in force, by source."""
        return JSONResponse(self.control_fields())

    async def set_listen(self, request: Request) -> Response:
        """Listen to a source, or not."""
        source, value = self._source(request), (await body_of(request)).get("value")
        if not isinstance(value, bool):
            raise RequestError(HTTPStatus.BAD_REQUEST, "value is true or false")
        self._apply(request, SetListen(source, value))
        return JSONResponse(self.control_fields())

    async def set_mute(self, request: Request) -> Response:
        """For an hour, or no longer."""
        source, value = self._source(request), (await body_of(request)).get("value")
        if not isinstance(value, bool):
            raise RequestError(HTTPStatus.BAD_REQUEST, "value is true or false")
        until = time.time() + MUTE_S if value else 0.0
        self._apply(request, SetMute(source, until))
        return JSONResponse(self.control_fields())

    async def set_listen_for(self, request: Request) -> Response:
        """Listen for a sound, or not."""
        source, sound = self._source(request), request.path_params["sound"]
        value = (await body_of(request)).get("value")
        if sound not in self._control.all_sounds:
            raise RequestError(HTTPStatus.NOT_FOUND, "no such sound")
        if not isinstance(value, bool):
            raise RequestError(HTTPStatus.BAD_REQUEST, "value is true or false")
        self._apply(request, SetListenFor(source, sound, value))
        return JSONResponse(self.control_fields())

    async def set_profile(self, request: Request) -> Response:
        """How sensitive all sounds of a source are."""
        source, value = self._source(request), (await body_of(request)).get("value")
        profile = profile_of(value) if isinstance(value, str) else None
        if profile is None:
            raise RequestError(HTTPStatus.BAD_REQUEST, f"value is one of: {', '.join(PROFILES)}")
        self._apply(request, SetProfile(source, profile))
        return JSONResponse(self.control_fields())

    async def set_threshold(self, request: Request) -> Response:
        """At which score a sound begins."""
        source, sound = self._source(request), request.path_params["sound"]
        value = (await body_of(request)).get("value")
        if sound not in self._control.sounds:
            raise RequestError(HTTPStatus.NOT_FOUND, "no such sound, or it has no threshold")
        if not isinstance(value, int | float) or isinstance(value, bool) or not LOWEST <= value <= HIGHEST:
            raise RequestError(HTTPStatus.BAD_REQUEST, f"value is a number from {LOWEST:g} to {HIGHEST:g}")
        self._apply(request, SetThreshold(source, sound, float(value)))
        return JSONResponse(self.control_fields())

    def _apply(self, request: Request, command: Command) -> None:
        """Raises RequestError where only an owner may: whoever weakens an alarm should have meant to."""
        if self._control.weakens_critical(command) and "owner" not in caller_of(request).scopes:
            raise RequestError(HTTPStatus.FORBIDDEN, "a critical sound: this needs the scope owner")
        self._control.apply(command)

    def control_fields(self) -> dict[str, object]:
        """By source: whether it is listened to, its profile, each sound's threshold, which have a veto."""
        control = self._control
        return {
            source: {
                "listen": control.listens(source),
                "muted_s": round(control.muted_s(source)),
                "profile": control.profile(source),
                "sounds": {sound: control.listens_for(source, sound) for sound in control.all_sounds},
                "thresholds": {
                    sound: {
                        "set": round(control.threshold(source, sound), 4),
                        "on": round(control.on_off(source, sound)[0], 4),
                        "off": round(control.on_off(source, sound)[1], 4),
                    }
                    for sound in control.sounds
                },
                "vetoes": [sound for sound in control.sounds if control.veto(source, sound) is not None],
            }
            for source in control.sources
        }

    def _source(self, request: Request) -> str:
        source: str = request.path_params["source"]
        if source not in self._control.sources:
            raise RequestError(HTTPStatus.NOT_FOUND, "no such source")
        return source
