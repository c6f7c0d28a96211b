"""Waiting for a task outlives restarts of the server, and says that the task goes on when it is given up."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from servers import ADMIN_TOKEN, environment, launched, rows, running, until
from test_batch import free_port
from test_cli import Operator, run
from test_client import MODEL, answered, detail
from test_navigation import LeisurelyServer

from receiver.client import ApiError, Client, Unreachable
from receiver.simulator import Fault

pytestmark = pytest.mark.story

RECEIVER = (sys.executable, "-m", "receiver")


def client_of(*told: httpx.Response | Exception) -> Client:
    """A client that is told these answers in turn."""
    answers: Iterator[httpx.Response | Exception] = iter(told)

    def answer(_: httpx.Request) -> httpx.Response:
        said = next(answers)
        if isinstance(said, Exception):
            raise said
        return said

    return answered(answer)


def test_a_wait_outlives_a_server_that_is_away() -> None:
    gone, proxy = httpx.ConnectError("Connection refused"), httpx.Response(502, content=b"<html>Bad Gateway</html>")
    stopping = httpx.Response(
        503, json={"error": {"code": "stopping", "message": "later"}}, headers={"retry-after": "5"}
    )
    ends = httpx.Response(200, content=detail(state="succeeded"))
    away: list[str] = []
    pauses: list[float] = []
    with client_of(httpx.Response(200, content=detail()), stopping, gone, gone, proxy, ends) as client:
        assert client.wait("t", pause=pauses.append, on_away=away.append).state == "succeeded"
    assert len(away) == 4
    assert 5 in pauses


def test_a_server_that_stays_away_is_given_up_in_time() -> None:
    now = [0.0]

    def pause(seconds: float) -> None:
        now[0] += seconds

    with answered(lambda _: httpx.Response(502)) as client:
        with pytest.raises(ApiError):
            client.wait("t", patience=60, clock=lambda: now[0], pause=pause)
        assert 60 <= now[0] <= 76
        with pytest.raises(ApiError):
            client.wait("t", timeout=5, clock=lambda: now[0], pause=pause)
        assert now[0] <= 85


def test_a_wait_for_a_replay_outlives_a_server_that_is_away() -> None:
    made = {"id": 1, "mode": "retry", "matched": 1, "rate": None, "state": "done"}
    with client_of(httpx.ConnectError("no"), httpx.Response(200, json=made)) as client:
        assert client.wait_for_replay(1, pause=lambda _: None).state == "done"


def test_a_beginning_of_an_id_is_asked_for_once_and_the_whole_id_from_then_on() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path.rpartition("/")[2])
        return httpx.Response(200, content=detail(id="whole-id", state="queued" if len(asked) < 3 else "lost"))

    with answered(answer) as client:
        client.wait("whole", pause=lambda _: None)
    assert asked == ["whole", "whole-id", "whole-id"]


def test_a_refusal_ends_a_wait_at_once() -> None:
    unknown = httpx.Response(404, json={"error": {"code": "not_found", "message": "there is no task t"}})
    with client_of(unknown) as client, pytest.raises(ApiError, match="there is no task"):
        client.wait("t", pause=lambda _: None)
    with client_of(httpx.ConnectError("no")) as client, pytest.raises(Unreachable):
        client.wait("t", patience=0)


def test_several_tasks_are_waited_for_and_one_that_failed_ends_with_1(operator: Operator) -> None:
    good = operator.ended()
    operator.server.simulator.plan_next(Fault.FAILED)
    bad = operator.ended()
    both = operator("wait", good, bad, code=1)
    assert both.stdout.startswith("http://")
    assert f"{bad}: failed: 1501" in both.stderr
    assert json.loads(operator("wait", good, "--json").stdout)["id"] == good
    listed = json.loads(operator("wait", good, bad, "--json", code=1).stdout)
    assert [each["id"] for each in listed["items"]] == [good, bad]
    assert "there is no task" in operator("wait", "nope", code=3).stderr


def test_a_wait_that_is_given_up_says_how_to_go_on(tmp_path: Path) -> None:
    with LeisurelyServer(tmp_path).running() as server:
        leisurely = Operator(server)
        task = leisurely("submit", MODEL, "prompt=ink").stdout.strip()
        assert f"it goes on: receiver wait {task}" in leisurely("wait", task, "--timeout", "0", code=1).stderr


@pytest.mark.slow
async def test_a_wait_that_is_interrupted_says_that_the_task_goes_on(tmp_path: Path) -> None:
    with LeisurelyServer(tmp_path).running() as server:
        given = {"PATH": os.environ["PATH"], "RECEIVER_URL": server.url, "RECEIVER_ADMIN_TOKEN": server.token}
        words = (*RECEIVER, "submit", MODEL, "prompt=ink", "--wait")
        async with launched(tmp_path, argv=words, given=given) as waiting:
            await until(lambda: "submitted" in waiting.err)
            waiting.signal(signal.SIGINT)
            assert await waiting.ended() == 1
    task = waiting.err.split()[1]
    assert f"the task goes on; to wait for it again: receiver wait {task}\n" in waiting.err


def test_a_server_that_never_answers_leaves_the_task_going_on() -> None:
    env = {"RECEIVER_URL": "http://127.0.0.1:9", "RECEIVER_ADMIN_TOKEN": "x" * 16}
    ended = run("wait", "0197b0a2", "--timeout", "0", env=env)
    assert ended.exit_code == 4
    assert "the task goes on; to wait for it again: receiver wait 0197b0a2" in ended.stderr


@pytest.mark.slow
async def test_from_another_machine_an_order_is_awaited_through_a_restart_and_its_file_fetched(tmp_path: Path) -> None:
    here, far = tmp_path / "server", tmp_path / "laptop"
    here.mkdir()
    far.mkdir()
    (here / "receiver.toml").write_text("[callbacks]\ndisk_floor = 0\n")
    provider, port = free_port(), free_port()
    simulate = (*RECEIVER, "simulate", "--port", str(provider), "--task-seconds", "3", "--retry-seconds", "2,4,8")
    url = f"http://127.0.0.1:{port}"
    given = environment(
        PORT=str(port), RECEIVER_PUBLIC_URL=url, RECEIVER_URL=url, RUNNINGHUB_BASE_URL=f"http://127.0.0.1:{provider}"
    )
    laptop = {"PATH": given["PATH"], "RECEIVER_URL": url, "RECEIVER_ADMIN_TOKEN": ADMIN_TOKEN}
    async with running(tmp_path, argv=simulate, given=given), running(here, given=given) as server:
        words = (*RECEIVER, "submit", MODEL, "prompt=a lighthouse", "--wait")
        async with launched(far, argv=words, given=laptop) as waiting:
            database = here / "receiver.db"
            await until(lambda: rows(database, "select 1 from tasks where state = 'submitted'") != [])
            await server.stop()
            await until(lambda: "waiting for the server" in waiting.err)
            async with running(here, given=given):
                await until(lambda: waiting.process.returncode is not None, 60)
                assert await waiting.ended() == 0, waiting.err
                assert waiting.out.startswith("http://")
                hint = next(line for line in waiting.err.splitlines() if "receiver download " in line)
                fetch = (*RECEIVER, "download", hint.split()[-1][:13], "shots")
                for told in ("bytes\n", "bytes, there already\n"):
                    async with launched(far, argv=fetch, given=laptop) as fetching:
                        assert await fetching.ended() == 0, fetching.err
                    assert fetching.err.endswith(told)
                saved = await asyncio.to_thread(lambda: (far / fetching.out.strip()).read_bytes())
                (kept,) = [path for path in (here / "results").rglob("*") if path.is_file()]
                assert saved == kept.read_bytes()
