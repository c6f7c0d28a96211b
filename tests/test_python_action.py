"""The action that calls a Python function: what it is given, and what comes of what it returns or raises."""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from receiver.actions import ActionFailed, Done, Work, left_behind
from receiver.actions.python import Caller, load
from receiver.actions.settings import PythonDefinition
from receiver.dispatch import judge
from receiver.events import Event, Retry, Stop
from receiver.model.records import JsonObject
from receiver.testing import make_event

TASK = "019a0000-0000-7000-8000-000000000001"
NOW = 1_800_000_000.0


def python(function: str) -> Work:
    definition = PythonDefinition(name="index", function=function, timeout=5.0)
    body = dict(make_event(labels={"project": "demo"}))
    return Work(definition=definition, body=body, results=[], task_id=TASK, key=f"{TASK}:index:1", attempt=1)


async def done(asked: Work) -> Done:
    return await Caller(lambda: NOW)(asked)


async def failure(asked: Work) -> ActionFailed:
    with pytest.raises(ActionFailed) as caught:
        await done(asked)
    return caught.value


received: list[Event] = []


def keeps_the_document(event: Event) -> dict[str, object]:
    received.append(event)
    return {"kept": len(received), "time": datetime.fromtimestamp(0, UTC)}


async def keeps_it_in_the_loop(event: Event) -> str:
    assert threading.current_thread() is threading.main_thread()
    event["task"]["labels"]["project"] = "spoiled"
    return "not a dict"


class Base(BaseException):
    pass


async def raises_what_is_no_exception(event: Event) -> None:
    raise Base("skipped")


async def groups_what_is_no_exception(event: Event) -> None:
    raise BaseExceptionGroup("several", [Base()])


def yields(event: Event) -> Iterator[str]:
    yield event.id


async def yields_in_the_loop(event: Event) -> AsyncIterator[str]:
    yield event.id


def is_async_only_inside(event: Event) -> object:
    assert threading.current_thread() is not threading.main_thread()
    return keeps_it_in_the_loop(event)


class CallableAsync:
    async def __call__(self, event: Event) -> dict[str, object]:
        return {"same": event.id == event["id"]}


callable_async = CallableAsync()
not_callable = 7
released = threading.Event()
entered = threading.Event()


def raises(event: Event) -> None:
    raise ValueError("x" * 1000)


def stops_iterating(event: Event) -> None:
    raise StopIteration


def leaves(event: Event) -> None:
    sys.exit(3)


async def leaves_in_the_loop(event: Event) -> None:
    sys.exit(3)


async def cancels_itself(event: Event) -> None:
    raise asyncio.CancelledError


def gives_up(event: Event) -> None:
    raise ActionFailed("not for us", permanent=True)


def blocks(event: Event) -> None:
    entered.set()
    released.wait(5)


async def waits(event: Event) -> None:
    entered.set()
    await asyncio.Event().wait()


def returns_too_much(event: Event) -> dict[str, str]:
    return {"x": "x" * 100_000}


def returns_no_json(event: Event) -> dict[str, object]:
    return {"x": object()}


@pytest.mark.parametrize(
    ("function", "detail"),
    [
        ("keeps_the_document", {"returned": {"kept": 1, "time": "1970-01-01T00:00:00Z"}}),
        ("keeps_it_in_the_loop", {}),
        ("is_async_only_inside", {}),
        ("callable_async", {"returned": {"same": True}}),
        ("returns_too_much", {"returned": "too large to keep"}),
        ("returns_no_json", {}),
    ],
)
async def test_a_function_gets_an_event_of_its_own(function: str, detail: JsonObject) -> None:
    received.clear()
    asked = python(f"{__name__}:{function}")
    before = msgspec.json.encode(asked.body)
    assert (await done(asked)).detail == detail
    assert msgspec.json.encode(asked.body) == before
    assert all(event == asked.body and event is not asked.body for event in received)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("raises", "ValueError: " + "x" * 288),
        ("stops_iterating", "StopIteration: "),
        ("leaves", "SystemExit: 3"),
        ("leaves_in_the_loop", "SystemExit: 3"),
        ("cancels_itself", "CancelledError: "),
        ("raises_what_is_no_exception", "Base: skipped"),
        ("groups_what_is_no_exception", "BaseExceptionGroup: several (1 sub-exception)"),
    ],
)
async def test_an_exception_is_a_failed_try(function: str, reason: str) -> None:
    told = await failure(python(f"{__name__}:{function}"))
    assert (told.reason, told.permanent) == (reason, False)


@pytest.mark.parametrize("function", ["yields", "yields_in_the_loop"])
async def test_a_generator_of_which_nothing_ran_is_not_done(function: str) -> None:
    told = await failure(python(f"{__name__}:{function}"))
    assert told.permanent
    assert "nothing has run" in told.reason


async def test_a_function_may_say_that_it_is_useless_to_try_again() -> None:
    told = await failure(python(f"{__name__}:gives_up"))
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
async def test_a_function_that_cannot_be_found_says_why(function: str, reason: str) -> None:
    told = await failure(python(function))
    assert told.permanent
    assert told.reason.startswith(reason)
    with pytest.raises(ActionFailed):
        load(function)


def test_a_function_may_stand_inside_another_name() -> None:
    assert load("os:path.join").__name__ == "join"


async def stopped(function: Callable[[Event], object]) -> BaseException:
    entered.clear()
    task = asyncio.create_task(done(python(f"{__name__}:{function.__name__}")))
    await asyncio.to_thread(entered.wait, 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    return caught.value


async def test_an_async_function_is_cancelled() -> None:
    assert left_behind(await stopped(waits)) == []


async def test_a_sync_function_runs_on_without_holding_the_action() -> None:
    released.clear()
    notes = left_behind(await stopped(blocks))
    assert notes == ["its thread runs on: a function that is not async cannot be ended"]
    threads = [thread for thread in threading.enumerate() if thread.name == "receiver-python-action"]
    assert len(threads) == 1
    assert threads[0].daemon
    released.set()
    threads[0].join(5)
    assert not threads[0].is_alive()


async def test_functions_that_hang_take_a_bounded_number_of_threads_and_what_is_over_says_why() -> None:
    released.clear()
    caller = Caller(lambda: NOW, strays=2, patience=0.01)
    asked = python(f"{__name__}:blocks")
    most = asked.definition.concurrency + 2

    async def abandoned() -> ActionFailed | None:
        try:
            async with asyncio.timeout(0.05):
                await caller(asked)
        except ActionFailed as failed:
            return failed
        except TimeoutError:
            pass
        return None

    outcomes = [await abandoned() for _ in range(most + 3)]
    running = [thread for thread in threading.enumerate() if thread.name == "receiver-python-action"]
    assert len(running) == most
    told = [each for each in outcomes if each is not None]
    assert len(told) == 3
    assert all(f"{most} earlier calls of {__name__}:blocks still run" in each.reason for each in told)
    released.set()
    for thread in running:
        await asyncio.to_thread(thread.join, 5)
    assert (await caller(asked)).detail == {}


def test_what_found_no_thread_uses_up_no_attempt() -> None:
    failure = ActionFailed("it waits", begun=False, retry_after=30.0)
    definition = PythonDefinition(name="index", function="a:b", timeout=5.0, max_attempts=1)
    settled = judge(definition, failure, attempts=1, event_at=NOW, now=NOW, jitter=0.5)
    assert (settled.outcome, settled.due_at, settled.reason, settled.unwell) == (
        "returned",
        NOW + 30,
        "it waits",
        False,
    )


# ---- Retry and Stop


class Broken:
    def __str__(self) -> str:
        raise ZeroDivisionError


class Bare(Retry):
    """A kind of Retry that forgets to tell its parent."""

    def __init__(self) -> None:
        pass


def asks_for_a_try(event: Event) -> None:
    raise Retry("the index is being built", after=30)


async def asks_for_a_try_in_the_loop(event: Event) -> None:
    raise Retry(after=timedelta(minutes=2))


def asks_until(event: Event) -> None:
    raise Retry("their limit", after=datetime.fromtimestamp(NOW, UTC) + timedelta(hours=1))


def asks_until_yesterday(event: Event) -> None:
    raise Retry(after=datetime.fromtimestamp(NOW, UTC) - timedelta(days=1))


def asks_for_the_usual(event: Event) -> None:
    raise Retry("not yet")


def asks_without_a_word(event: Event) -> None:
    raise Bare


def asks_for_ever(event: Event) -> None:
    raise Retry(after=float("inf"))


def asks_until_next_year(event: Event) -> None:
    raise Retry(after=datetime.fromtimestamp(NOW, UTC) + timedelta(days=365))


def stops(event: Event) -> None:
    raise Stop("no \x00such album")


async def stops_in_the_loop(event: Event) -> None:
    raise Stop("x" * 1000)


def stops_without_a_word(event: Event) -> None:
    raise Stop("")


def stops_with_an_object(event: Event) -> None:
    raise Stop(Broken())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("function", "reason", "seconds"),
    [
        (asks_for_a_try, "the index is being built", 30.0),
        (asks_for_a_try_in_the_loop, "the function asked to be tried again", 120.0),
        (asks_until, "their limit", 3600.0),
        (asks_until_yesterday, "the function asked to be tried again", 0.0),
        (asks_for_the_usual, "not yet", None),
        (asks_without_a_word, "the function asked to be tried again", None),
        (asks_for_ever, "ValueError: Retry: `after` must be from 0 to 86400 seconds, got inf", None),
        (asks_until_next_year, "ValueError: Retry: `after` must be from 0 to 86400 seconds, got 31536000", None),
    ],
)
async def test_a_function_may_ask_for_a_later_try(
    function: Callable[[Event], object], reason: str, seconds: float | None
) -> None:
    told = await failure(python(f"{__name__}:{function.__name__}"))
    assert (told.reason, told.retry_after, told.permanent) == (reason, seconds, False)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (stops, "no such album"),
        (stops_in_the_loop, "x" * 300),
        (stops_without_a_word, "the function asked us to stop"),
        (stops_with_an_object, "the function asked us to stop"),
    ],
)
async def test_a_function_may_end_its_action(function: Callable[[Event], object], reason: str) -> None:
    told = await failure(python(f"{__name__}:{function.__name__}"))
    assert (told.reason, told.permanent) == (reason, True)


# ---- where it went wrong


def fails_below(event: Event) -> None:
    raises(event)


async def fails_below_in_the_loop(event: Event) -> None:
    fails_below(event)


@pytest.mark.parametrize("function", [fails_below, fails_below_in_the_loop])
async def test_an_exception_is_kept_with_the_lines_it_came_through(function: Callable[[Event], object]) -> None:
    places = (await failure(python(f"{__name__}:{function.__name__}"))).detail["at"]
    assert isinstance(places, list)
    lines = [f"test_python_action.py:{each.__code__.co_firstlineno + 1} in {each.__name__}" for each in called]
    assert places[-2:] == lines
    assert all(str(place).startswith("test_python_action.py:") for place in places)


called = (fails_below, raises)
