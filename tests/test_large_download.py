"""A large result file in a process of its own: little memory, and after a kill only the rest is fetched."""

import asyncio
import hashlib
import json
import signal
import sys
from collections.abc import AsyncIterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import pytest
from servers import prepared, request, rows, running, until
from storage import File, Storage

MIB = 1024 * 1024
SIZE = 300 * MIB
MEMORY = 30 * MIB
DOWNLOADING = Path(__file__).with_name("downloading.py")

pytestmark = pytest.mark.slow


def read(start: int, stop: int) -> bytes:
    """The file's bytes: no MiB of it is like another."""
    found = b"".join(block(number) for number in range(start // MIB, -(-stop // MIB)))
    return found[start % MIB : start % MIB + stop - start]


@lru_cache(maxsize=2)
def block(number: int) -> bytes:
    return number.to_bytes(8) * (MIB // 8)


@cache
def digest() -> str:
    whole = hashlib.sha256()
    for number in range(SIZE // MIB):
        whole.update(block(number))
    return whole.hexdigest()


@pytest.fixture
async def storage() -> AsyncIterator[Storage]:
    async with Storage().running() as storage:
        storage.files["/clip.mp4"] = File(SIZE, read, {"ETag": '"one"', "Content-Type": "video/mp4"})
        yield storage


async def downloading(storage: Storage, directory: Path) -> asyncio.subprocess.Process:
    argv = (sys.executable, str(DOWNLOADING), storage.url("/clip.mp4"), str(directory))
    return await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)


async def told(process: asyncio.subprocess.Process) -> dict[str, Any]:
    out, _ = await process.communicate()
    assert process.returncode == 0
    found: dict[str, Any] = json.loads(out)
    return found


async def test_a_large_file_is_saved_in_little_memory(storage: Storage, tmp_path: Path) -> None:
    found = await told(await downloading(storage, tmp_path))
    print(f"{found['extra'] / MIB:.1f} MiB of extra memory")
    assert (found["size"], found["sha256"]) == (SIZE, digest())
    assert found["extra"] < MEMORY


async def test_a_killed_process_is_followed_by_one_that_fetches_the_rest(storage: Storage, tmp_path: Path) -> None:
    killed = await downloading(storage, tmp_path)
    await storage.sent_more_than(SIZE // 2)
    killed.send_signal(signal.SIGKILL)
    assert await killed.wait() == -signal.SIGKILL
    found = await told(await downloading(storage, tmp_path))
    [line] = found["detail"]["files"]
    print(f"continued at {line['continued_at'] / MIB:.1f} MiB, {storage.sent / SIZE:.2f} of the file sent")
    assert storage.asked_for("range") == [None, f"bytes={line['continued_at']}-"]
    assert storage.sent < 1.5 * SIZE
    assert (found["size"], found["sha256"]) == (SIZE, digest())
    assert found["extra"] < MEMORY
    saved = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.name for path in saved] == ["clip.mp4"]
    with saved[0].open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == digest()


SAVES = """
[[actions]]
name = "save"
kind = "download"
files = "{target}/{task}-{name}"
"""


async def test_a_server_saves_the_same_bytes_of_two_tasks_as_files_of_their_own(tmp_path: Path) -> None:
    database, tasks = await prepared(tmp_path, 2, SAVES)
    result = {"url": "data:text/plain,the same in both", "outputType": "txt"}
    async with running(tmp_path) as server:
        for count, task in enumerate(tasks, start=1):
            event = {"taskId": task.provider_id, "status": "SUCCESS", "results": [result]}
            body = json.dumps({"event": "TASK_END", "taskId": task.provider_id, "eventData": event}).encode()

            assert (await server.ask(request("POST", task.path, body))).status == 200
            await until(lambda: len(rows(database, "select path from files")) == count)  # noqa: B023
        await server.stop()
    paths = [tmp_path / str(path) for (path,) in rows(database, "select path from files")]
    assert [path.read_text() for path in paths] == ["the same in both"] * 2
    assert {path.parent.name for path in paths} == {"rhart-video-v3.1-pro-official_reference-to-video"}
    assert len({path.stat().st_ino for path in paths}) == 2
