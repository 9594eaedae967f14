"""Routes of vetoes: what holds a sound back where it is like events that were marked wrong.

A veto is proposed with its effect on the past week first; only what was proposed can be put in force.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from streamer.config.control import SetVeto
from streamer.config.schema import VetoSettings
from streamer.errors import StreamerError
from streamer.web.guard import RequestError, ScopedRoute
from streamer.web.parts import Parts
from streamer.web.request import body_of, directory_of
from streamer.web.trials import event_fields

DAYS = 30
"""from whose events a veto is learned"""
SHOWN_MAX = 200
"""events that would be gone, the latest"""


@dataclass(frozen=True, slots=True)
class _Proposed:
    id: str
    veto: VetoSettings


class Vetoes:
    """The latest proposal for each sound is remembered."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._proposed: dict[str, _Proposed] = {}
        one = "/api/1/sounds/{sound}/veto"
        self.routes = [
            ScopedRoute(one, self.propose, needs="write", answers="Veto", methods=["POST"]),
            ScopedRoute(one, self.apply, needs="write", methods=["PUT"]),
            ScopedRoute(one, self.remove_veto, needs="write", methods=["DELETE"]),
        ]

    async def propose(self, request: Request) -> Response:
        """Learn a veto from the events that were marked wrong, and say what it would have changed."""
        sound, parts = self._sound(request), self._parts
        try:
            found = await parts.commands.run(
                parts.config(), directory_of(parts.directory), ["teach", "veto", sound, "--last", f"{DAYS}d"]
            )
        except StreamerError as error:
            raise RequestError(HTTPStatus.CONFLICT, str(error).partition(": streamer")[0]) from None
        veto = VetoSettings(model=found["model"], bias=found["bias"], weights=found["weights"])
        self._proposed[sound] = _Proposed(secrets.token_hex(6), veto)
        return JSONResponse(_fields(found, self._proposed[sound].id))

    async def apply(self, request: Request) -> Response:
        """Put a veto in force that was proposed, for all sources."""
        sound, proposed = self._sound(request), (await body_of(request)).get("proposal")
        known = self._proposed.get(sound)
        if known is None or known.id != proposed:
            raise RequestError(HTTPStatus.CONFLICT, "proposal is that of the latest answer for this sound")
        self._set(sound, known.veto)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def remove_veto(self, request: Request) -> Response:
        """Take a veto back: what the configuration says is in force again."""
        self._set(self._sound(request), None)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    def _set(self, sound: str, veto: VetoSettings | None) -> None:
        for source in self._parts.control.sources:
            self._parts.control.apply(SetVeto(source, sound, veto))

    def _sound(self, request: Request) -> str:
        """Raises RequestError where nothing may, or can, hold the sound back."""
        sound: str = request.path_params["sound"]
        if sound not in self._parts.control.sounds:
            raise RequestError(HTTPStatus.NOT_FOUND, "no such sound, or it is a loudness")
        if self._parts.config().sounds[sound].priority == "critical":
            raise RequestError(HTTPStatus.CONFLICT, f"{sound} is critical: nothing may hold it back")
        return sound


def _fields(found: Mapping[str, Any], proposal: str) -> dict[str, object]:
    """By the weight of their labels, the strongest first; events newest first."""
    ordered = sorted(found["weights"], key=lambda label: -abs(found["weights"][label]))
    names = ("n_wrong", "n_right", "n_unreviewed", "held_wrong", "held_others", "same", "new")
    return {
        "proposal": proposal,
        **{name: found[name] for name in names},
        "held_back_by": [label for label in ordered if found["weights"][label] > 0],
        "let_through_by": [label for label in ordered if found["weights"][label] < 0],
        "gone": len(found["gone"]),
        "gone_events": [
            {**event_fields(event), "verdict": event["verdict"]}
            for event in reversed(found["gone"][-SHOWN_MAX:])
        ],
    }
