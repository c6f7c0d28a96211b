"""Deliveries that are recorded together: the ledger is the same as if they had come one after another."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from ledgers import end_tasks
from msgspec.structs import replace

from receiver.model import rules
from receiver.model.entries import NewDelivery, Recorded
from receiver.model.records import AlertKind, Filter, MissCause, Purpose
from receiver.store import Store

NOW = 1_800_000_000.0
NOBODY = "01a205ac-c703-76a8-b314-bcbc425dff41"
OWN = "the task's own"
TASKS = 4
BODIES = [b"", b"{}", b'{"a":1}', b"!", b"!!", "片".encode() * 40, bytes(range(256)) * 300]

Way = Callable[[Store, Sequence[NewDelivery]], Awaitable[list[Recorded | None]]]
Drawn = tuple[int, bytes, Purpose, str | None]


def delivery(task: str, body: bytes, *, purpose: Purpose = Purpose.SUBMIT, named: str | None = None) -> NewDelivery:
    problem = "not JSON" if body.startswith(b"!") else None
    digest = hashlib.sha256(body).digest()
    return NewDelivery(
        task=task, purpose=purpose, body=body, digest=digest, size=len(body), provider_task_id=named, problem=problem
    )


async def together(store: Store, arriving: Sequence[NewDelivery]) -> list[Recorded | None]:
    """All but the first wait while that is committed, and are one batch."""
    return await asyncio.gather(*(store.record_delivery(each, NOW + number) for number, each in enumerate(arriving)))


async def one_by_one(store: Store, arriving: Sequence[NewDelivery]) -> list[Recorded | None]:
    return [await store.record_delivery(each, NOW + number) for number, each in enumerate(arriving)]


async def open_alerts(store: Store) -> set[AlertKind]:
    return {alert.kind for alert in (await store.alerts(Filter())).items if alert.closed_at is None}


async def played(store: Store, way: Way, drawn: Sequence[Drawn]) -> list[object]:
    """Everything that deliveries change, with the tasks by number: their ids are others in every ledger."""
    tasks = await end_tasks(store, TASKS, [], NOW, callback=True)
    number = {task.id: str(place) for place, task in enumerate(tasks)}
    ids = [*number, NOBODY]
    before = await store.counters()

    def arriving(at: int, body: bytes, purpose: Purpose, named: str | None) -> NewDelivery:
        own = tasks[at].provider_task_id if at < TASKS else None
        return delivery(ids[at], body, purpose=purpose, named=own if named == OWN else named)

    answers = await way(store, [arriving(*each) for each in drawn])
    rows = [row for task in tasks for row in (await store.deliveries(Filter(task=task.id, limit=99))).items]
    first = min((row.id for row in rows), default=0)
    after = [await store.task(task.id) for task in tasks]
    counted = await store.counters()
    return [
        answers,
        [replace(row, id=row.id - first, task=number[row.task], provider_task_id=None) for row in rows],
        [row.provider_task_id == "7" for row in rows],
        [await store.delivery_body(row.id) for row in rows],
        [(task.delivered_at, task.check_at, task.miss) for task in after if task is not None],
        {name: counted[name] - before.get(name, 0) for name in counted if name.startswith("callbacks")},
    ]


async def test_a_batch_comes_to_what_its_deliveries_come_to_one_by_one(store: Store) -> None:
    loop = asyncio.get_running_loop()
    arrivals = st.tuples(
        *(st.integers(0, TASKS), st.sampled_from(BODIES), st.sampled_from(list(Purpose))),
        st.sampled_from([None, OWN, "7"]),
    )

    @settings(deadline=None, max_examples=20, derandomize=True)
    @given(st.lists(arrivals, min_size=3, max_size=24))
    def compare(drawn: list[Drawn]) -> None:
        at_once, apart = (
            asyncio.run_coroutine_threadsafe(played(store, way, drawn), loop).result() for way in (together, one_by_one)
        )
        assert at_once == apart

    await asyncio.to_thread(compare)


async def test_a_flood_of_the_same_bytes_is_one_row_with_a_count(store: Store) -> None:
    (task,) = await end_tasks(store, 1, [], NOW)
    answers = await together(store, [delivery(task.id, b"{}") for _ in range(300)])
    assert [each and each.duplicate for each in answers] == [False] + [True] * 299
    (row,) = (await store.deliveries(Filter())).items
    assert (row.count, row.received_at, row.last_at) == (300, NOW, NOW + 299)
    counted = await store.counters()
    assert (counted["callbacks_received"], counted["callbacks_repeated"]) == (1, 299)


async def test_empty_bodies_are_kept_as_they_are(store: Store) -> None:
    tasks = await end_tasks(store, 5, [], NOW)
    await together(store, [delivery(task.id, b"") for task in tasks])
    rows = (await store.deliveries(Filter())).items
    assert [await store.delivery_body(row.id) for row in rows] == [b""] * 5


async def test_a_task_that_is_not_here_takes_nobody_with_it(store: Store) -> None:
    tasks = await end_tasks(store, 3, [], NOW)
    mixed = [each for task in tasks for each in (delivery(NOBODY, b"{}"), delivery(task.id, b"{}"))]
    answers = await together(store, mixed)
    assert [each is None for each in answers] == [True, False] * 3
    assert len((await store.deliveries(Filter())).items) == 3


async def test_in_one_batch_too_no_task_keeps_more_bodies_than_it_may(store: Store) -> None:
    (task,) = await end_tasks(store, 1, [], NOW)
    junk = [delivery(task.id, b"!%d" % number) for number in range(rules.DELIVERY_BODIES + 20)]
    answers = await together(store, [*junk, delivery(task.id, b"{}")])
    assert all(each and each.kept for each in answers)
    rows = (await store.deliveries(Filter(limit=500))).items
    assert len(rows) == rules.DELIVERY_BODIES
    assert [row.readable for row in rows].count(True) == 1


async def test_a_miss_is_closed_by_a_callback_among_others(store: Store) -> None:
    tasks = await end_tasks(store, 6, [], NOW, callback=True)
    assert [await store.mark_missed(task, MissCause.UNREACHABLE, NOW) for task in tasks[:3]] == [True] * 3
    assert await open_alerts(store) == {AlertKind.CALLBACK_MISSED}
    await together(store, [delivery(task.id, b"{}") for task in tasks])
    assert (await store.counters())["callbacks_late"] == 3
    assert await open_alerts(store) == set()


async def test_the_id_of_a_delivery_that_gave_way_is_not_given_again(store: Store) -> None:
    (task,) = await end_tasks(store, 1, [], NOW)
    for start in (0, 100):
        await together(store, [delivery(task.id, b"!%d" % (start + each)) for each in range(rules.DELIVERY_BODIES)])
    rows = (await store.deliveries(Filter(limit=500))).items
    assert sorted(row.id for row in rows) == list(range(rules.DELIVERY_BODIES + 1, 2 * rules.DELIVERY_BODIES + 1))
