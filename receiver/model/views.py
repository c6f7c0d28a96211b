"""What the API shows and takes: a struct per JSON document, written on one side and read on the other. Pure.

What a record has under the same name is copied by `receiver.model.shown`; the small records that have nothing to hide
(a result, a node, a price) are shown as they are.
"""

from collections.abc import Mapping
from typing import Annotated, Generic, TypeAlias, TypeVar

from msgspec import Meta, Struct

from receiver.model.entries import Selection
from receiver.model.records import Account, End, Node, Price, ReplayMode, Result, TaskError

T = TypeVar("T")

Time: TypeAlias = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
"""RFC 3339, UTC with milliseconds."""


class PageView(Struct, Generic[T], frozen=True, kw_only=True, omit_defaults=True):
    """A page of a list, newest first; `next` is the cursor of the next one, `prev` that of the one before.

    `short` has, by the ids of the tasks that the page is about, the beginnings that no other task's id has.
    """

    items: list[T]
    next: str | None
    prev: str | None = None
    short: dict[str, str] = {}


class CallbackView(Struct, frozen=True, kw_only=True):
    """A task's callback: whether a URL was sent, when a callback came, and the search for one that was missed."""

    sent: bool
    delivered_at: Time | None
    miss: str | None
    cause: str | None
    missed_at: Time | None
    resent_at: Time | None


class TaskFacts(Struct, frozen=True, kw_only=True):
    """What is shown of a task wherever it is shown."""

    id: str
    kind: str
    api: str
    target: str
    labels: dict[str, str]
    state: str
    provider_task_id: str | None
    provider_status: str | None
    created_at: Time
    submitted_at: Time | None
    ended_at: Time | None
    next_check_at: Time | None
    error: TaskError | None
    callback: CallbackView
    idempotency_key: str | None
    again_of: str | None


class TaskRow(TaskFacts, frozen=True, kw_only=True):
    """A task in a list: of its input only how it begins, as JSON, and how many bytes it has."""

    input_start: str
    input_size: int


class TaskView(TaskFacts, frozen=True, kw_only=True):
    """A task; `uploads` has, by the ids that its order named, the texts that stand for uploads in the input."""

    input: Mapping[str, object]
    uploads: dict[str, str] = {}


class OrderedView(TaskView, frozen=True, kw_only=True):
    """A task just ordered, or there already (not `new`), and what its giver should know of the order, if anything."""

    note: str | None
    new: bool = True


class EventView(Struct, frozen=True, kw_only=True):
    id: str
    task: str
    type: str
    state: str
    source: str
    confirmed: bool
    contradicted: bool
    no_results: bool
    at: Time
    results: list[Result]
    error: TaskError | None
    usage: Mapping[str, object]


class AttemptView(Struct, frozen=True, kw_only=True):
    number: int
    started_at: Time
    ended_at: Time | None
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
    due_at: Time | None
    lease_until: Time | None
    attempts: int
    created_at: Time
    settled_at: Time | None
    reason: str | None
    replay: int | None
    waits_for: str | None = None
    tries: list[AttemptView] = []


class DeliveryView(Struct, frozen=True, kw_only=True):
    id: int
    task: str
    purpose: str
    received_at: Time
    last_at: Time
    count: int
    size: int
    readable: bool
    contradicting: bool
    provider_task_id: str | None
    claim: str | None
    problem: str | None


class DeliveryPage(PageView[DeliveryView], frozen=True, kw_only=True):
    """A page of deliveries, with everything that was ever counted: received, repeated, missed (by cause) and late."""

    totals: dict[str, int]


class RotatedView(Struct, frozen=True, kw_only=True):
    """A new secret signs callback URLs; those that the old one signed are accepted until then."""

    accepted_until: Time


class CheckView(Struct, frozen=True, kw_only=True):
    kind: str
    at: Time
    seconds: float
    ok: bool
    summary: str
    answer: str | None


class Moment(Struct, frozen=True, kw_only=True):
    """One line of a task's timeline."""

    at: Time
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
    """A configured action; `breaker` is closed, open or half_open, `failures` how many actions failed in a row."""

    name: str
    kind: str
    configured: bool
    paused: bool
    breaker: str
    failures: int
    open_until: Time | None
    concurrency: int | None
    rate: float | None
    on: list[str]
    counts: dict[str, int]


class AlertView(Struct, frozen=True, kw_only=True):
    id: int
    kind: str
    subject: str
    message: str
    opened_at: Time
    last_at: Time
    acknowledged_at: Time | None
    closed_at: Time | None
    count: int


class WrongView(Struct, frozen=True, kw_only=True):
    """Something that is wrong, and what can be done about it. `alert` is the id of its alert, if it has one."""

    alert: int | None
    kind: str
    message: str
    remedy: str


class OverviewView(Struct, frozen=True, kw_only=True):
    """How the server stands: what waits, and what is wrong, worst first.

    `tasks` and `actions` count what has not ended well, by state; of the tasks not more than `counted_to`.
    `submits_again_at` is set while RunningHub has no room for tasks, `more_wrong` when not all is listed.
    """

    ready: bool
    version: str
    public_url: str | None
    tasks: dict[str, int]
    counted_to: int
    actions: dict[str, int]
    submits_again_at: Time | None
    wrong: list[WrongView]
    more_wrong: bool


class ReplayView(Struct, frozen=True, kw_only=True):
    """A replay, or what one would do: then `id` is None. `filter` says what it is about, as it was asked for.

    While it is `searching`, more may be found, and `matched` grows.
    A dry run tells `until` when it counted: with that in the filter, later rows are left out.
    `done` came to an end, `dead` of them to a bad one; `cancelled` were not begun when it was cancelled.
    """

    id: int | None = None
    mode: str
    matched: int
    searching: bool = False
    dry_run: bool = False
    state: str = "dry_run"
    done: int = 0
    dead: int = 0
    cancelled: int = 0
    rate: float | None
    created_at: Time | None = None
    finished_at: Time | None = None
    until: Time | None = None
    filter: Mapping[str, object] = {}


class PrunedView(Struct, frozen=True, kw_only=True):
    """A kind of row that is kept for so many `days` (0: for ever): how many rows a run removed, or a dry run would,
    and how many were ever removed, the first at `first_at`. Bytes are those of the content, about."""

    kind: str
    days: float
    rows: int
    bytes: int
    rows_ever: int
    bytes_ever: int
    first_at: Time | None


class PruneView(Struct, frozen=True, kw_only=True):
    """The run that goes on, or the last one: `state` is idle, running, done, stopped or failed (see `problem`)."""

    state: str
    dry_run: bool
    began_at: Time | None
    ended_at: Time | None
    problem: str | None
    items: list[PrunedView]


class PruneBody(Struct, frozen=True, kw_only=True):
    """An order to prune now; a dry run only counts."""

    dry_run: bool = False


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


class AppView(Struct, frozen=True, kw_only=True):
    """An AI app, or a workflow (which has no name here), with the fields of its nodes that may be set."""

    id: str
    name: str
    nodes: list[Node]


class UploadView(Struct, frozen=True, kw_only=True):
    """An uploaded file; until `expires_at` an order may hold its `id` where it takes a file."""

    id: str
    name: str
    type: str
    size: int
    sha256: str
    download_url: str
    file_name: str
    expires_at: Time


class FileNameView(Struct, frozen=True, kw_only=True):
    """A file that was brought for nodes alone: the name that a node's field takes for it."""

    file_name: str


class StatusView(Struct, frozen=True, kw_only=True):
    """The provider's own word for a task: QUEUED, RUNNING, SUCCESS or FAILED."""

    status: str


class QueueView(Struct, frozen=True, kw_only=True):
    """How many tasks the key may run at once, and how many run, wait and are there in all. None: not said."""

    limit: int | None
    running: int | None
    queued: int | None
    total: int | None


class AccountView(Account, frozen=True, kw_only=True):
    """The account at the provider. `queue` is None when the provider tells none."""

    queue: QueueView | None


class OutputsView(Struct, frozen=True, kw_only=True):
    """What the provider's outputs endpoint says of a task, asked now. `state` is how it ended; None: it has not."""

    state: End | None
    results: list[Result]
    error: TaskError | None
    usage: Mapping[str, object]


class WebhookView(Struct, frozen=True, kw_only=True):
    """A task's callback as the provider keeps it: its id there, SUCCESS or FAILED (None: not tried yet), what our door
    or the network answered, and how often it was tried again."""

    id: str
    status: str | None
    response: str
    retry_count: int


class PreviewView(Struct, frozen=True, kw_only=True):
    """An order as it would be sent, and its price; `price_problem` says why there is none."""

    kind: str
    api: str
    target: str
    input: Mapping[str, object]
    labels: dict[str, str]
    note: str | None
    price: Price | None
    price_problem: str | None


class OrderBody(Struct, frozen=True, kw_only=True):
    """An order for a task. `api` is v1 or v2 (None: the usual one); with `validate` false the input is not checked."""

    kind: str = "model"
    api: str | None = None
    target: str
    input: Mapping[str, object] = {}
    labels: Mapping[str, str] = {}
    validate: bool = True


class ReplayBody(Struct, frozen=True, kw_only=True):
    """An order for a replay: of what, in which mode, and at how many actions per second (None: all at once).

    Without a filter it says that `all` is meant. When not as many match as are `expected`, nothing is done.
    """

    filter: Selection = Selection()
    all: bool = False
    mode: ReplayMode = ReplayMode.RETRY
    dry_run: bool = False
    rate: float | None = None
    expected: int | None = None


class ErrorView(Struct, frozen=True, kw_only=True):
    code: str
    message: str
    details: object = None


class ErrorDocument(Struct, frozen=True, kw_only=True):
    error: ErrorView
