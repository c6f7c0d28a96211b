"""Tallies: what they say of ends is what counting the tables gives, whatever happened, and stays when rows go."""

import hashlib
import random
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledgers import MODEL, end_tasks
from recount import Counted, in_tables, in_tallies
from uuid_utils import uuid7

from receiver.housekeep.prune import DAY, Pruning
from receiver.model import retention
from receiver.model.entries import NewDelivery, NewEvent, NewTask, Telling
from receiver.model.records import End, JsonObject, Kind, Purpose, Source, Task
from receiver.model.tallies import BUCKETS, Span, amount_of, bucket, counts_by_bucket, percentile
from receiver.store import Store, open_store
from receiver.store.ledger.tallies import SLICE

NOW = 1_790_000_000.0
USAGES: list[JsonObject] = [
    {},
    {"consumeCoins": "17", "taskCostTime": "83"},
    {"consumeMoney": "0.14", "thirdPartyConsumeMoney": "0.8", "taskCostTime": "0"},
    {"consumeMoney": None, "consumeCoins": "3.5", "taskCostTime": "20"},
]


def open_at(path: Path) -> Store:
    return open_store(f"sqlite:///{path}")


async def ordered(store: Store, now: float, number: int, kind: Kind = Kind.MODEL) -> Task:
    order = NewTask(
        id=str(uuid7()), kind=kind, target=f"m/{number % 3}", input={}, labels={}, digest=number.to_bytes(32)
    )
    await store.add_task(order, now)
    task = await store.take_queued_task(now + number % 40, 10**6, callback=True)
    assert task is not None
    await store.mark_submitted(task, f"19{number:08}", "RUNNING", now + 1e9, now + number % 40 + 1)
    return await known(store, task.id)


async def known(store: Store, task_id: str) -> Task:
    task = await store.task(task_id)
    assert task is not None
    return task


async def tell(store: Store, task: Task, end: End, now: float, usage: JsonObject, *, confirmed: bool) -> Telling:
    event = NewEvent(
        task=await known(store, task.id),
        state=end,
        source=Source.QUERY,
        confirmed=confirmed,
        settled=confirmed,
        usage=usage,
    )
    return await store.record_event(event, [], now)


async def played(store: Store, seed: int, count: int) -> None:
    """Ends that are claimed, confirmed with other costs, told twice and contradicted."""
    dice = random.Random(seed)
    for number in range(count):
        at = NOW + dice.random() * 3 * DAY
        task = await ordered(store, at, number, dice.choice(list(Kind)))
        ended = at + dice.random() * 9000
        confirmed = dice.random() < 0.3
        await tell(
            store, task, dice.choice([End.SUCCEEDED, End.FAILED]), ended, dice.choice(USAGES), confirmed=confirmed
        )
        for _ in range(dice.randrange(3)):
            end = dice.choice([End.SUCCEEDED, End.FAILED])
            await tell(store, task, end, ended + 4000, dice.choice(USAGES), confirmed=dice.random() < 0.7)


def forget_tallies(path: Path) -> None:
    """As an older version left the ledger."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("delete from tallies")
    connection.execute("update tallied set place = 0, upto = (select max(key) from events)")
    connection.close()


@pytest.mark.parametrize("seed", range(3))
async def test_tallies_are_what_counting_the_tables_gives(tmp_path: Path, seed: int) -> None:
    store = open_at(tmp_path / "receiver.db")
    await store.open()
    await played(store, seed, 60)
    await store.close()
    counted = in_tallies(tmp_path / "receiver.db")
    assert counted == in_tables(tmp_path / "receiver.db")
    assert counted != Counted()


async def test_an_end_that_is_contradicted_is_counted_as_the_true_one_alone(store: Store) -> None:
    task = await ordered(store, NOW, 1)
    await tell(store, task, End.SUCCEEDED, NOW + 60, {"consumeMoney": "5"}, confirmed=False)
    told = await tell(store, task, End.FAILED, NOW + 7000, {"consumeCoins": "2"}, confirmed=True)
    assert told is Telling.CONTRADICTED
    for span in Span:
        found = {each.name: (each.n, each.micro) for each in await store.tallies(span)}
        assert found["failed"] == (1, 0)
        assert found["coins"] == (1, 2_000_000)
        assert not {"succeeded", "money"} & found.keys()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
async def test_an_older_ledger_is_tallied_in_slices_whatever_happens_meanwhile(tmp_path: Path, seed: int) -> None:
    """New ends, corrections of ends that had their turn and of those that had not, and a restart after each slice."""
    path, dice = tmp_path / "receiver.db", random.Random(seed)
    store = open_at(path)
    await store.open()
    await end_tasks(store, 2 * SLICE + 30, (), NOW)
    tasks = [await ordered(store, NOW, number) for number in range(40)]
    for task in tasks:
        await tell(store, task, End.SUCCEEDED, NOW + 50, dice.choice(USAGES), confirmed=False)
    await store.close()
    forget_tallies(path)
    more = True
    while more:
        store = open_at(path)
        await store.open()
        for task in dice.sample(tasks, 8):
            usage = dice.choice(USAGES)
            await tell(store, task, dice.choice([End.SUCCEEDED, End.FAILED]), NOW + 90, usage, confirmed=True)
        await played(store, seed, 3)
        more = await store.tally_older()
        await store.close()
    assert in_tallies(path) == in_tables(path) != Counted()


@pytest.mark.slow
async def test_what_is_removed_stays_counted_also_before_its_turn(tmp_path: Path) -> None:
    path = tmp_path / "receiver.db"
    store = open_at(path)
    await store.open()
    await end_tasks(store, SLICE + 50, (), NOW)
    await store.close()
    before = in_tables(path)
    forget_tallies(path)
    store = open_at(path)
    await store.open()
    assert not await store.is_tallied()
    assert await store.tally_older()
    pruning = Pruning(retention.Keep(**dict.fromkeys(retention.Keep.__struct_fields__, 1.0)), NOW + 2 * DAY)
    while await pruning.step(store):
        pass
    while await store.tally_older():
        pass
    assert await store.is_tallied()
    await store.close()
    assert in_tables(path) == Counted()
    assert in_tallies(path) == before


async def test_a_callback_that_comes_late_is_counted_with_its_delay(store: Store) -> None:
    first, second = await ordered(store, NOW, 1), await ordered(store, NOW, 2)
    await tell(store, first, End.SUCCEEDED, NOW + 60, {}, confirmed=True)
    for task, at in ((first, NOW + 95), (second, NOW + 100)):
        digest = hashlib.sha256(b"a").digest()
        await store.record_delivery(
            NewDelivery(task=task.id, purpose=Purpose.SUBMIT, body=b"a", digest=digest, size=1), at
        )
    await tell(store, second, End.SUCCEEDED, NOW + 101.5, {}, confirmed=True)
    found = {each.name: each.n for each in await store.tallies(Span.EVER)}
    assert (found["delay.60"], found["delay.1"], found["lag.query.2"]) == (1, 1, 1)


async def test_tallies_are_told_by_time_and_target(store: Store) -> None:
    await end_tasks(store, 3, (), NOW)
    hour = int(NOW) // 3600 * 3600
    (ends,) = [each for each in await store.tallies(Span.HOUR, hour, hour + 3600, MODEL) if each.name == "succeeded"]
    assert (ends.n, ends.at, ends.kind, ends.target) == (3, hour, "model", MODEL)
    assert await store.tallies(Span.HOUR, hour + 3600) == []
    assert await store.tallies(Span.HOUR, target="other") == []


# ---------------------------------------------------------------- buckets


@given(st.lists(st.floats(0, 10_800), min_size=1, max_size=200), st.sampled_from([0.5, 0.95]))
def test_a_percentile_lies_in_the_bucket_of_the_true_one(seconds: list[float], share: float) -> None:
    counts = [0] * (len(BUCKETS) + 1)
    for each in seconds:
        counts[[f"run.{bound:g}" for bound in BUCKETS].index(bucket("run", each))] += 1
    found = percentile(counts, share)
    true = sorted(seconds)[max(0, -int(-share * len(seconds) // 1) - 1)]
    place = next(number for number, bound in enumerate(BUCKETS) if true <= bound)
    assert found is not None
    assert (BUCKETS[place - 1] if place else 0.0) <= found <= BUCKETS[place]


def test_nothing_has_no_percentile_and_what_lasts_longest_has_the_last_bound() -> None:
    assert percentile(counts_by_bucket([], "run"), 0.5) is None
    assert percentile([0] * len(BUCKETS) + [3], 0.5) == BUCKETS[-1]


@pytest.mark.parametrize("told", ["", "free", "NaN", "1e400", "-1", "1000001", None, "Infinity", [1]])
def test_an_amount_that_is_none_is_not_counted(told: object) -> None:
    assert amount_of(told) is None
