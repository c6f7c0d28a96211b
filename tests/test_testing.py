"""The test kit, used as its users do: every kind of action for real, without a server and without a database."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from house import MODEL, House, open_house

from receiver.actions import ActionFailed
from receiver.actions.python import Caller
from receiver.actions.settings import PythonDefinition
from receiver.events import Event, Result, Retry, Stop, TaskError
from receiver.model.definitions import When
from receiver.model.records import End
from receiver.rehearse import KEY_MARK, TASK_MARK, changed, fitting_event, mismatch, read_definition
from receiver.testing import ActionRunner, SettingsError, UnknownAction, make_event

pytest_plugins = ["receiver.testing"]

SECRET = "whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"
SETTINGS = f"""
[[actions]]
name = "keep-files"
kind = "download"
[[actions]]
name = "index"
kind = "python"
function = "{__name__}:index"
when = {{ labels = {{ project = "shop" }}, target = "google/*" }}
[[actions]]
name = "tell"
kind = "http"
url = "https://shop.example.com/hook"
secret = "{SECRET}"
"""


def index(event: Event) -> dict[str, object]:
    return {"results": len(event.results), "key": event.idempotency_key, "try": event.action.attempt}


def refuses(event: Event) -> None:
    raise Stop(f"no, {SECRET}")


def not_yet(event: Event) -> None:
    raise Retry("not yet", after=30)


def breaks(event: Event) -> None:
    raise ValueError("broken")


def gives_up(event: Event) -> None:
    raise ActionFailed("given up", expired=True, detail={"link": "dead"})


async def hangs(event: Event) -> None:
    await asyncio.Event().wait()


def called(function: Callable[[Event], object]) -> dict[str, object]:
    return {"kind": "python", "function": f"{__name__}:{function.__name__}"}


class Hook:
    """Answers every request in the same way, and remembers what it was sent."""

    def __init__(self, answer: str, body: bytes) -> None:
        self._answer = f"HTTP/1.1 {answer}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
        self.headers: dict[str, str] = {}
        self.body = b""
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        self.body = await reader.readexactly(int(self.headers.get("content-length", 0)))
        writer.write(self._answer)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def hook(answer: str = "200 OK", body: bytes = b"") -> AsyncIterator[Hook]:
    hook = Hook(answer, body)
    server = await asyncio.start_server(hook.serve, "127.0.0.1", 0)
    hook.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x.png"
    async with server:
        yield hook


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "receiver.toml").write_text(SETTINGS)
    return tmp_path / "receiver.toml"


# ---- made-up events


@pytest.mark.parametrize("state", list(End))
def test_a_made_up_event_is_one_for_every_end(state: End) -> None:
    event = make_event(state)
    assert (event.type, event.task.state) == (f"task.{state}", state)
    assert bool(event.results) == (state is End.SUCCEEDED)
    assert (event.error is not None) == (state in (End.FAILED, End.REJECTED))
    assert (event.task.provider_task_id is None) == (state is End.REJECTED)
    assert event.task.id.startswith(TASK_MARK)
    assert event.idempotency_key.startswith(KEY_MARK)


def test_a_made_up_event_holds_what_it_was_given() -> None:
    at = datetime(2026, 11, 22, 8, tzinfo=UTC)
    event = make_event(
        "failed",
        target="a/b",
        kind="workflow",
        labels={"project": "shop"},
        results=["https://h/a.b/x.mp4?sign=y", "https://h/x", {"text": "a poem"}, Result(file="results/x.png")],
        error={"code": "7", "name": "SEVEN", "message": "seven"},
        usage={"taskCostTime": "3"},
        confirmed=False,
        time=at,
    )
    assert (event.task.kind, event.task.target, event.task.labels) == ("workflow", "a/b", {"project": "shop"})
    assert event.results == [
        Result(url="https://h/a.b/x.mp4?sign=y", type="mp4"),
        Result(url="https://h/x"),
        Result(text="a poem"),
        Result(file="results/x.png"),
    ]
    assert event.error == TaskError(code="7", name="SEVEN", message="seven")
    assert (event.usage, event.confirmed) == ({"taskCostTime": "3"}, False)
    assert event.time == event.task.ended_at == at
    assert make_event(time=at.timestamp()).time == at


@pytest.mark.parametrize(
    ("url", "type"),
    [("data:image/png;base64,AA==", "png"), ("data:text/plain,a/b;c", "plain"), ("data:,a/b", None)],
)
def test_the_type_of_a_made_up_result_is_what_its_data_say(url: str, type: str | None) -> None:
    assert make_event(results=[url]).results == [Result(url=url, type=type)]


def test_two_made_up_events_are_of_two_tasks() -> None:
    one, two = make_event(), make_event()
    assert one.task.id != two.task.id
    assert one.id != two.id
    assert one.idempotency_key != two.idempotency_key


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"state": "done"}, "a task ends as succeeded, failed, cancelled, rejected, got 'done'"),
        ({"kind": "film"}, "'film' is not a valid Kind"),
        ({"time": datetime(2026, 11, 22)}, "`time` is a datetime without a time zone"),
        ({"time": float("inf")}, "`time` is no moment of the years 1 to 9999: inf"),
        ({"time": 1e20}, "`time` is no moment"),
        ({"time": float("nan")}, "`time` is no moment"),
        ({"results": "https://h/1.png"}, "`results` is a list; for one result write [...] around it"),
        ({"results": [{"url": 7}]}, "Expected `str | null`, got `int`"),
        ({"error": {"code": "7"}}, "missing required field `name`"),
        ({"labels": {"a": 1}}, "Expected `str`, got `int`"),
    ],
)
def test_what_no_event_has_is_refused(given: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        make_event(**given)  # type: ignore[arg-type]
    assert problem in str(caught.value)


# ---- running


def test_a_function_is_really_called(run_action: ActionRunner, config: Path) -> None:
    outcome = run_action("index", config=config)
    assert (outcome.state, outcome.reason, outcome.retry_after) == ("done", None, None)
    assert outcome.detail == {"returned": {"results": 1, "key": outcome.event.idempotency_key, "try": 1}}
    assert outcome.event.action.name == "index"
    assert run_action("index", config=config).event.idempotency_key != outcome.event.idempotency_key


def test_the_key_and_the_number_of_the_try_may_be_given(run_action: ActionRunner) -> None:
    outcome = run_action(called(index), make_event(results=[]), attempt=3, idempotency_key="mine")
    assert outcome.detail == {"returned": {"results": 0, "key": "mine", "try": 3}}


@pytest.mark.parametrize(
    ("function", "attempt", "state", "wait"),
    [
        (not_yet, 1, "retry", 30.0),
        (not_yet, 5, "retry", 162.0),
        (not_yet, 12, "dead", None),
        (breaks, 1, "retry", 2.0),
        (refuses, 1, "dead", None),
    ],
)
def test_a_failed_try_says_what_would_come_of_it(
    run_action: ActionRunner, function: Callable[[Event], object], attempt: int, state: str, wait: float | None
) -> None:
    outcome = run_action(called(function), attempt=attempt)
    assert (outcome.state, outcome.retry_after) == (state, wait)


async def test_a_url_is_really_called(run_action: ActionRunner, config: Path) -> None:
    async with hook() as shop:
        outcome = await run_action.arun("tell", config=config, url=shop.url, allow_private=True)
    assert (outcome.state, outcome.detail["status"]) == ("done", 200)
    assert msgspec.json.decode(shop.body) == outcome.event
    assert shop.headers["webhook-id"] == shop.headers["idempotency-key"] == outcome.event.idempotency_key
    assert shop.headers["webhook-signature"]


async def test_an_answer_is_judged_as_the_server_would(run_action: ActionRunner) -> None:
    async with hook("503 Service Unavailable") as shop:
        tell = {"kind": "http", "url": shop.url, "allow_private": True}
        busy = await run_action.arun(tell)
        last = await run_action.arun(tell, attempt=12)
        private = await run_action.arun(tell, allow_private=False)
    assert (busy.state, busy.retry_after, busy.detail["status"]) == ("retry", 2.0, 503)
    assert last.state == "dead"
    assert private.state == "dead"
    assert "is not a public address" in str(private.reason)


def test_a_program_is_really_run(run_action: ActionRunner) -> None:
    outcome = run_action({"kind": "command", "command": ["sh", "-c", "cat; echo $RECEIVER_ATTEMPT >&2; exit 3"]})
    assert (outcome.state, outcome.reason) == ("retry", "the program ended with exit code 3: 1")
    assert msgspec.json.decode(outcome.detail["stdout"]) == outcome.event
    assert outcome.detail["stderr"] == "1\n"


async def test_a_file_is_really_saved_in_a_temporary_directory(
    run_action: ActionRunner, config: Path, tmp_path: Path
) -> None:
    async with hook(body=b"\x89PNG\r\n\x1a\n") as provider:
        event = make_event(results=[provider.url])
        outcome = await run_action.arun("keep-files", event, config=config, allow_private=True)
    [file] = outcome.files
    assert outcome.state == "done"
    assert file.path == f"{tmp_path}/results/{event.task.id}/x.png"
    assert Path(file.path).read_bytes() == b"\x89PNG\r\n\x1a\n"


def test_a_file_is_saved_elsewhere_when_it_is_told_so(run_action: ActionRunner, config: Path, tmp_path: Path) -> None:
    [file] = run_action("keep-files", config=config, directory=str(tmp_path / "elsewhere")).files
    assert file.path.startswith(f"{tmp_path}/elsewhere/{TASK_MARK}")
    [own] = ActionRunner()("keep-files", config=config, directory=str(tmp_path / "own")).files
    assert Path(own.path).is_file()


def test_secrets_are_masked(run_action: ActionRunner, config: Path) -> None:
    text = config.read_text().replace(f"{__name__}:index", f"{__name__}:refuses")
    config.write_text(text)
    outcome = run_action("index", make_event(labels={"token": SECRET}), config=config)
    assert outcome.reason == "no, [secret]"
    assert SECRET not in repr(outcome)


def test_a_running_loop_is_told_the_other_way(run_action: ActionRunner) -> None:
    async def test() -> None:
        with pytest.raises(RuntimeError, match=r"await run_action\.arun"):
            run_action(called(index))

    asyncio.run(test())


# ---- which action, and with which settings


def test_an_action_that_is_not_there_is_told_with_the_nearest(run_action: ActionRunner, config: Path) -> None:
    with pytest.raises(UnknownAction, match=r"no action indx in the settings; did you mean index\?"):
        run_action("indx", config=config)
    with pytest.raises(UnknownAction, match=r"there are: keep-files, index, tell"):
        run_action("zzzzz", config=config)


def test_a_file_that_is_not_there_is_told_with_its_place(run_action: ActionRunner, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=f"there is no file {tmp_path}/other.toml"):
        run_action("index", config=tmp_path / "other.toml")


@pytest.mark.parametrize(
    ("table", "changes", "problem"),
    [
        ({"kind": "python"}, {}, "the action (test): function: expected module:name"),
        ({"kind": "python", "function": "a:b"}, {"timeout": 0}, "the action (test): timeout: expected more than 0"),
        ({"kind": "python", "function": "a:b"}, {"url": "http://x"}, "the action (test): url: does not belong to kind"),
        ({"kind": "python", "function": "a:b", "colour": 1}, {}, "the action (test): colour: there is no such key"),
    ],
)
def test_settings_that_are_wrong_are_told(
    run_action: ActionRunner, table: dict[str, object], changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        run_action(table, **changes)
    assert str(caught.value).startswith(problem)


@pytest.mark.parametrize(
    "table",
    [
        {"kind": "download", "unconfirmed": False, "max_attempts": 12, "when": {"labels": {"a": "b"}}},
        {"kind": "http", "url": "https://h/", "secret": SECRET, "headers": {"x": "y"}, "name": "b"},
        {"kind": "command", "command": ["a", "b"], "on": ["failed", "rejected"], "lease": 3},
        {"kind": "python", "function": "a:b", "concurrency": 1},
    ],
)
def test_a_changed_setting_changes_nothing_else(table: dict[str, object]) -> None:
    definition = msgspec.structs.replace(read_definition(table), after=("another",))
    assert changed(definition, {}) is definition
    assert changed(definition, {"timeout": 7}) == msgspec.structs.replace(definition, timeout=7.0)


def test_an_action_that_waits_for_another_is_tried_alone(run_action: ActionRunner, config: Path) -> None:
    config.write_text(config.read_text().replace('name = "index"', 'name = "index"\nafter = ["keep-files"]'))
    assert run_action("index", config=config, timeout=3).state == "done"


# ---- which events an action is for


@pytest.mark.parametrize(
    ("on", "when"),
    [
        ((End.SUCCEEDED,), When()),
        ((End.FAILED, End.SUCCEEDED), When(target="google/*")),
        ((End.REJECTED,), When(labels={"project": "shop"}, target="rhart-?-[v]*")),
    ],
)
def test_the_event_that_is_made_up_for_an_action_suits_it(on: tuple[End, ...], when: When) -> None:
    definition = PythonDefinition(name="x", function="a:b", on=on, when=when, timeout=1)
    event = fitting_event(definition)
    assert event.type == ("task.succeeded" if End.SUCCEEDED in on else f"task.{on[0]}")
    if "[" not in (when.target or ""):
        assert mismatch(definition, event) is None
    else:
        assert "it is for rejected of rhart-?-[v]* with project=shop" in str(mismatch(definition, event))


@pytest.mark.parametrize(
    "event",
    [
        make_event("failed", target="google/x", labels={"project": "shop"}),
        make_event("succeeded", target="rhart/x", labels={"project": "shop"}),
        make_event("succeeded", target="google/x"),
        make_event("succeeded", target="google/x", labels={"project": "shop"}, confirmed=False),
        Event({**make_event(target="google/x", labels={"project": "shop"}), "type": "task.archived"}),
    ],
    ids=["end", "target", "label", "unconfirmed", "unknown"],
)
def test_an_event_that_the_server_would_not_run_it_for_is_told(event: Event) -> None:
    when = When(labels={"project": "shop"}, target="google/*")
    definition = PythonDefinition(name="x", function="a:b", when=when, timeout=1)
    assert mismatch(definition, fitting_event(definition)) is None
    assert str(mismatch(definition, event)).startswith("a server would ")


# ---- the same as in the server


SERVED = """
[[actions]]
name = "one"
kind = "python"
function = "{function}"
timeout = 0.05
max_attempts = {attempts}
"""


async def served(house: House) -> tuple[object, ...]:
    """What the server makes of its one action: state, reason, detail, and the seconds until it is due again."""
    task = await house.task(await house.submit())
    house.effect = Caller(house.clock)
    await house.service.submit_next()
    house.clock.now += 5
    await house.simulator.tick()
    await house.simulator.tick()
    await house.service.reconcile_next()
    await house.service.dispatch_next(house.service.definitions[0])
    action = (await house.task(task.id)).actions[0]
    wait = None
    if action.state == "owed" and action.due_at is not None:
        wait = round(datetime.fromisoformat(action.due_at).timestamp() - house.clock.now, 3)
    return {"owed": "retry"}.get(action.state, action.state), action.reason, action.tries[0].detail, wait


@pytest.mark.parametrize("attempts", [12, 1])
@pytest.mark.parametrize("function", [index, not_yet, breaks, refuses, hangs])
async def test_what_comes_of_a_try_is_what_the_server_makes_of_it(
    tmp_path: Path, function: Callable[[Event], object], attempts: int
) -> None:
    name = f"{__name__}:{function.__name__}"
    async with open_house(tmp_path, SERVED.format(function=name, attempts=attempts)) as house:
        real = await served(house)
        definition = house.service.definitions[0]
    tried = await ActionRunner().arun(definition, make_event(target=MODEL))
    if function is index:
        assert (tried.state, tried.reason, tried.retry_after) == ("done", None, None)
        assert real[0] == "done"
        return
    assert (tried.state, tried.reason, tried.detail, tried.retry_after) == real


async def test_a_dead_link_ends_as_expired_for_there_is_nobody_to_ask_for_another(run_action: ActionRunner) -> None:
    outcome = await run_action.arun(called(gives_up))
    assert (outcome.state, outcome.reason) == ("dead", "expired: given up")
    assert outcome.detail == {"link": "dead", "error": "given up", "category": "failed"}


# ---- without pytest


@pytest.mark.slow
def test_all_but_the_fixture_works_without_pytest() -> None:
    script = (
        "import sys; sys.modules['pytest'] = None\n"
        "from receiver.testing import ActionRunner, make_event\n"
        "table = {'kind': 'command', 'command': ['true']}\n"
        "print(make_event('failed').type, ActionRunner()(table).state)"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("task.failed done\n", "")
