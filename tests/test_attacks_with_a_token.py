"""What whoever may order can do to a server by mistake: it hardly grows, and callbacks are answered meanwhile."""

import asyncio
import base64
import json
import sqlite3
import sys
from pathlib import Path

import pytest
from long_ledger import make
from servers import ADMIN_TOKEN, MODEL, Answer, Connection, Ordered, environment, launched, rows, until
from test_attacks import MIB, withstood

from receiver.rehearse import PIXEL
from receiver.web.server import listen

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

LARGE_INPUT = 200_000
AT_ONCE = 8
SIMULATE = (sys.executable, "-m", "receiver", "simulate")


def asked(method: str, path: str, body: bytes = b"") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\nContent-Length: {len(body)}"
    return f"{head}\r\n\r\n".encode() + body


async def answer_to(port: int, method: str, path: str, body: bytes = b"") -> Answer:
    connection = await Connection.open(port)
    answer = await connection.exchange(asked(method, path, body))
    connection.close()
    assert answer is not None
    return answer


async def statuses(port: int, path: str, body: bytes, times: int) -> set[int]:
    """Of so many posts, some of them at the same time."""

    async def several() -> list[int]:
        return [(await answer_to(port, "POST", path, body)).status for _ in range(times // AT_ONCE)]

    return {status for found in await asyncio.gather(*(several() for _ in range(AT_ONCE))) for status in found}


async def test_orders_that_are_too_large(tmp_path: Path) -> None:
    async def attack(port: int, _: Ordered) -> None:
        bodies: list[dict[str, object]] = [
            {"input": {"prompt": "x" * 7 * MIB}},
            {"input": {"prompt": [{}] * 1_000_000}},
            {"input": {"prompt": "x"}, "labels": {f"n{number}": "x" for number in range(200_000)}},
        ]
        for body in bodies:
            order = json.dumps({"target": MODEL, "validate": False, **body}).encode()
            assert await statuses(port, "/api/tasks", order, 16) <= {422, 503}

    await withstood(tmp_path, attack)
    assert rows(tmp_path / "receiver.db", "select count(*) from tasks") == [(8,)]


async def test_filters_that_are_too_many_or_too_long(tmp_path: Path) -> None:
    async def attack(port: int, _: Ordered) -> None:
        for query in ("&".join(["label=a:b"] * 1200), f"q={'x' * 60_000}"):
            for _again in range(100):
                assert (await answer_to(port, "GET", f"/api/tasks?{query}")).status == 422

    await withstood(tmp_path, attack)


async def test_pictures_in_orders_and_lists_of_them(tmp_path: Path) -> None:
    picture = base64.b64encode(PIXEL + bytes(4_000_000)).decode()

    async def attack(port: int, _: Ordered) -> None:
        for number in range(40):
            given = {"imageUrls": [f"data:image/png;base64,{picture}"], "prompt": f"number {number} of the pictures"}
            order = {"target": MODEL, "input": given, "validate": False}
            assert (await answer_to(port, "POST", "/api/tasks", json.dumps(order).encode())).status == 202
        for _again in range(10):
            listed = await answer_to(port, "GET", "/api/tasks?limit=500")
            assert len(json.loads(listed.body)["items"]) == 48
            assert len(listed.body) < 2 * MIB

    with listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    async with launched(tmp_path, argv=(*SIMULATE, "--port", str(port)), given=environment()) as simulator:
        await simulator.ready()
        await withstood(tmp_path, attack, given=environment(RUNNINGHUB_BASE_URL=simulator.url))
    ((largest,),) = rows(tmp_path / "receiver.db", "select max(length(input)) from tasks")
    assert isinstance(largest, int)
    assert largest < 1000


HOOK = """
[[actions]]
name = "hook"
kind = "http"
url = "http://127.0.0.1:9/"
[keep]
tasks = 30
"""


def long_ledger(database: Path, tasks: int) -> None:
    make(database, tasks)
    connection = sqlite3.connect(database)
    connection.execute("update tasks set input = ?", (json.dumps({"prompt": "x" * LARGE_INPUT}),))
    connection.commit()
    connection.close()


async def test_replays_of_everything_with_large_orders(tmp_path: Path) -> None:
    long_ledger(tmp_path / "receiver.db", 2000)

    async def attack(port: int, _: Ordered) -> None:
        assert (await answer_to(port, "POST", "/api/definitions/hook/pause")).status == 200
        for mode in ("again", "missing", "retry", "reprocess"):
            for dry in (True, False):
                order = {"mode": mode, "dry_run": dry, "all": True}
                answer = await answer_to(port, "POST", "/api/replays", json.dumps(order).encode())
                assert answer.status in (200, 202), answer.body

    await withstood(tmp_path, attack, actions=HOOK)


async def test_pruning_what_was_kept_for_years(tmp_path: Path) -> None:
    long_ledger(tmp_path / "receiver.db", 400)

    async def attack(port: int, _: Ordered) -> None:
        while (answer := await answer_to(port, "POST", "/api/prune")).status == 202:  # each is answered after seconds
            pass
        assert answer.status == 200

    await withstood(tmp_path, attack, actions=HOOK)
    ((left,),) = rows(tmp_path / "receiver.db", "select count(*) from tasks")
    assert isinstance(left, int)
    assert left < 100


HANGS = """
[[actions]]
name = "hangs"
kind = "python"
function = "hanging:for_ever"
timeout = 1
breaker = 0
concurrency = 8
"""


async def test_functions_that_hang_for_ever(tmp_path: Path) -> None:
    (tmp_path / "hanging.py").write_text("import time\n\n\ndef for_ever(event):\n    time.sleep(600)\n")
    make(tmp_path / "receiver.db", 120)

    async def attack(port: int, _: Ordered) -> None:
        order = {"mode": "missing", "filter": {"name": "hangs"}}
        answer = await answer_to(port, "POST", "/api/replays", json.dumps(order).encode())
        assert json.loads(answer.body)["matched"] > 90, answer.body
        waiting = "select count(*) from actions where name = 'hangs' and reason like '%earlier calls%still run%'"
        await until(lambda: rows(tmp_path / "receiver.db", waiting)[0][0] != 0, 40)
        assert threads(tmp_path) < 60

    await withstood(tmp_path, attack, actions=HANGS)


def threads(directory: Path) -> int:
    """Of the server that works in a directory."""
    for each in Path("/proc").glob("[0-9]*"):
        try:
            if (each / "cwd").resolve() == directory and b"serve" in (each / "cmdline").read_bytes():
                return len(list((each / "task").iterdir()))
        except OSError:
            continue
    raise AssertionError("no server works there")
