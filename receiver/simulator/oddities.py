"""Owns how a true answer is spoiled on its way: it drips, is cut short, holds odd bytes or is coded in an odd way."""

import gzip
import json
from collections.abc import AsyncIterator, Callable, Mapping, Reversible
from typing import Any, TypeAlias

from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from receiver.simulator.outages import Break, Outage, Pause, broken_answer, is_in_process

DRIP = 0.1
"""Seconds between two bytes of an answer that drips."""
ODDITIES: tuple[Callable[[bytes], bytes], ...] = (
    lambda body: b"\xef\xbb\xbf" + body,
    lambda body: body + b"\x00",
    lambda body: _with(body, b"NaN"),
    lambda body: _with(body, b"1e400"),
    lambda body: _with(body, b'"\\ud800"'),
    lambda body: _with(body, b'"one\ntwo"'),
    lambda body: _with(body, b'"\xe4\xbd"'),
    lambda body: _with(body, b"[" * 2000 + b"]" * 2000),
)
"""Bytes that were seen in answers and that a strict reader refuses, although what matters can be read."""
CODINGS: tuple[tuple[str, Callable[[bytes], bytes]], ...] = (
    ("aws-chunked", lambda body: body),
    ("gzip", lambda body: body),
    ("gzip", gzip.compress),
)
"""What Content-Encoding says, and what is done to the bytes."""
SITE = "https://www.runninghub.example"
"""Where a provider that moved is now."""

Parts: TypeAlias = tuple[int, dict[str, str], bytes]
"""Status, headers without the length, and body."""
Goes: TypeAlias = Callable[[], bool]
"""Whether an outage still goes on."""


def spoiled(kind: Outage, answer: ASGIApp, turn: int, pause: Pause | None, goes_on: Goes) -> ASGIApp:
    """The answer as it arrives. Of several odd bytes or codings the `turn` says which, one after the other."""

    async def arrives(scope: Scope, receive: Receive, send: Send) -> None:
        if kind is Outage.DRIP and (pause is None or is_in_process(scope)):
            await broken_answer(Break.SLOW)(scope, receive, send)
        elif kind is Outage.TORN and is_in_process(scope):
            await broken_answer(Break.LOST)(scope, receive, send)
        else:
            status, headers, body = await _made(answer, scope, receive)
            await _sent(kind, status, headers, body, turn, pause, goes_on)(scope, receive, send)

    return arrives


def moved_answer(path: str, turn: int) -> Response:
    """A redirect to another site, with each of the statuses in turn."""
    return Response(status_code=(301, 302, 307, 308)[turn % 4], headers={"Location": f"{SITE}{path}"})


def about_another(body: bytes, known: Reversible[str]) -> bytes:
    """A question about the newest other task; the same question when there is none, or it names no task."""
    try:
        asked = json.loads(body)
        task_id = asked["taskId"]
    except (ValueError, RecursionError, KeyError, TypeError):
        return body
    other = next((each for each in reversed(known) if each != task_id), task_id)
    return json.dumps({**asked, "taskId": other}).encode()


def _sent(
    kind: Outage, status: int, headers: dict[str, str], body: bytes, turn: int, pause: Pause | None, goes_on: Goes
) -> ASGIApp:
    length = {**headers, "Content-Length": str(len(body))}
    if kind is Outage.ODD:
        return Response(ODDITIES[turn % len(ODDITIES)](body), status, headers)
    if kind is Outage.CODED:
        coding, packed = CODINGS[turn % len(CODINGS)]
        return Response(packed(body), status, {**headers, "Content-Encoding": coding})
    if kind is Outage.TORN:
        return _half(status, length, body)
    assert pause is not None
    return StreamingResponse(_dripping(body, pause, goes_on), status, length)


async def _dripping(body: bytes, pause: Pause, goes_on: Goes) -> AsyncIterator[bytes]:
    """Byte for byte while the outage goes on, then the rest."""
    at = 0
    while at < len(body) and goes_on():
        yield body[at : at + 1]
        await pause(DRIP)
        at += 1
    yield body[at:]


def _half(status: int, headers: Mapping[str, str], body: bytes) -> ASGIApp:
    """Promises the whole and sends half of it, upon which the server closes the connection."""
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})

    return answer


async def _made(answer: ASGIApp, scope: Scope, receive: Receive) -> Parts:
    said: list[dict[str, Any]] = []

    async def send(message: Message) -> None:
        said.append(dict(message))

    await answer(scope, receive, send)
    headers = {name.decode().lower(): value.decode() for name, value in said[0]["headers"]}
    headers.pop("content-length", None)
    return said[0]["status"], headers, b"".join(each.get("body", b"") for each in said[1:])


def _with(body: bytes, value: bytes) -> bytes:
    """The document with one more field, which nobody needs."""
    return body.replace(b"{", b'{"nobodyNeeds":' + value + b",", 1)
