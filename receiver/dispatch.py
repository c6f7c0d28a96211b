"""Dispatching: one owed action is claimed under a lease, its effect is had, the claim is settled with a fence.

The effect happens at least once. Every repetition carries the same idempotency key.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from msgspec.structs import replace

from receiver.actions import ActionFailed, Done, Performer, Work, left_behind
from receiver.events import event_body, idempotency_key
from receiver.model import rules
from receiver.model.definitions import ActionKind, Definition, FailureClass
from receiver.model.entries import Settlement
from receiver.model.errors import StoreUnavailable
from receiver.model.records import Claimed, JsonObject, Line
from receiver.model.redaction import Redactor
from receiver.store import Store

RENEWALS = 3
"""How often a lease is renewed within its length."""
SETTLE_AGAIN = 0.5
"""Seconds between two tries to write down how an action ended, while nothing can be written."""


class LeaseLost(Exception):
    """The action went to somebody else while it ran here; whatever came of it must not be settled."""


async def dispatch(
    store: Store,
    performers: Mapping[ActionKind, Performer],
    definition: Definition,
    redact: Redactor,
    clock: Callable[[], float],
    jitter: Callable[[], float],
    *,
    in_hand: set[int] | None = None,
    node: str = rules.NODE,
) -> Line | None:
    """Runs one due action of a definition, as a node. None when none is due. `jitter` gives numbers in [0, 1).

    When it is cancelled, the claim is given back at once and does not count as a try. While it runs, the action's id is
    `in_hand`, where the housekeeping sees that its worker lives.
    """
    hands = set() if in_hand is None else in_hand
    claimed = await _claim(store, definition, clock, node)
    if claimed is None:
        return None
    hands.add(claimed.action.id)
    line: Line = {"action": claimed.action.id, "name": definition.name, "task": claimed.task.id}
    try:
        settlement = await _try(store, performers[definition.kind], definition, claimed, clock, jitter)
        detail = masked(redact, settlement.detail)
        reason = redact.text(settlement.reason) if settlement.reason else None
        mine = await _settle(store, claimed, replace(settlement, reason=reason, detail=detail), clock)
    except LeaseLost:
        return {**line, "outcome": "lease lost"}
    except asyncio.CancelledError:
        await _give_back(store, claimed, clock)
        raise
    finally:
        hands.discard(claimed.action.id)
    return {**line, "outcome": settlement.outcome if mine else "lease lost", "reason": reason}


def masked(redact: Redactor, detail: JsonObject) -> JsonObject:
    """What was done is settled, whatever came with it."""
    try:
        return redact.data(detail)
    except RecursionError:
        return {"kept": "nothing, for it is nested too deeply"}


async def _claim(store: Store, definition: Definition, clock: Callable[[], float], node: str) -> Claimed | None:
    """A claim that is cancelled may have been made all the same: then it is given back."""
    claiming = asyncio.ensure_future(store.claim_action(definition.name, clock(), definition.lease, node=node))
    try:
        return await asyncio.shield(claiming)
    except asyncio.CancelledError:
        claimed = await claiming
        if claimed is not None:
            await _give_back(store, claimed, clock)
        raise


async def _settle(store: Store, claimed: Claimed, settlement: Settlement, clock: Callable[[], float]) -> bool:
    """Tries until it is written: what was done and not written down would be done again."""
    while True:
        try:
            return await store.settle_action(claimed, settlement, clock())
        except StoreUnavailable as problem:
            if problem.reason == "closing":
                raise
            await asyncio.sleep(SETTLE_AGAIN)


async def _give_back(store: Store, claimed: Claimed, clock: Callable[[], float]) -> None:
    """Changes nothing when the try was settled already."""
    returned = Settlement(outcome="returned", due_at=clock(), reason="the server stopped while it ran")
    await store.settle_action(claimed, returned, clock())


async def _try(
    store: Store,
    performer: Performer,
    definition: Definition,
    claimed: Claimed,
    clock: Callable[[], float],
    jitter: Callable[[], float],
) -> Settlement:
    try:
        done = await bounded(definition, _under_lease(store, performer, definition, claimed, clock))
    except ActionFailed as failure:
        if failure.expired and await store.ask_for_new_links(claimed, clock()):
            detail: JsonObject = {**_told(failure), "asked": "for new links"}
            due_at = clock() + rules.EXPIRED_RETRY
            return Settlement(outcome="retry", due_at=due_at, reason=failure.reason, detail=detail)
        attempts, at = claimed.action.attempts, claimed.event.at
        return judge(definition, failure, attempts=attempts, event_at=at, now=clock(), jitter=jitter())
    return Settlement(outcome="done", detail=done.detail, files=done.files)


async def bounded(definition: Definition, performing: Awaitable[Done]) -> Done:
    """The effect within the definition's timeout. Raises ActionFailed for whatever comes between, but a lost lease."""
    try:
        async with asyncio.timeout(definition.timeout):
            return await performing
    except (ActionFailed, LeaseLost):
        raise
    except TimeoutError as late:
        notes: JsonObject = {"left_behind": list(left_behind(late))}
        slow = f"it took longer than its timeout of {definition.timeout:g} s"
        raise ActionFailed(slow, category=FailureClass.TIMEOUT, detail=notes) from late
    except Exception as error:
        raise ActionFailed(f"{type(error).__name__}: {error}") from error


def judge(
    definition: Definition, failure: ActionFailed, *, attempts: int, event_at: float, now: float, jitter: float
) -> Settlement:
    """What a failed try comes to, after `attempts` of them: a retry, and when, or the end. Times in seconds."""
    detail = _told(failure)
    unwell = failure.category.accuses_target and not (failure.permanent or failure.expired)
    due_at = now + max(rules.backoff(attempts, jitter), min(failure.retry_after or 0.0, rules.LINKS_LIVE))
    reason = failure.reason
    links_die = event_at + rules.LINKS_LIVE
    if failure.expired or (definition.kind is ActionKind.DOWNLOAD and due_at > links_die):
        reason = f"expired: {reason}"
    elif not failure.permanent and attempts < definition.max_attempts:
        wait = failure.retry_after or 0.0
        return Settlement(outcome="retry", due_at=due_at, reason=reason, detail=detail, unwell=unwell, retry_after=wait)
    return Settlement(outcome="dead", reason=reason, detail=detail, unwell=unwell)


def _told(failure: ActionFailed) -> JsonObject:
    return {**failure.detail, "error": failure.reason, "category": failure.category.value}


async def _under_lease(
    store: Store,
    performer: Performer,
    definition: Definition,
    claimed: Claimed,
    clock: Callable[[], float],
) -> Done:
    """Has the effect while the lease is renewed beside it. Raises LeaseLost when it could not be."""
    worker = asyncio.current_task()
    assert worker is not None
    renewal = asyncio.create_task(_renew(store, claimed, definition.lease, clock))
    running = True

    def lost(ended: "asyncio.Task[None]") -> None:
        # A lease may be lost in the moment the effect ends: then the worker is busy with something else already.
        if running and not ended.cancelled():
            worker.cancel()

    renewal.add_done_callback(lost)
    try:
        return await performer(_work(definition, claimed))
    except asyncio.CancelledError:
        if renewal.done():
            worker.uncancel()
            raise LeaseLost from None
        raise
    finally:
        running = False
        renewal.cancel()


async def _renew(store: Store, claimed: Claimed, lease: float, clock: Callable[[], float]) -> None:
    """Ends when the lease is lost. While nothing can be written it is not: it is in hand yet, and nobody frees it."""
    while True:
        await asyncio.sleep(lease / RENEWALS)
        with suppress(StoreUnavailable):
            if not await store.renew_lease(claimed, clock() + lease):
                return


def _work(definition: Definition, claimed: Claimed) -> Work:
    action, event, task = claimed.action, claimed.event, claimed.task
    key = idempotency_key(task.id, action.name, action.generation)
    described: JsonObject = {
        "id": action.id,
        "name": action.name,
        "generation": action.generation,
        "attempt": action.attempts,
    }
    body = event_body(event, task, results=event.results, action=described, key=key)
    return Work(
        definition=definition,
        body=body,
        results=event.results,
        task_id=task.id,
        key=key,
        attempt=action.attempts,
    )
