"""HEAD and OPTIONS, which HTTP has for every path, and the frameworks below only for some."""

from __future__ import annotations

from http import HTTPStatus

from starlette.responses import Response
from starlette.routing import Match, Mount
from starlette.types import ASGIApp, Receive, Scope, Send

METHODS = {"GET": "GET, HEAD", "POST": "POST"}
"""What a path may take, and as it is told."""


class HeadAndOptions:
    """Answers HEAD as GET without its body, which uvicorn leaves out, and OPTIONS with the methods of the path."""

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
    """The methods that the path takes; empty where there is no such path."""
    routes = scope["app"].router.routes
    taken = (
        told
        for method, told in METHODS.items()
        if any(
            route.matches({**scope, "method": method})[0] is Match.FULL
            for route in routes
            if method == "GET" or not isinstance(route, Mount)  # files
        )
    )
    return ", ".join(taken)
