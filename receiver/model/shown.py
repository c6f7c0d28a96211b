"""How records become what the API shows: what both have is copied, and times become texts. Pure."""

from collections.abc import Sequence
from functools import cache
from typing import TypeVar, get_args

from msgspec import Struct
from msgspec.structs import fields

from receiver.model import breaker as breakers
from receiver.model import views
from receiver.model.definitions import Definition
from receiver.model.entries import ListedTask
from receiver.model.records import Action, Attempt, Check, DefinitionState, Delivery, Event, Task, rfc3339
from receiver.model.redaction import shown_input
from receiver.model.sentences import WAITS_FOR

V = TypeVar("V", bound=Struct)
TaskV = TypeVar("TaskV", bound=views.TaskView)


def shown(view: type[V], record: object, **given: object) -> V:
    """A record as its view shows it. What the record does not have under the view's name is `given`, times in seconds.

    Raises AttributeError for a field of the view that neither has.
    """
    times = _times(view)
    values: dict[str, object] = {}
    for name in view.__struct_fields__:
        value = given[name] if name in given else getattr(record, name)
        if name in times and isinstance(value, float | int):
            value = rfc3339(value)
        values[name] = list(value) if isinstance(value, tuple) else value
    return view(**values)


@cache
def _times(view: type[Struct]) -> frozenset[str]:
    """The fields of a view that are times."""
    return frozenset(field.name for field in fields(view) if views.Time in (field.type, *get_args(field.type)))


def task_view(view: type[TaskV], task: Task, **given: object) -> TaskV:
    """A task, as one of the views of a task shows it."""
    callback = shown(views.CallbackView, task, sent=task.callback, cause=task.miss_cause)
    return shown(view, task, input=shown_input(task.input), next_check_at=task.check_at, callback=callback, **given)


def task_row(task: ListedTask) -> views.TaskRow:
    callback = shown(views.CallbackView, task, sent=task.callback, cause=task.miss_cause)
    return shown(views.TaskRow, task, next_check_at=task.check_at, callback=callback)


def event_view(event: Event) -> views.EventView:
    return shown(views.EventView, event, type=f"task.{event.state}")


def action_view(action: Action, attempts: Sequence[Attempt] = ()) -> views.ActionView:
    waits_for = action.waits_for and WAITS_FOR[action.waits_for]
    return shown(views.ActionView, action, waits_for=waits_for, tries=[_attempt_view(each) for each in attempts])


def _attempt_view(attempt: Attempt) -> views.AttemptView:
    seconds = None if attempt.ended_at is None else round(attempt.ended_at - attempt.started_at, 3)
    return shown(views.AttemptView, attempt, seconds=seconds)


def definition_view(state: DefinitionState, definition: Definition | None, now: float) -> views.DefinitionView:
    return shown(
        views.DefinitionView,
        state,
        breaker=breakers.state(state.breaker, now),
        failures=len(state.breaker.failed),
        open_until=state.breaker.open_until,
        concurrency=definition.concurrency if definition else None,
        rate=definition.rate if definition else None,
        on=definition.on if definition else [],
    )


def timeline(
    task: Task,
    event: Event | None,
    actions: Sequence[tuple[Action, Sequence[Attempt]]],
    deliveries: Sequence[Delivery],
    checks: Sequence[Check],
) -> list[views.Moment]:
    """Everything that happened to a task, in its order."""
    moments: list[tuple[float, str, str]] = [(task.created_at, "queued", task.target)]
    for delivery in deliveries:
        kept = delivery.claim or delivery.problem or "no end"
        moments.append((delivery.received_at, "delivery", f"{delivery.purpose}: {kept}, came {delivery.count}x"))
    moments += [(check.at, check.kind, check.summary) for check in checks]
    if event is not None:
        certain = "confirmed" if event.confirmed else "unconfirmed"
        moments.append((event.at, f"task {event.state}", f"learned by {event.source}, {certain}"))
    if task.missed_at is not None:
        moments.append((task.missed_at, "callback missed", task.miss_cause or ""))
    for action, attempts in actions:
        moments += [
            (attempt.started_at, f"action {action.name}", f"try {attempt.number}: {attempt.outcome or 'running'}")
            for attempt in attempts
        ]
    return [shown(views.Moment, None, at=at, what=what, detail=detail) for at, what, detail in sorted(moments)]
