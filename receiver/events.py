"""What a Python action is given and may raise: `from receiver.events import Event, Retry, Stop`. Pure.

def index(event: Event) -> None:
    if not event.results:
        raise Stop("there is nothing to index")
    for result in event.results:
        print(event.task.id, result.url, event["results"][0]["type"])
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct, structs

from receiver.model import records
from receiver.model.records import Json, JsonObject, Result, Task, TaskError, rfc3339
from receiver.model.redaction import shown_input

__all__ = ["Event", "EventAction", "EventTask", "Result", "Retry", "Stop", "TaskError"]

LONGEST_WAIT = 86400.0
"""Seconds that a function may ask to wait, at the most: result links live no longer."""

Aware = Annotated[datetime, Meta(tz=True)]


class EventTask(Struct, frozen=True, kw_only=True):
    """The task that ended. `kind` is model, workflow, app or quick; `state` is how it ended.

    `input` is what was ordered; None when the action has `include_input = false`.
    """

    id: str
    kind: str
    target: str
    input: dict[str, Any] | None = None
    labels: dict[str, str]
    provider_task_id: str | None
    state: str
    submitted_at: Aware | None
    ended_at: Aware | None


class EventAction(Struct, frozen=True, kw_only=True):
    """The action this is a try of. `attempt` counts from 1; `generation` grows when the action is replayed anew."""

    id: int
    name: str
    generation: int
    attempt: int


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Event(dict[str, Any]):
    """How a task ended: the JSON document that every kind of action receives, with typed attributes beside.

    It is the document itself, as a dict, with the fields that a later version may add; the attributes read what is
    known today, as the document was when the event was made. Raises ValueError for what is no event document, naming
    the field.
    """

    type: str
    """`task.succeeded`, `task.failed`, `task.cancelled` or `task.rejected`."""
    id: str
    """The event's id: the same in every action and every try."""
    time: Aware
    """When the end was recorded, in UTC."""
    source: str
    """How the end was learned: callback, resend, query, detail, submit or cancel."""
    confirmed: bool
    """Whether RunningHub itself was asked; an unsigned callback alone confirms nothing."""
    task: EventTask
    results: list[Result]
    """What the task made. `url` dies after a day; `file` is the path it was saved under, when it was by then."""
    error: TaskError | None
    """Why the task did not succeed: RunningHub's code, its name, and a sentence."""
    usage: dict[str, Any]
    """What the task cost, as far as RunningHub says it."""
    action: EventAction
    idempotency_key: str
    """The same in every try of this action: an effect that carries it can be told from its repetition."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        super().__init__(document)
        try:
            vars(self).update(structs.asdict(msgspec.convert(dict(document), _Document)))
        except msgspec.ValidationError as error:
            raise ValueError(f"not an event document: {_placed(error)}") from None


_Document = msgspec.defstruct("_Document", Event.__annotations__.items())
EVENT_FIELDS = _Document.__struct_fields__
"""The names of the event document's fields, in their order."""


class Retry(Exception):
    """Raised by a Python action: this try failed; try again, not before `after`.

    `after` is in seconds, a timedelta, or a datetime with a time zone; a day at the most, and a moment that is past
    means at once. None leaves the wait to the usual backoff, which is also the least: 2 s after the first try, three
    times as long after each further one, up to an hour. The try counts like any other: after `max_attempts` of them
    the action is dead. Raises ValueError for a wait that is none.
    """

    reason: str = ""
    after: float | timedelta | datetime | None = None

    def __init__(self, reason: str = "", *, after: float | timedelta | datetime | None = None) -> None:
        if not isinstance(reason, str):
            raise ValueError(f"Retry: the reason must be a text, got {type(reason).__name__}; a wait is `after=`")
        super().__init__(reason)
        self.reason = reason
        self.after = after
        if isinstance(after, datetime):
            if after.tzinfo is None:
                raise ValueError("Retry: `after` is a datetime without a time zone; use one such as datetime.now(UTC)")
        elif after is not None:
            _bounded(_seconds(after))

    def wait(self, now: float) -> float | None:
        """Seconds from `now` (since 1970) until the next try may begin; None when the usual backoff decides."""
        if isinstance(self.after, datetime):
            return _bounded(max(0.0, self.after.timestamp() - now))
        return None if self.after is None else _bounded(_seconds(self.after))


class Stop(Exception):
    """Raised by a Python action: trying again is useless. The action is dead at once, with this reason."""

    reason: str = ""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _seconds(after: object) -> float:
    if isinstance(after, timedelta):
        return after.total_seconds()
    if isinstance(after, bool) or not isinstance(after, int | float):
        raise ValueError(f"Retry: `after` must be seconds, a timedelta or a datetime, got {type(after).__name__}")
    try:
        return float(after)
    except OverflowError:
        return math.inf if after > 0 else -math.inf


def _bounded(seconds: float) -> float:
    if not math.isfinite(seconds) or not 0 <= seconds <= LONGEST_WAIT:
        raise ValueError(f"Retry: `after` must be from 0 to {LONGEST_WAIT:.0f} seconds, got {seconds:.10g}")
    return seconds


def _placed(error: msgspec.ValidationError) -> str:
    """`task.id: expected str, got int`."""
    problem, _, path = str(error).replace("`", "").partition(" - at $")
    place = path.lstrip(".")
    return f"{place}: {problem[:1].lower()}{problem[1:]}" if place else problem[:1].lower() + problem[1:]


def idempotency_key(task_id: str, name: str, generation: int) -> str:
    """The key that every try of one effect carries, so that a receiver can drop repetitions."""
    return f"{task_id}:{name}:{generation}"


def event_body(
    event: records.Event, task: Task, *, results: list[Result], action: Mapping[str, Json], key: str
) -> JsonObject:
    """The JSON document an action receives, as POST body, on stdin or as function argument. Fields are only added."""
    told = {name: getattr(task, name) for name in EventTask.__struct_fields__} | {"input": shown_input(task.input)}
    times = {"submitted_at": rfc3339(task.submitted_at), "ended_at": rfc3339(task.ended_at)}
    return {
        "type": f"task.{event.state}",
        "id": event.id,
        "time": rfc3339(event.at),
        "source": event.source.value,
        "confirmed": event.confirmed,
        "task": msgspec.to_builtins({**told, **times}),
        "results": msgspec.to_builtins(results),
        "error": msgspec.to_builtins(event.error),
        "usage": event.usage,
        "action": dict(action),
        "idempotency_key": key,
    }


def without_input(document: Mapping[str, Any]) -> dict[str, Any]:
    """The event document without what was ordered."""
    task = {name: value for name, value in document["task"].items() if name != "input"}
    return {**document, "task": task}
