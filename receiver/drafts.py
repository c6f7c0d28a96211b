"""What is about to be written: orders, deliveries, events, owed actions and checks on their way into the ledger."""

from enum import StrEnum

from msgspec import Struct

from receiver.records import Api, CheckKind, End, JsonObject, Kind, Purpose, Result, Source, Task, TaskError, TaskState


class NewTask(Struct, frozen=True, kw_only=True):
    """What a task is made from. `digest` tells whether two orders under one idempotency key are the same.

    `uploads` has, by their ids, the texts that stand for uploads in the input.
    """

    id: str
    kind: Kind
    api: Api = Api.V2
    target: str
    input: JsonObject
    labels: dict[str, str]
    digest: bytes
    idempotency_key: str | None = None
    again_of: str | None = None
    uploads: dict[str, str] = {}


class NewDelivery(Struct, frozen=True, kw_only=True):
    """What the door knows of a callback before it is stored."""

    task: str
    purpose: Purpose
    body: bytes
    digest: bytes
    size: int
    provider_task_id: str | None = None
    claim: str | None = None
    problem: str | None = None


class OwedAction(Struct, frozen=True, kw_only=True):
    """An action to be written beside an event. `held` actions wait until the event is confirmed."""

    name: str
    held: bool = False
    after: tuple[str, ...] = ()


class NewEvent(Struct, frozen=True, kw_only=True):
    """What was learned of a task's end, before it is recorded.

    `settled` says that nothing more will be asked: the provider confirmed it, or confirming is turned off.
    """

    task: Task
    state: End
    source: Source
    confirmed: bool
    settled: bool
    no_results: bool = False
    results: list[Result] = []
    error: TaskError | None = None
    usage: JsonObject = {}
    extra: JsonObject = {}
    only_from: TaskState | None = None


class Telling(StrEnum):
    """What recording an event came to."""

    NEW = "new"
    KNOWN = "known"
    CONFIRMED = "confirmed"
    CONTRADICTED = "contradicted"
    ILLEGAL = "illegal"


class NewCheck(Struct, frozen=True, kw_only=True):
    kind: CheckKind
    at: float
    seconds: float
    ok: bool
    summary: str
    answer: str | None = None
