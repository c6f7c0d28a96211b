"""Submitting: an order becomes a row, the row becomes one request, the answer decides what the row becomes.

The row is written before the provider is called and nothing is ever sent twice by itself: the provider has no
idempotency key, so a second send may be a second bill.
"""

import asyncio
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from receiver.model import rules
from receiver.model.definitions import Definition
from receiver.model.entries import NewEvent, NewTask
from receiver.model.errors import Refused, StoreUnavailable
from receiver.model.links import Links
from receiver.model.records import (
    CheckKind,
    End,
    Line,
    Purpose,
    Source,
    Task,
    TaskError,
)
from receiver.orders.attachments import refreshed
from receiver.orders.exchange import Asker, until_written
from receiver.runninghub.client import Reply, Submission
from receiver.runninghub.errors import ProviderError
from receiver.runninghub.requests import submit_request
from receiver.store import Store

UPLOAD_TOO_OLD = "upload_too_old"
"""The code of a task that was not sent because a file in it would not have been found any more."""


async def accept(store: Store, order: NewTask, now: float) -> tuple[Task, bool]:
    """Puts an order into our own queue. Returns the task and whether it is new.

    Raises Refused (409) when its idempotency key was used for another order.
    """
    added = await store.add_task(order, now)
    if added.conflict:
        raise Refused(
            409,
            "idempotency_conflict",
            "this Idempotency-Key was used for another order; use a new key, or send the same body",
            {"task": added.task.id},
        )
    return added.task, added.new


async def submit_next(
    store: Store,
    asker: Asker,
    links: Links,
    definitions: Sequence[Definition],
    policy: rules.Policy,
    clock: Callable[[], float],
    *,
    node: str = rules.NODE,
    in_hand: set[str] | None = None,
) -> Line | None:
    """Sends the oldest queued task, once, as a node. None when there is nothing to send, or no room, or no API key.

    While it is sent, the task's id is `in_hand`, where the housekeeping sees that it has a sender.
    """
    if not asker.provider.has_key:
        return None
    most, site = policy.max_in_flight, asker.provider.site
    taken = await store.take_queued_task(clock(), most, callback=links.can_issue, node=node, site=site)
    if taken is None:
        return None
    hands = set() if in_hand is None else in_hand
    hands.add(taken.id)
    try:
        return await _send(store, asker, links, definitions, clock, taken)
    finally:
        hands.discard(taken.id)


async def _send(
    store: Store,
    asker: Asker,
    links: Links,
    definitions: Sequence[Definition],
    clock: Callable[[], float],
    taken: Task,
) -> Line:
    task, too_old = await _with_current_links(store, taken, asker.provider.site, clock())
    if too_old is not None:
        await _reject(store, task, too_old, definitions, clock())
        return {"task": task.id, "outcome": "rejected", "code": too_old.code}
    url = links.issue(task.id, Purpose.SUBMIT)
    request = submit_request(task.kind, task.api, task.target, task.input, url)

    async def send() -> Reply[Submission]:
        # The provider's id is written down before anything else can go wrong: a task without it is in doubt.
        reply = await asker.provider.submit(request)
        await _note_taken(store, task, reply.content, clock())
        return reply

    try:
        submission = await asker.exchange(task, CheckKind.SUBMIT, send(), _summary)
    except ProviderError as error:
        outcome = await _outcome_of_error(store, task, error, definitions, clock())
        return {"task": task.id, "outcome": outcome, "code": error.code}
    return {"task": task.id, "outcome": "submitted", "provider_task_id": submission.task_id}


async def _with_current_links(store: Store, task: Task, site: str, now: float) -> tuple[Task, TaskError | None]:
    """The task with what stands for its uploads now, written down before it is sent; or why it must not be sent.

    It may have waited in our queue for longer than its links live, and a dead link may cost money.
    """
    input, uploads, problems = await refreshed(store, task, site, now)
    if problems:
        message = "; ".join(f"{path}: {problem}" for path, problem in problems)
        return task, TaskError(code=UPLOAD_TOO_OLD, name="UPLOAD_TOO_OLD", message=f"{message}; then submit it again")
    if uploads != task.uploads:
        await store.replace_uploads(task, input, uploads)
    return replace(task, input=input, uploads=uploads), None


def _summary(submission: Submission) -> str:
    return f"taken as {submission.task_id}, {submission.report.status or 'no status'}"


async def _note_taken(store: Store, task: Task, submission: Submission, now: float) -> None:
    ended_at_once = submission.report.end is not None
    first = now if ended_at_once else rules.ladder(now, 0, now, callback=task.callback)
    status = submission.report.status
    try:
        await until_written(lambda: store.mark_submitted(task, submission.task_id, status, first, now))
    except (StoreUnavailable, asyncio.CancelledError) as problem:
        # The log is the last place that can keep what was paid for.
        taken = f"task {task.id} was taken as {submission.task_id}, which could not be written down"
        raise StoreUnavailable("closing", taken) from problem


async def _outcome_of_error(
    store: Store,
    task: Task,
    error: ProviderError,
    definitions: Sequence[Definition],
    now: float,
) -> str:
    match rules.submission_verdict(error.code, error.http_status):
        case rules.Later(pause=pause):
            until = now + max(pause, min(error.retry_after or 0.0, rules.BACKOFF_CAP))
            await until_written(lambda: store.put_back(task, until, str(error)))
            return "later"
        case rules.InDoubt():
            await until_written(lambda: store.mark_in_doubt(task, error.name, now))
            return "in_doubt"
        case rules.Rejected():
            why = TaskError(code=error.code, name=error.name, message=error.meaning)
            await _reject(store, task, why, definitions, now)
            return "rejected"


async def _reject(store: Store, task: Task, why: TaskError, definitions: Sequence[Definition], now: float) -> None:
    event = NewEvent(task=task, state=End.REJECTED, source=Source.SUBMIT, confirmed=True, settled=True, error=why)
    await until_written(lambda: store.record_event(event, rules.owed(definitions, event), now))
