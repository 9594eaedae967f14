"""Routes by which people sign in and out, and owners make tokens for scripts."""

from __future__ import annotations

from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from streamer.core.times import utc
from streamer.web.guard import COOKIE, RequestError, ScopedRoute
from streamer.web.request import body_of, caller_of
from streamer.web.sessions import OWNER, SESSION_S, Sessions, TooManyAttemptsError


class Account:
    """Sessions of browsers, tokens of scripts."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self.routes = [
            ScopedRoute("/api/1/session", self.sign_in, needs=None, answers="SignedIn", methods=["POST"]),
            ScopedRoute("/api/1/session", self.sign_out, needs="look", methods=["DELETE"]),
            ScopedRoute("/api/1/tokens", self.tokens, needs="owner", answers="Tokens"),
            ScopedRoute("/api/1/tokens", self.add_token, needs="owner", answers="NewToken", methods=["POST"]),
            ScopedRoute("/api/1/tokens/{session_id}", self.end_session, needs="owner", methods=["DELETE"]),
        ]

    async def sign_in(self, request: Request) -> Response:
        """Begin a session by a password, which the cookie stands for."""
        password = (await body_of(request)).get("password")
        caller = caller_of(request)
        if not isinstance(password, str) or len(password) > 1000:
            raise RequestError(HTTPStatus.BAD_REQUEST, "a password is a text")
        try:
            found = await self._sessions.sign_in(password, caller.address)
        except TooManyAttemptsError as error:
            answer = {"error": str(error)}
            return JSONResponse(answer, HTTPStatus.TOO_MANY_REQUESTS, {"Retry-After": str(error.retry_s)})
        if found is None:
            raise RequestError(HTTPStatus.UNAUTHORIZED, "wrong password")
        secret, session = found
        response = JSONResponse({"scopes": sorted(session.scopes)})
        response.set_cookie(
            COOKIE,
            secret,
            max_age=int(SESSION_S),
            path=caller.base,
            httponly=True,
            samesite="lax",
        )
        return response

    async def sign_out(self, request: Request) -> Response:
        """End the session that asks."""
        caller = caller_of(request)
        if caller.session is not None:
            self._sessions.remove(caller.session)
        response = Response(status_code=HTTPStatus.NO_CONTENT)
        response.delete_cookie(COOKIE, path=caller.base)
        return response

    async def tokens(self, _: Request) -> Response:
        """Sessions and tokens, without their secrets."""
        sessions = [
            {
                "id": one.id,
                "kind": one.kind,
                "name": one.name,
                "scopes": sorted(one.scopes),
                "created": utc(one.created),
                "used": utc(one.used),
            }
            for one in self._sessions.all()
        ]
        return JSONResponse({"sessions": sessions})

    async def add_token(self, request: Request) -> Response:
        """Make a token for a script; its secret is shown once."""
        body = await body_of(request)
        name, scopes = body.get("name"), body.get("scopes")
        if not isinstance(name, str) or not 0 < len(name) <= 60 or not isinstance(scopes, list):
            raise RequestError(
                HTTPStatus.BAD_REQUEST, "a token has a name, at most 60 long, and a list of scopes"
            )
        unknown = [scope for scope in scopes if scope not in list(OWNER)]
        if unknown or not scopes:
            raise RequestError(HTTPStatus.BAD_REQUEST, f"scopes are: {', '.join(sorted(OWNER))}")
        secret, session = self._sessions.add_token(name, scopes)
        return JSONResponse({"token": secret, "id": session.id}, HTTPStatus.CREATED)

    async def end_session(self, request: Request) -> Response:
        """End a session or a token."""
        if not self._sessions.remove(request.path_params["session_id"]):
            raise RequestError(HTTPStatus.NOT_FOUND, "no such session or token")
        return Response(status_code=HTTPStatus.NO_CONTENT)
