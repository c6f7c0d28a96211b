"""Stories of the performers: real files, real processes, real sockets on the loopback, no traffic beyond it."""

import asyncio
import os
import signal
import sys
import threading
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import format_datetime
from ipaddress import ip_address
from pathlib import Path
from ssl import PROTOCOL_TLS_CLIENT, SSLContext
from time import time
from typing import Any

import msgspec
import pytest
import uvloop
from standardwebhooks import Webhook

from receiver import __version__
from receiver.actions import ActionFailed, Done, Work, left_behind
from receiver.actions.answers import wait_asked
from receiver.actions.child import Child
from receiver.actions.command import Runner
from receiver.actions.egress import Egress, EgressFailed, EgressRefused, is_public
from receiver.actions.performers import performers
from receiver.actions.python import load
from receiver.records import ActionKind, Definition, JsonObject, Result, SavedFile

TASK = "019a0000-0000-7000-8000-000000000001"
KEY = f"{TASK}:save:1"
NOW = 1_800_000_000.0
TLS = SSLContext(PROTOCOL_TLS_CLIENT)
SECRET = "whsec_" + b64encode(b"a secret of twenty-four ").decode()


# ---- what the stories are made of


class Request(msgspec.Struct):
    line: str
    headers: dict[str, str]
    body: bytes


class Server:
    """Answers each path with the bytes it was given, and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}
        self.requests: list[Request] = []
        self.stalled = asyncio.Event()
        self.port = 0

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def give(self, path: str, body: bytes = b"", status: str = "200 OK", **headers: str) -> str:
        lines = {"Content-Length": str(len(body)), "Connection": "close"}
        lines.update({name.replace("_", "-"): value for name, value in headers.items()})
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.answers[path] = f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body
        return self.url(path)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            self.requests.append(Request(head[0], headers, body))
            path = head[0].split(" ")[1].split("?")[0]
            if path == "/stall":
                self.stalled.set()
                await reader.read()
            writer.write(self.answers.get(path, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"))
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # connected and said nothing
        finally:
            writer.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Server"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with Server().running() as running:
        yield running


@pytest.fixture
async def egress() -> AsyncIterator[Egress]:
    egress = Egress(tls=TLS)
    yield egress
    await egress.aclose()


def work(kind: ActionKind, *, results: list[Result] | None = None, attempt: int = 1, **settings: Any) -> Work:  # noqa: ANN401
    settings = {"timeout": 5.0, "allow_private": True, **settings}
    definition = Definition(name="save", kind=kind, **settings)
    body: JsonObject = {"type": "task.succeeded", "id": "e", "task": {"id": TASK, "labels": {"a": "ä"}}}
    return Work(definition=definition, body=body, results=results or [], task_id=TASK, key=KEY, attempt=attempt)


def download(directory: Path, *results: Result, **settings: Any) -> Work:  # noqa: ANN401
    return work(ActionKind.DOWNLOAD, results=list(results), directory=str(directory), **settings)


def command(*argv: str, **settings: Any) -> Work:  # noqa: ANN401
    return work(ActionKind.COMMAND, command=argv, **settings)


def python(function: str, **settings: Any) -> Work:  # noqa: ANN401
    return work(ActionKind.PYTHON, function=function, **settings)


def program(code: str) -> Work:
    return command(sys.executable, "-S", "-c", code)


async def done(egress: Egress, asked: Work) -> Done:
    return await performers(egress, clock=lambda: NOW)[asked.definition.kind](asked)


async def failure(egress: Egress, asked: Work) -> ActionFailed:
    with pytest.raises(ActionFailed) as caught:
        await done(egress, asked)
    return caught.value


def content(file: SavedFile) -> bytes:
    return Path(file.path).read_bytes()


def names_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def is_running(pid: int) -> bool:
    """False for the dead, also for those that nobody has buried yet."""
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat")
        return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


# ---- the guard


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "LOCALHOST",
        "127.1",
        "2130706433",
        "0x7f000001",
        "127.0.0.1.",
        "[::ffff:127.0.0.1]",
    ],
)
async def test_this_machine_is_not_reached_under_any_name(egress: Egress, server: Server, host: str) -> None:
    server.give("/x", b"internal")
    with pytest.raises(EgressRefused, match="is not a public address; `allow_private = true`"):
        async with egress.stream(server.url("/x?secret", host), allow_private=False):
            pass
    with pytest.raises(EgressRefused):
        await egress.post(server.url("/x", host), b"{}", {}, allow_private=False, timeout=1)
    assert server.requests == []


class OnlyAtConnect(Egress):
    """The guard without its first glance at literal addresses: what remains judges the address a name led to."""

    def _refuse_literal(self, url: object) -> None:
        pass


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"])
async def test_a_name_is_judged_by_the_address_it_leads_to(server: Server, host: str) -> None:
    egress = OnlyAtConnect(tls=TLS)
    with pytest.raises(EgressRefused, match="is not a public address"):
        await egress.post(server.url("/x", host), b"{}", {}, allow_private=False, timeout=1)
    await egress.aclose()
    assert server.requests == []


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.100.100.200",
        "0.0.0.0",
        "0",
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
        "[::1]",
        "[::]",
        "[fd00::1]",
        "[fe80::1]",
        "[fec0::1]",
        "[ff02::1]",
        "[::ffff:10.0.0.1]",
        "[::10.0.0.1]",
        "[64:ff9b::a00:1]",
        "[64:ff9b:1::808:808]",
        "[2002:a00:1::]",
        "0xa9fea9fe",
        "2852039166",
    ],
)
async def test_no_private_address_is_reached(egress: Egress, host: str) -> None:
    with pytest.raises(EgressRefused) as caught:
        await egress.post(f"http://{host}/latest/meta-data", b"", {}, allow_private=False, timeout=1)
    assert caught.value.permanent
    assert "meta-data" not in str(caught.value)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(ip_address(address))


async def test_a_redirect_does_not_lead_inside(server: Server, tmp_path: Path) -> None:
    egress = Egress([("127.0.0.1", server.port)], tls=TLS)
    async with Server().running() as inner:
        inner.give("/x", b"internal")
        for host in ("127.0.0.1", "localhost", "0x7f.1"):
            url = server.give("/x.png", status="302 Found", Location=inner.url("/x", host))
            told = await failure(egress, download(tmp_path, Result(url=url), allow_private=False))
            assert told.permanent
            assert "is not a public address" in told.reason
        assert inner.requests == []
    await egress.aclose()
    assert names_in(tmp_path) == []


async def test_the_configured_provider_is_reached_wherever_it_is(server: Server, tmp_path: Path) -> None:
    server.give("/x.png", b"pixels")
    for allowed in [("localhost", None), ("LocalHost", server.port)]:
        egress = Egress([allowed], tls=TLS)
        async with egress.stream(server.url("/x.png", "localhost"), allow_private=False) as stream:
            assert (stream.status, stream.length) == (200, 6)
            assert b"".join([part async for part in stream]) == b"pixels"
        with pytest.raises(EgressRefused):
            await egress.post(server.url("/x.png"), b"", {}, allow_private=False, timeout=1)
        await egress.aclose()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://h/x",
        "file:///etc/passwd",
        "x",
        "http://",
        "http://[::1",
        "http://h:99999/",
        "http://h:0/",
        "http://0177.0.0.1/",
    ],
)
async def test_what_is_no_http_address_is_refused(egress: Egress, url: str) -> None:
    for allow_private in (True, False):
        with pytest.raises(EgressRefused):
            await egress.post(url, b"", {}, allow_private=allow_private, timeout=1)
        with pytest.raises(EgressRefused):
            async with egress.stream(url, allow_private=allow_private):
                pass


async def test_cookies_of_one_answer_are_not_sent_to_the_next(egress: Egress, server: Server) -> None:
    url = server.give("/x", Set_Cookie="a=b; Path=/")
    for _ in range(2):
        await egress.post(url, b"", {}, allow_private=True, timeout=1)
    assert "cookie" not in server.requests[1].headers


async def test_a_closed_port_is_a_failure_that_names_no_path(egress: Egress, server: Server) -> None:
    url = server.url("/hook/secret?token=secret", "user:secret@127.0.0.1")
    async with Server().running() as gone:
        url = url.replace(str(server.port), str(gone.port))
    with pytest.raises(EgressFailed) as caught:
        await egress.post(url, b"", {}, allow_private=True, timeout=1)
    assert str(caught.value) == f"http://127.0.0.1:{gone.port} could not be reached"


async def test_silence_is_a_failure(egress: Egress, server: Server) -> None:
    with pytest.raises(EgressFailed, match=r"did not answer in time \(ReadTimeout\)"):
        await egress.post(server.url("/stall"), b"", {}, allow_private=True, timeout=0.05)


# ---- http


async def test_the_event_is_posted_with_its_key(egress: Egress, server: Server) -> None:
    headers = {"X-Token": "hush-hush", "Content-Type": "application/cloudevents+json", "Content-Length": "1"}
    asked = work(ActionKind.HTTP, url=server.give("/hook", b"thanks", "202 Accepted"), headers=headers)
    answer = await done(egress, asked)
    assert answer.detail == {"status": 202, "seconds": 0.0, "answer": "thanks"}
    [request] = server.requests
    assert request.line == "POST /hook HTTP/1.1"
    assert msgspec.json.decode(request.body) == asked.body
    assert request.headers["idempotency-key"] == KEY
    assert request.headers["user-agent"] == f"receiver/{__version__}"
    assert request.headers["content-type"] == "application/cloudevents+json"
    assert request.headers["x-token"] == "hush-hush"
    assert "webhook-signature" not in request.headers


async def test_a_secret_signs_what_is_posted(egress: Egress, server: Server) -> None:
    asked = work(
        ActionKind.HTTP, url=server.give("/hook"), secret=SECRET, headers={"webhook-id": "x", "idempotency-KEY": "x"}
    )
    await performers(egress, clock=time)[ActionKind.HTTP](asked)
    [request] = server.requests
    assert Webhook(SECRET).verify(request.body, request.headers) == asked.body
    assert request.headers["webhook-id"] == request.headers["idempotency-key"] == KEY


async def test_the_signature_uses_the_clock_it_was_given(egress: Egress, server: Server) -> None:
    await done(egress, work(ActionKind.HTTP, url=server.give("/hook"), secret=SECRET))
    [request] = server.requests
    expected = Webhook(SECRET).sign(KEY, datetime.fromtimestamp(NOW, UTC), request.body.decode())
    assert request.headers["webhook-timestamp"] == str(int(NOW))
    assert request.headers["webhook-signature"] == expected


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_a", "gehéim"])
async def test_a_secret_that_cannot_sign_is_a_permanent_failure(egress: Egress, server: Server, secret: str) -> None:
    told = await failure(egress, work(ActionKind.HTTP, url=server.give("/hook"), secret=secret))
    assert told.permanent
    assert server.requests == []


@pytest.mark.parametrize(
    ("status", "permanent", "wait"),
    [
        ("410 Gone", True, None),
        ("400 Bad Request", True, None),
        ("401 Unauthorized", True, None),
        ("301 Moved Permanently", True, None),
        ("304 Not Modified", True, None),
        ("408 Request Timeout", False, 9.0),
        ("425 Too Early", False, 9.0),
        ("429 Too Many Requests", False, 9.0),
        ("500 Internal Server Error", False, 9.0),
        ("503 Service Unavailable", False, 9.0),
    ],
)
async def test_the_answer_decides_whether_to_try_again(
    egress: Egress, server: Server, status: str, permanent: bool, wait: float | None
) -> None:
    url = server.give("/hook", status=status, Retry_After="9", Location="/elsewhere")
    told = await failure(egress, work(ActionKind.HTTP, url=url))
    assert (told.permanent, told.retry_after) == (permanent, wait)
    assert told.detail["status"] == int(status[:3])
    assert len(server.requests) == 1
    assert ("set `url`" in told.reason) == status.startswith("3")


async def test_a_refused_address_names_the_setting(egress: Egress) -> None:
    told = await failure(egress, work(ActionKind.HTTP, url="http://10.0.0.1/hook?secret", allow_private=False))
    assert told.permanent
    assert told.reason == "http://10.0.0.1:80 is not a public address; `allow_private = true` lets an action reach it"


async def test_a_header_that_cannot_be_sent_is_a_permanent_failure(egress: Egress, server: Server) -> None:
    told = await failure(egress, work(ActionKind.HTTP, url=server.url("/"), headers={"X-Name": "日本"}))
    assert told.permanent
    assert "日本" not in told.reason


async def test_an_echoing_receiver_does_not_get_secrets_into_the_detail(egress: Egress, server: Server) -> None:
    echo = (
        f'{{"Authorization": "Bearer hush-hush", "token": "hush-hush", "s": "{SECRET}", "p": "/hooks/T0/B0"}}\x00\xff'
    )
    url = server.give("/hooks/T0/B0", echo.encode("latin-1"))
    asked = work(ActionKind.HTTP, url=url, secret=SECRET, headers={"Authorization": "Bearer hush-hush"})
    answer = await done(egress, asked)
    assert answer.detail["answer"] == '{"Authorization": "***", "token": "***", "s": "***", "p": "***"}\ufffd'


async def test_a_long_answer_is_cut(egress: Egress, server: Server) -> None:
    answer = await done(egress, work(ActionKind.HTTP, url=server.give("/hook", b"x" * 1_000_000)))
    assert answer.detail["answer"] == "x" * 1024


async def test_a_body_that_breaks_off_does_not_spoil_the_answer(egress: Egress, server: Server) -> None:
    answer = await done(egress, work(ActionKind.HTTP, url=server.give("/hook", b"o", Content_Length="9")))
    assert answer.detail["status"] == 200


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        ("0", 0.0),
        ("999999999999999999", 1000.0),
        (format_datetime(datetime.fromtimestamp(NOW + 90, UTC), usegmt=True), 90.0),
        (format_datetime(datetime.fromtimestamp(NOW - 90, UTC), usegmt=True), 0.0),
        ("Fri, 15 Jan 2027 08:01:30 -0000", 90.0),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("\u0663", None),
        ("Mon, 99 Foo 2027 99:99:99 GMT", None),
        ("", None),
    ],
)
def test_a_wish_to_wait_is_read_in_both_forms(value: str, seconds: float | None) -> None:
    assert wait_asked({"retry-after": value}, NOW, longest=1000) == seconds


# ---- command


async def test_a_program_gets_the_event_and_a_clean_environment(egress: Egress) -> None:
    secrets = ("RUNNINGHUB_API_KEY", "RECEIVER_SECRETS", "RECEIVER_ADMIN_TOKEN", "RECEIVER_DATABASE", "DATABASE_URL")
    environment = dict.fromkeys(secrets, "secret") | {"PATH": os.environ["PATH"], "MINE": "kept"}
    asked = command("sh", "-c", "pwd; env; cat >&2", attempt=3)
    table = performers(egress, clock=lambda: NOW, environment=environment)
    detail = (await table[ActionKind.COMMAND](asked)).detail
    lines = str(detail["stdout"]).splitlines()
    assert lines[0] == str(Path.cwd())
    assert {
        "MINE=kept",
        f"RECEIVER_TASK_ID={TASK}",
        "RECEIVER_EVENT_TYPE=task.succeeded",
        "RECEIVER_ACTION_NAME=save",
        "RECEIVER_ATTEMPT=3",
        f"RECEIVER_IDEMPOTENCY_KEY={KEY}",
    } <= set(lines)
    assert "secret" not in str(detail["stdout"])
    assert msgspec.json.decode(str(detail["stderr"])) == asked.body


async def test_the_server_s_own_environment_is_the_default(egress: Egress) -> None:
    assert (await done(egress, command("sh", "-c", 'test -n "$PATH"'))).detail["exit_code"] == 0


async def test_an_exit_code_is_a_failed_try(egress: Egress) -> None:
    told = await failure(egress, command("sh", "-c", "echo why >&2; exit 3"))
    assert told.reason == "the program ended with exit code 3"
    assert not told.permanent
    assert told.detail["exit_code"] == 3
    assert told.detail["stderr"] == "why\n"


async def test_a_program_ended_by_a_signal_is_a_failed_try(egress: Egress) -> None:
    told = await failure(egress, command("sh", "-c", "kill -9 $$"))
    assert told.reason == "the program ended with SIGKILL"


async def test_nothing_is_read_by_a_shell(egress: Egress) -> None:
    assert (await done(egress, command("echo", "$(id)", ";", "*"))).detail["stdout"] == "$(id) ; *\n"


@pytest.mark.parametrize("argv", [(), ("",), ("no-such-program",), ("./no/such",), ("/",), ("a\0b",), ("/etc/passwd",)])
async def test_what_cannot_be_run_is_a_permanent_failure(egress: Egress, argv: tuple[str, ...]) -> None:
    assert (await failure(egress, command(*argv))).permanent


async def test_a_file_that_is_no_program_is_a_permanent_failure(egress: Egress, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_bytes(b"\x00\x01")
    script.chmod(0o755)
    told = await failure(egress, command(str(script)))
    assert told.permanent
    assert told.reason.endswith("cannot be run: Exec format error")


async def test_megabytes_of_output_are_drained_and_cut(egress: Egress) -> None:
    code = "import os\nfor fd in (1, 2):\n os.write(fd, b'start'); [os.write(fd, b'.' * 65536) for _ in range(40)]\n"
    detail = (await done(egress, program(code + " os.write(fd, b'end')"))).detail
    out, err = str(detail["stdout"]), str(detail["stderr"])
    assert (len(out), out.startswith("start")) == (2048, True)
    assert (len(err), err.endswith("end")) == (2048, True)


@pytest.mark.parametrize("script", ["exec <&-; exit 0", "exit 0"])
async def test_a_program_may_leave_a_large_event_unread(egress: Egress, script: str) -> None:
    asked = command("sh", "-c", script)
    large = msgspec.structs.replace(asked, body={"type": "t", "big": "x" * 3_000_000})
    assert (await done(egress, large)).detail["exit_code"] == 0


async def test_a_grandchild_with_open_pipes_does_not_hold_the_action(egress: Egress) -> None:
    async with asyncio.timeout(3):
        detail = (await done(egress, command("sh", "-c", "sleep 60 & echo $!"))).detail
    os.kill(int(str(detail["stdout"])), signal.SIGKILL)


async def cancelled_family(tmp_path: Path, trap: str, runner: Runner) -> list[int]:
    """Start a program with a grandchild, cancel it once both are there, and tell their process ids."""
    fifo = tmp_path / f"fifo-{threading.get_ident()}"
    os.mkfifo(fifo)
    script = f"{trap} sh -c '{trap} echo $$ $PPID >{fifo}; while :; do sleep 9; done' & wait; while :; do wait; done"
    task = asyncio.create_task(runner(command("sh", "-c", script)))
    pids = [int(pid) for pid in (await asyncio.to_thread(fifo.read_text)).split()]
    assert all(map(is_running, pids))
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert left_behind(caught.value)[0].startswith("the program and all it started were ended (SIG")
    return pids


async def test_a_cancelled_program_ends_with_its_whole_family(tmp_path: Path) -> None:
    pids = await cancelled_family(tmp_path, "", Runner(grace=0.2))
    assert not any(map(is_running, pids))


async def test_a_family_that_ignores_the_request_is_killed(tmp_path: Path) -> None:
    pids = await cancelled_family(tmp_path, 'trap "" TERM;', Runner(grace=0.1))
    assert not any(map(is_running, pids))


def test_a_program_that_ends_without_reading_its_input_succeeds_under_uvloop_too() -> None:
    async def many() -> list[int]:
        runs = [await Child(2.0).run(("true",), b"{}" * 500, dict(os.environ)) for _ in range(40)]
        return [outcome.code for outcome in runs]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        assert loop.run(many()) == [0] * 40


def test_a_family_is_ended_under_uvloop_too(tmp_path: Path) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        pids = loop.run(cancelled_family(tmp_path, 'trap "" TERM;', Runner(grace=0.1)))
        detail = loop.run(Runner()(command("sh", "-c", "cat; exit 0"))).detail
    assert not any(map(is_running, pids))
    assert "task.succeeded" in str(detail["stdout"])


async def test_a_time_out_ends_the_program_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.1):
            await Runner()(command("sleep", "60"))
    assert left_behind(caught.value) == ["the program and all it started were ended (SIGTERM)"]


# ---- python


received: list[JsonObject] = []


def keeps_the_document(document: JsonObject) -> dict[str, object]:
    received.append(document)
    return {"kept": len(received), "time": datetime.fromtimestamp(0, UTC)}


async def keeps_it_in_the_loop(document: JsonObject) -> str:
    assert threading.current_thread() is threading.main_thread()
    document["task"] = "spoiled"
    return "not a dict"


def is_async_only_inside(document: JsonObject) -> object:
    assert threading.current_thread() is not threading.main_thread()
    return keeps_it_in_the_loop(document)


class CallableAsync:
    async def __call__(self, document: JsonObject) -> JsonObject:
        return {"id": document["id"]}


callable_async = CallableAsync()
not_callable = 7
released = threading.Event()
entered = threading.Event()


def raises(document: JsonObject) -> None:
    raise ValueError("x" * 1000)


def stops_iterating(document: JsonObject) -> None:
    raise StopIteration


def leaves(document: JsonObject) -> None:
    sys.exit(3)


async def leaves_in_the_loop(document: JsonObject) -> None:
    sys.exit(3)


async def cancels_itself(document: JsonObject) -> None:
    raise asyncio.CancelledError


def gives_up(document: JsonObject) -> None:
    raise ActionFailed("not for us", permanent=True)


def blocks(document: JsonObject) -> None:
    entered.set()
    released.wait(5)


async def waits(document: JsonObject) -> None:
    entered.set()
    await asyncio.Event().wait()


def returns_too_much(document: JsonObject) -> dict[str, str]:
    return {"x": "x" * 100_000}


def returns_no_json(document: JsonObject) -> dict[str, object]:
    return {"x": object()}


@pytest.mark.parametrize(
    ("function", "detail"),
    [
        ("keeps_the_document", {"returned": {"kept": 1, "time": "1970-01-01T00:00:00Z"}}),
        ("keeps_it_in_the_loop", {}),
        ("is_async_only_inside", {}),
        ("callable_async", {"returned": {"id": "e"}}),
        ("returns_too_much", {"returned": "too large to keep"}),
        ("returns_no_json", {}),
    ],
)
async def test_a_function_gets_the_event_document(egress: Egress, function: str, detail: JsonObject) -> None:
    received.clear()
    asked = python(f"{__name__}:{function}")
    before = msgspec.json.encode(asked.body)
    assert (await done(egress, asked)).detail == detail
    assert msgspec.json.encode(asked.body) == before
    assert all(document == asked.body and document is not asked.body for document in received)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("raises", "ValueError: " + "x" * 288),
        ("stops_iterating", "StopIteration: "),
        ("leaves", "SystemExit: 3"),
        ("leaves_in_the_loop", "SystemExit: 3"),
        ("cancels_itself", "CancelledError: "),
    ],
)
async def test_an_exception_is_a_failed_try(egress: Egress, function: str, reason: str) -> None:
    told = await failure(egress, python(f"{__name__}:{function}"))
    assert (told.reason, told.permanent) == (reason, False)


async def test_a_function_may_say_that_it_is_useless_to_try_again(egress: Egress) -> None:
    told = await failure(egress, python(f"{__name__}:gives_up"))
    assert (told.reason, told.permanent) == ("not for us", True)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("no_colon", "`function` must be module:name, got 'no_colon'"),
        (":name", "`function` must be module:name, got ':name'"),
        ("module:", "`function` must be module:name, got 'module:'"),
        ("no_such_module:f", "module 'no_such_module' cannot be imported: ModuleNotFoundError"),
        (".relative:f", "module '.relative' cannot be imported: TypeError"),
        ("os:no_such", "module 'os' has no function 'no_such'"),
        ("os:path.no_such", "module 'os' has no function 'path.no_such'"),
        (f"{__name__}:not_callable", f"module '{__name__}' has no function 'not_callable'"),
    ],
)
async def test_a_function_that_cannot_be_found_says_why(egress: Egress, function: str, reason: str) -> None:
    told = await failure(egress, python(function))
    assert told.permanent
    assert told.reason.startswith(reason)
    with pytest.raises(ActionFailed):
        load(function)


def test_a_function_may_stand_inside_another_name() -> None:
    assert load("os:path.join").__name__ == "join"


async def stopped(egress: Egress, function: Callable[[JsonObject], object]) -> BaseException:
    entered.clear()
    task = asyncio.create_task(done(egress, python(f"{__name__}:{function.__name__}")))
    await asyncio.to_thread(entered.wait, 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    return caught.value


async def test_an_async_function_is_cancelled(egress: Egress) -> None:
    assert left_behind(await stopped(egress, waits)) == []


async def test_a_sync_function_runs_on_without_holding_the_action(egress: Egress) -> None:
    released.clear()
    notes = left_behind(await stopped(egress, blocks))
    assert notes == ["its thread runs on: a function that is not async cannot be ended"]
    threads = [thread for thread in threading.enumerate() if thread.name == "receiver-python-action"]
    assert len(threads) == 1
    assert threads[0].daemon
    released.set()
    threads[0].join(5)
    assert not threads[0].is_alive()
