"""What the API shows: a struct per JSON document, written by the server, read by the client. Times are RFC 3339."""

from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

from msgspec import Struct

from receiver.model import breaker as breakers
from receiver.model.definitions import Definition
from receiver.model.records import (
    Action,
    Alert,
    Attempt,
    Check,
    DefinitionState,
    Delivery,
    Event,
    Replay,
    Result,
    Task,
    TaskError,
    rfc3339,
)
from receiver.model.redaction import MASK

T = TypeVar("T")

SECRET_INPUTS = frozenset({"accessPassword"})


class PageView(Struct, Generic[T], frozen=True, kw_only=True):
    """A page of a list, newest first; `next` is the cursor of the next one."""

    items: list[T]
    next: str | None


class CallbackView(Struct, frozen=True, kw_only=True):
    """A task's callback: whether a URL was sent, when a callback came, and the search for one that was missed."""

    sent: bool
    delivered_at: str | None
    miss: str | None
    cause: str | None
    missed_at: str | None
    resent_at: str | None


class TaskView(Struct, frozen=True, kw_only=True):
    """A task; `uploads` has, by the ids that its order named, the texts that stand for uploads in the input."""

    id: str
    kind: str
    api: str
    target: str
    input: Mapping[str, object]
    labels: dict[str, str]
    state: str
    provider_task_id: str | None
    provider_status: str | None
    created_at: str
    submitted_at: str | None
    ended_at: str | None
    next_check_at: str | None
    error: TaskError | None
    callback: CallbackView
    idempotency_key: str | None
    again_of: str | None
    uploads: dict[str, str] = {}


class OrderedView(TaskView, frozen=True, kw_only=True):
    """A task just ordered, and what its giver should know of the order (None: nothing)."""

    note: str | None


class EventView(Struct, frozen=True, kw_only=True):
    id: str
    task: str
    type: str
    state: str
    source: str
    confirmed: bool
    contradicted: bool
    no_results: bool
    at: str
    results: list[Result]
    error: TaskError | None
    usage: Mapping[str, object]


class AttemptView(Struct, frozen=True, kw_only=True):
    number: int
    started_at: str
    ended_at: str | None
    seconds: float | None
    outcome: str | None
    detail: Mapping[str, object]


class ActionView(Struct, frozen=True, kw_only=True):
    id: int
    task: str
    event: str
    name: str
    generation: int
    state: str
    due_at: str | None
    lease_until: str | None
    attempts: int
    created_at: str
    settled_at: str | None
    reason: str | None
    replay: int | None
    tries: list[AttemptView] = []


class DeliveryView(Struct, frozen=True, kw_only=True):
    id: int
    task: str
    purpose: str
    received_at: str
    last_at: str
    count: int
    size: int
    readable: bool
    contradicting: bool
    provider_task_id: str | None
    claim: str | None
    problem: str | None


class DeliveryPage(Struct, frozen=True, kw_only=True):
    """A page of deliveries, with everything that was ever counted: received, repeated, missed (by cause) and late."""

    items: list[DeliveryView]
    next: str | None
    totals: dict[str, int]


class CheckView(Struct, frozen=True, kw_only=True):
    kind: str
    at: str
    seconds: float
    ok: bool
    summary: str
    answer: str | None


class Moment(Struct, frozen=True, kw_only=True):
    """One line of a task's timeline."""

    at: str
    what: str
    detail: str


class TaskDetail(TaskView, frozen=True, kw_only=True):
    """A task with all that is known of it."""

    results: list[Result]
    usage: Mapping[str, object]
    event: EventView | None
    actions: list[ActionView]
    deliveries: list[DeliveryView]
    checks: list[CheckView]
    timeline: list[Moment]


class DefinitionView(Struct, frozen=True, kw_only=True):
    """A configured action. `breaker` is closed, open or half_open, `failures` how many of its
    actions failed in a row.
    """

    name: str
    kind: str
    configured: bool
    paused: bool
    breaker: str
    failures: int
    open_until: str | None
    concurrency: int | None
    rate: float | None
    on: list[str]
    counts: dict[str, int]


class AlertView(Struct, frozen=True, kw_only=True):
    id: int
    kind: str
    subject: str
    message: str
    opened_at: str
    last_at: str
    closed_at: str | None
    count: int


class ReplayView(Struct, frozen=True, kw_only=True):
    """A replay, or what one would do: then `id` is None.

    `done` came to an end, `dead` of them to a bad one; `cancelled` were not begun when it was cancelled.
    """

    id: int | None
    mode: str
    matched: int
    dry_run: bool
    state: str
    done: int
    dead: int
    cancelled: int
    rate: float | None
    created_at: str | None
    finished_at: str | None


class ModelRow(Struct, frozen=True, kw_only=True):
    """A model of the catalogue; `listed` ones are documented, the others newer."""

    name: str
    endpoint: str
    group: list[str]
    output: str
    listed: bool


class ParamView(Struct, frozen=True, kw_only=True):
    """A parameter; `allowed` is a sentence, `choices` are all values that are allowed, when these can be counted."""

    name: str
    type: str
    required: bool
    default: object
    allowed: str
    choices: list[str] = []


class ModelView(ModelRow, frozen=True, kw_only=True):
    """A model with what it takes, an input that it would take, and what to know of the name it was found by."""

    note: str | None
    params: list[ParamView]
    example: Mapping[str, object]


class ErrorView(Struct, frozen=True, kw_only=True):
    code: str
    message: str
    details: object = None


class ErrorDocument(Struct, frozen=True, kw_only=True):
    error: ErrorView


def shown_input(given: Mapping[str, object]) -> dict[str, object]:
    """A task's input without what opens somebody's workflow."""
    return {name: MASK if name in SECRET_INPUTS and value else value for name, value in given.items()}


def task_view(task: Task) -> TaskView:
    return TaskView(**_task_fields(task))  # type: ignore[arg-type]


def ordered_view(task: Task, note: str | None) -> OrderedView:
    return OrderedView(**_task_fields(task), note=note)  # type: ignore[arg-type]


def event_view(event: Event) -> EventView:
    return EventView(
        id=event.id,
        task=event.task,
        type=f"task.{event.state}",
        state=event.state,
        source=event.source,
        confirmed=event.confirmed,
        contradicted=event.contradicted,
        no_results=event.no_results,
        at=_time(event.at),
        results=event.results,
        error=event.error,
        usage=event.usage,
    )


def action_view(action: Action, attempts: Sequence[Attempt] = ()) -> ActionView:
    return ActionView(
        id=action.id,
        task=action.task,
        event=action.event,
        name=action.name,
        generation=action.generation,
        state=action.state,
        due_at=rfc3339(action.due_at),
        lease_until=rfc3339(action.lease_until),
        attempts=action.attempts,
        created_at=_time(action.created_at),
        settled_at=rfc3339(action.settled_at),
        reason=action.reason,
        replay=action.replay,
        tries=[_attempt_view(attempt) for attempt in attempts],
    )


def delivery_view(delivery: Delivery) -> DeliveryView:
    return DeliveryView(
        id=delivery.id,
        task=delivery.task,
        purpose=delivery.purpose,
        received_at=_time(delivery.received_at),
        last_at=_time(delivery.last_at),
        count=delivery.count,
        size=delivery.size,
        readable=delivery.readable,
        contradicting=delivery.contradicting,
        provider_task_id=delivery.provider_task_id,
        claim=delivery.claim,
        problem=delivery.problem,
    )


def definition_view(state: DefinitionState, definition: Definition | None, now: float) -> DefinitionView:
    return DefinitionView(
        name=state.name,
        kind=state.kind,
        configured=state.configured,
        paused=state.paused,
        breaker=breakers.state(state.breaker, now),
        failures=len(state.breaker.failed),
        open_until=rfc3339(state.breaker.open_until),
        concurrency=definition.concurrency if definition else None,
        rate=definition.rate if definition else None,
        on=[end.value for end in definition.on] if definition else [],
        counts=state.counts,
    )


def alert_view(alert: Alert) -> AlertView:
    return AlertView(
        id=alert.id,
        kind=alert.kind,
        subject=alert.subject,
        message=alert.message,
        opened_at=_time(alert.opened_at),
        last_at=_time(alert.last_at),
        closed_at=rfc3339(alert.closed_at),
        count=alert.count,
    )


def replay_view(replay: Replay) -> ReplayView:
    return ReplayView(
        id=replay.id,
        mode=replay.mode,
        matched=replay.matched,
        dry_run=False,
        state=replay.state,
        done=replay.done,
        dead=replay.dead,
        cancelled=replay.cancelled,
        rate=replay.rate,
        created_at=rfc3339(replay.created_at),
        finished_at=rfc3339(replay.finished_at),
    )


def dry_run_view(mode: str, matched: int, rate: float | None) -> ReplayView:
    """What a replay would do."""
    return ReplayView(
        id=None,
        mode=mode,
        matched=matched,
        dry_run=True,
        state="dry_run",
        done=0,
        dead=0,
        cancelled=0,
        rate=rate,
        created_at=None,
        finished_at=None,
    )


def task_detail(
    task: Task,
    event: Event | None,
    actions: Sequence[tuple[Action, Sequence[Attempt]]],
    deliveries: Sequence[Delivery],
    checks: Sequence[Check],
) -> TaskDetail:
    return TaskDetail(
        **_task_fields(task),  # type: ignore[arg-type]
        results=event.results if event else [],
        usage=event.usage if event else {},
        event=event_view(event) if event else None,
        actions=[action_view(action, attempts) for action, attempts in actions],
        deliveries=[delivery_view(delivery) for delivery in deliveries],
        checks=[_check_view(check) for check in checks],
        timeline=_timeline(task, event, actions, deliveries, checks),
    )


def _task_fields(task: Task) -> Mapping[str, object]:
    return {
        "id": task.id,
        "kind": task.kind,
        "api": task.api,
        "target": task.target,
        "input": shown_input(task.input),
        "labels": task.labels,
        "state": task.state,
        "provider_task_id": task.provider_task_id,
        "provider_status": task.provider_status,
        "created_at": _time(task.created_at),
        "submitted_at": rfc3339(task.submitted_at),
        "ended_at": rfc3339(task.ended_at),
        "next_check_at": rfc3339(task.check_at),
        "error": task.error,
        "callback": CallbackView(
            sent=task.callback,
            delivered_at=rfc3339(task.delivered_at),
            miss=task.miss,
            cause=task.miss_cause,
            missed_at=rfc3339(task.missed_at),
            resent_at=rfc3339(task.resent_at),
        ),
        "idempotency_key": task.idempotency_key,
        "again_of": task.again_of,
        "uploads": task.uploads,
    }


def _attempt_view(attempt: Attempt) -> AttemptView:
    seconds = None if attempt.ended_at is None else round(attempt.ended_at - attempt.started_at, 3)
    return AttemptView(
        number=attempt.number,
        started_at=_time(attempt.started_at),
        ended_at=rfc3339(attempt.ended_at),
        seconds=seconds,
        outcome=attempt.outcome,
        detail=attempt.detail,
    )


def _check_view(check: Check) -> CheckView:
    return CheckView(
        kind=check.kind,
        at=_time(check.at),
        seconds=round(check.seconds, 3),
        ok=check.ok,
        summary=check.summary,
        answer=check.answer,
    )


def _timeline(
    task: Task,
    event: Event | None,
    actions: Sequence[tuple[Action, Sequence[Attempt]]],
    deliveries: Sequence[Delivery],
    checks: Sequence[Check],
) -> list[Moment]:
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
    return [Moment(at=_time(at), what=what, detail=detail) for at, what, detail in sorted(moments)]


def _time(seconds: float) -> str:
    return rfc3339(seconds) or ""
