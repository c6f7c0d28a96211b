"""The stream: what changes is told in the order of the commits, once, to everybody who listens and to nobody else."""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from house import House, open_house
from ledgers import end_tasks
from listening import Listener, listening
from servers import (
    ADMIN_TOKEN,
    API_KEY,
    SECRET,
    Connection,
    Ordered,
    Server,
    indiscretions,
    prepared,
    request,
    running,
    success,
    until,
)

from receiver.model import streaming
from receiver.model.definitions import ActionKind, Definition
from receiver.model.entries import Change, NewDelivery, Selection, Settlement
from receiver.model.errors import Refused
from receiver.model.records import Filter, Purpose, ReplayMode
from receiver.model.views import ReplayBody
from receiver.replay import replay
from receiver.server.stream import Reader, Stream
from receiver.store import Store

NOW = 1_790_000_000.0
HOOK = Definition(name="hook", kind=ActionKind.HTTP, timeout=30)
TASK = "019a0000-0000-7000-8000-000000000000"
SAID = re.compile(r'"id":"(.*?)"|event: (reset)')
ALL = 3600
"""Changes in all, of which a reader that reads nothing cannot be told a half: nobody holds so much for it."""
ANSWERS = 2
"""Seconds for which the door lets an answer wait for a reader who does not read on."""
TIGHT = f"[callbacks]\ndisk_floor = 0\n[door]\nanswer_seconds = {ANSWERS}\n"


def moved(number: int, kind: str = "task", task: str | None = TASK) -> Change:
    return Change(kind, str(number), "queued", task=task)


def stream(start: str = "first", **limits: float) -> Stream:
    return Stream(start, rests=0.0, **limits)  # type: ignore[arg-type]


async def heard(reader: Reader, count: int) -> list[str]:
    """The ids of the rows of the next events, `reset` for one of those."""
    found: list[str] = []
    async with asyncio.timeout(5):
        async for piece in reader:
            found += [each[1] or each[2] for each in SAID.finditer(piece.decode())]
            if len(found) >= count:
                break
    reader.close()
    return found


# ---------------------------------------------------------------- the ring


async def test_every_reader_is_told_everything_in_the_order_of_the_commits() -> None:
    told = stream()
    readers = [told.open() for _ in range(3)]
    hearing = [asyncio.create_task(heard(each, 5)) for each in readers]
    for first in (0, 2):
        await asyncio.sleep(0)
        told.publish([moved(first), moved(first + 1)])
    told.publish([moved(4)])
    assert await asyncio.gather(*hearing) == [["0", "1", "2", "3", "4"]] * 3


async def test_a_reader_that_comes_again_is_told_what_it_missed_and_nothing_twice() -> None:
    told = stream()
    told.publish([moved(number) for number in range(5)])
    assert await heard(told.open(last_event_id="first-2"), 3) == ["2", "3", "4"]
    assert await heard(told.open(last_event_id="first-0"), 5) == ["0", "1", "2", "3", "4"]


async def test_a_reader_that_is_far_behind_is_told_everything_in_pieces() -> None:
    told = stream()
    told.publish([moved(number) for number in range(3 * streaming.PIECE)])
    missed = await heard(told.open(last_event_id="first-0"), 3 * streaming.PIECE)
    assert missed == [str(number) for number in range(3 * streaming.PIECE)]


@pytest.mark.parametrize(
    "place",
    ["other-3", "first-1", "first-9", "first-", "3", "first-x", "first--1", "\u0663", "first-\u0663", "x" * 10_000],
)
async def test_a_reader_whose_place_is_unknown_is_told_to_look_anew(place: str) -> None:
    told = stream(kept=3)
    told.publish([moved(number) for number in range(5)])
    reader = told.open(last_event_id=place)
    hearing = asyncio.create_task(heard(reader, 2))
    await asyncio.sleep(0)
    told.publish([moved(5)])
    assert await hearing == ["reset", "5"]


async def test_a_reader_that_the_ring_has_overtaken_is_told_to_look_anew() -> None:
    told = stream(kept=3)
    reader = told.open()
    told.publish([moved(number) for number in range(5)])
    assert await heard(reader, 1) == ["reset"]


async def test_a_reader_hears_of_the_kinds_and_of_the_task_that_it_asked_for() -> None:
    told = stream()
    by_kind, by_task = told.open(kinds=["alert", "task"]), told.open(task=TASK)
    told.publish([moved(1), moved(2, "alert", None), moved(3, "action"), moved(4, "task", "another"), moved(5)])
    assert await heard(by_kind, 4) == ["1", "2", "4", "5"]
    assert await heard(by_task, 3) == ["1", "3", "5"]


async def test_other_kinds_of_changes_are_not_told() -> None:
    told = stream()
    told.publish([moved(1, "definition"), moved(2)])
    assert told.last == 1


async def test_somebody_who_hears_nothing_is_told_that_the_server_lives_and_where_it_is() -> None:
    told = stream(heartbeat=0.01)
    reader = told.open(kinds=["alert"])
    told.publish([moved(1)])
    pieces = aiter(reader)
    assert await anext(pieces) == b"retry: 1000\nid: first-0\n\n"
    assert await anext(pieces) == b":\nid: first-1\n\n"


async def test_of_too_many_readers_the_last_is_refused_until_there_is_a_place() -> None:
    told = stream(places=2)
    first, _ = told.open(), told.open()
    with pytest.raises(Refused) as refusal:
        told.open()
    assert (refusal.value.status, refusal.value.code) == (503, "too_many_readers")
    assert refusal.value.retry_after is not None
    first.close()
    told.open()


async def test_at_the_end_of_the_server_every_reader_is_told_so_and_no_other_is_taken() -> None:
    told = stream()
    pieces = aiter(told.open())
    await anext(pieces)
    told.publish([moved(1)])
    told.close()
    assert [piece async for piece in pieces] == [b": the server is being stopped\n\n"]
    with pytest.raises(Refused) as refusal:
        told.open()
    assert refusal.value.code == "stopping"


async def test_without_readers_nothing_is_written_and_the_ring_has_its_bound() -> None:
    told = stream(kept=3)
    told.publish([moved(number) for number in range(5)])
    assert [each.id for each in told.ring] == ["2", "3", "4"]
    assert {each._written for each in told.ring} == {None}
    assert told._due is None


# ---------------------------------------------------------------- what the ledger tells


async def test_every_change_of_an_action_or_a_delivery_names_its_task(store: Store) -> None:
    told: list[Change] = []
    store.listen(told.extend)
    await store.sync_definitions([HOOK], NOW)
    (task,) = await end_tasks(store, 1, [HOOK], NOW)
    new = NewDelivery(task=task.id, purpose=Purpose.SUBMIT, body=b"{}", digest=b"1", size=2)
    await store.record_delivery(new, NOW)
    await store.contradict(int(told[-1].id))
    for outcome in ("retry", "returned", "dead"):
        claimed = await store.claim_action("hook", NOW, 60)
        assert claimed is not None
        await store.settle_action(claimed, Settlement(outcome=outcome, due_at=NOW), NOW)
        action = claimed.action.id
    await store.skip_action(action, "by hand", NOW)
    assert {each.task for each in told if each.kind in ("task", "action", "delivery")} == {task.id}
    assert [each.state for each in told if each.kind == "action"][-1] == "skipped"


async def test_a_replay_tells_of_every_action_that_it_takes_up_and_gives_back(store: Store) -> None:
    await store.sync_definitions([HOOK], NOW)
    tasks = await end_tasks(store, 2, [HOOK], NOW)
    for action in (await store.actions(Filter())).items:
        await store.skip_action(action.id, "by hand", NOW)
    told: list[Change] = []
    store.listen(told.extend)
    order = ReplayBody(mode=ReplayMode.RETRY, filter=Selection(action_state=("skipped",)), rate=0.001, all=True)
    _, begun = await replay(store, [HOOK], order, {}, NOW)
    assert begun is not None
    await store.cancel_replay(begun.id, NOW)
    work = await store.search(begun.id)
    assert work is not None
    await store.park(work, NOW)
    actions = [each for each in told if each.kind == "action"]
    assert [each.state for each in actions] == ["owed", "owed", "skipped", "skipped"]
    assert {each.task for each in actions} == {task.id for task in tasks}


# ---------------------------------------------------------------- the door


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as house:
        yield house


@pytest.mark.parametrize(
    ("query", "status", "says"),
    [
        ("kind=event", 422, "kind"),
        ("task=nothing-like-it", 422, "task"),
        ("task=a%00b", 422, "task"),
        ("state=failed", 400, "kind, task, last_event_id"),
    ],
)
async def test_a_wish_that_cannot_be_read_is_refused_with_its_reason(
    house: House, query: str, status: int, says: str
) -> None:
    answer = await house.api.get(f"/stream?{query}")
    assert (answer.status_code, says in answer.text) == (status, True)
    assert not house.service.stream.readers


async def test_the_stream_is_for_those_with_the_admin_token(house: House) -> None:
    assert (await house.http.get("/api/stream")).status_code == 401


async def test_its_head_is_answered_without_a_place_being_taken(house: House) -> None:
    answer = await house.api.head("/stream")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert not house.service.stream.readers


async def test_where_there_is_no_place_the_answer_says_when_to_come_again(house: House) -> None:
    for _ in range(streaming.READERS):
        house.service.stream.open()
    answer = await house.api.get("/stream")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "too_many_readers")
    assert int(answer.headers["retry-after"]) > 0


# ---------------------------------------------------------------- real servers


async def post(connection: Connection, task: Ordered, number: int) -> None:
    answer = await connection.exchange(request("POST", task.path, success(task, number)))
    assert answer is not None
    assert answer.status == 200


@asynccontextmanager
async def posting(server: Server) -> AsyncIterator[Connection]:
    connection = await Connection.open(server.port)
    try:
        yield connection
    finally:
        connection.close()


async def hear(listeners: Sequence[Listener], count: int) -> None:
    """All of them hear of so many deliveries."""
    await asyncio.gather(*(each.until(lambda each=each: len(each.events) >= count, 150) for each in listeners))  # type: ignore[misc]


async def burst(server: Server, tasks: Sequence[Ordered], numbers: Sequence[int]) -> None:
    async with posting(server) as connection:
        for number in numbers:
            await post(connection, tasks[number % len(tasks)], number)


def memory_of(server: Server) -> int:
    """In MiB."""
    text = Path(f"/proc/{server.pid}/statm").read_text()
    return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE") // 2**20


@pytest.mark.slow
async def test_a_reader_comes_again_after_it_broke_off_and_after_the_server_was_killed(tmp_path: Path) -> None:
    _, tasks = await prepared(tmp_path, 40)
    query = "?kind=delivery"
    async with running(tmp_path) as server, posting(server) as connection:
        async with listening(server.port, query) as first:
            await post(connection, tasks[0], 0)
            await first.until(lambda: len(first.events) == 1)
        for number in range(1, 20):
            await post(connection, tasks[number], number)
        async with listening(server.port, query, after=first.place) as again:
            await again.until(lambda: len(again.events) == 19)
        ids = [int(each.id) for each in first.events + again.events]
        assert ids == list(range(1, 21))
        numbers = first.numbers + again.numbers
        assert numbers == sorted(set(numbers))
        await server.kill()
    async with running(tmp_path) as server, posting(server) as connection:
        async with listening(server.port, query, after=again.place) as later:
            await post(connection, tasks[20], 20)
            await later.until(lambda: len(later.events) == 2)
        assert [(each.kind, each.id) for each in later.events] == [("reset", ""), ("delivery", "21")]


@pytest.mark.slow
async def test_a_server_that_stops_tells_its_readers_and_ends_in_peace(tmp_path: Path) -> None:
    await prepared(tmp_path, 0)
    async with running(tmp_path) as server, AsyncExitStack() as stack:
        readers = [await stack.enter_async_context(listening(server.port)) for _ in range(5)]
        ending = asyncio.create_task(server.stop())
        assert await asyncio.gather(*(each.to_the_end() for each in readers)) == [True] * 5
        await ending
        assert {"the server is being stopped" in each.text for each in readers} == {True}
    assert indiscretions(server) == []


@pytest.mark.slow
async def test_a_reader_who_hears_nothing_for_longer_than_others_may_be_idle_is_kept(tmp_path: Path) -> None:
    _, tasks = await prepared(tmp_path, 1)
    limits = ("idle", "header", "body", "answer")
    (tmp_path / "receiver.toml").write_text("\n".join(["[door]", *(f"{each}_seconds = 1" for each in limits)]))
    async with running(tmp_path) as server, listening(server.port, "?kind=delivery") as listener:
        await listener.until(lambda: listener.beats > 0)
        async with posting(server) as connection:
            await post(connection, tasks[0], 0)
        await listener.until(lambda: len(listener.events) > 0)


@pytest.mark.slow
async def test_readers_may_come_and_go_and_their_places_are_free_again(tmp_path: Path) -> None:
    await prepared(tmp_path, 0)
    async with running(tmp_path) as server:
        for _ in range(3):
            async with AsyncExitStack() as stack:
                for _ in range(streaming.READERS):
                    await stack.enter_async_context(listening(server.port))
                async with listening(server.port) as last:
                    assert (last.status, int(last.headers["retry-after"]) > 0) == (503, True)
            async with asyncio.timeout(5):
                status = 503
                while status == 503:  # it hears of their going when it hears of it
                    async with listening(server.port) as next_one:
                        status = next_one.status
    assert indiscretions(server) == []


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_sixty_four_readers_hear_a_hundred_changes_a_second_and_one_that_stops_reading_is_dropped(
    tmp_path: Path,
) -> None:
    _, tasks = await prepared(tmp_path, 400)
    (tmp_path / "receiver.toml").write_text(TIGHT)
    async with running(tmp_path) as server, posting(server) as connection, AsyncExitStack() as stack:
        heard = [
            await stack.enter_async_context(listening(server.port, "?kind=delivery"))
            for _ in range(streaming.READERS - 1)
        ]
        stalled = await stack.enter_async_context(listening(server.port, buffer=4096))
        hearing = asyncio.create_task(hear(heard, ALL))
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for number in range(200):
            await post(connection, tasks[number], number)
            await until(lambda number=number: loop.time() >= begun + number / 100)  # type: ignore[misc]
        memory = memory_of(server)
        await asyncio.gather(*(burst(server, tasks, range(200 + first, ALL, 8)) for first in range(8)))
        await hearing
        grown = memory_of(server) - memory
        assert {tuple(each.numbers) for each in heard} == {tuple(heard[0].numbers)}
        assert [int(each.id) for each in heard[0].events] == list(range(1, ALL + 1))
        assert heard[0].numbers == sorted(set(heard[0].numbers))
        # How much the system holds for a reader is its own affair: it is told more until nothing more is taken.
        for first in range(ALL, 2 * ALL, 400):
            if "answer_not_read" in server.err:
                break
            await burst(server, tasks, range(first, first + 400))
        await server.saying("answer_not_read")
        assert not await stalled.to_the_end()
        async with listening(server.port, "?kind=delivery", after=stalled.place) as again:
            await again.until(lambda: len(again.events) > 0)
        assert grown < 30
    secrets = (SECRET, ADMIN_TOKEN, API_KEY, "lighthouse", *(each.path.rpartition("/")[2] for each in tasks))
    assert not [each for each in secrets if any(each in listener.text for listener in heard)]
    assert indiscretions(server, tasks) == []


@pytest.mark.slow
async def test_nothing_but_ids_and_states_is_told_of_a_task_with_its_labels_and_prompt(tmp_path: Path) -> None:
    await prepared(tmp_path, 0)
    order = b'{"kind":"workflow","target":"1904136902449209346","labels":{"who":"secret-label"},'
    order += b'"input":{"nodeInfoList":[{"nodeId":"6","fieldName":"text","fieldValue":"secret-prompt"}]}}'
    async with running(tmp_path) as server, listening(server.port) as listener:
        head = f"POST /api/tasks HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n"
        answer = await server.ask(head.encode() + f"Content-Length: {len(order)}\r\n\r\n".encode() + order)
        assert answer.status == 202
        await listener.until(lambda: len(listener.events) >= 2)
        assert [(each.kind, each.state) for each in listener.events][:2] == [("task", "queued"), ("task", "submitting")]
    blocks = [block for block in listener.text.split("\n\n") if "event: " in block]
    shape = re.compile(r'id: [0-9a-f]{8}-\d+\nevent: [a-z]+\ndata: \{"id":"[0-9a-f-]+","state":"[a-z_]+"\}')
    assert [block for block in blocks if not shape.fullmatch(block)] == []
    assert max(map(len, blocks)) < 130
