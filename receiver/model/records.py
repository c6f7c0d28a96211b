"""The nouns: tasks, deliveries, events, actions, attempts, checks and alerts, as frozen records without behaviour.

Times are seconds since 1970 (UTC) as float inside the program; `rfc3339` makes of them what is shown outside.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Generic, TypeAlias, TypeVar
from uuid import UUID, uuid5

from msgspec import Struct

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
JsonObject: TypeAlias = dict[str, Json]
Line: TypeAlias = dict[str, str | int | None]
"""What a verb did, as fields for the log; None in its place when there was nothing to do."""
T = TypeVar("T")


class Kind(StrEnum):
    MODEL = "model"
    WORKFLOW = "workflow"
    APP = "app"
    QUICK = "quick"


class Api(StrEnum):
    """Which of the provider's two forms a task is submitted in; its callback comes in the same one."""

    V1 = "v1"
    V2 = "v2"


class TaskState(StrEnum):
    QUEUED = "queued"
    SUBMITTING = "submitting"
    SUBMITTED = "submitted"
    IN_DOUBT = "in_doubt"
    REJECTED = "rejected"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"


class End(StrEnum):
    """How a task ended: the state of an event."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REJECTED = "rejected"


class Source(StrEnum):
    """How we learned that a task ended."""

    CALLBACK = "callback"
    RESEND = "resend"
    QUERY = "query"
    DETAIL = "detail"
    SUBMIT = "submit"
    CANCEL = "cancel"


class Purpose(StrEnum):
    """What a callback URL was issued for."""

    SUBMIT = "submit"
    RESEND = "resend"


class ActionState(StrEnum):
    OWED = "owed"
    RUNNING = "running"
    DONE = "done"
    DEAD = "dead"
    SKIPPED = "skipped"


class CheckKind(StrEnum):
    SUBMIT = "submit"
    QUERY = "query"
    OUTPUTS = "outputs"
    DETAIL = "detail"
    RESEND = "resend"
    CANCEL = "cancel"


class MissState(StrEnum):
    """Where the search for a callback stands that did not come for a task that ended."""

    WATCHING = "watching"
    MISSED = "missed"
    RESENT = "resent"
    LATE = "late"
    UNREGISTERED = "unregistered"


class MissCause(StrEnum):
    """Why a callback did not arrive, read from the provider's webhook detail."""

    NEVER_SENT = "never_sent"
    REFUSED = "refused_by_us"
    UNREACHABLE = "unreachable"
    ELSEWHERE = "answered_elsewhere"
    UNREGISTERED = "unregistered"
    UNKNOWN = "unknown"

    @property
    def phrase(self) -> str:
        """What the operator should know of the cause."""
        return MISS_PHRASES[self]


MISS_PHRASES = {
    MissCause.NEVER_SENT: "RunningHub never sent them",
    MissCause.REFUSED: "something at the public URL refused them; see the detail's callbackResponse",
    MissCause.UNREACHABLE: "RunningHub cannot reach the public URL",
    MissCause.ELSEWHERE: "something other than this server answers at the public URL",
    MissCause.UNREGISTERED: "RunningHub did not register the callback URL",
    MissCause.UNKNOWN: "RunningHub does not say why",
}


class AlertKind(StrEnum):
    """What can be wrong that is no task's end."""

    ACTION_DEAD = "action_dead"
    BREAKER_OPEN = "breaker_open"
    CALLBACK_MISSED = "callback_missed"
    EVENT_CONTRADICTED = "event_contradicted"
    ID_TAKEN = "id_taken"
    DEFINITION_MISSING = "definition_missing"
    ELSEWHERE = "tasks_elsewhere"
    DISK_LOW = "disk_low"
    KEY_REFUSED = "provider_key_refused"
    LINKS_EXPIRING = "links_expiring"
    MOVED = "provider_moved"
    STORE_REFUSED = "store_refused"
    TASK_IN_DOUBT = "task_in_doubt"
    TASK_LOST = "task_lost"
    TASK_OVERDUE = "task_overdue"
    TASK_UNREADABLE = "task_unreadable"
    UNREACHABLE = "provider_unreachable"


class ReplayMode(StrEnum):
    RETRY = "retry"
    AGAIN = "again"
    MISSING = "missing"
    REPROCESS = "reprocess"


class Result(Struct, frozen=True, kw_only=True):
    """One thing a task made: a file behind a link, or a text. `file` is the path it was saved under."""

    url: str | None = None
    type: str | None = None
    text: str | None = None
    node_id: str | None = None
    file: str | None = None


class TaskError(Struct, frozen=True, kw_only=True):
    """Why a task did not succeed, in the provider's code, its name for it, and a sentence."""

    code: str
    name: str
    message: str


class Task(Struct, frozen=True, kw_only=True):
    """One order to the provider. `key` never leaves the store's callers; `id` is the public id.

    `uploads` has, by their ids, the texts that stand for uploads in the input. `settled` says that its end will not be
    asked about any more, `refresh` that new links for its results are asked for, `site` to which base URL it was sent.
    """

    key: int
    id: str
    kind: Kind
    api: Api
    target: str
    input: JsonObject
    labels: dict[str, str]
    state: TaskState
    created_at: float
    sent_at: float | None
    submitted_at: float | None
    ended_at: float | None
    provider_task_id: str | None
    provider_status: str | None
    callback: bool
    error: TaskError | None
    check_at: float | None
    asked: int
    unsure_asked: int
    delivered_at: float | None
    queried_at: float | None
    empty_since: float | None
    empty_count: int
    miss: MissState | None
    miss_cause: MissCause | None
    missed_at: float | None
    resends: int
    resent_at: float | None
    refresh: bool
    settled: bool
    overdue: bool
    site: str | None
    idempotency_key: str | None
    again_of: str | None
    uploads: dict[str, str] = {}


class Delivery(Struct, frozen=True, kw_only=True):
    """One inbound POST on a callback URL with a valid token, as it came; repeated bytes are counted."""

    id: int
    task: str
    purpose: Purpose
    received_at: float
    last_at: float
    count: int
    size: int
    readable: bool
    contradicting: bool
    provider_task_id: str | None
    claim: str | None
    problem: str | None


class Event(Struct, frozen=True, kw_only=True):
    """How a task ended; at most one per task."""

    id: str
    task: str
    state: End
    source: Source
    confirmed: bool
    contradicted: bool = False
    no_results: bool = False
    at: float
    results: list[Result]
    error: TaskError | None
    usage: JsonObject


class SavedFile(Struct, frozen=True, kw_only=True):
    """A result file on disk. `result` is the index of the result it came from; `size` in bytes."""

    result: int
    path: str
    sha256: str
    size: int


class Attempt(Struct, frozen=True, kw_only=True):
    """One try of one action. `outcome` is None while it runs, then done, retry, dead, returned or interrupted."""

    number: int
    started_at: float
    ended_at: float | None
    outcome: str | None
    detail: JsonObject


class Action(Struct, frozen=True, kw_only=True):
    """One downstream effect owed because of an event and a definition. `waits_for` is one of sentences.WAITS_FOR."""

    id: int
    task: str
    event: str
    name: str
    generation: int
    state: ActionState
    due_at: float | None
    lease_until: float | None
    attempts: int
    created_at: float
    settled_at: float | None
    reason: str | None
    replay: int | None
    waits_for: str | None = None


class Claimed(Struct, frozen=True, kw_only=True):
    """An action in a worker's hands: the action, its fence, and what it is about."""

    action: Action
    fence: int
    event: Event
    task: Task


class Page(Struct, Generic[T], frozen=True, kw_only=True):
    """A page of a list, newest first; the cursors of the next one (None: this was the last) and the one before."""

    items: list[T]
    next: str | None
    prev: str | None = None


class Filter(Struct, frozen=True, kw_only=True):
    """What a list is narrowed to. Times in seconds; `q` is an id or the prefix of a target or label. `after`,
    or `cursor`, is the `next` of another page, `before` its `prev`; only the store can read them."""

    state: tuple[str, ...] = ()
    kind: tuple[str, ...] = ()
    target: str | None = None
    label: tuple[tuple[str, str], ...] = ()
    q: str | None = None
    task: str | None = None
    name: str | None = None
    verb: str | None = None
    since: float | None = None
    until: float | None = None
    limit: int = 50
    cursor: str | None = None
    after: str | None = None
    before: str | None = None


class Check(Struct, frozen=True, kw_only=True):
    """One exchange with the provider about a task, redacted."""

    id: int
    task: str
    kind: CheckKind
    at: float
    seconds: float
    ok: bool
    summary: str
    answer: str | None


class Account(Struct, frozen=True, kw_only=True):
    """The account at the provider. Amounts are decimal texts; None where the provider says nothing."""

    coins: str | None
    money: str | None
    currency: str | None
    tasks: str | None
    type: str | None


class Node(Struct, frozen=True, kw_only=True):
    """A field of a workflow's or an app's node that may be set; `value` is what it has, `options` its choices. `name`
    and `description` are the provider's words for an app's node, which a quick creation is ordered with."""

    node: str
    field: str
    value: object
    type: str
    title: str
    options: list[str] = []
    name: str = ""
    description: str = ""


class Price(Struct, frozen=True, kw_only=True):
    """What a task would cost, as far as the provider says it. The amount is a decimal text."""

    amount: str | None
    currency: str | None
    text: str | None
    free: bool | None


class Upload(Struct, frozen=True, kw_only=True):
    """A file of ours at the provider: a link for models, a file name for the nodes of workflows and apps.

    `site` is the base URL of the provider's site that has it, empty where that is not known.
    """

    id: str
    name: str
    type: str
    size: int
    sha256: str
    url: str
    file_name: str
    at: float
    site: str = ""


class Alert(Struct, frozen=True, kw_only=True):
    """Something wrong that is no task's end."""

    id: int
    kind: AlertKind
    subject: str
    message: str
    opened_at: float
    last_at: float
    acknowledged_at: float | None
    closed_at: float | None
    count: int


class Breaker(Struct, frozen=True, kw_only=True):
    """Whether a definition's target is well: `openings` in a row, `open_until` None while it is closed.

    `failed` are the last actions that failed since one did not, `trial` is the one that tries a target that was unwell,
    `well_at` is about when the target was last seen to be well.
    """

    failed: tuple[int, ...] = ()
    openings: int = 0
    open_until: float | None = None
    trial: int | None = None
    well_at: float | None = None


class DefinitionState(Struct, frozen=True, kw_only=True):
    """What the database knows of a configured action, beside its configuration."""

    name: str
    kind: str
    configured: bool
    paused: bool
    breaker: Breaker
    counts: dict[str, int]


def rfc3339(seconds: float | None) -> str | None:
    """Seconds since 1970 as RFC 3339 UTC with milliseconds and Z; None stays None."""
    if seconds is None:
        return None
    moment = datetime.fromtimestamp(round(seconds * 1000) / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def event_id(task_id: str) -> str:
    """The id of a task's one event: the same whoever tells it, however often."""
    return str(uuid5(UUID(task_id), "event"))
