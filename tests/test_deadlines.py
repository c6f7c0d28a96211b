"""Every outgoing exchange ends within its time as a whole, however slowly the other side speaks; real sockets."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from targets import TLS, Target

from receiver.actions import ActionFailed, Performer, Work
from receiver.actions.download.save import Downloader
from receiver.actions.http import Poster
from receiver.actions.python import Caller
from receiver.actions.settings import DownloadDefinition, HttpDefinition, PythonDefinition
from receiver.client import Client, Unreachable
from receiver.dispatch import bounded
from receiver.egress.client import Egress
from receiver.events import Event
from receiver.model.definitions import Definition, FailureClass
from receiver.model.records import JsonObject, Result
from receiver.runninghub.client import FileToSend, RunningHub, open_http
from receiver.runninghub.errors import ProviderError
from receiver.runninghub.requests import SubmitRequest
from receiver.runninghub.resources import Resources
from receiver.simulator.delivery import post_callback
from receiver.testing import make_event

TIME = 0.15
LONGEST = 3.0
"""Seconds by which everything here has ended, on a busy machine."""
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
DRIPS = {
    "nothing but a connection": (b"", b""),
    "the head": (HEAD, b"X-Drip: a\r\n"),
    "the body": (HEAD + b"Content-Length: 999999\r\n\r\n", b"["),
    "a body without end": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n[\r\n"),
}
ID = "2052287938007814145"


@pytest.fixture
async def target() -> AsyncIterator[Target]:
    async with Target().running() as target:
        yield target


async def in_time(work: Awaitable[object]) -> None:
    async with asyncio.timeout(LONGEST):
        await work


async def content() -> AsyncIterator[bytes]:
    yield b"x" * 1000


FILE = FileToSend(name="a.png", size=1000, open=content)
EXCHANGES: dict[str, Callable[[RunningHub, Resources], Awaitable[object]]] = {
    "submit": lambda hub, _: hub.submit(SubmitRequest(path="/x", body={})),
    "query": lambda hub, _: hub.query(ID),
    "outputs": lambda hub, _: hub.outputs(ID),
    "webhook detail": lambda hub, _: hub.webhook_detail(ID),
    "resend": lambda hub, _: hub.resend("7", "https://x.test/"),
    "cancel": lambda hub, _: hub.cancel(ID),
    "account": lambda hub, _: hub.account(),
    "status": lambda _, resources: resources.status(ID),
    "queue": lambda _, resources: resources.queue(),
    "price": lambda _, resources: resources.price("a/b", {}),
    "upload": lambda _, resources: resources.upload(FILE),
    "upload for nodes": lambda _, resources: resources.upload_for_nodes(FILE),
    "store a LoRA": lambda _, resources: resources.put(f"{resources.site}/lora", FILE),
}


@pytest.mark.parametrize("drip", DRIPS)
@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_an_exchange_with_runninghub_ends_with_its_time(target: Target, exchange: str, drip: str) -> None:
    target.else_play = target.repeating(*DRIPS[drip], slowly=True)
    async with open_http(None, TLS) as http:
        site = target.url("")
        hub = RunningHub(http, site, "key", attempts=1, deadline=TIME)
        resources = Resources(http, site, "key", Egress(tls=TLS), attempts=1, deadline=TIME)
        with pytest.raises(ProviderError) as refused:
            await in_time(EXCHANGES[exchange](hub, resources))
        assert refused.value.code == "unanswered"
        await in_time(target.gone.wait())


QUESTIONS = [each for each in EXCHANGES if each != "submit" and "upload" not in each and "store" not in each]


@pytest.mark.parametrize("exchange", QUESTIONS)
async def test_a_question_whose_time_is_used_up_is_not_repeated(target: Target, exchange: str) -> None:
    target.else_play = target.repeating(*DRIPS["the body"], slowly=True)
    async with open_http(None, TLS) as http:
        site = target.url("")
        hub = RunningHub(http, site, "key", read_wait=0.0, deadline=TIME)
        resources = Resources(http, site, "key", Egress(tls=TLS), read_wait=0.0, deadline=TIME)
        with pytest.raises(ProviderError) as refused:
            await in_time(EXCHANGES[exchange](hub, resources))
        assert (refused.value.code, target.connections) == ("unanswered", 1)


def work(definition: Definition, url: str) -> Work:
    results = [Result(url=url, type="png")]
    return Work(definition=definition, body=dict(make_event()), results=results, task_id="t", key="k", attempt=1)


@pytest.mark.parametrize("drip", DRIPS)
@pytest.mark.parametrize("kind", ["download", "http"])
async def test_an_action_ends_with_its_timeout_and_frees_its_worker(
    target: Target, tmp_path: Path, kind: str, drip: str
) -> None:
    url = target.repeat("/x.png", *DRIPS[drip], slowly=True)
    egress = Egress(tls=TLS)
    definition: Definition
    performer: Performer
    if kind == "http":
        expecting: JsonObject = {"errcode": 0}
        definition = HttpDefinition(name="one", url=url, allow_private=True, timeout=TIME, expect=expecting)
        performer = Poster(egress, time.time)
    else:
        definition = DownloadDefinition(name="one", directory=str(tmp_path), allow_private=True, timeout=TIME)
        performer = Downloader(egress, time.time)
    with pytest.raises(ActionFailed):
        await in_time(bounded(definition, performer(work(definition, url))))
    await in_time(target.gone.wait())
    await egress.aclose()


async def ignores_its_end(_: Event) -> None:
    while not over.is_set():
        try:
            await over.wait()
        except asyncio.CancelledError:
            continue


over = asyncio.Event()


async def test_a_function_that_ignores_its_end_holds_no_worker() -> None:
    over.clear()
    definition = PythonDefinition(name="one", function="test_deadlines:ignores_its_end", timeout=TIME)
    with pytest.raises(ActionFailed, match="longer than its timeout") as failed:
        await in_time(bounded(definition, Caller(time.time)(work(definition, ""))))
    assert failed.value.category is FailureClass.TIMEOUT
    assert failed.value.detail["left_behind"] == ["its function runs on: it does not let itself be cancelled"]
    over.set()


CALLS: dict[str, Callable[[Client, Path], object]] = {
    "a list": lambda client, _: client.tasks(),
    "how it is": lambda client, _: client.ready(),
    "an order": lambda client, _: client.submit("a/b", {}),
    "a backup": lambda client, path: client.backup(path / "copy.db"),
}


@pytest.mark.parametrize("drip", DRIPS)
@pytest.mark.parametrize("call", CALLS)
async def test_the_client_gives_up_a_server_that_drips(target: Target, tmp_path: Path, call: str, drip: str) -> None:
    target.else_play = target.repeating(*DRIPS[drip], slowly=True)
    with Client(target.url(""), "token", timeout=TIME) as client, pytest.raises(Unreachable, match="it took too long"):
        await in_time(asyncio.to_thread(CALLS[call], client, tmp_path))


@pytest.mark.parametrize("drip", DRIPS)
async def test_the_simulator_gives_up_a_receiver_that_drips(target: Target, drip: str) -> None:
    url = target.repeat("/x", *DRIPS[drip], slowly=True)
    async with httpx.AsyncClient(verify=TLS) as client, asyncio.timeout(LONGEST):
        answer = await post_callback(client, timeout=TIME)(url, b"{}", {})
    assert (answer.status, answer.text) == (None, "Read timed out")


async def test_a_request_that_is_broken_off_at_any_moment_leaves_no_connection() -> None:
    open_ones: set[asyncio.StreamWriter] = set()
    all_gone = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_ones.add(writer)
        all_gone.clear()
        while await reader.read(4096):
            pass
        open_ones.discard(writer)
        if not open_ones:
            all_gone.set()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        egress = Egress(tls=TLS)
        for turns in range(60):
            post = asyncio.create_task(egress.post(url, b"x", {}, timeout=LONGEST, allow_private=True))
            for _ in range(turns):
                await asyncio.sleep(0)
            post.cancel()
            with pytest.raises(asyncio.CancelledError):
                await post
        await in_time(all_gone.wait())
        await egress.aclose()
