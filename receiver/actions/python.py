"""The action that calls a Python function, `module:name`, with the event document.

An async function runs in the loop and is cancelled when its time is over. A sync function runs in a thread of its own:
Python cannot end a thread, so after a timeout it runs on by itself, holding no slot and not keeping the server alive,
and whatever it still does happens beside the next try.
"""

import asyncio
import importlib
import inspect
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from typing import TypeAlias, TypeVar

import msgspec

from receiver.actions import ActionFailed, Done, Work
from receiver.records import JsonObject

REASON_KEPT = 300
RETURNED_KEPT = 16 * 1024

Function: TypeAlias = Callable[[JsonObject], object]
T = TypeVar("T")


class Caller:
    """Imports each function once and calls it; an exception is a failed try."""

    def __init__(self) -> None:
        self._loaded: dict[str, Function] = {}

    async def __call__(self, work: Work) -> Done:
        function = await self._function(work.definition.function)
        document = deepcopy(work.body)
        try:
            if _is_async(function):
                returned = function(document)
            else:
                returned = await in_own_thread(lambda: function(document))
            if inspect.isawaitable(returned):
                returned = await returned
        except asyncio.CancelledError as error:
            if _is_being_cancelled():
                raise
            raise _failed(error) from error
        except ActionFailed:
            raise
        except (Exception, SystemExit) as error:
            raise _failed(error) from error
        return Done(detail=_returned(returned))

    async def _function(self, name: str) -> Function:
        if name not in self._loaded:
            self._loaded[name] = await in_own_thread(lambda: load(name))
        return self._loaded[name]


def load(function: str) -> Function:
    """The function behind `module:name`, or an ActionFailed that says which of the three steps went wrong.

    Modules in the working directory are found as well; an installed module of the same name goes first.
    """
    module_name, colon, path = function.partition(":")
    if not colon or not module_name or not path:
        raise ActionFailed(f"`function` must be module:name, got {_short(function)}", permanent=True)
    if "" not in sys.path:
        sys.path.append("")
    try:
        found: object = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise ActionFailed(
            f"module {_short(module_name)} cannot be imported: {_told(error)}", permanent=True
        ) from error
    for name in path.split("."):
        found = getattr(found, name, None)
    if not callable(found):
        reason = f"module {_short(module_name)} has no function {_short(path)}"
        raise ActionFailed(reason, permanent=True)
    return found


async def in_own_thread(call: Callable[[], T]) -> T:
    """The call's value or exception, from a thread that blocks neither the shared pool nor the end of the process."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def report(settle: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop may be closed by now
            loop.call_soon_threadsafe(lambda: None if future.done() else settle())

    def run() -> None:
        try:
            value = call()
        except BaseException as error:
            failure = error if isinstance(error, ActionFailed) else _failed(error)
            report(lambda: future.set_exception(failure))
        else:
            report(lambda: future.set_result(value))

    threading.Thread(target=run, name="receiver-python-action", daemon=True).start()
    try:
        return await future
    except asyncio.CancelledError as cancelled:
        cancelled.add_note("its thread runs on: a function that is not async cannot be ended")
        raise


def _is_being_cancelled() -> bool:
    """False when the function raised CancelledError by itself: that is its failure, not our end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _is_async(function: Function) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _failed(error: BaseException) -> ActionFailed:
    return ActionFailed(_told(error))


def _told(error: BaseException) -> str:
    try:
        message = str(error)
    except Exception:
        message = ""
    return f"{type(error).__name__}: {message}".replace("\x00", "")[:REASON_KEPT]


def _short(text: str) -> str:
    return ascii(text[:120])


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
