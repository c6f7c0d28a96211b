"""Receiving: a stranger's bytes on one of our callback URLs, kept before they are acknowledged.

This verb is handed the store and what the token said, and nothing else: it cannot make an outbound call.
"""

import asyncio
import hashlib
from concurrent.futures import ThreadPoolExecutor

from msgspec import Struct

from receiver.model.entries import NewDelivery
from receiver.model.errors import Refused, StoreUnavailable
from receiver.model.links import Link
from receiver.model.rules import READ_AT_ONCE, UNREADABLE_KEPT
from receiver.runninghub.hints import Hint, read_hint
from receiver.runninghub.wire import Unreadable
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


async def receive(store: Store, link: Link, inbound: Inbound, now: float) -> Received:
    """Keeps a callback. Returns only after it is on disk.

    Raises Refused (404) where the link's task is not here, with nothing stored, and StoreUnavailable: also when the URL
    was sent too many bodies to keep one more.
    """
    body = inbound.body[:UNREADABLE_KEPT] if inbound.too_large else inbound.body
    if len(body) > READ_AT_ONCE:
        found = await asyncio.get_running_loop().run_in_executor(_readers, _examined, body, inbound.too_large)
    else:
        found = _examined(body, inbound.too_large)
    hint, problem, digest = found
    delivery = NewDelivery(
        task=link.task_id,
        purpose=link.purpose,
        body=body,
        digest=digest,
        size=len(inbound.body),
        provider_task_id=hint.task_id,
        claim=hint.end,
        problem=problem,
    )
    recorded = await store.record_delivery(delivery, now)
    if recorded is None:
        raise Refused(404, "not_found", "there is no such callback URL")
    if not recorded.kept:
        raise StoreUnavailable("too_many_bodies", "too many different bodies were sent to this callback URL")
    status = 413 if inbound.too_large else 202 if problem else 200
    return Received(status=status, duplicate=recorded.duplicate, due=recorded.due)


def _examined(body: bytes, too_large: bool) -> tuple[Hint, str | None, bytes]:
    """What a body says, or what is wrong with it; and its digest."""
    hint = Hint()
    problem: str | None = "too large"
    if not too_large:
        try:
            hint, problem = read_hint(body), None
        except Unreadable as error:
            problem = str(error)
    return hint, problem, hashlib.sha256(body).digest()
