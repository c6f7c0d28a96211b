"""Owns what can go wrong with a whole route: which outage meets a request, and how it looks from outside."""

from collections.abc import Awaitable, Callable
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated, TypeAlias

from msgspec import Meta, Struct
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

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
    QUEUE_FULL = "queue_full"
    """The same by name alone: no code, only the words TASK_QUEUE_MAXED."""
    REDIRECT = "redirect"
    """The site has moved, and the answer says where to."""
    DRIP = "drip"
    """The true answer comes one byte at a time, until the outage is healed."""
    ODD = "odd"
    """The true answer with bytes in it that a strict reader refuses, each kind in turn."""
    OTHER_TASK = "other_task"
    """A question about one task gets the answer about another."""
    TORN = "torn"
    """Half of the true answer comes, then the connection ends."""
    CODED = "coded"
    """The true answer under an odd Content-Encoding, each kind in turn."""


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


def met_outage(outages: dict[str, ActiveOutage], route: str) -> ActiveOutage | None:
    """The outage that meets a request to the route, counted against its times, or None.

    A route's own outage goes before the one of every route.
    """
    name = route if route in outages else EVERY_ROUTE
    outage = outages.get(name)
    if outage is not None and outage.times is not None:
        outage.times -= 1
        if outage.times <= 0:
            del outages[name]
    return outage


def broken_answer(kind: Break) -> ASGIApp:
    """An answer that never fully comes.

    In process the transport is told and raises what a client would. On a real socket we promise two bytes, send one and
    stop, upon which the server closes the connection: a client sees a connection lost halfway. A refused connection
    cannot be played from behind an accepted one, so on a real socket it looks like a lost one.
    """

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if is_in_process(scope):
            scope["extensions"][BREAK_SLOT].append(kind)
            await Response()(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"{", "more_body": True})

    return answer


def slow_answer(answer: ASGIApp, pause: Pause | None, seconds: float) -> ASGIApp:
    """A true answer that comes `seconds` later than it could: too late for anybody who waits in process.

    Without a `pause` there is no way to be slow on a real socket, and the connection breaks instead.
    """

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        if pause is None or is_in_process(scope):
            await broken_answer(Break.SLOW)(scope, receive, send)
        else:
            await pause(seconds)
            await answer(scope, receive, send)

    return late


def outage_answer(kind: Outage) -> ASGIApp:
    """What a request gets that meets an outage; those whose answers the route makes are not among them."""
    if kind is Outage.REFUSED:
        return broken_answer(Break.REFUSED)
    if kind is Outage.TOO_MANY:
        return JSONResponse({"code": 429, "msg": "Too Many Requests"}, 429, {"Retry-After": "1"})
    if kind is Outage.JUNK:
        return HTMLResponse("<!DOCTYPE html><title>RunningHub</title><p>please sign in")
    said = f"{kind} {HTTPStatus(int(kind)).phrase}"
    page = f"<html><head><title>{said}</title></head><body><center><h1>{said}</h1></center></body></html>"
    return HTMLResponse(page, int(kind))


def is_in_process(scope: Scope) -> bool:
    """Whether the asker is told how the connection broke."""
    return BREAK_SLOT in scope.get("extensions", {})
