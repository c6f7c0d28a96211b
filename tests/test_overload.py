"""More than a server can take: what waits has a bound, who is refused hears it at once, and what is kept is right."""

import asyncio
import hashlib
import json
import os
import resource
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from house import House
from servers import (
    ADMIN_TOKEN,
    Answer,
    Connection,
    Kept,
    Ordered,
    Server,
    indiscretions,
    is_sound,
    kept,
    moment,
    order,
    prepared,
    request,
    rows,
    running,
    success,
    until,
)
from starlette.types import ASGIApp

from receiver.model import rules
from receiver.store.ledger.transaction import Transaction
from receiver.store.sqlite.store import SqliteStore
from receiver.store.writer import QUEUE_CAP

KIB = 1024
MIB = 1024 * KIB


class Promises:
    """What was answered to the callbacks that were posted."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.kept: set[Kept] = set()
        self.repeated = 0
        self.reasons: set[str] = set()

    def note(self, task: Ordered, body: bytes, answer: Answer) -> None:
        self.statuses[answer.status] += 1
        if answer.status == 200:
            self.kept.add((task.id, hashlib.sha256(body).digest()))
            self.repeated += json.loads(answer.body)["duplicate"]
        else:
            assert answer.status == 503
            assert int(answer.headers["retry-after"]) >= 1
            self.reasons.add(answer.reason)


def assert_right(database: Path, promises: Promises) -> None:
    """The ledger has what was promised and nothing else, and counts as one would by looking."""
    assert kept(database) == promises.kept
    counted = rows(database, "select value from counters where name like 'callbacks_re%' order by name")
    assert counted == [(len(promises.kept),), (promises.repeated,)][: 2 if promises.repeated else 1]
    assert rows(database, "select coalesce(sum(count), 0) from deliveries") == [(promises.statuses[200],)]
    wrong = "select key from tasks where bodies <> (select count(*) from deliveries d where d.task = tasks.key)"
    assert rows(database, wrong) == []
    assert is_sound(database)


# ---------------------------------------------------------------- at the door


async def posted(app: ASGIApp, path: str, body: bytes) -> Answer:
    """One request without a network, so that thousands of them are there at the same moment."""
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "headers": [], "query_string": b"", "raw_path": b""}
    await app(scope, receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], headers, sent[1]["body"])


async def test_of_more_callbacks_than_may_wait_the_rest_is_refused_and_the_ledger_is_right(
    house: House, tmp_path: Path
) -> None:
    tasks = [await order(house.store, number, house.service.links) for number in range(120)]
    promises = Promises()

    async def post(number: int) -> None:
        task = tasks[number % len(tasks)]
        body = success(task, number // 10 * 10)  # some come twice
        promises.note(task, body, await posted(house.app, task.path, body))

    await asyncio.gather(*(post(number) for number in range(QUEUE_CAP + 1500)))
    assert promises.statuses[200] >= QUEUE_CAP
    assert promises.statuses[503] > 0
    assert promises.reasons == {"busy"}
    assert_right(tmp_path / "receiver.db", promises)


# ---------------------------------------------------------------- a server


@contextmanager
def many_files(count: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count:
        pytest.skip(f"this system allows a process fewer than {count} files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def written_by_another(database: Path) -> Iterator[None]:
    """Nothing can be committed meanwhile, as on a disk that hangs."""
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("begin immediate")
    try:
        yield
    finally:
        connection.execute("rollback")
        connection.close()


@pytest.mark.slow
async def test_while_nothing_can_be_written_who_cannot_wait_is_told_at_once_and_who_waits_is_served(
    tmp_path: Path,
) -> None:
    database, tasks = await prepared(tmp_path, 200)
    promises, count = Promises(), QUEUE_CAP + 600

    async def post(connection: Connection, number: int) -> None:
        task = tasks[number % len(tasks)]
        body = success(task, number)
        answer = await connection.exchange(request("POST", task.path, body))
        assert answer is not None
        promises.note(task, body, answer)

    with many_files(count + 1000):
        async with running(tmp_path) as server, asyncio.timeout(60):
            connections = [await Connection.open(server.port) for _ in range(count)]
            with written_by_another(database):
                posting = [asyncio.create_task(post(each, number)) for number, each in enumerate(connections)]
                await until(lambda: promises.statuses[503] > 0)
                assert promises.statuses[200] == 0
            await asyncio.gather(*posting)
            for each in connections:
                each.close()
            assert promises.statuses.total() == count
            assert promises.statuses[200] > 0
            assert "busy" in promises.reasons
            await server.stop()
            assert indiscretions(server, tasks) == []
    assert_right(database, promises)


@pytest.mark.slow
async def test_under_load_nobody_waits_for_others_to_be_served_again_and_again(tmp_path: Path) -> None:
    _, tasks = await prepared(tmp_path, 200)
    served: Counter[int] = Counter()

    async def post(connection: Connection, place: int) -> None:
        while served.total() < 40 * len(tasks):
            body = success(tasks[place], served[place])
            answer = await connection.exchange(request("POST", tasks[place].path, body))
            assert answer is not None
            assert answer.status == 200
            served[place] += 1

    async with running(tmp_path) as server, asyncio.timeout(60):
        connections = [await Connection.open(server.port) for _ in tasks]
        await asyncio.gather(*(post(each, place) for place, each in enumerate(connections)))
        for each in connections:
            each.close()
    assert min(served.values()) >= 20


BURST, SECONDS = 50_000, 5.0
LINES = 500
"""Connections over which they come."""


@pytest.mark.slow
@pytest.mark.timeout(400)  # a machine that others use takes no ten thousand in a second
async def test_fifty_thousand_callbacks_in_five_seconds_are_taken_or_refused_and_the_ledger_is_right(
    tmp_path: Path,
) -> None:
    """While others read all the time. Whether the machine keeps that pace is not looked at."""
    database, tasks = await prepared(tmp_path, 2000)
    (tmp_path / "receiver.toml").write_text("keep_files = false\n[callbacks]\nconfirm = false\ndisk_floor = 0\n")
    promises = Promises()
    log = tmp_path / "receiver.db-wal"
    async with running(tmp_path) as server, asyncio.timeout(380):
        lengths: list[int] = []
        reading = [asyncio.create_task(read_on(server, log, lengths)) for _ in range(2)]
        begun = asyncio.get_running_loop().time() + 0.1
        await asyncio.gather(*(post_in_time(server, tasks, line, begun, promises) for line in range(LINES)))
        for each in reading:
            each.cancel()
        await asyncio.wait(reading)
        assert promises.statuses.total() == BURST
        told = len({task for task, _ in promises.kept})
        await until(lambda: rows(database, "select count(*) from events") == [(told,)], 300)
        await server.stop()
        assert indiscretions(server, tasks) == []
    print(f"{promises.statuses}, {promises.repeated} repeated, the log had at most {max(lengths) / MIB:.0f} MiB")
    assert_right(database, promises)
    assert max(lengths) <= rules.LOG_KEPT
    ends = "select count(*) from tasks where state = 'succeeded' and settled = 1"
    assert rows(database, ends) == [(told,)]


async def post_in_time(server: Server, tasks: Sequence[Ordered], line: int, begun: float, promises: Promises) -> None:
    """Every so many of the callbacks, each when its time has come: also when the answers do not come as fast."""
    connection = await Connection.open(server.port)
    for number in range(line, BURST, LINES):
        task = tasks[number % len(tasks)]
        body = success(task, number if number % 20 else 0)  # some come twice
        await moment(begun + number * SECONDS / BURST)
        answer = await connection.exchange(request("POST", task.path, body))
        assert answer is not None
        promises.note(task, body, answer)
        if answer.headers.get("connection") == "close":
            connection.close()
            connection = await Connection.open(server.port)
    connection.close()


async def read_on(server: Server, log: Path, lengths: list[int]) -> None:
    """Asks for lists, and looks how long the log beside the file is."""
    connection = await Connection.open(server.port)
    asked = f"GET /api/tasks?limit=100 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n\r\n".encode()
    try:
        while True:
            answer = await connection.exchange(asked)
            assert answer is not None
            assert answer.status == 200
            lengths.append(log.stat().st_size)
    finally:
        connection.close()


# ---------------------------------------------------------------- the log beside the file


def change(number: int) -> Callable[[Transaction], None]:
    """A write that fills some pages of the log."""
    value = os.urandom(100 * KIB)

    def write(tx: Transaction) -> None:
        tx.change("delete from facts where name = ?", f"bulk-{number % 8}")
        tx.change("insert into facts (name, value) values (?, ?)", f"bulk-{number % 8}", value)

    return write


class Overlapping:
    """Reads of which each goes on until the next has begun: somebody reads at every moment."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self._begun = threading.Event()
        self._over = False

    async def read(self) -> None:
        while not self._over:
            await self._store.read(self._one)

    def _one(self, tx: Transaction) -> None:
        tx.all("select name from facts")
        self._begun.set()
        self._begun = begun = threading.Event()
        begun.wait(1)

    def stop(self) -> None:
        self._over = True
        self._begun.set()


async def test_the_log_is_bounded_although_somebody_always_reads(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "receiver.db", log_kept=MIB)
    await store.open()
    reads, longest = Overlapping(store), 0
    reading = [asyncio.create_task(reads.read()) for _ in range(2)]
    for number in range(300):
        await store.write(change(number))
        longest = max(longest, (tmp_path / "receiver.db-wal").stat().st_size)
    reads.stop()
    await asyncio.gather(*reading)
    await store.close()
    assert longest < 4 * MIB, f"{longest // KIB} KiB"


async def test_a_read_that_takes_its_time_holds_up_few_writes_and_the_log_is_short_when_it_is_over(
    tmp_path: Path,
) -> None:
    store = SqliteStore(tmp_path / "receiver.db", log_kept=MIB)
    await store.open()
    log, over, begun = tmp_path / "receiver.db-wal", threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def long(tx: Transaction) -> None:
        tx.all("select name from facts")
        loop.call_soon_threadsafe(begun.set)
        over.wait(30)

    reading = asyncio.create_task(store.read(long))
    await begun.wait()
    async with asyncio.timeout(5):  # waiting for it each time would take ten
        for number in range(45):
            await store.write(change(number))
    assert log.stat().st_size > 4 * MIB
    over.set()
    await reading
    for number in range(45):
        await store.write(change(number))
    assert log.stat().st_size <= 2 * MIB
    await store.close()
