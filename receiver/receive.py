"""Receiving: a stranger's bytes on one of our callback URLs, kept before they are acknowledged.

This verb is handed the store and what the token said, and nothing else: it cannot make an outbound call.
"""

import hashlib

from msgspec import Struct

from receiver.model.entries import NewDelivery
from receiver.model.errors import Refused, StoreUnavailable
from receiver.model.links import Link
from receiver.model.rules import UNREADABLE_KEPT
from receiver.runninghub.hints import Hint, read_hint
from receiver.runninghub.wire import Unreadable
from receiver.store import Store


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
    hint, problem = _read(body, too_large=inbound.too_large)
    delivery = NewDelivery(
        task=link.task_id,
        purpose=link.purpose,
        body=body,
        digest=hashlib.sha256(body).digest(),
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


def _read(body: bytes, *, too_large: bool) -> tuple[Hint, str | None]:
    if too_large:
        return Hint(), "too large"
    try:
        return read_hint(body), None
    except Unreadable as problem:
        return Hint(), str(problem)
