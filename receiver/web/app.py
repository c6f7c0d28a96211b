"""The ASGI application over a running service: routes, authentication, one form of error."""

import secrets
from contextlib import suppress

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from receiver.model.errors import Refused, StoreUnavailable
from receiver.runninghub.errors import ProviderError
from receiver.server.service import Service
from receiver.web.answers import error_answer, failed
from receiver.web.callbacks import CallbackDoor
from receiver.web.routes import ENDPOINTS

FAILURES = (Refused, StoreUnavailable, ProviderError, HTTPException, ClientDisconnect, 500)


class BearerToken:
    """Lets through what carries the admin token. Pure ASGI, for BaseHTTPMiddleware costs eight requests (measured)."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        scheme, _, token = given.partition(b" ")
        if scheme.lower() == b"bearer" and secrets.compare_digest(token.strip(), self._expected):
            await self._app(scope, receive, send)
            return
        message = "send the admin token as Authorization: Bearer TOKEN"
        response = error_answer(401, "unauthorized", message, headers={"www-authenticate": "Bearer"})
        await response(scope, receive, send)


class PlainPaths:
    """Takes //a/b and /a/b/ for /a/b: people join addresses by hand, and proxies do it for them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope.get("path", "")
        if "//" in path or (path[-1:] == "/" and path != "/"):
            scope["path"] = "/" + "/".join(filter(None, path.split("/")))
        await self._app(scope, receive, send)


def create_app(service: Service) -> Starlette:
    """The application over a service that was started."""

    async def alive(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(_: Request) -> Response:
        found = service.problems()
        if found and service.store.problem() is not None:
            # Nothing else may be writing; asking is what notices that the disk has room again.
            with suppress(StoreUnavailable):
                await service.store.probe()
            found = service.problems()
        return JSONResponse({"status": "unready" if found else "ready", "reasons": found}, 503 if found else 200)

    api = Router([each.route(service) for each in ENDPOINTS], redirect_slashes=False)
    app = Starlette(
        routes=[
            Route("/callbacks/{token}", CallbackDoor(service)),
            Route("/", alive),
            Route("/healthz", alive),
            Route("/readyz", ready),
            Mount("/api", BearerToken(api, service.admin_token)),
        ],
        exception_handlers=dict.fromkeys(FAILURES, failed),
        middleware=[Middleware(PlainPaths)],
    )
    app.router.redirect_slashes = False
    return app
