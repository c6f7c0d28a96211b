"""Listening as a client: what is told comes once and in order, through restarts, and by asking where nothing tells."""

import asyncio
import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path

import httpx
import pytest
from servers import ADMIN_TOKEN, environment, launched, running, until
from test_batch import free_port
from test_cli import Operator
from test_client import INPUT, MODEL, RunningServer, answered, detail

from receiver.client import ApiError, Change, Client, Unreachable
from receiver.simulator import Fault

RECEIVER = (sys.executable, "-m", "receiver")
OPENED = b"retry: 1000\nid: first-7\n\n"
RESET = Change(kind="reset")
TOLD = b'id: first-8\nevent: task\ndata: {"id":"t","state":"queued"}\n\n'
EVENTS = {"content-type": "text/event-stream; charset=utf-8"}
GONE = httpx.ConnectError("Connection refused")


def told(*pieces: bytes | Exception) -> httpx.Response:
    """A stream that breaks off where an error stands in it."""

    def content() -> Iterator[bytes]:
        for piece in pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    return httpx.Response(200, content=content(), headers=EVENTS)


def refused(status: int, code: str = "x", **headers: str) -> httpx.Response:
    said = {"error": {"code": code, "message": "no"}}
    return httpx.Response(status, json=said, headers={name.replace("_", "-"): text for name, text in headers.items()})


class Server:
    """Answers in turn, and remembers what it was asked; a clock goes on with every pause."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self._answers = iter(answers)
        self.asked: list[httpx.Request] = []
        self.pauses: list[float] = []
        self.away: list[str] = []
        self.now = 0.0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        said = next(self._answers)
        if isinstance(said, Exception):
            raise said
        return said

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def heard(self, count: int, after: str = "", patience: float = 60) -> list[Change]:
        with answered(self) as client:
            changes = client.stream(
                kind=["task", "alert"],
                task="t",
                after=after,
                patience=patience,
                on_away=self.away.append,
                clock=lambda: self.now,
                pause=self.pause,
            )
            return [Change(kind=each.kind, id=each.id, state=each.state) for each in islice(changes, count)]


CHANGE = Change(kind="task", id="t", state="queued")


def test_a_stream_begins_with_a_look_at_everything_and_then_tells_what_changes() -> None:
    server = Server(told(OPENED, b":\nid: first-7\n\n", TOLD[:20], TOLD[20:]))
    assert server.heard(2) == [RESET, CHANGE]
    (asked,) = server.asked
    assert asked.url.query == b"kind=task&kind=alert&task=t"
    assert "last-event-id" not in asked.headers
    assert asked.headers["accept-encoding"] == "identity"


def test_a_stream_that_breaks_off_goes_on_where_it_was() -> None:
    broken = httpx.RemoteProtocolError("peer closed")
    moved = b":\nid: first-12\n\n"
    server = Server(told(OPENED, TOLD, broken), GONE, told(OPENED, moved, broken), told(OPENED, TOLD))
    assert server.heard(3) == [RESET, CHANGE, CHANGE]
    assert [each.headers.get("last-event-id") for each in server.asked] == [None, "first-8", "first-8", "first-12"]
    assert len(server.away) == 3


def test_a_stream_whose_server_was_started_anew_tells_to_look_at_everything() -> None:
    anew = b"retry: 1000\nevent: reset\ndata: {}\nid: second-0\n\n"
    server = Server(told(OPENED), told(anew, TOLD))
    assert server.heard(3) == [RESET, RESET, CHANGE]


def test_a_stream_after_a_place_begins_with_what_comes_after_it() -> None:
    server = Server(told(OPENED, TOLD))
    assert server.heard(1, after="first-7") == [CHANGE]
    assert server.asked[0].headers["last-event-id"] == "first-7"


@pytest.mark.parametrize(
    "answer",
    [
        refused(404),
        refused(503, "too_many_readers", retry_after="10"),
        httpx.Response(200, content=b"<html>", headers={"content-type": "text/html"}),
        told(httpx.ReadTimeout("nothing came")),
    ],
    ids=["no such route", "no place", "no stream", "a proxy that keeps it"],
)
def test_where_a_stream_cannot_be_had_one_asks_less_and_less_often_and_tries_it_again(answer: httpx.Response) -> None:
    server = Server(answer, told(OPENED, TOLD))
    assert server.heard(13) == [RESET] * 12 + [CHANGE]
    assert server.pauses == sorted(server.pauses)
    assert max(server.pauses) == 2.0
    assert len(server.asked) == 2


def test_a_server_that_stays_away_is_given_up_in_time() -> None:
    server = Server(told(OPENED), *[GONE] * 100)
    with pytest.raises(Unreachable):
        server.heard(2)
    assert 60 <= server.now < 64


@pytest.mark.parametrize("status", [400, 401, 403, 422])
def test_a_refusal_ends_it_at_once(status: int) -> None:
    with pytest.raises(ApiError) as refusal:
        Server(refused(status)).heard(1)
    assert refusal.value.status == status


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"\xff", b'{"id":1,"state":"x"}'])
def test_what_is_no_change_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(ApiError, match="is no change"):
        Server(told(OPENED, b"event: task\ndata: " + data + b"\n\n")).heard(2)


def test_without_a_stream_a_wait_asks_by_itself() -> None:
    states = iter(["queued", "submitted", "succeeded"])

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/stream":
            return refused(404)
        return httpx.Response(200, content=detail(state=next(states)))

    with answered(answer) as client:
        assert client.wait("t").state == "succeeded"


def test_a_wait_that_is_over_leaves_no_listener_behind(server: RunningServer) -> None:
    with server.client() as client:
        before = {each for each in threading.enumerate() if each.name == "receiver-stream"}
        for _ in range(3):
            assert client.wait(client.submit(MODEL, INPUT).id).state == "succeeded"
        assert {each for each in threading.enumerate() if each.name == "receiver-stream"} <= before


def test_another_thread_ends_a_stream_that_hears_nothing(server: RunningServer) -> None:
    with server.client() as client, client.stream(kind="replay") as changes:
        heard: list[Change] = []
        begun = threading.Event()

        def listen() -> None:
            for change in changes:
                heard.append(change)
                begun.set()

        listener = threading.Thread(target=listen)
        listener.start()
        assert begun.wait(10)
        began = time.monotonic()
        changes.close()
        listener.join(10)
        assert not listener.is_alive()
        assert time.monotonic() - began < 2
        assert [each.kind for each in heard] == ["reset"]


# ---------------------------------------------------------------- the command line


class ReturnsLater(RunningServer):
    task_seconds = 1.0


@pytest.mark.story
def test_a_task_that_is_followed_is_shown_when_it_has_ended_and_its_end_is_the_exit_code(operator: Operator) -> None:
    good = operator("submit", MODEL, "prompt=ink").stdout.strip()
    shown = operator("task", good, "--follow")
    assert "state            succeeded" in shown.stdout
    assert "succeeded" in shown.stderr
    operator.server.simulator.plan_next(Fault.FAILED)
    bad = operator("submit", MODEL, "prompt=ink").stdout.strip()
    assert json.loads(operator("task", bad, "--follow", "--json", code=1).stdout)["state"] == "failed"


@pytest.mark.story
def test_what_cannot_be_followed_is_said(operator: Operator) -> None:
    for words in (("--all",), ("--q", "shop")):
        assert "--follow goes without --all and --q" in operator("tasks", "--follow", *words, code=2).stderr
    assert "there is no task" in operator("task", "nope", "--follow", code=3).stderr


@pytest.mark.slow
def test_the_end_of_a_task_is_heard_of_at_once(tmp_path: Path) -> None:
    late: list[float] = []
    with ReturnsLater(tmp_path).running() as server, server.client() as client:
        for _ in range(5):
            ended = client.wait(client.submit(MODEL, INPUT).id)
            assert ended.ended_at is not None
            late.append(time.time() - datetime.fromisoformat(ended.ended_at).timestamp())
    print(f"late by {' '.join(f'{each:.3f}' for each in late)} s")
    assert sorted(late)[2] < 0.3


@pytest.mark.slow
async def test_tasks_that_are_followed_are_printed_as_they_change_through_a_restart_of_the_server(
    tmp_path: Path,
) -> None:
    here, far = tmp_path / "server", tmp_path / "laptop"
    here.mkdir()
    far.mkdir()
    (here / "receiver.toml").write_text("keep_files = false\n[callbacks]\ndisk_floor = 0\n")
    provider, port = free_port(), free_port()
    simulate = (*RECEIVER, "simulate", "--port", str(provider), "--task-seconds", "0.5")
    url = f"http://127.0.0.1:{port}"
    given = environment(
        PORT=str(port), RECEIVER_PUBLIC_URL=url, RECEIVER_URL=url, RUNNINGHUB_BASE_URL=f"http://127.0.0.1:{provider}"
    )
    laptop = {"PATH": given["PATH"], "RECEIVER_URL": url, "RECEIVER_ADMIN_TOKEN": ADMIN_TOKEN, "PYTHONUNBUFFERED": "1"}

    def submitted(label: str) -> str:
        with Client(url, ADMIN_TOKEN) as client:
            task = client.submit(MODEL, INPUT, labels={"who": label})
            assert client.wait(task.id).state == "succeeded"
        return task.id

    narrowed = (*RECEIVER, "tasks", "--follow", "--label", "who=me")
    async with (
        running(tmp_path, argv=simulate, given=given),
        launched(far, argv=narrowed, given=laptop) as plain,
        running(here, given=given) as server,
        launched(far, argv=(*narrowed, "--json"), given=laptop) as all,
    ):
        await asyncio.to_thread(submitted, "another")
        first = await asyncio.to_thread(submitted, "me")
        await until(lambda: '"succeeded"' in all.out and " succeeded " in plain.out)
        await server.stop()
        await until(lambda: "waiting for the server" in all.err)
        async with running(here, given=given):
            second = await asyncio.to_thread(submitted, "me")
            await until(lambda: all.out.count('"state":"succeeded"') == 2 and plain.out.count(" succeeded ") == 2)
            for each in (plain, all):
                each.signal(signal.SIGINT)
                assert await each.ended() == 0, each.err
    told = [(row["id"], row["state"]) for row in map(json.loads, all.out.splitlines())]
    assert [each for each in told if each[1] == "succeeded"] == [(first, "succeeded"), (second, "succeeded")]
    assert {id for id, _ in told} == {first, second}
    assert "Traceback" not in all.err + plain.err
