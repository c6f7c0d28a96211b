"""All pages and forms of the console, and the application with them."""

from collections.abc import Mapping
from functools import partial

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route, Router
from starlette.types import ASGIApp

from receiver.console import actions, alerts, deliveries, overview, replays, settings, sign_in, tasks
from receiver.console.page import Console, Handler
from receiver.console.static import static_file
from receiver.server.service import Service
from receiver.web import app as web
from receiver.web.audited import VERBS, audited
from receiver.web.guard import Guard, Keeper

OPEN: tuple[tuple[str, str, Handler], ...] = (("GET", "/sign-in", sign_in.show), ("POST", "/sign-in", sign_in.sign_in))
"""What a stranger may ask for, beside the files of the pages."""
CLOSED: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/", overview.show),
    ("POST", "/sign-out", sign_in.sign_out),
    ("POST", "/look", sign_in.look),
    *tasks.ROUTES,
    *deliveries.ROUTES,
    *actions.ROUTES,
    *replays.ROUTES,
    *alerts.ROUTES,
    *settings.ROUTES,
)

DEEDS = {**VERBS, "POST /replays/{id}/cancel": VERBS["DELETE /replays/{id}"], "POST /sign-out": "sign out everywhere"}
"""What forms do, as the audit names it. A form has the path that the API has for the same."""


def create_app(service: Service, sources: Mapping[str, str] = {}) -> ASGIApp:
    """The application over a service that was started: the API, the door for callbacks, and the console.

    `sources` says where the settings were given, by their keys.
    """
    return web.create_app(service, partial(_pages, sources))


def _pages(sources: Mapping[str, str], service: Service, keeper: Keeper) -> ASGIApp:
    console = Console(service, keeper, sources)
    closed = Router([_route(console, *each) for each in CLOSED], redirect_slashes=False)
    app = Starlette(
        routes=[
            Route("/static/{name}", static_file),
            *(_route(console, *each) for each in OPEN),
            Mount("", Guard(closed, keeper, pages=True)),
        ],
        exception_handlers=dict.fromkeys(web.FAILURES, console.failed),
    )
    app.router.redirect_slashes = False
    return app


def _route(console: Console, method: str, path: str, handler: Handler) -> Route:
    """A page, or a form: what that does is written down, as it is for the API."""
    verb = DEEDS.get(f"{method} {path}")

    async def handle(request: Request) -> Response:
        request.scope["template"] = path
        request.scope["receiver.place"] = console.service.stream.place
        if verb is None:
            return await handler(console, request)
        return await audited(console.service, request, verb, lambda _, again: handler(console, again))

    return Route(path, handle, methods=[method])
