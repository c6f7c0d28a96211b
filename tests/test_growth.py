"""What each verb of the store costs, in steps of SQLite: as much in a ledger of a million tasks as in a small one."""

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, cast

import pytest
from counting import Counting
from long_ledger import NOW, make

from receiver.actions.settings import HttpDefinition
from receiver.model.deeds import ACTING, Deed
from receiver.model.entries import (
    Added,
    Candidate,
    NewCheck,
    NewDelivery,
    NewEvent,
    NewTask,
    OwedAction,
    Reading,
    Replay,
    Search,
    Selection,
    Settlement,
    Slice,
)
from receiver.model.records import (
    AlertKind,
    CheckKind,
    Claimed,
    End,
    Filter,
    Kind,
    MissCause,
    Purpose,
    ReplayMode,
    Result,
    Source,
    Task,
    Upload,
)
from receiver.model.tallies import Span
from receiver.server.definitions import KEEP_FILES
from receiver.store import Store

SMALL, MIDDLE, LARGE = 1_000, 10_000, 1_000_000
LEFT = 100
"""Tasks that have not ended, however many have."""
GRAIN = 5
LATER = NOW + 10 * LARGE
"""After all that is in the ledgers."""
WALKS = {
    "actions": "a page",
    "deliveries": "a page",
    "events": "a page",
    "tasks": "a page",
    "find_retried": "a slice",
    "longest_run": "the last fifty of a target",
}
"""What looks at a bounded number of rows, of which there are not so many in the smallest ledger; and their order and
contents differ from ledger to ledger."""
COUNTS = {
    "count_kept_deliveries": "all that a replay would read, for somebody who wants to know",
    "count_retries": "all that a replay would take up, for somebody who wants to know",
    "bound_times": "actions that a slow replay owes more than a day ahead: those of this ledger are decades ahead",
}
"""What is about so many rows as are asked for."""
NO_VERBS = {"backup", "close", "listen", "open", "problem", "refused", "storing"}
HOOK = HttpDefinition(name="hook", url="http://127.0.0.1:9/", timeout=30)
SHOP = HttpDefinition(name="shop", url="http://127.0.0.1:9/", timeout=30)
RESULT = Result(url="http://127.0.0.1:9/1.png", type="png")


class Measured:
    """The store, whose verbs are measured: `steps` is what the dearest transaction of each verb took."""

    def __init__(self, store: Counting) -> None:
        self._store = store
        self.steps: dict[str, int] = {}

    def __getattr__(self, verb: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        method = getattr(self._store, verb)

        async def measured(*args: object, **more: object) -> Any:
            self._store.most = 0
            value = await method(*args, **more)
            self.steps[verb] = max(self.steps.get(verb, 0), self._store.most)
            return value

        return measured


async def costs(directory: Path, rows: int) -> dict[str, int]:
    """What each verb takes in a ledger of so many tasks, in steps."""
    path = directory / f"{rows}.db"
    make(path, rows, left=LEFT)
    store = Counting(path, GRAIN)
    await store.open()
    await store.warm()
    measured = Measured(store)
    try:
        # As if it were the store: what it lacks is measured on the way.
        for live in (settle_in, submit, arrive, reconcile, end, act, replay, reread, keep_house):
            await live(cast(Store, measured))
    finally:
        await store.close()
    return measured.steps


async def settle_in(store: Store) -> None:
    await store.sync_definitions([KEEP_FILES, HOOK, SHOP], LATER)
    await store.bound_times(LATER, 86400.0)
    await store.doubt_interrupted(LATER, node="local")
    await store.look_at_unreadable(LATER)
    await store.begin_signing(LATER, given=False)
    await store.rotate_signing(LATER)
    await store.signing_secrets(LATER)
    await store.secret("session")
    await store.use_key("key", "https://one.test", LATER)
    await store.tell_elsewhere("https://one.test", {"https://two.test"}, LATER)
    await store.probe()


def ordered(number: int) -> NewTask:
    labels = {"project": "p1", "user": f"new-{number}"}
    digest, key = number.to_bytes(32), f"key-{number}"
    id_ = f"0197b0a4-0000-7000-8000-{number:012}"
    target = "maker-01/model-001"
    return NewTask(id=id_, kind=Kind.MODEL, target=target, input={}, labels=labels, digest=digest, idempotency_key=key)


async def taken(store: Store) -> Task:
    task = await store.take_queued_task(LATER, 10_000, callback=True)
    assert task is not None
    return task


async def submitted(store: Store, number: int, check_at: float = LATER) -> Task:
    task = await taken(store)
    assert await store.mark_submitted(task, f"19{number:017}", "RUNNING", check_at, LATER)
    known = await store.task(task.id)
    assert known is not None
    return known


async def submit(store: Store) -> None:
    added: Added = await store.add_task(ordered(1), LATER)
    assert added.new
    assert await store.task_by_idempotency_key("key-1") == added.task
    id_ = added.task.id
    for look in (store.task, store.find_task, store.task_shown, store.whole_id):
        assert await look(id_)
    assert await store.find_task(id_[:30]) is not None
    await store.short_ids([id_, f"0197b0a2-5f0e-7c61-8000-{7:012}"])
    await store.tasks(Filter())
    await store.count_tasks(["queued", "submitted"], 50)
    assert await store.queue_resumes_at(LATER, 10_000) is not None
    await store.put_back(await taken(store), LATER - 1)
    task = await taken(store)
    await store.mark_in_doubt(task, "the answer was lost", LATER)
    assert await store.adopt(task, "adopted", LATER)
    upload = Upload(
        id="u", name="a.png", type="image", size=1, sha256="00", url="http://a.test", file_name="a", at=LATER
    )
    await store.add_upload(upload)
    assert await store.uploads(["u"])
    await store.replace_uploads(task, {"image": "u"}, {"u": "http://a.test"})
    assert await store.forget_uploads(LATER + 1) == 1


async def arrive(store: Store) -> None:
    task = await submitted(store, 1)
    for number, body in enumerate((b"{}", b"{}", b"not json")):
        new = NewDelivery(
            task=task.id,
            purpose=Purpose.SUBMIT,
            body=body,
            digest=body.ljust(32),
            size=len(body),
            problem="no JSON" if number == 2 else None,
        )
        assert await store.record_delivery(new, LATER)
    found = await store.deliveries(Filter(task=task.id))
    await store.deliveries(Filter())
    assert len(found.items) == 2
    assert await store.delivery_body(found.items[0].id) is not None
    await store.sayings(task)
    await store.contradict(found.items[0].id)


async def reconcile(store: Store) -> None:
    await submitted(store, 2, LATER - 9)
    assert await store.next_check_at() is not None
    task = await store.take_due_task(LATER, 60.0)
    assert task is not None
    assert await store.hold_task(task.id, LATER, 60.0)
    await store.note_running(task, "RUNNING", LATER)
    await store.note_unknown(task, LATER)
    await store.longest_run(task)
    await store.mark_overdue(task, LATER)
    await store.check_again(task, LATER + 60, unsure=True)
    await store.note_empty(task, LATER, LATER + 60)
    await store.add_check(task.id, NewCheck(kind=CheckKind.QUERY, at=LATER, seconds=0.1, ok=True, summary="RUNNING"))
    assert await store.checks(task.id)
    await store.give_up(await submitted(store, 3), LATER)
    await store.set_task_aside(await submitted(store, 4), ValueError("strange"), LATER)


def told(task: Task) -> NewEvent:
    return NewEvent(task=task, state=End.SUCCEEDED, source=Source.QUERY, confirmed=True, settled=True, results=[RESULT])


OWED = [OwedAction(name=name) for name in ("keep-files", "hook", "shop")]


async def ended(store: Store, number: int) -> Task:
    task = await submitted(store, number)
    await store.record_event(told(task), OWED, LATER)
    known = await store.task(task.id)
    assert known is not None
    return known


async def end(store: Store) -> None:
    task = await ended(store, 5)
    assert await store.mark_missed(task, MissCause.NEVER_SENT, LATER)
    assert await store.begin_resend(task, LATER, LATER + 60) is None
    await store.resend_failed(task, LATER + 60)
    await store.stop_watching(task)
    assert await store.event(task.id)
    assert await store.event_shown(task.id)
    await store.events(Filter())
    await store.saved_files(task, 0)
    await store.refresh_results(task, [RESULT])


async def claimed(store: Store, name: str) -> Claimed:
    found = await store.claim_action(name, LATER, 60)
    assert found is not None
    return found


async def act(store: Store) -> None:
    for number in (6, 7, 8):
        await ended(store, number)
    one = await claimed(store, "hook")
    assert await store.renew_lease(one, LATER + 90)
    await store.note_process(one, "1 2")
    await store.left_programs("local")
    assert await store.settle_action(one, Settlement(outcome="retry", due_at=LATER + 9, reason="later"), LATER)
    assert await store.settle_action(await claimed(store, "hook"), Settlement(outcome="dead", reason="no"), LATER)
    assert await store.settle_action(await claimed(store, "hook"), Settlement(outcome="done"), LATER)
    shop = await claimed(store, "shop")
    settled, _ = await store.settle_and_claim(shop, Settlement(outcome="done"), LATER, 60)
    assert settled
    assert await store.free_expired_leases(LATER + 61, {"shop": 9}) == 1
    download = await claimed(store, "keep-files")
    await store.ask_for_new_links(download, LATER)
    await store.unsaved_since(["keep-files"], LATER - 1)
    assert await store.next_action_at("hook", LATER) is not None
    assert await store.action(one.action.id)
    await store.actions(Filter())
    assert await store.attempts(one.action.id)
    assert await store.skip_action(one.action.id, "by hand", LATER)
    await store.set_paused("hook", LATER, paused=True)
    await store.set_paused("hook", LATER, paused=False)
    await store.definition_states()


async def begun(store: Store, mode: ReplayMode, wanted: Selection) -> Search:
    replay: Replay = await store.begin_replay(mode, wanted, {"mode": mode.value}, 100.0, LATER)
    work = await store.search(replay.id)
    assert work is not None
    return work


async def replay(store: Store) -> None:
    await store.count_retries(Selection())
    await store.count_kept_deliveries(Selection())
    await store.plan_search(ReplayMode.RETRY, Selection(), LATER)
    work = await begun(store, ReplayMode.RETRY, Selection(action_state=("done", "dead")))
    await store.retry(work, await store.find_retried(work), LATER)
    assert await store.search() is not None
    await store.cancel_replay(work.id, LATER)
    parked = await store.search(work.id)
    assert parked is not None
    await store.park(parked, LATER)
    await store.resume_replay(work.id, LATER)
    resumed = await store.search(work.id)
    assert resumed is not None
    await store.unpark(resumed, LATER)
    assert await store.replay(work.id)
    await store.replays(Filter())
    again = await begun(store, ReplayMode.AGAIN, Selection())
    found: Slice[Candidate] = await store.candidates(again)
    owed = [(each, each.generation + 1, [OwedAction(name="hook")]) for each in found.items]
    await store.owe_anew(again, Slice(items=owed, place=found.place, more=found.more), LATER)


async def reread(store: Store) -> None:
    work = await begun(store, ReplayMode.REPROCESS, Selection())
    kept = await store.kept_deliveries(work)
    read = [Reading(delivery=each, claim=End.SUCCEEDED) for each in kept.items]
    await store.reread(work, Slice(items=read, place=kept.place, more=kept.more), LATER)


async def keep_house(store: Store) -> None:
    for kind in ("bodies", "checks", "deliveries", "events", "tasks", "closed_alerts"):
        old = await store.old_rows(kind, LATER)
        await store.remove_old(kind, LATER, [each.key for each in old.found[:10]], LATER)
    await store.pruned()
    for subject in ("one", "two"):
        await store.raise_alert(AlertKind.DISK_LOW, subject, "little is left", LATER)
    (alert, *_) = (await store.alerts(Filter(state=("open",), kind=("disk_low",)))).items
    await store.alerts(Filter())
    await store.settle_alert(alert.id, LATER, close=True)
    await store.clear_alert(AlertKind.DISK_LOW, "one", LATER)
    await store.counters()
    await store.count("callbacks_received")
    deed = Deed(LATER, "api", None, "pause", "definitions/hook")
    acting = ACTING.set(deed)
    await store.set_paused("hook", LATER, paused=False)
    ACTING.reset(acting)
    await store.end_deed(deed, "done")
    assert (await store.audit(Filter())).items
    await store.audit(Filter(verb="pause"))
    await store.session_epoch()
    await store.end_sessions()
    await store.figures()
    await store.tally_older()
    assert await store.is_tallied()
    await store.tallies(Span.HOUR, LATER - 3600, LATER)
    await store.sync_definitions([KEEP_FILES, SHOP], LATER)
    await store.skip_orphans(LATER + 1, LATER + 2)


# ---------------------------------------------------------------- what it comes to


def grown(small: dict[str, int], large: dict[str, int]) -> dict[str, tuple[int, int]]:
    """Verbs that cost more in the larger ledger."""
    most = {verb: (1.5 if verb in WALKS else 1.1) * steps + 4 * GRAIN for verb, steps in small.items()}
    return {verb: (small[verb], steps) for verb, steps in large.items() if steps > most[verb] and verb not in COUNTS}


async def test_every_verb_costs_as_much_in_a_middling_ledger_as_in_a_small_one(tmp_path: Path) -> None:
    small, middle = await costs(tmp_path, SMALL), await costs(tmp_path, MIDDLE)
    assert set(small) == {name for name, each in vars(Store).items() if callable(each) and name[0] != "_"} - NO_VERBS
    assert {verb: steps for verb, steps in grown(small, middle).items() if verb not in WALKS} == {}
    counting = "count_kept_deliveries"
    assert middle[counting] > 5 * small[counting], "what goes through the rows must show"


@pytest.mark.slow
@pytest.mark.timeout(400)  # a machine that others use needs long to make that ledger
async def test_every_verb_costs_as_much_in_a_ledger_of_a_million_tasks_as_in_a_middling_one(tmp_path: Path) -> None:
    middle, large = await costs(tmp_path, MIDDLE), await costs(tmp_path, LARGE)
    assert grown(middle, large) == {}
