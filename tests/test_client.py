"""The typed client: against a real server on a real port, and against answers that no good server gives."""

import asyncio
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import msgspec
import pytest
import structlog
import uvicorn
from starlette.applications import Starlette

from receiver.actions import ActionFailed, Done, Work
from receiver.client import ApiError, Client, Unreachable, has_ended
from receiver.console import create_app
from receiver.model.definitions import ActionKind
from receiver.model.errors import ReceiverError
from receiver.model.views import TaskDetail
from receiver.server.address import announce
from receiver.server.service import Service
from receiver.server.settings import load_settings
from receiver.simulator import Fault, Options, Simulator
from receiver.simulator import create_app as create_simulator
from receiver.web.server import Server, listen, url_of

pytestmark = pytest.mark.story

MODEL = "alibaba/qwen-image-2.0/text-to-image"
INPUT = {"prompt": "a lighthouse"}
TOKEN = "a-token-that-must-not-be-seen"
TOML = """
[[actions]]
name = "works"
kind = "python"
function = "no.such:function"
[[actions]]
name = "breaks"
kind = "python"
function = "no.such:function"
"""


async def _perform(work: Work) -> Done:
    if work.definition.name == "breaks":
        raise ActionFailed("[bold]no[/bold] \x1b[31muse", permanent=True)
    return Done(detail={"did": "work"})


def _is_over(task: TaskDetail) -> bool:
    return has_ended(task) and all(action.state in ("done", "dead") for action in task.actions)


class RunningServer:
    """The whole server on a free port, with the simulator for the provider, in a thread with a loop of its own."""

    url: str
    token: str
    simulator: Simulator
    task_seconds = 0.02

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.database = directory / "receiver.db"
        self._started = threading.Event()
        self._listener = listen("127.0.0.1", 0)
        # Without uvloop nobody asks for it, and every answer waits 40 ms for an acknowledgement (measured).
        self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.url = url_of(self._listener)
        (directory / "receiver.toml").write_text(TOML)
        self.environment = {
            "RECEIVER_CONFIG": str(directory / "receiver.toml"),
            "RECEIVER_DATABASE": f"sqlite:///{self.database}",
            "RECEIVER_PUBLIC_URL": self.url,
            "RUNNINGHUB_API_KEY": "0123456789abcdef",
            "RUNNINGHUB_BASE_URL": "http://simulator.test",
        }

    def client(self) -> Client:
        return Client(self.url, self.token)

    def transport(self, provider: Starlette) -> httpx.AsyncBaseTransport:
        """How the server reaches its provider."""
        return httpx.ASGITransport(provider)

    def ended(self, client: Client, *faults: Fault) -> TaskDetail:
        """A task that has ended, all its actions tried; it is asked about without any pause."""
        if faults:
            self.simulator.plan_next(*faults)
        return client.wait(client.submit(MODEL, INPUT).id, until=_is_over, timeout=20, pause=lambda _: None)

    @contextmanager
    def running(self) -> Iterator["RunningServer"]:
        thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        known = structlog.get_config()
        structlog.configure(logger_factory=structlog.testing.CapturingLoggerFactory())
        thread.start()
        try:
            assert self._started.wait(20)
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._stop.set)
            thread.join(20)
            structlog.configure(**known)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        provider = create_simulator(Options(task_seconds=self.task_seconds, base_url="http://simulator.test"))
        self.simulator = provider.state.simulator
        settings = load_settings(self.environment, self.directory)
        transport = self.transport(provider)
        perform = dict.fromkeys(ActionKind, _perform)
        service = Service(settings, transport=transport, read_wait=0.0, perform=perform)
        await service.start()
        self.token = service.admin_token
        service.announced = announce(service.address_file, self.url, service.clock())
        server = Server(
            uvicorn.Config(create_app(service), log_config=None, access_log=False, lifespan="off", ws="none")
        )
        async with provider.router.lifespan_context(provider):
            serving = asyncio.create_task(server.serve(sockets=[self._listener]))
            self._started.set()
            await self._stop.wait()
            server.should_exit = True
            await asyncio.gather(serving, service.hold())
        await service.close()


@pytest.fixture
def client(server: RunningServer) -> Iterator[Client]:
    with server.client() as client:
        yield client


Answer = Callable[[httpx.Request], httpx.Response]


def answered(answer: Answer, token: str | None = TOKEN) -> Client:
    return Client("http://receiver.test", token, transport=httpx.MockTransport(answer))


def detail(**changes: object) -> bytes:
    """A task's document as the server would write it."""
    empty: dict[str, object] = {
        "results": [],
        "usage": {},
        "actions": [],
        "deliveries": [],
        "checks": [],
        "timeline": [],
    }
    document: dict[str, object] = {
        **dict.fromkeys(TaskDetail.__struct_fields__),
        **empty,
        "id": "t",
        "kind": "model",
        "api": "v2",
        "target": MODEL,
        "input": {},
        "labels": {},
        "uploads": {},
        "state": "queued",
        "created_at": "2026-11-22T08:00:00.000Z",
        "callback": dict.fromkeys(("delivered_at", "miss", "cause", "missed_at", "resent_at")) | {"sent": True},
    }
    return msgspec.json.encode(document | changes)


# ---------------------------------------------------------------- a real server


def test_an_order_is_followed_from_submission_to_its_results(client: Client) -> None:
    task = client.submit(MODEL, {"prompt": "a lighthouse"}, labels={"project": "north"})
    states: list[str] = []
    ended = client.wait(task.id, on_change=lambda task: states.append(task.state), timeout=20, pause=lambda _: None)
    assert ended.state == states[-1] == "succeeded"
    assert ended.labels == {"project": "north"}
    assert [result.type for result in ended.results] == ["png"]
    assert [event.task for event in client.events(task=task.id).items] == [task.id]
    delivery = client.deliveries(task=task.id).items[0]
    assert msgspec.json.decode(client.delivery_body(delivery.id))["taskId"] == ended.provider_task_id


def test_the_same_key_and_order_are_the_same_task_and_another_order_is_a_conflict(client: Client) -> None:
    first = client.submit(MODEL, INPUT, idempotency_key="kéy-1")
    assert client.submit(MODEL, INPUT, idempotency_key="kéy-1").id == first.id
    with pytest.raises(ApiError) as refused:
        client.submit(MODEL, {"prompt": "a harbour"}, idempotency_key="kéy-1")
    assert (refused.value.status, refused.value.code) == (409, "idempotency_conflict")
    assert refused.value.details == {"task": first.id}


def test_a_bad_order_is_refused_with_every_problem_and_its_path(client: Client) -> None:
    with pytest.raises(ApiError) as refused:
        client.submit("../x", {"webhookUrl": "http://elsewhere.test"})
    assert refused.value.status == 422
    assert [each["path"] for each in refused.value.details] == ["target", "input.webhookUrl"]  # type: ignore[attr-defined]


def test_a_list_is_narrowed_and_followed_to_its_end(client: Client) -> None:
    made = [client.submit(MODEL, INPUT, labels={"batch": "a&b=c"}).id for _ in range(3)]
    page = client.tasks(label={"batch": "a&b=c"}, limit=2)
    assert [task.id for task in page.items] == made[:0:-1]
    assert page.next is not None
    assert [task.id for task in client.each(client.tasks, label={"batch": "a&b=c"}, limit=1)] == made[::-1]
    assert client.tasks(label={"batch": "a&b=c"}, until=datetime(2020, 1, 1, tzinfo=UTC)).items == []


def test_a_dead_action_is_shown_with_its_tries_and_owed_again(server: RunningServer, client: Client) -> None:
    task = server.ended(client)
    dead = client.actions(task=task.id, state="dead", name="breaks").items[0]
    assert [each.outcome for each in client.action(dead.id).tries] == ["dead"]
    assert client.pause("breaks").paused
    assert client.replay({"task": task.id}, dry_run=True).matched == 1
    assert client.retry(dead.id).state == "owed"
    assert client.skip(dead.id).state == "skipped"
    begun = client.replay({"action_state": ["skipped"], "task": task.id}, rate=1.0)
    assert begun.id is not None
    assert client.replay_state(begun.id).matched == 1
    assert client.cancel_replay(begun.id).cancelled == 1
    assert client.resume_replay(begun.id).state == "running"
    assert client.cancel_replay(begun.id).state == "cancelled"
    assert client.wait_for_replay(begun.id).done == 0
    assert begun.id in [each.id for each in client.replays().items]
    assert not client.resume("breaks").paused
    assert {each.name for each in client.definitions().items} == {"works", "breaks"}


def test_what_an_operator_does_to_a_task(server: RunningServer, client: Client) -> None:
    task = server.ended(client, Fault.FAILED)
    assert task.state == "failed"
    assert task.error is not None
    assert client.reconcile(task.id).state == "failed"
    assert client.resend(task.id).callback.resent_at is not None
    with pytest.raises(ApiError, match="failed already"):
        client.cancel(task.id)
    assert client.submit_again(task.id).again_of == task.id
    assert client.alerts(state="open", kind="task_lost").items == []


def test_a_server_says_that_it_is_ready(client: Client) -> None:
    assert client.ready().status == "ready"


def test_what_does_not_exist_is_not_found_whatever_its_name(client: Client) -> None:
    for name in ("nope", "a/b", "..", "é?x=1", "#"):
        with pytest.raises(ApiError) as refused:
            client.task(name)
        assert refused.value.status == 404


def test_a_backup_is_a_private_database_and_never_replaces_a_file_unasked(client: Client, tmp_path: Path) -> None:
    path, seen = tmp_path / "copy.db", []
    size = client.backup(path, lambda done, total: seen.append((done, total)))
    assert path.read_bytes()[:15] == b"SQLite format 3"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert seen[-1] == (size, size) == (path.stat().st_size, size)
    with pytest.raises(FileExistsError):
        client.backup(path)
    assert client.backup(path, overwrite=True) > 0
    assert os.listdir(tmp_path) == ["copy.db"]


# ---------------------------------------------------------------- answers that no good server gives


def test_a_backup_that_breaks_off_leaves_nothing_behind(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"SQLite format 3"
        raise httpx.ReadError("connection reset")

    with answered(lambda _: httpx.Response(200, content=broken())) as client, pytest.raises(Unreachable):
        client.backup(tmp_path / "copy.db")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (404, b'{"error":{"code":"not_found","message":"there is no task t","details":null}}', "not_found"),
        (502, b"<html>Bad Gateway</html>", "http_error"),
        (301, b"", "http_error"),
        (500, b"[" * 5000, "http_error"),
        (200, b"<html>Welcome</html>", "unreadable"),
        (200, b"\xff", "unreadable"),
        (200, b'{"items": 1}', "unreadable"),
        (200, b"", "unreadable"),
    ],
)
def test_every_answer_that_is_none_is_an_api_error(status: int, body: bytes, code: str) -> None:
    with answered(lambda _: httpx.Response(status, content=body)) as client:
        for ask in (lambda: client.task("t"), client.tasks, client.definitions):
            with pytest.raises(ApiError) as refused:
                ask()
            assert (refused.value.status, refused.value.code) == (status, code)


@pytest.mark.parametrize("rate", [float("nan"), float("inf")])
def test_a_rate_that_json_would_lose_is_refused(rate: float) -> None:
    with answered(lambda _: httpx.Response(500)) as client, pytest.raises(ValueError, match="rate: expected a finite"):
        client.replay(rate=rate)


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("[Errno 111] Connection refused"),
        httpx.ConnectTimeout("slow"),
        httpx.ReadTimeout("slow"),
        httpx.RemoteProtocolError("garbage"),
        httpx.UnsupportedProtocol("no scheme"),
        httpx.DecodingError("no gzip"),
        httpx.InvalidURL("no host"),
    ],
)
def test_every_failure_to_reach_the_server_is_unreachable(error: Exception) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise error

    with answered(fail) as client:
        for ask in (client.tasks, client.ready):
            with pytest.raises(Unreachable) as unreachable:
                ask()
            assert unreachable.value.url == "http://receiver.test"
            assert "Errno" not in str(unreachable.value)


def test_the_token_is_sent_and_never_shown() -> None:
    sent: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers["authorization"])
        raise httpx.ConnectError("no")

    with answered(answer) as client, pytest.raises(ReceiverError) as failed:
        client.tasks()
    assert sent == [f"Bearer {TOKEN}"]
    assert TOKEN not in repr(client) + str(failed.value) + repr(failed.value) + repr(vars(failed.value))
    with pytest.raises(ValueError, match="no header") as refused:
        answered(answer, token="two\nlines")
    assert "two" not in str(refused.value)


def test_without_a_token_none_is_sent() -> None:
    with answered(lambda request: httpx.Response(200, json={}, headers=request.headers), token=None) as client:
        with pytest.raises(ApiError):
            client.tasks()
        assert "authorization" not in client._http.headers


def test_waiting_asks_less_and_less_often_and_tells_every_change_once() -> None:
    told = iter([("queued", None)] * 3 + [("submitted", "QUEUED")] + [("submitted", "RUNNING")] * 8 + [("lost", None)])

    def answer(_: httpx.Request) -> httpx.Response:
        state, said = next(told)
        return httpx.Response(200, content=detail(state=state, provider_status=said))

    pauses: list[float] = []
    seen: list[tuple[str, str | None]] = []
    with answered(answer) as client:
        client.wait("t", pause=pauses.append, on_change=lambda task: seen.append((task.state, task.provider_status)))
    assert seen == [("queued", None), ("submitted", "QUEUED"), ("submitted", "RUNNING"), ("lost", None)]
    assert (pauses[0], pauses[-1]) == (0.2, 2.0)
    assert pauses == sorted(pauses)


def test_waiting_ends_in_time_though_the_task_does_not() -> None:
    now = [0.0]

    def pause(seconds: float) -> None:
        now[0] += seconds

    with (
        answered(lambda _: httpx.Response(200, content=detail())) as client,
        pytest.raises(TimeoutError, match="still queued"),
    ):
        client.wait("t", timeout=10, clock=lambda: now[0], pause=pause)
    assert 10 <= now[0] <= 12


def test_a_silent_server_is_given_up_on() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        Client(f"http://127.0.0.1:{silent.getsockname()[1]}", TOKEN, timeout=0.05) as client,
        pytest.raises(Unreachable, match="took too long"),
    ):
        client.tasks()
