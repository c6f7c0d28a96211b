"""Attacks on a real server: it hardly grows, and the callbacks of others are answered meanwhile and afterwards."""

import asyncio
import resource
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from servers import (
    ADMIN_TOKEN,
    SERVE,
    Connection,
    Ordered,
    Server,
    environment,
    indiscretions,
    prepared,
    request,
    rows,
    running,
    success,
    until,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

MIB = 2**20
MOST_GROWTH = 40 * MIB
AT_ONCE = 1.0
"""Seconds in which everybody else's callback is answered."""
LARGEST = 4 * MIB
FEW_FILES = ("sh", "-c", 'ulimit -Sn 1024 && exec "$0" "$@"', *SERVE)
NO_MORE_FILES = ("sh", "-c", 'ulimit -n 1024 && exec "$0" "$@"', *SERVE)

Attack = Callable[[int, Ordered], Awaitable[None]]


def memory(server: Server, what: str) -> int:
    lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(what))


class Others:
    """Posts callbacks one after the other, each on a connection of its own, and remembers the slowest."""

    def __init__(self, server: Server, tasks: list[Ordered]) -> None:
        self._server = server
        self._tasks = tasks
        self._count = 0
        self.slowest = 0.0

    async def post(self) -> float:
        task = self._tasks[self._count % len(self._tasks)]
        self._count += 1
        begun = time.monotonic()
        answer = await self._server.ask(request("POST", task.path, success(task, 1)))
        assert answer.status == 200
        return time.monotonic() - begun

    @asynccontextmanager
    async def at_it(self) -> AsyncIterator[None]:
        posting = asyncio.create_task(self._post_on())
        try:
            yield
        finally:
            posting.cancel()
            with suppress(asyncio.CancelledError):
                await posting

    async def _post_on(self) -> None:
        while True:
            self.slowest = max(self.slowest, await self.post())


async def withstood(
    directory: Path,
    attack: Attack,
    argv: tuple[str, ...] = SERVE,
    *,
    actions: str = "",
    given: Mapping[str, str] | None = None,
) -> Server:
    """Runs an attack and holds the server to what it must keep meanwhile and afterwards."""
    _, (leaked, *tasks) = await prepared(directory, 8, actions)
    async with running(directory, argv=argv, given=given) as server:
        others = Others(server, tasks)
        for _ in range(20):
            await others.post()
        before = memory(server, "VmRSS")
        Path(f"/proc/{server.pid}/clear_refs").write_text("5")  # the high water mark begins anew
        async with others.at_it():
            await attack(server.port, leaked)
        growth = memory(server, "VmHWM") - before
        assert await others.post() < AT_ONCE
        assert others.slowest < AT_ONCE
        assert growth < MOST_GROWTH, f"{growth / MIB:.0f} MiB"
        await server.stop()
        assert indiscretions(server, [leaked]) == []
        return server


async def opened(port: int, count: int, sent: bytes = b"") -> list[Connection]:
    connections = [await Connection.open(port) for _ in range(count)]
    for each in connections:
        each.send(sent)
    return connections


def closed(connections: list[Connection]) -> None:
    for each in connections:
        each.close()


async def hung_up_on(connections: list[Connection]) -> None:
    """Waits until the server has ended all of them."""
    async with asyncio.timeout(30):
        for each in connections:
            while await each.answer() is not None:
                pass


def flood(port: int, head: bytes, sent: bytes, seconds: float) -> None:
    """Sends the same again and again and reads nothing, until the server hangs up or nothing goes out any more."""
    with socket.create_connection(("127.0.0.1", port)) as attacker, suppress(OSError):
        attacker.settimeout(1)
        attacker.sendall(head)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            attacker.sendall(sent)


async def test_a_connection_that_pipelines_without_end_and_reads_no_answer(tmp_path: Path) -> None:
    async def attack(port: int, _: Ordered) -> None:
        await asyncio.to_thread(flood, port, b"", request("GET", "/healthz") * 1000, 4)

    await withstood(tmp_path, attack)


async def test_a_connection_that_sends_headers_without_end(tmp_path: Path) -> None:
    async def attack(port: int, _: Ordered) -> None:
        for sent in (b"X-More: " + b"x" * 60_000 + b"\r\n", b"x" * 60_000, b"a: b\r\n" * 10_000):
            await asyncio.to_thread(flood, port, b"GET / HTTP/1.1\r\n", sent, 2)

    await withstood(tmp_path, attack)


@pytest.mark.parametrize("argv", [FEW_FILES, NO_MORE_FILES], ids=["few files at first", "few files at all"])
async def test_a_thousand_connections_that_send_half_a_request(tmp_path: Path, argv: tuple[str, ...]) -> None:
    async def attack(port: int, _: Ordered) -> None:
        connections = await opened(port, 1100, b"POST /callbacks/x HTTP/1.1\r\nHost: x\r\nX-Half: ")
        await hung_up_on(connections)  # within the ten seconds that a head may take
        closed(connections)

    await withstood(tmp_path, attack, argv)


async def test_a_thousand_connections_that_send_half_of_large_headers(tmp_path: Path) -> None:
    async def attack(port: int, _: Ordered) -> None:
        connections = await opened(port, 1000, b"GET / HTTP/1.1\r\nX-Half: " + b"x" * 60_000)
        await hung_up_on(connections)
        closed(connections)

    await withstood(tmp_path, attack)


async def test_a_leaked_url_to_which_a_million_small_values_are_posted(tmp_path: Path) -> None:
    opening, filling = b'{"status":"SUCCESS","results":[{}', b",{}"
    body = opening + filling * ((LARGEST - len(opening) - 2) // len(filling)) + b"]}"

    async def post(port: int, leaked: Ordered) -> None:
        connection = await Connection.open(port)
        for _ in range(3):
            if (answer := await connection.exchange(request("POST", leaked.path, body))) is None:
                break
            assert answer.status in (202, 503)
        connection.close()

    async def attack(port: int, leaked: Ordered) -> None:
        await asyncio.gather(*(post(port, leaked) for _ in range(8)))

    await withstood(tmp_path, attack)
    kept = rows(tmp_path / "receiver.db", "select problem from deliveries where size > 4000000")
    assert kept == [("more than 20000 values",)]


async def test_sixty_half_sent_bodies(tmp_path: Path) -> None:
    async def attack(port: int, leaked: Ordered) -> None:
        head = f"POST {leaked.path} HTTP/1.1\r\nHost: x\r\nContent-Length: {LARGEST}\r\n\r\n".encode()
        connections = await opened(port, 60, head + b"x" * (LARGEST - 10))
        async with asyncio.timeout(20):
            answers = [asyncio.create_task(each.answer()) for each in connections]
            for refused, answer in enumerate(asyncio.as_completed(answers), start=1):
                await answer
                if refused == 50:
                    break
        for each in answers:
            each.cancel()
        closed(connections)

    await withstood(tmp_path, attack)


async def test_bodies_as_large_as_allowed_that_can_be_read(tmp_path: Path) -> None:
    results = b'{"status":"SUCCESS","results":[' + b'{"url":"http://a.test/b.png"},' * 4900
    filling = results + b'{}],"text":"' + b"x" * (LARGEST - len(results) - 40)

    async def post(port: int, leaked: Ordered, number: int) -> int:
        connection = await Connection.open(port)
        answer = await connection.exchange(request("POST", leaked.path, filling + b'%08d"}' % number))
        connection.close()
        return answer.status if answer else 0

    async def attack(port: int, leaked: Ordered) -> None:
        statuses = await asyncio.gather(*(post(port, leaked, number) for number in range(24)))
        assert 200 in statuses
        assert set(statuses) <= {200, 503, 0}

    await withstood(tmp_path, attack)


async def test_five_thousand_honest_connections_that_rest(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 6000:
        pytest.skip("this system allows a process fewer than 6000 files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    async def rest(port: int, leaked: Ordered) -> None:
        connections = []
        for _ in range(50):
            some = await opened(port, 100, request("GET", "/healthz"))
            assert all(await asyncio.gather(*(each.answer() for each in some)))
            connections += some
        answers = [await each.exchange(request("GET", "/healthz")) for each in connections]
        assert all(answers)
        closed(connections)

    try:
        await withstood(tmp_path, rest)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# ---------------------------------------------------------------- what breaks off, and what is left behind


async def test_a_body_that_breaks_off_is_no_matter_for_the_log(tmp_path: Path) -> None:
    _, (task,) = await prepared(tmp_path, 1)
    paths = [task.path, "/api/tasks", "/api/uploads?name=one.png", "/api/replays"]
    async with running(tmp_path) as server:
        for path in paths:
            connection = await Connection.open(server.port)
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: bearer {ADMIN_TOKEN}\r\nContent-Length: 900\r\n"
            connection.send(head.encode() + b'\r\n{"target": ')
            answer = await server.get("/healthz")
            assert answer.status == 200
            connection.close()
        await server.stop()
        assert indiscretions(server, [task]) == []
        assert rows(tmp_path / "receiver.db", "select count(*) from deliveries") == [(0,)]


ORPHANS = """
[[actions]]
name = "leaves"
kind = "command"
command = ["sh", "-c", "for i in 1 2 3; do sleep 0.$i & done; setsid sh -c 'sleep 0.1' & exit 0"]
"""
ADOPTING = "import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"
"""Orphans below it become its children, as they do below the first process of a container. An exec keeps that."""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such parents")
async def test_where_orphans_fall_to_the_server_they_are_buried(tmp_path: Path) -> None:
    database, (task,) = await prepared(tmp_path, 1, ORPHANS)
    async with running(tmp_path, argv=(sys.executable, "-c", ADOPTING, *SERVE)) as server:
        assert (await server.ask(request("POST", task.path, success(task, 1)))).status == 200
        await until(lambda: rows(database, "select state from actions") == [("done",)])
        await until(lambda: any(state == "Z" for state in children(server.pid)))
        await until(lambda: children(server.pid) == [])


def children(pid: int) -> list[str]:
    """The states of a process's children."""
    found = []
    for each in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent, *_ = each.read_text().rpartition(")")[2].split()
            found += [state] if int(parent) == pid else []
    return found


# ---------------------------------------------------------------- where it listens


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this system has not both families on one socket")
async def test_all_addresses_are_those_of_both_families(tmp_path: Path) -> None:
    await prepared(tmp_path, 1)
    async with running(tmp_path, given=environment(HOST="::")) as server:
        assert (await server.get("/healthz")).status == 200
        reader, writer = await asyncio.open_connection("::1", server.port)
        writer.write(request("GET", "/healthz"))
        assert (await reader.readline()).split()[1] == b"200"
        writer.close()
