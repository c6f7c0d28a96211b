"""The action that calls a Python function, `module:name`, with the event.

An async function runs in the loop and is cancelled when its time is over; one that ignores that is left behind. A sync
function runs in a thread of its own: Python cannot end a thread, so after a timeout it runs on by itself, holding no
slot and not keeping the server alive, and whatever it still does happens beside the next attempt. So their number is
bounded, or functions that hang would fill the process with threads.
"""

import asyncio
import importlib
import inspect
import os.path
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from copy import deepcopy
from traceback import walk_tb
from typing import TypeAlias, TypeVar

import msgspec
from msgspec import Struct

from receiver.actions import ActionFailed, Done, Work, quoted
from receiver.actions.settings import PythonDefinition
from receiver.events import Event, Retry, Stop
from receiver.model import rules
from receiver.model.definitions import FailureClass
from receiver.model.records import Json, JsonObject

REASON_KEPT = 300
PLACES_KEPT = 5
RETURNED_KEPT = 16 * 1024
CANCEL_GRACE = 1.0
"""Seconds for an async function to end in that was cancelled; a worker is not held longer."""
NOTHING_RAN = "the function gives back a generator, of which nothing has run; do the work without `yield`"

Function: TypeAlias = Callable[[Event], object]
T = TypeVar("T")


class Caller(Struct, frozen=True):
    """Imports each function once and calls it with an Event of its own; an exception is a failed attempt.

    Retry and Stop say what comes after it. `clock` is what a Retry until some moment is measured against. A definition
    has as many threads as it has workers and `strays` more, for what runs on past its timeout; who finds none free in
    `patience` seconds has not begun.
    """

    clock: Callable[[], float]
    strays: int = rules.STRAY_THREADS
    patience: float = rules.THREAD_PATIENCE
    loaded: dict[str, Function] = {}
    free: dict[str, asyncio.Semaphore] = {}

    async def __call__(self, work: Work) -> Done:
        assert isinstance(work.definition, PythonDefinition)
        definition = work.definition
        function = await self._function(definition)
        event = Event(deepcopy(work.body))
        try:
            if _is_async(function):
                returned = function(event)
            else:
                returned = await self._in_thread(definition, lambda: function(event))
            if inspect.isawaitable(returned):
                returned = await in_own_task(returned)
        except (ActionFailed, KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # a worker must outlive whatever an async function raises
            if isinstance(error, asyncio.CancelledError) and _is_being_cancelled():
                raise
            raise _failed(error, self.clock()) from error
        if inspect.isgenerator(returned) or inspect.isasyncgen(returned):
            raise ActionFailed(NOTHING_RAN, permanent=True)
        return Done(detail=_returned(returned))

    async def _function(self, definition: PythonDefinition) -> Function:
        name = definition.function
        if name not in self.loaded:
            self.loaded[name] = await self._in_thread(definition, lambda: load(name))
        return self.loaded[name]

    async def _in_thread(self, definition: PythonDefinition, call: Callable[[], T]) -> T:
        """The call's value, from one of the definition's threads."""
        most = definition.concurrency + self.strays
        free = self.free.setdefault(definition.name, asyncio.Semaphore(most))
        try:
            async with asyncio.timeout(min(self.patience, definition.timeout / 2)):
                await free.acquire()
        except TimeoutError:
            told = f"it waits: {most} earlier calls of {definition.function} still run, most of them past their timeout"
            remedy = "; give what they wait for a timeout of its own, or restart the server"
            raise ActionFailed(told + remedy, begun=False, retry_after=self.patience) from None
        return await in_own_thread(call, free.release)


def load(function: str) -> Function:
    """The function behind `module:name`, or an ActionFailed that says which of the three steps went wrong.

    Modules in the working directory are found as well; an installed module of the same name goes first.
    """
    module_name, colon, path = function.partition(":")
    if not colon or not module_name or not path:
        raise ActionFailed(f"`function` must be module:name, got {quoted(function)}", permanent=True)
    if "" not in sys.path:
        sys.path.append("")
    try:
        found: object = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        reason = f"module {quoted(module_name)} cannot be imported: {_told(error)}"
        raise ActionFailed(reason, permanent=True) from error
    for name in path.split("."):
        found = getattr(found, name, None)
    if not callable(found):
        raise ActionFailed(f"module {quoted(module_name)} has no function {quoted(path)}", permanent=True)
    return found


async def in_own_thread(call: Callable[[], T], ended: Callable[[], None]) -> T:
    """The call's value or exception, from a thread that blocks neither the shared pool nor the end of the process.

    Whoever still waits for it, `ended` is called in the loop when the thread is done.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def report(settle: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop may be closed by now
            loop.call_soon_threadsafe(ended)
            loop.call_soon_threadsafe(lambda: None if future.done() else settle())

    def run() -> None:
        try:
            value = call()
        except BaseException as error:
            # A future carries neither StopIteration nor what would end the loop.
            plain = isinstance(error, Exception) and not isinstance(error, StopIteration)
            failure = error if plain else ActionFailed(_told(error), detail={"at": _places(error)})
            report(lambda: future.set_exception(failure))
        else:
            report(lambda: future.set_result(value))

    threading.Thread(target=run, name="receiver-python-action", daemon=True).start()
    try:
        return await future
    except asyncio.CancelledError as cancelled:
        cancelled.add_note("its thread runs on: a function that is not async cannot be ended")
        raise


class _Raised(Struct, frozen=True):
    error: BaseException


async def in_own_task(work: Awaitable[T]) -> T:
    """The same of what can be awaited; when it does not let itself be cancelled, it is left behind."""

    async def kept() -> T | _Raised:
        try:
            return await work
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:  # a task would let some of them end the loop
            return _Raised(error)

    task = asyncio.ensure_future(kept())
    try:
        ended = await asyncio.shield(task)
    except asyncio.CancelledError as cancelled:
        if _is_being_cancelled():
            task.cancel()
            await asyncio.wait({task}, timeout=CANCEL_GRACE)
            if not task.done():
                cancelled.add_note("its function runs on: it does not let itself be cancelled")
        raise
    if isinstance(ended, _Raised):
        raise ended.error
    return ended


def _is_being_cancelled() -> bool:
    """False when the function raised CancelledError by itself: that is its failure, not our end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _is_async(function: Function) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _failed(error: BaseException, now: float) -> ActionFailed:
    match error:
        case Stop():
            reason = _said(error.reason) or "the function asked us to stop"
            return ActionFailed(reason, permanent=True, category=FailureClass.REFUSED)
        case Retry():
            try:
                wait = error.wait(now)
            except (ValueError, OverflowError) as nonsense:
                return ActionFailed(_told(nonsense))
            reason = _said(error.reason) or "the function asked to be tried again"
            return ActionFailed(reason, retry_after=wait, category=FailureClass.POSTPONED)
    return ActionFailed(_told(error), detail={"at": _places(error)})


def _places(error: BaseException) -> list[Json]:
    """Where it was raised, from the function down: `hooks.py:12 in index`."""
    frames = [(frame.f_code, line) for frame, line in walk_tb(error.__traceback__)]
    foreign = [(code, line) for code, line in frames if code.co_filename != __file__]
    return [f"{os.path.basename(code.co_filename)}:{line} in {code.co_name}" for code, line in foreign[-PLACES_KEPT:]]


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {_said(error)}"[:REASON_KEPT]


def _said(what: object) -> str:
    try:
        return str(what).replace("\x00", "")[:REASON_KEPT]
    except Exception:
        return ""


def _returned(value: object) -> JsonObject:
    """The returned dict as JSON, when it is one and small."""
    if not isinstance(value, dict):
        return {}
    try:
        encoded = msgspec.json.encode(value)
        if len(encoded) > RETURNED_KEPT:
            return {"returned": "too large to keep"}
        return {"returned": msgspec.json.decode(encoded)}
    except (TypeError, ValueError, RecursionError, OverflowError, msgspec.MsgspecError):
        return {}
