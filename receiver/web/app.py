"""The ASGI application over a running service: routes, authentication, one form of error."""

import secrets
from contextlib import suppress

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
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


class BearerToken:
    """Lets through what carries the admin token. Pure ASGI, for BaseHTTPMiddleware costs eight requests (measured)."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        if secrets.compare_digest(given, self._expected):
            await self._app(scope, receive, send)
            return
        message = "send the admin token as Authorization: Bearer TOKEN"
        response = error_answer(401, "unauthorized", message, headers={"www-authenticate": "Bearer"})
        await response(scope, receive, send)


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
            Route("/healthz", alive),
            Route("/readyz", ready),
            Mount("/api", BearerToken(api, service.admin_token)),
        ],
        exception_handlers=dict.fromkeys(
            (Refused, StoreUnavailable, ProviderError, HTTPException, ClientDisconnect, 500), failed
        ),
    )
    app.router.redirect_slashes = False
    return app
