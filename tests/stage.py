"""A house with a bit of everything in it, and a port at which a browser can look at its console."""

import asyncio
import hashlib
import struct
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from house import ADMIN_TOKEN, INPUT, Effect, House, open_house
from starlette.types import ASGIApp

from receiver.actions import ActionFailed, Done, Work
from receiver.model.records import SavedFile
from receiver.simulator import Fault
from receiver.web.server import Server, listen, url_of

HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(2)>'{{7*7}}"
"""What a page must show and never run."""
LONG = "a-name-that-never-ends-" * 12
TOML = """
[[actions]]
name = "keep-files"
kind = "download"
directory = "{folder}"
[[actions]]
name = "tell-the-shop"
kind = "http"
url = "https://shop.example/hooks/done"
max_attempts = 2
[[actions]]
name = "on-failure"
kind = "python"
function = "effects:failure"
on = ["failed", "rejected", "cancelled"]
"""


def picture() -> bytes:
    """A PNG of a light above a dark sea."""
    size = 96
    rows = b"".join(
        b"\0" + b"".join(bytes((40 + x, 70 + y // 2, 140 - y // 2) if y < 60 else (20, 40, 70)) for x in range(size))
        for y in range(size)
    )
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def unwell(folder: Path) -> Effect:
    """The shop's endpoint is broken, files are saved."""
    folder.mkdir(exist_ok=True)

    async def effect(work: Work) -> Done:
        if work.definition.name == "tell-the-shop":
            raise ActionFailed('500: "database is locked"', detail={"status": 500, "body": HOSTILE})
        if work.definition.name != "keep-files":
            return Done(detail={"status": 200})
        place, content = folder / f"{work.task_id}.png", picture()
        place.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        return Done(detail={}, files=(SavedFile(result=0, path=str(place), sha256=digest, size=len(content)),))

    return effect


async def order(house: House, *faults: Fault, target: str, prompt: str, **labels: str) -> str:
    house.simulator.plan_next(*faults)
    document = {"target": target, "input": {**INPUT, "prompt": prompt}, "labels": labels, "validate": False}
    answer = await house.api.post("/tasks", json=document)
    assert answer.status_code == 202, answer.text
    task_id: str = answer.json()["id"]
    return task_id


async def furnish(house: House, folder: Path) -> dict[str, str]:
    """Tasks of many kinds, dead actions, missed callbacks, a paused definition. Returns tasks by what they are."""
    house.effect = unwell(folder)
    video, image = "google/veo3.1-pro/reference-to-video-official-stable", "seedream-v4/text-to-image"
    tasks = {"ended": await order(house, target=video, prompt="a lighthouse at dusk", project="shop")}
    tasks["failed"] = await order(house, Fault.FAILED, target=image, prompt="no", project="shop")
    tasks["hostile"] = await order(house, target=image, prompt=HOSTILE, project=HOSTILE, note=LONG[:60])
    await house.advance(900)
    house.url_works = False
    tasks["missed"] = await order(house, target=image, prompt="a chair of oak", project="demo")
    await house.advance(900)
    house.url_works = True
    for _ in range(3):
        await order(house, target=image, prompt="one more", project="shop", batch="7")
    await house.advance(7)
    house.url_works = False
    tasks["doubt"] = await order(house, Fault.ANSWER_LOST, target=video, prompt="rain on tin", project="demo")
    await house.advance(70)
    house.url_works = True
    tasks["queued"] = await order(house, target=image, prompt="later", project="shop")
    await house.api.post("/definitions/on-failure/pause")
    return tasks


@asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[str]:
    """The application at a free port of this machine, for as long as somebody looks."""
    with listen("127.0.0.1", 0) as listener:
        server = Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none"))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield url_of(listener)
        finally:
            server.should_exit = True
            await serving


@asynccontextmanager
async def open_stage(directory: Path) -> AsyncIterator[tuple[House, dict[str, str], str]]:
    folder = directory / "results"
    async with open_house(directory, TOML.replace("{folder}", str(folder))) as house:
        tasks = await furnish(house, folder)
        async with served(house.app) as url:
            yield house, tasks, url


CHROMIUM = "/usr/bin/chromium"
TOKEN = ADMIN_TOKEN
