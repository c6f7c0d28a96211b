"""Real servers in processes of their own: started, loaded by many connections, stopped or killed, and accounted for."""

import asyncio
import hashlib
import json
import os
import random
import signal
import sqlite3
import sys
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import uuid_utils

from receiver.model.entries import NewTask
from receiver.model.links import Links
from receiver.model.records import Kind, Purpose
from receiver.store import Store, open_store

ADMIN_TOKEN = "admin-token-of-the-slow-proofs"
API_KEY = "fedcba9876543210fedcba9876543210"
SECRET = "signing-secret-of-the-slow-proofs"
NOBODY = "http://127.0.0.1:9"
"""A provider that is not there, so that nothing is confirmed meanwhile."""
MODEL = "rhart-video-v3.1-pro-official/reference-to-video"

SERVE = (sys.executable, "-m", "receiver", "serve")
NOW = time.time()
NEVER = NOW + 1e9
"""When the tasks of a prepared ledger were submitted, and when they would be asked about without a callback."""
CONNECTIONS = 32
BODIES = 40
"""Distinct bodies sent per task; more than fifty would be counted, but not kept."""
PATIENCE = 15.0
"""Seconds for anything that is waited for here."""


# ------------------------------------------------------------ a server


class Server:
    """A server in a process of its own, whose output is gathered as it comes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.url = ""
        self.out = ""
        self.err = ""
        self._said = asyncio.Event()
        self._ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._gathering = asyncio.gather(self._gather_out(), self._gather_err())

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def lines(self) -> list[str]:
        """All that it has said so far."""
        return [*self.out.splitlines(), *self.err.splitlines()]

    @property
    def pid(self) -> int:
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    async def ready(self) -> None:
        """Waits until requests are taken."""
        async with asyncio.timeout(PATIENCE):
            self.url = await self._ready

    async def saying(self, words: str) -> None:
        """Waits until its log says so."""
        async with asyncio.timeout(PATIENCE):
            while words not in self.err:
                self._said.clear()
                await self._said.wait()

    async def ended(self) -> int:
        """Waits for the end of the process and of its output; the exit code, negative for a signal."""
        async with asyncio.timeout(PATIENCE):
            code = await self.process.wait()
            await self._gathering
            return code

    async def kill(self) -> None:
        self.signal(signal.SIGKILL)
        assert await self.ended() == -signal.SIGKILL

    async def stop(self) -> None:
        """Stops it as an operator does, and expects it to go in peace."""
        self.signal(signal.SIGTERM)
        assert await self.ended() == 0, self.err

    async def well(self) -> None:
        """Waits until it says that it is ready."""
        async with asyncio.timeout(PATIENCE):
            while (await self.get("/readyz")).status != 200:  # noqa: ASYNC110 - it happens in another process
                await asyncio.sleep(0.1)

    async def get(self, path: str) -> "Answer":
        return await self.ask(request("GET", path))

    async def ask(self, sent: bytes) -> "Answer":
        """One request on a connection of its own."""
        async with asyncio.timeout(PATIENCE):
            connection = await Connection.open(self.port)
            try:
                answer = await connection.exchange(sent)
            finally:
                connection.close()
        assert answer is not None, "the server hung up"
        return answer

    async def _gather_out(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.out += line.decode()
            found = next((word for word in line.decode().split() if word.startswith("http://")), None)
            if found is not None and not self._ready.done():
                self._ready.set_result(found)
        if not self._ready.done():
            self._ready.set_exception(AssertionError("the server ended before it was ready"))
            self._ready.exception()  # whoever waits is told; nobody need wait

    async def _gather_err(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.err += line.decode()
            self._said.set()


def environment(**more: str) -> dict[str, str]:
    """All that a server is told: little, and nothing of what the tests themselves run in."""
    return {
        "PATH": os.environ["PATH"],
        "HOST": "127.0.0.1",
        "PORT": "0",
        "RECEIVER_PUBLIC_URL": "http://receiver.test",
        "RECEIVER_SECRETS": SECRET,
        "RECEIVER_ADMIN_TOKEN": ADMIN_TOKEN,
        "RUNNINGHUB_API_KEY": API_KEY,
        "RUNNINGHUB_BASE_URL": NOBODY,
        **more,
    }


@asynccontextmanager
async def launched(
    directory: Path, *, argv: Sequence[str] = SERVE, given: Mapping[str, str] | None = None
) -> AsyncIterator[Server]:
    """A server that works in `directory`, perhaps not yet ready. Whatever happens, it is gone afterwards."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        cwd=directory,
        env=environment() if given is None else given,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    server = Server(process)
    try:
        yield server
    finally:
        server.signal(signal.SIGKILL)
        await server.ended()


@asynccontextmanager
async def running(
    directory: Path, *, argv: Sequence[str] = SERVE, given: Mapping[str, str] | None = None
) -> AsyncIterator[Server]:
    """A server that works in `directory` and takes requests."""
    async with launched(directory, argv=argv, given=given) as server:
        await server.ready()
        yield server


# ------------------------------------------------------------ requests


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def reason(self) -> str:
        """The code of an error."""
        code: str = json.loads(self.body)["error"]["code"]
        return code


def request(method: str, path: str, body: bytes = b"") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: receiver.test\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Connection:
    """A kept-alive connection to a server on this machine."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> "Connection":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def send(self, sent: bytes) -> None:
        self._writer.write(sent)

    async def exchange(self, sent: bytes) -> Answer | None:
        """Sends a request and reads its answer; None when the server hung up before all of that came."""
        self.send(sent)
        return await self.answer()

    async def answer(self) -> Answer | None:
        try:
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
            body = await self._reader.readexactly(int(headers["content-length"]))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return Answer(int(head[0].split()[1]), headers, body)

    def close(self) -> None:
        self._writer.close()


# ------------------------------------------------------------ a ledger and a load


class Ordered(NamedTuple):
    """A task in the ledger that waits for its callback."""

    id: str
    provider_id: str
    path: str


async def prepared(directory: Path, tasks: int, actions: str = "", *, floor: int = 0) -> tuple[Path, list[Ordered]]:
    """A database with tasks that wait for their callbacks. Those are believed when there are actions to be had."""
    believed = "confirm = false" if actions else ""
    (directory / "receiver.toml").write_text(f"[callbacks]\ndisk_floor = {floor}\n{believed}\n{actions}")
    database = directory / "receiver.db"
    return database, await filled(f"sqlite:///{database}", tasks)


async def filled(url: str, count: int) -> list[Ordered]:
    """Tasks that wait for their callbacks, in the ledger behind a URL."""
    store, links = open_store(url), Links([SECRET], None)
    await store.open()
    try:
        return list(await asyncio.gather(*(order(store, number, links) for number in range(count))))
    finally:
        await store.close()


async def order(store: Store, number: int, links: Links) -> Ordered:
    """A task that RunningHub has, and that waits for its callback."""
    new = NewTask(
        id=str(uuid_utils.uuid7()), kind=Kind.MODEL, target=MODEL, input={}, labels={}, digest=number.to_bytes(32)
    )
    await store.add_task(new, NOW)
    taken = await store.take_queued_task(NOW, sys.maxsize, callback=True)
    assert taken is not None
    provider_id = str(1_900_000_000_000_000_000 + number)
    await store.mark_submitted(taken, provider_id, "RUNNING", NEVER, NOW)
    token = links.token(taken.id, Purpose.SUBMIT)
    return Ordered(taken.id, provider_id, f"/callbacks/{token}")


def success(task: Ordered, number: int) -> bytes:
    """A callback as RunningHub sends it, unlike every other by its number."""
    result = {"url": f"http://127.0.0.1:9/{number}.png", "outputType": "png"}
    told = {
        "taskId": task.provider_id,
        "status": "SUCCESS",
        "errorCode": "",
        "errorMessage": "",
        "results": [result],
        "usage": {"consumeCoins": str(number), "taskCostTime": "61"},
        "promptTips": f"{number:08}" * 64,
    }
    return json.dumps({"event": "TASK_END", "taskId": task.provider_id, "eventData": told}).encode()


Kept = tuple[str, bytes]
"""A task's id and the digest of a body."""


class Load:
    """Posts distinct callbacks over many connections for as long as it is `on`, and remembers every promise it got.

    It outlives the servers that it is let loose on. Only a callback that was refused is sent again.
    """

    def __init__(self, tasks: Sequence[Ordered], seed: int) -> None:
        self.promised: set[Kept] = set()
        self.statuses: Counter[int] = Counter()
        self.refusals: list[Answer] = []
        unsent = [(tasks[number % len(tasks)], number) for number in range(len(tasks) * BODIES)]
        random.Random(seed).shuffle(unsent)
        self._unsent = deque(unsent)
        self._stopping = False
        self._answered = asyncio.Condition()

    @asynccontextmanager
    async def on(self, server: Server, connections: int = CONNECTIONS) -> AsyncIterator[None]:
        self._stopping = False
        async with asyncio.timeout(4 * PATIENCE), asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(self._post_all(server.port))
            try:
                yield
            finally:
                self._stopping = True

    async def more(self, status: int, count: int) -> None:
        """Waits for so many more answers of a status."""
        wanted = self.statuses[status] + count
        async with asyncio.timeout(PATIENCE), self._answered:
            await self._answered.wait_for(lambda: self.statuses[status] >= wanted)

    async def _post_all(self, port: int) -> None:
        """Until the load is taken off, or nobody listens any more."""
        while not self._stopping:
            try:
                connection = await Connection.open(port)
            except ConnectionError:
                return
            try:
                while not self._stopping and await self._post(connection):
                    pass
            finally:
                connection.close()

    async def _post(self, connection: Connection) -> bool:
        """Posts one callback. False when the connection is of no more use."""
        assert self._unsent, "the ledger is too small for this load"
        task, number = self._unsent.pop()
        body = success(task, number)
        answer = await connection.exchange(request("POST", task.path, body))
        if answer is None:
            return False
        if answer.status == 200:
            self.promised.add((task.id, hashlib.sha256(body).digest()))
        else:
            self.refusals.append(answer)
            self._unsent.appendleft((task, number))
        self.statuses[answer.status] += 1
        async with self._answered:
            self._answered.notify_all()
        return answer.headers.get("connection") != "close"


# ------------------------------------------------------------ afterwards


def rows(database: Path, sql: str, *values: object) -> list[tuple[object, ...]]:
    """What stands in a database, read beside whoever serves it."""
    connection = sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)
    try:
        return connection.execute(sql, values).fetchall()
    finally:
        connection.close()


def kept(database: Path) -> set[Kept]:
    found = rows(database, "select t.id, d.digest from deliveries d join tasks t on t.key = d.task")
    return {(str(task), bytes(digest)) for task, digest in found if isinstance(digest, bytes)}


def action_states(database: Path) -> dict[object, object]:
    """How many actions are in which state."""
    return {each[0]: each[1] for each in rows(database, "select state, count(*) from actions group by state")}


def is_sound(database: Path) -> bool:
    return rows(database, "pragma integrity_check") == [("ok",)]


def indiscretions(server: Server, tasks: Iterable[Ordered] = ()) -> list[str]:
    """Lines of a server's output that hold a secret, a token, or the trace of something broken."""
    secrets = [SECRET, ADMIN_TOKEN, API_KEY, *(task.path.rpartition("/")[2] for task in tasks)]
    broken = ("Traceback", "Exception", '"level": "critical"', "never awaited", "Warning:")
    return [line for line in server.lines if any(word in line for word in (*secrets, *broken))]


async def moment(at: float) -> None:
    """Waits for a time of the loop's clock, if it has not come."""
    await asyncio.sleep(at - asyncio.get_running_loop().time())


async def until(condition: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Waits for something that nobody tells us of."""
    async with asyncio.timeout(patience):
        while not condition():  # noqa: ASYNC110 - it happens in another process
            await asyncio.sleep(0.02)
