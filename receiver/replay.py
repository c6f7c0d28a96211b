"""Replaying: what failed is owed again, or what is configured today is owed for tasks that ended before."""

from collections.abc import Sequence

from receiver.model import rules
from receiver.model.definitions import Definition
from receiver.model.entries import Candidate, NewEvent, OwedAction, Reading, Selection
from receiver.model.errors import Refused
from receiver.model.records import End, JsonObject, Replay, ReplayMode, Source
from receiver.model.views import ReplayBody
from receiver.runninghub import wire
from receiver.store import Store

PAGE = 200
"""Deliveries read anew in one transaction."""


async def replay(
    store: Store, definitions: Sequence[Definition], order: ReplayBody, note: JsonObject, now: float
) -> tuple[int, Replay | None]:
    """Owes actions again and returns how many, and the replay unless it was a dry run. `note` is kept with it.

    `retry` takes up the same rows with a fresh budget of tries; `again` owes today's definitions as a new generation;
    `missing` owes only the definitions an event has no action of; `reprocess` reads kept deliveries with today's eyes.
    `rate` is actions (deliveries) per second, None for at once.
    """
    mode, wanted, rate = order.mode, order.filter, order.rate
    if mode is ReplayMode.REPROCESS:
        if order.dry_run:
            return await store.count_kept_deliveries(wanted), None
        replayed = await _reprocess(store, wanted, note, rate, now)
    elif mode is ReplayMode.RETRY:
        if order.dry_run:
            return await store.count_retries(wanted), None
        replayed = await store.retry(wanted, note, rate, now)
    else:
        chosen = [each for each in definitions if wanted.name in (None, each.name)]
        found = [(each, *_owed_anew(mode, chosen, each)) for each in await store.candidates(wanted)]
        owed = [each for each in found if each[2]]
        if order.dry_run:
            return sum(len(actions) for _, _, actions in owed), None
        replayed = await store.owe_anew(mode, owed, note, rate, now)
    return replayed.matched, replayed


def _owed_anew(
    mode: ReplayMode, definitions: Sequence[Definition], candidate: Candidate
) -> tuple[int, list[OwedAction]]:
    end = End(candidate.task.state.value)
    event = NewEvent(task=candidate.task, state=end, source=Source.QUERY, confirmed=True, settled=True)
    actions = rules.owed(definitions, event)
    if mode is ReplayMode.AGAIN:
        return candidate.generation + 1, [action for action in actions if action.name not in candidate.underway]
    return max(1, candidate.generation), [action for action in actions if action.name not in candidate.present]


async def _reprocess(store: Store, wanted: Selection, note: JsonObject, rate: float | None, now: float) -> Replay:
    number = await store.begin_rereading(note, rate, now)
    after = 0
    while True:
        found = await store.kept_deliveries(wanted, after, PAGE)
        read = [await _reading(store, delivery) for delivery in found]
        reread = await store.reread(number, [each for each in read if each is not None], now)
        if len(found) < PAGE:
            return reread
        after = found[-1]


async def _reading(store: Store, delivery: int) -> Reading | None:
    """None for one whose bytes were pruned since it was found."""
    try:
        return _read(delivery, await store.delivery_body(delivery) or b"")
    except Refused:
        return None


def _read(delivery: int, body: bytes) -> Reading:
    try:
        report = wire.read_callback(body)
    except wire.Unreadable as problem:
        return Reading(delivery=delivery, problem=str(problem))
    return Reading(
        delivery=delivery,
        provider_task_id=report.task_id,
        claim=report.end,
        results=report.results,
        error=report.error,
        usage=report.usage,
        extra=report.extra,
    )
