"""Answers HEAD and OPTIONS on every path; the frameworks do so only on some."""

from __future__ import annotations

from http import HTTPStatus

from starlette.responses import Response
from starlette.routing import Match, Mount
from starlette.types import ASGIApp, Receive, Scope, Send

METHODS = {"GET": "GET, HEAD", "POST": "POST"}
"""The methods that a path may have, each as the header Allow lists it."""


class HeadAndOptions:
    """Middleware that answers HEAD as GET, whose body uvicorn leaves out, and OPTIONS with the path's methods."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "OPTIONS" and (allowed := _allowed(scope)):
            answer = Response(status_code=HTTPStatus.NO_CONTENT, headers={"allow": f"{allowed}, OPTIONS"})
            await answer(scope, receive, send)
            return
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)


def _allowed(scope: Scope) -> str:
    """Returns the methods of the path, or "" where there is no such path."""
    routes = scope["app"].router.routes
    methods = (
        listed
        for method, listed in METHODS.items()
        if any(
            route.matches({**scope, "method": method})[0] is Match.FULL
            for route in routes
            # A mount holds files.
            if method == "GET" or not isinstance(route, Mount)
        )
    )
    return ", ".join(methods)
