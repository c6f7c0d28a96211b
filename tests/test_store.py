"""The contract of the store, which every engine is held to: what its verbs promise, whatever database is beneath."""

import asyncio
import hashlib
import itertools
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import pytest
from ledgers import end_tasks
from msgspec.structs import replace
from uuid_utils import uuid7

from receiver.model import rules
from receiver.model.definitions import ActionKind, Definition
from receiver.model.entries import (
    Abandoned,
    Change,
    NewCheck,
    NewDelivery,
    NewEvent,
    NewTask,
    OwedAction,
    Reading,
    Selection,
    Settlement,
    Slice,
)
from receiver.model.errors import Refused
from receiver.model.records import (
    AlertKind,
    CheckKind,
    End,
    Filter,
    Kind,
    Page,
    Purpose,
    ReplayMode,
    Source,
    Task,
    TaskState,
)
from receiver.model.views import ReplayBody
from receiver.replay import go_on, replay
from receiver.store import Store
from receiver.store.ledger.pages import write_cursor
from receiver.store.ledger.transaction import Transaction

T = TypeVar("T")
NOW = 1_790_000_000.0
HOOK = Definition(name="hook", kind=ActionKind.HTTP, timeout=30)


async def test_an_alert_is_one_row_however_often_it_is_raised(store: Store) -> None:
    for now in (1.0, 2.0, 3.0):
        await store.raise_alert(AlertKind.UNREACHABLE, "runninghub", f"at {now}", now)
    (alert,) = (await store.alerts(Filter())).items
    assert (alert.count, alert.opened_at, alert.last_at, alert.message) == (3, 1.0, 3.0, "at 3.0")
    await store.clear_alert(AlertKind.UNREACHABLE, "runninghub", 4.0)
    await store.raise_alert(AlertKind.UNREACHABLE, "runninghub", "again", 5.0)
    assert [each.closed_at for each in (await store.alerts(Filter())).items] == [None, 4.0]


# ---------------------------------------------------------------- lists

TARGETS = ("veo/text-to-video", "Veo/image-to-video", "seedream/text-to-image", "1937084629516193794")
SHOP = {"project": "shop"}
LABELS: tuple[dict[str, str], ...] = ({}, SHOP, {**SHOP, "user": "ann"}, {"user": "Ann_1"}, {"project": "50%"})
TASKS = 60


def order(number: int) -> NewTask:
    return NewTask(
        id=str(uuid7()),
        kind=list(Kind)[number % 3],
        target=TARGETS[number % len(TARGETS)],
        input={"n": number},
        labels=LABELS[number % len(LABELS)],
        digest=b"x",
    )


async def various(store: Store) -> list[Task]:
    """Tasks of every kind and of most states, ordered while the clock was set back again and again; oldest first."""
    for number in range(TASKS):
        await store.add_task(order(number), NOW + number % 17)
    for number in range(TASKS // 2):
        task = await store.take_queued_task(NOW, TASKS, callback=True)
        assert task is not None
        if number % 3:
            await store.mark_submitted(task, f"19{number}", "RUNNING", NOW + 9, NOW)
        elif number % 2:
            await store.mark_in_doubt(task, "a test", NOW)
        if number % 3 == 1:
            event = NewEvent(task=task, state=End.FAILED, source=Source.QUERY, confirmed=True, settled=True)
            await store.record_event(event, [], NOW + 50 - number)
    listed = (await store.tasks(Filter(limit=500))).items
    return [task for each in reversed(listed) if (task := await store.task(each.id)) is not None]


async def whole(listed: Callable[[Filter], Awaitable[Page[T]]], wanted: Filter) -> list[T]:
    """A list page by page, to its end; and back to its beginning, which must give the same."""
    items: list[T] = []
    cursor = None
    for _ in range(1000):
        page = await listed(replace(wanted, cursor=cursor))
        assert len(page.items) <= wanted.limit
        items += page.items
        cursor = page.next
        if cursor is None:
            back = await backwards(listed, wanted, page)
            assert back == items
            return items
    raise AssertionError("the list has no end")


async def backwards(listed: Callable[[Filter], Awaitable[Page[T]]], wanted: Filter, last: Page[T]) -> list[T]:
    """A list from its last page to its first one."""
    items, page = list(last.items), last
    while page.prev is not None:
        page = await listed(replace(wanted, before=page.prev))
        assert len(page.items) <= wanted.limit
        assert page.next is not None
        items = page.items + items
    return items


def fits(task: Task, wanted: Filter) -> bool:
    """What a filter means, said once more and slowly."""
    q = (wanted.q or "").lower()
    return (
        (not wanted.state or task.state in wanted.state)
        and (not wanted.kind or task.kind in wanted.kind)
        and wanted.target in (None, task.target)
        and all(task.labels.get(name) == value for name, value in wanted.label)
        and (wanted.since is None or task.created_at >= wanted.since)
        and (wanted.until is None or task.created_at < wanted.until)
        and (
            not q
            or wanted.q in (task.id, task.provider_task_id)
            or task.target.lower().startswith(q)
            or any(value.lower().startswith(q) for value in task.labels.values())
        )
    )


FILTERS: dict[str, Sequence[object]] = {
    "state": [("queued",), ("failed", "submitted"), ("lost",)],
    "kind": [("model",), ("workflow", "app"), ("quick",)],
    "target": [TARGETS[0], TARGETS[3], "nobody/ordered-this"],
    "label": [(("project", "shop"),), (("project", "shop"), ("user", "ann")), (("project", "nobody"),)],
    "q": ["veo", "SHOP", "ann_", "50%", "%", "193", "1910", "nothing"],
    "since": [NOW + 8, NOW + 99],
    "until": [NOW + 8, NOW],
}
PAIRS = [
    {first: one, second: other}
    for first, second in itertools.combinations_with_replacement(FILTERS, 2)
    for one in FILTERS[first]
    for other in (FILTERS[second] if first != second else [one])
]


@pytest.mark.parametrize("limit", [3, 50])
async def test_every_filter_of_tasks_alone_and_in_pairs_finds_what_it_means(store: Store, limit: int) -> None:
    tasks = await various(store)
    newest_first = sorted(tasks, key=lambda task: (task.created_at, task.key), reverse=True)
    assert [task.id for task in reversed(tasks)] == [task.id for task in newest_first]
    for pair in PAIRS:
        wanted = Filter(**pair, limit=limit)  # type: ignore[arg-type]
        expected = [task.id for task in newest_first if fits(task, wanted)]
        assert [task.id for task in await whole(store.tasks, wanted)] == expected, pair


async def test_a_task_is_found_by_its_own_id_and_by_the_provider_s(store: Store) -> None:
    tasks = await various(store)
    for task in tasks[:5]:
        assert [each.id for each in (await store.tasks(Filter(q=task.id))).items] == [task.id]
    known = next(task for task in tasks if task.provider_task_id)
    found = await store.tasks(Filter(q=known.provider_task_id, state=(known.state,), label=tuple(known.labels.items())))
    assert known.id in {each.id for each in found.items}


async def test_a_text_that_very_much_begins_with_is_walked_and_nothing_is_missed(store: Store) -> None:
    """Hundreds of labels begin with it: they are not asked for one by one."""
    for number in range(300):
        each = order(number)
        await store.add_task(
            NewTask(id=each.id, kind=each.kind, target="m", input={}, labels={"order": f"A{number}"}, digest=b""), NOW
        )
    assert len(await whole(store.tasks, Filter(q="a", limit=40))) == 300
    assert [task.labels for task in await whole(store.tasks, Filter(q="a29", limit=40))][:1] == [{"order": "A299"}]
    assert len(await whole(store.tasks, Filter(q="a", kind=("model",), limit=40))) == 100


@pytest.mark.parametrize(
    "cursor", ["7", "x_1", "nan", "1.5_", "_1", "1_-2", "1" * 90 + "_1", "1.0_9223372036854775808"]
)
async def test_what_is_no_cursor_of_ours_is_refused(store: Store, cursor: str) -> None:
    for listed in (store.tasks, store.actions, store.events, store.deliveries, store.alerts, store.replays):
        with pytest.raises(Refused, match="cursor") as refusal:
            await listed(Filter(cursor=cursor))
        assert refusal.value.status == 422
        with pytest.raises(Refused, match="before"):
            await listed(Filter(before=cursor))


async def test_new_rows_and_a_way_back_do_not_shift_a_page(store: Store) -> None:
    made = await various(store)
    first = await store.tasks(Filter(limit=3))
    second = await store.tasks(Filter(limit=3, after=first.next))
    await store.add_task(order(1), NOW + 100)
    assert await store.tasks(Filter(limit=3, after=first.next)) == second
    back = await store.tasks(Filter(limit=3, before=second.prev))
    assert (back.items, first.prev) == (first.items, None)
    newer = await store.tasks(Filter(limit=3, before=back.prev))
    assert len(newer.items) == 1
    assert newer.prev is None
    assert newer.next is not None
    assert (await store.tasks(Filter(limit=3, after=newer.next))).items == first.items
    assert len(made) > 6


async def test_a_page_without_rows_leads_back_to_where_it_was_asked_for(store: Store) -> None:
    await various(store)
    everything = (await store.tasks(Filter(limit=500))).items
    oldest, newest = (write_cursor((each.created_at, each.key)) for each in (everything[-1], everything[0]))
    below = await store.tasks(Filter(after=oldest))
    assert (below.items, below.next) == ([], None)
    assert (await store.tasks(Filter(limit=1, before=below.prev))).items == everything[-1:]
    above = await store.tasks(Filter(before=newest))
    assert (above.items, above.prev) == ([], None)
    assert (await store.tasks(Filter(limit=1, after=above.next))).items == everything[:1]


async def test_the_other_lists_are_whole_in_pages_of_any_size(store: Store) -> None:
    await store.sync_definitions([HOOK], NOW)
    tasks = await end_tasks(store, 20, [HOOK], NOW)
    for number, task in enumerate(tasks):
        bad = {"problem": "it is no JSON"} if number % 4 == 0 else {}
        await store.record_delivery(delivery(task, str(number).encode(), **bad), NOW + number % 3)
    claimed = await store.claim_action("hook", NOW, 60)
    assert claimed is not None
    await store.settle_action(claimed, Settlement(outcome="dead", reason="because"), NOW)
    for limit in (1, 7, 50):
        assert len(await whole(store.events, Filter(limit=limit))) == 20
        assert len(await whole(store.events, Filter(limit=limit, state=("failed",)))) == 0
        assert len(await whole(store.events, Filter(limit=limit, task=tasks[0].id))) == 1
        assert len(await whole(store.actions, Filter(limit=limit))) == 20
        assert len(await whole(store.actions, Filter(limit=limit, state=("dead",), name="hook"))) == 1
        assert len(await whole(store.actions, Filter(limit=limit, name="nobody"))) == 0
        assert len(await whole(store.actions, Filter(limit=limit, task=tasks[3].id))) == 1
        assert len(await whole(store.deliveries, Filter(limit=limit))) == 20
        assert len(await whole(store.deliveries, Filter(limit=limit, state=("unreadable",)))) == 5
        assert len(await whole(store.deliveries, Filter(limit=limit, state=("readable",), since=NOW + 1))) == 10
        assert len(await whole(store.deliveries, Filter(limit=limit, task=tasks[0].id, until=NOW))) == 0


async def test_events_and_actions_are_found_by_the_labels_of_their_tasks(store: Store) -> None:
    await store.sync_definitions([HOOK], NOW)
    for number in range(20):
        await store.add_task(order(number), NOW)
        task = await store.take_queued_task(NOW, 99, callback=True)
        assert task is not None
        end = End.FAILED if number % 3 == 0 else End.SUCCEEDED
        event = NewEvent(task=task, state=end, source=Source.QUERY, confirmed=True, settled=True)
        await store.record_event(event, [OwedAction(name="hook")], NOW + number % 7)
    tasks = {task.id: task for task in (await store.tasks(Filter())).items}
    events, actions = (await store.events(Filter())).items, (await store.actions(Filter())).items
    for labels in ((("project", "shop"),), (("project", "shop"), ("user", "ann")), (("project", "nobody"),)):
        for limit in (2, 50):
            for state in ((), ("failed",)):
                found = await whole(store.events, Filter(label=labels, limit=limit, state=state))
                assert {each.id for each in found} == {
                    each.id
                    for each in events
                    if set(labels) <= set(tasks[each.task].labels.items()) and (not state or each.state in state)
                }
                assert [each.at for each in found] == sorted((each.at for each in found), reverse=True)
            owed = await whole(store.actions, Filter(label=labels, limit=limit, state=("owed",)))
            assert {each.id for each in owed} == {
                each.id for each in actions if set(labels) <= set(tasks[each.task].labels.items())
            }


def delivery(task: Task, body: bytes, problem: str | None = None) -> NewDelivery:
    digest = hashlib.sha256(body).digest()
    return NewDelivery(
        task=task.id,
        purpose=Purpose.SUBMIT,
        body=body,
        digest=digest,
        size=len(body),
        problem=problem,
        claim="succeeded",
    )


# ---------------------------------------------------------------- what changed


async def test_what_a_task_goes_through_is_told_in_its_order(store: Store) -> None:
    told: list[Change] = []
    store.listen(told.extend)
    await store.sync_definitions([HOOK], NOW)
    (task,) = await end_tasks(store, 1, [HOOK], NOW)
    await store.record_delivery(delivery(task, b"{}"), NOW)
    claimed = await store.claim_action("hook", NOW, 60)
    assert claimed is not None
    await store.settle_action(claimed, Settlement(outcome="dead", reason="because"), NOW)
    assert [(each.kind, each.state) for each in told] == [
        ("task", "queued"),
        ("task", "submitting"),
        ("task", "submitted"),
        ("task", "succeeded"),
        ("action", "owed"),
        ("delivery", "readable"),
        ("action", "running"),
        ("action", "dead"),
        ("alert", "open"),
    ]
    assert {each.id for each in told if each.kind == "task"} == {task.id}
    assert {each.id for each in told if each.kind == "action"} == {str(claimed.action.id)}


async def test_what_changes_nothing_tells_nothing(store: Store) -> None:
    (task,) = await end_tasks(store, 1, [], NOW)
    await store.record_delivery(delivery(task, b"{}"), NOW)
    told: list[Change] = []
    store.listen(told.extend)
    await store.record_delivery(delivery(task, b"{}"), NOW)
    await store.add_check(task.id, NewCheck(kind=CheckKind.QUERY, at=NOW, seconds=0.1, ok=True, summary="x"))
    await store.clear_alert(AlertKind.TASK_LOST, task.id, NOW)
    event = NewEvent(task=task, state=End.FAILED, source=Source.QUERY, confirmed=True, settled=True)
    await store.record_event(event, [], NOW)
    assert not await store.skip_action(99, "by hand", NOW)
    assert told == []


# ---------------------------------------------------------------- who holds what


async def submitting(store: Store, node: str) -> Task:
    await store.add_task(order(0), NOW)
    task = await store.take_queued_task(NOW, 99, callback=True, node=node)
    assert task is not None
    return task


async def state_of(store: Store, task: Task) -> TaskState:
    found = await store.task(task.id)
    assert found is not None
    return found.state


async def test_a_submission_is_its_node_s_until_its_lease_ends(store: Store) -> None:
    task = await submitting(store, "one")
    assert await store.doubt_interrupted(NOW + 1, node="two") == 0
    assert await store.doubt_interrupted(NOW + rules.SUBMIT_PATIENCE - 1) == 0
    assert await state_of(store, task) == "submitting"
    assert await store.doubt_interrupted(NOW + rules.SUBMIT_PATIENCE) == 1
    assert await state_of(store, task) == "in_doubt"


async def test_a_node_that_starts_anew_puts_only_its_own_submissions_in_doubt(store: Store) -> None:
    mine, others = await submitting(store, "one"), await submitting(store, "two")
    assert await store.doubt_interrupted(NOW + 1, node="one") == 1
    assert (await state_of(store, mine), await state_of(store, others)) == ("in_doubt", "submitting")


async def test_a_node_that_starts_anew_frees_only_the_actions_that_it_held(store: Store) -> None:
    await store.sync_definitions([HOOK], NOW)
    await end_tasks(store, 2, [HOOK], NOW)
    mine = await store.claim_action("hook", NOW, 60, node="one")
    others = await store.claim_action("hook", NOW, 60, node="two")
    assert mine is not None
    assert others is not None
    assert await store.free_expired_leases(NOW + 1, {"hook": 9}, abandoned=Abandoned("one", ["hook"])) == 1
    states = {each.id: each.state for each in (await store.actions(Filter())).items}
    assert states == {mine.action.id: "owed", others.action.id: "running"}
    assert await store.free_expired_leases(NOW + 60, {"hook": 9}) == 1


async def test_no_more_actions_run_at_once_than_a_definition_allows_whoever_claims_them(store: Store) -> None:
    await store.sync_definitions([Definition(name="hook", kind=ActionKind.HTTP, timeout=30, concurrency=2)], NOW)
    await end_tasks(store, 9, [HOOK], NOW)
    nodes = [f"node {number}" for number in range(6)]
    claims = await asyncio.gather(*(store.claim_action("hook", NOW, 60, node=node) for node in nodes))
    running = [claimed for claimed in claims if claimed is not None]
    assert len(running) == 2
    due = await store.next_action_at("hook", NOW)
    assert due is not None
    assert due > NOW
    await store.settle_action(running[0], Settlement(outcome="done"), NOW)
    claims = await asyncio.gather(*(store.claim_action("hook", NOW, 60, node=node) for node in nodes))
    assert len([claimed for claimed in claims if claimed is not None]) == 1


async def test_no_more_tasks_are_in_flight_than_are_allowed_whoever_sends_them(store: Store) -> None:
    for number in range(6):
        await store.add_task(order(number), NOW)
    taken = await asyncio.gather(
        *(store.take_queued_task(NOW, 2, callback=True, node=f"node {number}") for number in range(6))
    )
    assert len([task for task in taken if task is not None]) == 2


# ---------------------------------------------------------------- what is counted


async def test_the_counts_are_those_of_the_rows_whatever_was_done(store: Store) -> None:
    await store.sync_definitions([HOOK], NOW)
    await end_tasks(store, 12, [HOOK], NOW)
    for outcome in ("done", "dead", "dead", "retry"):
        claimed = await store.claim_action("hook", NOW, 60)
        assert claimed is not None
        await store.settle_action(claimed, Settlement(outcome=outcome, due_at=NOW + 1), NOW)
    _, made = await replay(store, [HOOK], ReplayBody(filter=Selection(action_state=("dead",))), {}, NOW)
    assert made is not None
    (owed,) = (await store.actions(Filter(state=("done",)))).items
    one = Selection(action=owed.id, action_state=("done",))
    await replay(store, [HOOK], ReplayBody(filter=one), {"x": 1}, NOW)
    await store.skip_action(2, "by hand", NOW)
    await store.cancel_replay(made.id, NOW)
    await go_on(store, [HOOK], made.id, NOW)
    listed = (await store.actions(Filter(limit=500))).items
    (state,) = await store.definition_states()
    assert state.counts == Counter(str(each.state) for each in listed)
    for known in (await store.replays(Filter())).items:
        open_ones = [each for each in listed if each.replay == known.id and each.state in ("owed", "running")]
        assert known.matched - known.done - known.cancelled == len(open_ones)


# ---------------------------------------------------------------- one moment


async def test_what_a_verb_reads_is_of_one_moment(store: Store) -> None:
    await store.add_task(order(0), NOW)
    looked, written = threading.Event(), threading.Event()

    def twice(tx: Transaction) -> tuple[int, int]:
        count = "select count(*) as value from tasks"
        before: int = tx.value(count)
        looked.set()
        assert written.wait(10)
        return before, tx.value(count)

    reading = asyncio.create_task(store.read(twice))
    assert await asyncio.to_thread(looked.wait, 10)
    await store.add_task(order(1), NOW)
    written.set()
    assert await reading == (1, 1)
    assert await store.read(lambda tx: tx.value("select count(*) as value from tasks")) == 2


async def test_a_listener_that_fails_keeps_the_others_from_nothing(store: Store) -> None:
    told: list[Change] = []
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["exception"]))

    def fail(changes: Sequence[Change]) -> None:
        raise ValueError("a bug")

    store.listen(fail)
    store.listen(told.extend)
    await store.add_task(order(0), NOW)
    assert [each.state for each in told] == ["queued"]
    assert [str(each) for each in failures] == ["a bug"]


async def test_an_id_that_is_there_already_makes_no_second_task(store: Store) -> None:
    first = order(0)
    told: list[Change] = []
    assert (await store.add_task(first, NOW)).new
    store.listen(told.extend)
    again = await store.add_task(first, NOW)
    other = await store.add_task(replace(first, digest=b"other"), NOW)
    assert ((again.new, again.conflict), (other.new, other.conflict)) == ((False, False), (False, True))
    assert told == []


async def test_reading_anew_steps_over_a_delivery_that_gave_way_meanwhile(store: Store) -> None:
    (task,) = await end_tasks(store, 1, [], NOW)
    await store.record_delivery(NewDelivery(task=task.id, purpose=Purpose.SUBMIT, body=b"{", digest=b"1", size=1), NOW)
    begun = await store.begin_replay(ReplayMode.REPROCESS, Selection(), {}, None, NOW)
    work = await store.search(begun.id)
    assert work is not None
    reading = Reading(delivery=77, problem="gone")
    await store.reread(work, Slice(items=[reading], place=(0.0, 77), more=False), NOW)
    stands = await store.replay(begun.id)
    assert stands is not None
    assert (stands.matched, stands.state) == (1, "done")
