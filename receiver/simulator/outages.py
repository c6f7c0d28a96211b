"""Owns what can go wrong with a whole route: which outage meets a request, and how it looks from outside."""

from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Annotated, TypeAlias

from msgspec import Meta, Struct
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import Receive, Scope, Send

from receiver.simulator.faults import Number

Pause: TypeAlias = Callable[[float], Awaitable[None]]

EVERY_ROUTE = "*"
BREAK_SLOT = "receiver.simulator.break"
"""Where an in-process transport puts a list into the scope's extensions, to learn how a connection broke."""


class Outage(StrEnum):
    """What meets every request to a route that is down."""

    TOO_MANY = "429"
    ERROR = "500"
    BAD_GATEWAY = "502"
    UNAVAILABLE = "503"
    JUNK = "junk"
    SLOW = "slow"
    REFUSED = "refused"
    CODE = "code"
    """No outage to the network: an answer that says no, in the route's own envelope, with an error code of choice."""


class Break(StrEnum):
    """How a connection fails: never made, no answer in time, or closed without one."""

    REFUSED = "refused"
    SLOW = "slow"
    LOST = "lost"


class ActiveOutage(Struct):
    """An outage in force on a route. `seconds` belongs to SLOW, `code` to CODE."""

    kind: Outage
    route: str = EVERY_ROUTE
    times: Annotated[int, Meta(ge=1)] | None = None
    """How many requests will still meet it; None for all until it is healed."""
    seconds: Number = 30.0
    code: str = "500"


class Outages:
    """The outages in force, at most one per route; a route's own goes before the one of every route."""

    def __init__(self) -> None:
        self._active: dict[str, ActiveOutage] = {}

    def begin(self, outage: ActiveOutage) -> None:
        """Lets an outage meet the next requests to its route, in place of an earlier one there."""
        self._active[outage.route] = outage

    def heal(self, route: str) -> None:
        """Ends the route's outage, or with "*" every one."""
        if route == EVERY_ROUTE:
            self._active.clear()
        else:
            self._active.pop(route, None)

    def meet(self, route: str) -> ActiveOutage | None:
        """The outage that meets a request to the route, counted against its times, or None."""
        for name in (route, EVERY_ROUTE):
            active = self._active.get(name)
            if active is None:
                continue
            if active.times is not None:
                active.times -= 1
                if active.times <= 0:
                    del self._active[name]
            return active
        return None


class BrokenAnswer(Response):
    """An answer that never fully comes.

    In process the transport is told and raises what a client would. On a real socket we promise two bytes, send one and
    stop, upon which the server closes the connection: a client sees a connection lost halfway. A refused connection
    cannot be played from behind an accepted one, so on a real socket it looks like a lost one.
    """

    def __init__(self, kind: Break) -> None:
        super().__init__()
        self._kind = kind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _tell(scope, self._kind):
            await super().__call__(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"{", "more_body": True})


class SlowAnswer(Response):
    """A true answer that comes `seconds` later than it could: too late for anybody who waits in process.

    Without a `pause` there is no way to be slow on a real socket, and the connection breaks instead.
    """

    def __init__(self, answer: Response, pause: Pause | None, seconds: float) -> None:
        super().__init__()
        self._answer = answer
        self._pause = pause
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _tell(scope, Break.SLOW):
            await super().__call__(scope, receive, send)
        elif self._pause is None:
            await BrokenAnswer(Break.LOST)(scope, receive, send)
        else:
            await self._pause(self._seconds)
            await self._answer(scope, receive, send)


def outage_answer(kind: Outage) -> Response:
    """What a request gets that meets an outage; SLOW and CODE are not among them, whose answers the route makes."""
    if kind is Outage.REFUSED:
        return BrokenAnswer(Break.REFUSED)
    if kind is Outage.TOO_MANY:
        return JSONResponse({"code": 429, "msg": "Too Many Requests"}, 429, {"Retry-After": "1"})
    if kind is Outage.JUNK:
        return HTMLResponse("<!DOCTYPE html><title>RunningHub</title><p>please sign in")
    reason = {Outage.ERROR: "Internal Server Error", Outage.BAD_GATEWAY: "Bad Gateway"}.get(kind, "Service Unavailable")
    said = f"{kind} {reason}"
    page = f"<html><head><title>{said}</title></head><body><center><h1>{said}</h1></center></body></html>"
    return HTMLResponse(page, int(kind))


def _tell(scope: Scope, kind: Break) -> bool:
    """Whether somebody in process listens for breaks, and was told of this one."""
    listener = scope.get("extensions", {}).get(BREAK_SLOT)
    if listener is None:
        return False
    listener.append(kind)
    return True
