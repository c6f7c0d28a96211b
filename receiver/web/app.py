"""The ASGI application over a running service: routes, authentication, one form of error."""

import time
from collections.abc import Callable
from contextlib import suppress

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Mount, Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from receiver.model.errors import Refused, StoreUnavailable
from receiver.model.measures import Meter
from receiver.runninghub.errors import ProviderError
from receiver.server.service import Service
from receiver.web.answers import failed, wrong_method
from receiver.web.callbacks import PATH, CallbackDoor
from receiver.web.guard import Armour, Guard, Keeper
from receiver.web.metrics import Metrics
from receiver.web.routes import ENDPOINTS

OPEN = ("/", "/healthz", "/readyz", "/metrics")
"""Paths that are routes, beside those below /api."""
FAILURES = (Refused, StoreUnavailable, ProviderError, HTTPException, ClientDisconnect, 500)


class Methods(Router):
    """Names every method that a path takes when it refuses another: each of them is a route of its own here."""

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().app(scope, receive, send)
        except HTTPException as error:
            if error.status_code != 405:
                raise
            near = [each for each in self.routes if isinstance(each, Route) and each.matches(scope)[0] is Match.PARTIAL]
            raise wrong_method(scope["method"], {each for route in near for each in route.methods or ()}) from None


class FrontDoor:
    """Callbacks go straight to their door: the framework's layers around a route cost more than the door (measured).

    Takes //a/b and /a/b/ for /a/b: people join addresses by hand, and proxies do it for them.
    """

    def __init__(self, callbacks: ASGIApp, rest: ASGIApp, meter: Meter) -> None:
        self._callbacks = callbacks
        self._rest = rest
        self._meter = meter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope.get("path", "")
        if "//" in path or (path[-1:] == "/" and path != "/"):
            path = scope["path"] = "/" + "/".join(filter(None, path.split("/")))
        if path == PATH or path.startswith(f"{PATH}/"):
            await self._callbacks(scope, receive, send)
        else:
            await self._rest(scope, receive, self._measured(scope, send))

    def _measured(self, scope: Scope, send: Send) -> Send:
        """Counts the request when its answer begins; its route is known by then."""
        begun = time.perf_counter()

        async def measured(message: Message) -> None:
            if message["type"] == "http.response.start":
                path = scope["path"]
                route = scope.get("template") or (path if path in OPEN else "other")
                self._meter.note_request(route, scope["method"], message["status"], time.perf_counter() - begun)
            await send(message)

        return measured


def create_app(service: Service, pages: Callable[[Service, Keeper], ASGIApp] | None = None) -> ASGIApp:
    """The application over a service that was started; `pages` makes what is shown to people."""
    keeper = Keeper(service)

    async def alive(request: Request) -> Response:
        challenge = request.query_params.get("challenge")
        if challenge is None or service.announced is None:
            return JSONResponse({"status": "ok"})
        return JSONResponse({"status": "ok", "proof": service.announced.proof(service.admin_token, challenge)})

    async def ready(_: Request) -> Response:
        found = service.problems()
        if found and service.store.problem() is not None:
            # Nothing else may be writing; asking is what notices that the disk has room again.
            with suppress(StoreUnavailable):
                await service.store.probe()
            found = service.problems()
        return JSONResponse({"status": "unready" if found else "ready", "reasons": found}, 503 if found else 200)

    api = Methods([each.route(service) for each in ENDPOINTS], redirect_slashes=False)
    metrics = Metrics(service)
    app = Starlette(
        routes=[
            Route("/healthz", alive),
            Route("/readyz", ready),
            Route("/metrics", metrics if service.settings.metrics_public else Guard(metrics, keeper), methods=["GET"]),
            Mount("/api", Guard(api, keeper)),
            *([] if pages else [Route("/", alive)]),
        ],
        exception_handlers=dict.fromkeys(FAILURES, failed),
    )
    app.router.redirect_slashes = False
    if pages:
        # Behind all of these: a path that is one of them keeps its own refusals.
        app.router.default = pages(service, keeper)
    return FrontDoor(CallbackDoor(service), Armour(app), service.meter)
