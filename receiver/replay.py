"""Replaying: what failed is owed again, or what is configured today is owed for tasks that ended before.

A replay is done in slices, whatever it is about: only keys are held, and callbacks are written in between. A small one
is done before whoever asked is answered, a large one goes on by itself, also when the server was started anew.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from receiver.model import rules
from receiver.model.definitions import Definition
from receiver.model.entries import Candidate, OwedAction, Reading, Replay, Search, Slice, Turn
from receiver.model.errors import Refused
from receiver.model.records import JsonObject, Line, ReplayMode
from receiver.model.views import ReplayBody
from receiver.runninghub import wire
from receiver.store import Store


async def replay(
    store: Store, definitions: Sequence[Definition], order: ReplayBody, note: JsonObject, now: float
) -> tuple[int, Replay | None]:
    """Owes actions again and returns how many, and the replay unless it was a dry run. `note` is kept with it.

    `retry` takes up the same rows with a fresh budget of tries; `again` owes today's definitions as a new generation;
    `missing` owes only the definitions an event has no action of; `reprocess` reads kept deliveries with today's eyes.
    `rate` is actions (deliveries) per second, None for at once. Of a large replay only the first part is done here.
    Raises Refused (409) when another number matches than is expected.
    """
    if order.dry_run or order.expected is not None:
        matched = await _count(store, definitions, order, now)
        if order.dry_run:
            return matched, None
        if matched != order.expected:
            told = f"{matched} match now, and {order.expected} were expected: nothing was done"
            raise Refused(409, "another_count", told, {"matched": matched})
    begun = await store.begin_replay(order.mode, order.filter, note, order.rate, now)
    done = await go_on(store, definitions, begun.id, now) or begun
    return done.matched, done


async def go_on(store: Store, definitions: Sequence[Definition], number: int, now: float) -> Replay | None:
    """Some slices of a replay; where it stands after them. None when there is no such replay."""
    for _ in range(rules.REPLAY_AT_ONCE):
        work = await store.search(number)
        if work is None:
            break
        await _slice(store, definitions, work, now)
    return await store.replay(number)


async def go_on_with_any(store: Store, definitions: Sequence[Definition], now: float) -> Line | None:
    """Some slices of the oldest replay that is not through. None when there is none."""
    work = await store.search()
    if work is None:
        return None
    stands = await go_on(store, definitions, work.id, now)
    return {"replay": work.id, "mode": work.mode.value, "matched": stands.matched if stands else 0}


async def _slice(store: Store, definitions: Sequence[Definition], work: Search, now: float) -> None:
    """The next slice: what is found is written down together with the place that the replay has come to."""
    match work.turn or work.mode:
        case Turn.CANCEL:
            await store.park(work, now)
        case Turn.RESUME:
            await store.unpark(work, now)
        case ReplayMode.RETRY:
            await store.retry(work, await store.find_retried(work), now)
        case ReplayMode.REPROCESS:
            kept = await store.kept_deliveries(work)
            read = [await _reading(store, delivery) for delivery in kept.items]
            there = [each for each in read if each is not None]
            await store.reread(work, Slice(items=there, place=kept.place, more=kept.more), now)
        case _:
            found = await store.candidates(work)
            owed = _owed_anew(work, definitions, found.items)
            await store.owe_anew(work, Slice(items=owed, place=found.place, more=found.more), now)


async def _count(store: Store, definitions: Sequence[Definition], order: ReplayBody, now: float) -> int:
    """How many actions a replay would owe, or deliveries it would read."""
    if order.mode is ReplayMode.REPROCESS:
        return await store.count_kept_deliveries(order.filter)
    if order.mode is ReplayMode.RETRY:
        return await store.count_retries(order.filter)
    work = await store.plan_search(order.mode, order.filter, now)
    count = 0
    while work.upto is not None:
        found = await store.candidates(work)
        count += sum(len(actions) for _, _, actions in _owed_anew(work, definitions, found.items))
        at, place = found.place
        work = replace(work, place_at=at, place=place, upto=work.upto if found.more else None)
    return count


def _owed_anew(
    work: Search, definitions: Sequence[Definition], candidates: Sequence[Candidate]
) -> list[tuple[Candidate, int, list[OwedAction]]]:
    """What is owed for each of the candidates for which anything is, as which generation."""
    chosen = [
        (each, OwedAction(name=each.name, after=each.after))
        for each in definitions
        if work.selection.name in (None, each.name)
    ]
    again = work.mode is ReplayMode.AGAIN
    owed = []
    for candidate in candidates:
        there = candidate.underway if again else candidate.present
        actions = [
            action
            for definition, action in chosen
            if action.name not in there and rules.matches(definition, candidate.state, candidate)
        ]
        if actions:
            owed.append((candidate, candidate.generation + 1 if again else max(1, candidate.generation), actions))
    return owed


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
