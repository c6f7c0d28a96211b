"""Five thousand owed actions and an endpoint that answers, throttles, fails, hangs, hangs up and refuses."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest
from house import TLS
from ledgers import end_tasks
from servers import rows

from receiver.actions import Done, Work
from receiver.actions.http import Poster
from receiver.actions.settings import HttpDefinition
from receiver.dispatch import dispatch
from receiver.egress.client import Egress
from receiver.model.definitions import ActionKind, Definition
from receiver.model.records import Line
from receiver.model.redaction import Redactor
from receiver.model.rules import RATE_BURST
from receiver.server.loop import Loop
from receiver.store import Store, open_store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

ACTIONS = 5000
CONCURRENCY = 8
RATE = 600.0
TRIES = 5
RETRY_AFTER = 30.0
MEGABYTE = 2**20

# What the endpoint answers to the tries of an action, by its number modulo 100; the last answer is repeated.
ANSWERS: dict[range, list[str]] = {
    range(80, 86): ["429", "200"],
    range(86, 90): ["500", "500", "200"],
    range(90, 92): ["503"],
    range(92, 94): ["hang", "200"],
    range(94, 96): ["drop", "200"],
    range(96, 98): ["404"],
    range(98, 99): ["410"],
}


def answers_of(number: int) -> list[str]:
    return next((answers for places, answers in ANSWERS.items() if number % 100 in places), ["200"])


def expected(number: int) -> tuple[str, int]:
    """The state in which an action ends, and after how many tries."""
    answers = answers_of(number)
    if answers[-1] in ("404", "410"):
        return "dead", 1
    return ("dead", TRIES) if answers[-1] != "200" else ("done", len(answers))


class Endpoint:
    """A server on this machine."""

    def __init__(self, numbers: dict[str, int]) -> None:
        self._numbers = numbers
        self.tries: Counter[str] = Counter()
        self._first = asyncio.Barrier(CONCURRENCY)
        self._stopped = asyncio.Event()

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"http://{host}:{port}/hook"

    async def stop(self) -> None:
        self._stopped.set()
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._answer(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        await reader.readexactly(int(headers["content-length"]))
        if not self.tries and self._first.n_waiting < CONCURRENCY:
            await self._first.wait()  # as many as may be in hand are, before any of them is answered
        return await self._behave(headers["idempotency-key"], reader, writer)

    async def _behave(self, key: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        answers = answers_of(self._numbers[key.split(":")[0]])
        answer = answers[min(self.tries[key], len(answers) - 1)]
        self.tries[key] += 1
        if answer == "hang":
            await reader.read(1)  # until the other side gives up
            return False
        if answer == "drop":
            return False
        more = f"retry-after: {RETRY_AFTER:.0f}\r\n" if answer == "429" else ""
        writer.write(f"HTTP/1.1 {answer} x\r\n{more}content-length: 0\r\n\r\n".encode())
        await writer.drain()
        return True


class Counted:
    """A performer; `most` is how many of its tries were under way at once."""

    def __init__(self, poster: Poster) -> None:
        self._poster = poster
        self._now = 0
        self.most = 0

    async def __call__(self, work: Work) -> Done:
        self._now += 1
        self.most = max(self.most, self._now)
        try:
            return await self._poster(work)
        finally:
            self._now -= 1


class LeapingClock:
    """The real time, from which a test leaps on when nobody has anything to do."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = open_store(f"sqlite:///{tmp_path / 'receiver.db'}")
    await store.open()
    yield store
    await store.close()


async def test_all_of_them_end_as_the_rule_says_within_concurrency_and_rate(store: Store, tmp_path: Path) -> None:
    clock = LeapingClock()
    numbers: dict[str, int] = {}
    endpoint = Endpoint(numbers)
    definition = HttpDefinition(
        name="hook",
        url=await endpoint.start(),
        allow_private=True,
        timeout=0.5,
        max_attempts=TRIES,
        concurrency=CONCURRENCY,
        rate=RATE,
    )
    await store.sync_definitions([definition], clock())
    tasks = await end_tasks(store, ACTIONS, [definition], clock())
    numbers.update((task.id, task.key) for task in tasks)
    egress = Egress(tls=TLS)
    poster = Counted(Poster(egress, clock))
    memory = await work_off(store, definition, poster, clock)
    await egress.aclose()
    await endpoint.stop()

    database = tmp_path / "receiver.db"
    ends = {key: (state, tries) for key, state, tries in rows(database, "select task, state, attempts from actions")}
    assert ends == {task.key: expected(task.key) for task in tasks}
    assert sum(endpoint.tries.values()) == sum(tries for _, tries in map(expected, numbers.values()))
    assert poster.most == CONCURRENCY
    assert set(endpoint.tries) == {f"{task.id}:hook:1" for task in tasks}
    begun = [float(str(moment)) for (moment,) in rows(database, "select started_at from attempts order by 1")]
    assert max(in_a_second(begun)) <= RATE * (1 + RATE_BURST) + 1
    assert_throttled_tries_wait(database)
    assert max(memory[1:]) - memory[0] < 24 * MEGABYTE, memory


async def work_off(store: Store, definition: Definition, poster: Counted, clock: LeapingClock) -> list[int]:
    """Runs the definition's workers until nothing is owed; the memory in use after every thousand tries, in bytes."""
    ended = asyncio.Event()
    memory: list[int] = []
    counts = Counter[str]()

    async def step() -> Line | None:
        counts["busy"] += 1
        try:
            line = await dispatch(store, {ActionKind.HTTP: poster}, definition, Redactor([]), clock, lambda: 0.5)
        finally:
            counts["busy"] -= 1
        counts["tries"] += line is not None
        if line is not None and counts["tries"] % 1000 == 0:
            memory.append(memory_in_use())
        return None if line is None else {}

    async def next_due() -> float | None:
        due = await store.next_action_at(definition.name, clock())
        if due is None and not counts["busy"]:
            ended.set()
        elif due is not None and not counts["busy"] and due > clock() + 0.1:
            clock.ahead += due - clock()
            loop.wake()
        return due

    loop = Loop("dispatch", step, next_due, clock, workers=definition.concurrency)
    loop.start()
    await ended.wait()
    loop.stop()
    await loop.ended(5)
    return memory


def assert_throttled_tries_wait(database: Path) -> None:
    tries = rows(
        database,
        "select a.id, started_at, ended_at from attempts t join actions a on a.id = t.action "
        "where a.task % 100 between 80 and 85 order by a.id, number",
    )
    waits = [
        float(str(later[1])) - float(str(earlier[2])) for earlier, later in pairwise(tries) if earlier[0] == later[0]
    ]
    assert len(waits) == ACTIONS * 6 // 100
    assert min(waits) >= RETRY_AFTER - 0.1  # the due time is set a moment before the end is written down


def in_a_second(moments: list[float]) -> list[int]:
    """For each moment, how many there are in the second before it."""
    first, found = 0, []
    for place, moment in enumerate(moments):
        while moments[first] <= moment - 1:
            first += 1
        found.append(place - first + 1)
    return found


def memory_in_use() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
