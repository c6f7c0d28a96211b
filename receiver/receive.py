"""Receiving: a stranger's bytes on one of our callback URLs, kept before they are acknowledged.

This verb is handed the store and the links and nothing else: it cannot make an outbound call.
"""

import asyncio
import hashlib
from concurrent.futures import ThreadPoolExecutor

from msgspec import Struct

from receiver.model.entries import NewDelivery
from receiver.model.errors import Refused, StoreUnavailable
from receiver.model.links import Links
from receiver.model.rules import READ_AT_ONCE, UNREADABLE_KEPT
from receiver.runninghub import wire
from receiver.store import Store

_readers = ThreadPoolExecutor(1, "callbacks")
"""Reads large bodies beside the loop, one at a time: what it takes to read them is taken once."""


class Inbound(Struct, frozen=True, kw_only=True):
    """A request's body: the bytes that were read, and whether there were more than may be."""

    body: bytes
    too_large: bool = False


class Received(Struct, frozen=True, kw_only=True):
    """What to answer: 200, 202 for what cannot be read, 413 for what was too large; and whether the task is due."""

    status: int
    duplicate: bool
    due: bool


async def receive(store: Store, links: Links, token: str, inbound: Inbound, now: float) -> Received:
    """Keeps a callback. Returns only after it is on disk.

    Raises Refused (404) for a token that is not ours, with nothing stored, and StoreUnavailable: also when the URL
    was sent too many bodies to keep one more.
    """
    link = links.read(token)
    if link is None:
        raise _no_such_url()
    body = inbound.body[:UNREADABLE_KEPT] if inbound.too_large else inbound.body
    if len(body) > READ_AT_ONCE:
        found = await asyncio.get_running_loop().run_in_executor(_readers, _examined, body, inbound.too_large)
    else:
        found = _examined(body, inbound.too_large)
    report, problem, digest = found
    delivery = NewDelivery(
        task=link.task_id,
        purpose=link.purpose,
        body=body,
        digest=digest,
        size=len(inbound.body),
        provider_task_id=report.task_id if report else None,
        claim=report.end if report else None,
        problem=problem,
    )
    recorded = await store.record_delivery(delivery, now)
    if recorded is None:
        raise _no_such_url()
    if not recorded.kept:
        raise StoreUnavailable("too_many_bodies", "too many different bodies were sent to this callback URL")
    status = 413 if inbound.too_large else 202 if problem else 200
    return Received(status=status, duplicate=recorded.duplicate, due=recorded.due)


def _examined(body: bytes, too_large: bool) -> tuple[wire.TaskReport | None, str | None, bytes]:
    """What a body says, or what is wrong with it; and its digest."""
    report: wire.TaskReport | None = None
    problem: str | None = "too large"
    if not too_large:
        try:
            report, problem = wire.read_callback(body), None
        except wire.Unreadable as error:
            problem = str(error)
    return report, problem, hashlib.sha256(body).digest()


def _no_such_url() -> Refused:
    return Refused(404, "not_found", "there is no such callback URL")
