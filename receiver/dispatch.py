"""Dispatching: one owed action is claimed under a lease, performed, and settled; a fence stops whoever lost the lease.

An action is performed at least once. Every repetition carries the same idempotency key.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from receiver.actions import ActionFailed, Done, Performer, Work, left_behind
from receiver.events import event_body, idempotency_key, without_input
from receiver.model import rules
from receiver.model.definitions import ActionKind, Definition, FailureClass
from receiver.model.entries import Settlement
from receiver.model.errors import StoreUnavailable
from receiver.model.records import Claimed, JsonObject, Line
from receiver.model.redaction import Redactor
from receiver.orders.exchange import until_written
from receiver.store import Store

T = TypeVar("T")

RENEWALS = 3
"""How often a lease is renewed within its length."""


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
    worker: "Worker | None" = None,
) -> Line | None:
    """Runs one due action of a definition, as a node. None when none is due. `jitter` gives numbers in [0, 1).

    When it is cancelled, the claim is given back at once and counts as no attempt. While it runs, the action's id
    is `in_hand`, where the housekeeping sees that its worker lives. A `worker` who goes on claims the next action in
    the write that settles this one, for the next call.
    """
    hands = set() if in_hand is None else in_hand
    worker = worker or Worker()
    held = await worker.next_of(store, definition, clock, node)
    if held is None:
        return None
    action = held.claimed.action
    hands.add(action.id)
    line: Line = {"action": action.id, "name": definition.name, "task": held.claimed.task.id}
    try:
        settlement = await held.attempt(performers[definition.kind], jitter)
        detail = masked(redact, settlement.detail)
        reason = redact.text(settlement.reason) if settlement.reason else None
        mine = await worker.settle(held, replace(settlement, reason=reason, detail=detail))
    except LeaseLost:
        return {**line, "outcome": "lease lost"}
    except asyncio.CancelledError:
        await held.give_back()
        raise
    finally:
        hands.discard(action.id)
    return {**line, "outcome": settlement.outcome if mine else "lease lost", "reason": reason}


class Worker:
    """Who runs actions of a definition, one after the other; what was claimed along with a settlement waits here."""

    def __init__(self, goes_on: Callable[[], bool] = lambda: False) -> None:
        self._goes_on = goes_on
        self._next: Held | None = None
        self._is_done = False

    async def next_of(
        self, store: Store, definition: Definition, clock: Callable[[], float], node: str
    ) -> "Held | None":
        """The action to run now. None when there is none, or was none a moment ago."""
        if self._is_done:
            self._is_done = False
            return None
        held, self._next = self._next, None
        return held or await _claim(store, definition, clock, node)

    async def settle(self, held: "Held", settlement: Settlement) -> bool:
        """Writes the end of an attempt, again and again until it is written; else it would be done again.

        False when the lease was lost.
        """
        if not self._goes_on():
            return await until_written(lambda: held.settle(settlement))
        mine, self._next = await until_written(lambda: held.settle_and_claim(settlement))
        self._is_done = self._next is None
        return mine

    async def give_back(self) -> None:
        """Gives back what waits: the worker ends."""
        held, self._next = self._next, None
        if held is not None:
            with suppress(StoreUnavailable):
                await held.give_back()


def masked(redact: Redactor, detail: JsonObject) -> JsonObject:
    """The detail of an attempt without secrets; a remark in its place when it is nested too deeply to look through."""
    try:
        return redact.data(detail)
    except RecursionError:
        return {"kept": "nothing, for it is nested too deeply"}


class Held(Struct, frozen=True):
    """An action that was claimed here."""

    store: Store
    definition: Definition
    claimed: Claimed
    clock: Callable[[], float]
    node: str = rules.NODE

    async def attempt(self, performer: Performer, jitter: Callable[[], float]) -> Settlement:
        """Performs the action once, and returns what came of it. Raises LeaseLost."""
        action, event = self.claimed.action, self.claimed.event
        try:
            done = await bounded(self.definition, self._under_lease(performer))
        except ActionFailed as failure:
            now, attempts = self.clock(), action.attempts
            # Once they have died of age, for whoever has begun anew by hand: nothing is promised then.
            hoped = failure.expired and (attempts == 1 or now < event.at + rules.LINKS_LIVE)
            if hoped:
                await self.store.ask_for_new_links(self.claimed, now)
                failure.retry_after = max(rules.EXPIRED_RETRY, failure.retry_after or 0.0)
                failure.detail = {**failure.detail, "asked": "for new links"}
            return judge(
                self.definition, failure, attempts=attempts, event_at=event.at, now=now, jitter=jitter(), hoped=hoped
            )
        return Settlement(outcome="done", detail=done.detail, files=done.files)

    async def settle(self, settlement: Settlement) -> bool:
        """Ends the attempt; False when the lease was lost."""
        return await self.store.settle_action(self.claimed, settlement, self.clock())

    async def settle_and_claim(self, settlement: Settlement) -> "tuple[bool, Held | None]":
        """The same, with the next action of the definition."""
        store, lease = self.store, self.definition.lease

        async def give_back(written: tuple[bool, Claimed | None]) -> None:
            if written[1] is not None:
                await replace(self, claimed=written[1]).give_back()

        try:
            writing = store.settle_and_claim(self.claimed, settlement, self.clock(), lease, node=self.node)
            mine, claimed = await _undone_when_cancelled(writing, give_back)
        except StoreUnavailable:
            raise
        except Exception:
            # What spoils the claim of another action must not spoil the end of this one. The next claim tells it.
            return await self.settle(settlement), None
        return mine, None if claimed is None else replace(self, claimed=claimed)

    async def give_back(self) -> None:
        """Changes nothing when the attempt was settled already."""
        returned = Settlement(outcome="returned", due_at=self.clock(), reason="the server stopped while it ran")
        await self.store.settle_action(self.claimed, returned, self.clock())

    async def _under_lease(self, performer: Performer) -> Done:
        """Performs the action while its lease is renewed. Raises LeaseLost when it could not be."""
        worker = asyncio.current_task()
        assert worker is not None
        renewal = asyncio.create_task(self._renew())
        running = True

        def lost(ended: "asyncio.Task[None]") -> None:
            # A lease may be lost in the moment the effect ends: then the worker is busy with something else already.
            if running and not ended.cancelled():
                worker.cancel()

        renewal.add_done_callback(lost)
        try:
            return await performer(replace(_work(self.definition, self.claimed), note_process=self._note_process))
        except asyncio.CancelledError:
            if renewal.done():
                worker.uncancel()
                raise LeaseLost from None
            raise
        finally:
            running = False
            renewal.cancel()

    async def _note_process(self, process: str) -> None:
        with suppress(StoreUnavailable):
            await self.store.note_process(self.claimed, process)

    async def _renew(self) -> None:
        """Ends when the lease is lost. While nothing can be written it is not: it is in hand yet, nobody frees it."""
        lease = self.definition.lease
        while True:
            await asyncio.sleep(lease / RENEWALS)
            with suppress(StoreUnavailable):
                if not await self.store.renew_lease(self.claimed, self.clock() + lease):
                    return


async def _claim(store: Store, definition: Definition, clock: Callable[[], float], node: str) -> Held | None:
    async def give_back(claimed: Claimed | None) -> None:
        if claimed is not None:
            await Held(store, definition, claimed, clock, node).give_back()

    claiming = store.claim_action(definition.name, clock(), definition.lease, node=node)
    claimed = await _undone_when_cancelled(claiming, give_back)
    return None if claimed is None else Held(store, definition, claimed, clock, node)


async def _undone_when_cancelled(writing: Coroutine[Any, Any, T], undo: Callable[[T], Awaitable[None]]) -> T:
    """What a write comes to. One that is cancelled may have been made all the same: then it is undone."""
    task = asyncio.ensure_future(writing)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await undo(await task)
        raise


async def bounded(definition: Definition, performing: Awaitable[Done]) -> Done:
    """Waits for an action within its definition's timeout. Every failure leaves as ActionFailed, but a lost lease."""
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
    definition: Definition,
    failure: ActionFailed,
    *,
    attempts: int,
    event_at: float,
    now: float,
    jitter: float,
    hoped: bool = False,
) -> Settlement:
    """What a failed attempt, the `attempts`-th, comes to: a retry, and when, or the end. Times in seconds.

    A link that is dead ends it, unless another is `hoped` for.
    """
    detail = _failure_detail(failure)
    if not failure.begun:
        due_at = now + (failure.retry_after or 0.0)
        return Settlement(outcome="returned", due_at=due_at, reason=failure.reason, detail=detail)
    unwell = failure.category.accuses_target and not (failure.permanent or failure.expired)
    due_at = now + max(rules.backoff(attempts, jitter), min(failure.retry_after or 0.0, rules.LINKS_LIVE))
    reason = failure.reason
    outcome = Settlement(outcome="dead")
    links_die = event_at + rules.LINKS_LIVE
    if not hoped and (failure.expired or (definition.kind is ActionKind.DOWNLOAD and due_at > links_die)):
        reason = f"expired: {reason}"
    elif not failure.permanent and attempts < definition.max_attempts:
        wait = failure.retry_after or 0.0
        outcome = Settlement(outcome="retry", due_at=due_at, retry_after=wait)
    return replace(outcome, reason=reason, detail=detail, unwell=unwell, silent=failure.category.is_silence)


def _failure_detail(failure: ActionFailed) -> JsonObject:
    return {**failure.detail, "error": failure.reason, "category": failure.category.value}


def _work(definition: Definition, claimed: Claimed) -> Work:
    action, event, task = claimed.action, claimed.event, claimed.task
    key, number = idempotency_key(task.id, action.name, action.generation), action.attempts
    described: JsonObject = {
        "id": action.id,
        "name": action.name,
        "generation": action.generation,
        "attempt": number,
    }
    body = event_body(event, task, results=event.results, action=described, key=key)
    if not definition.include_input:
        body = without_input(body)
    return Work(definition=definition, body=body, results=event.results, task_id=task.id, key=key, attempt=number)
