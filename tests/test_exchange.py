"""What an answer of RunningHub costs, and what it ends."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import pytest
from ledgers import end_tasks
from targets import TLS

from receiver.model import rules
from receiver.model.errors import StoreUnavailable
from receiver.model.records import AlertKind, CheckKind, Filter, Task
from receiver.model.redaction import Redactor
from receiver.orders.exchange import Asker
from receiver.runninghub.client import Reply, RunningHub, open_http
from receiver.runninghub.errors import ProviderError
from receiver.store.ledger.transaction import Transaction
from receiver.store.sqlite.store import SqliteStore

T = TypeVar("T")


class Ledger(SqliteStore):
    """Counts what is read, and reads nothing while it is `away`."""

    reads = 0
    away = False

    async def read(self, work: Callable[[Transaction], T]) -> T:
        self.reads += 1
        if self.away:
            raise StoreUnavailable("disk_error", "nothing can be read")
        return await super().read(work)


class World:
    """An asker, its ledger and its clock."""

    def __init__(self, store: Ledger, task: Task) -> None:
        self.store, self.task, self.now = store, task, 1_800_000_000.0
        hub = RunningHub(open_http(None, TLS), "http://runninghub.test", "0123456789abcdef0123456789abcdef")
        self.asker = Asker(hub, store, Redactor([]), lambda: self.now)

    async def answered(self) -> int:
        """RunningHub answers. How often the ledger was read for that."""
        before = self.store.reads

        async def answer() -> Reply[str]:
            return Reply(content="", raw=b"")

        await self.asker.exchange(self.task, CheckKind.QUERY, answer(), str)
        return self.store.reads - before

    async def fails(self) -> None:
        async def fail() -> Reply[str]:
            raise ProviderError("unanswered", "no answer")

        with pytest.raises(ProviderError):
            await self.asker.exchange(self.task, CheckKind.QUERY, fail(), str)

    async def alerts(self) -> list[str]:
        return [alert.kind for alert in (await self.store.alerts(Filter(state=("open",)))).items]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    store = Ledger(tmp_path / "receiver.db")
    await store.open()
    (task,) = await end_tasks(store, 1, (), 1_800_000_000.0)
    yield World(store, task)
    await store.close()


async def test_of_many_answers_only_the_first_is_a_reason_to_look_for_alerts(world: World) -> None:
    assert await world.answered() > 0
    assert [await world.answered() for _ in range(10)] == [0] * 10
    world.now += rules.WELL_KNOWN
    assert await world.answered() > 0


async def test_an_alert_of_ones_own_ends_with_the_next_answer(world: World) -> None:
    await world.answered()
    await world.fails()
    assert await world.alerts() == [AlertKind.UNREACHABLE]
    await world.answered()
    assert await world.alerts() == []


async def test_an_alert_of_another_server_ends_within_seconds(world: World) -> None:
    await world.answered()
    await world.store.raise_alert(AlertKind.UNREACHABLE, "runninghub", "another server says so", world.now)
    world.now += rules.WELL_KNOWN
    await world.answered()
    assert await world.alerts() == []


async def test_an_alert_that_could_not_be_closed_is_closed_by_the_next_answer(world: World) -> None:
    await world.fails()
    world.store.away = True
    await world.answered()
    world.store.away = False
    assert await world.alerts() == [AlertKind.UNREACHABLE]
    await world.answered()
    assert await world.alerts() == []


async def test_a_clock_that_was_set_back_keeps_no_alert_open(world: World) -> None:
    await world.answered()
    await world.store.raise_alert(AlertKind.UNREACHABLE, "runninghub", "another server says so", world.now)
    world.now -= 3600
    await world.answered()
    assert await world.alerts() == []
