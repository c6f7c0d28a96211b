"""What goes into the ledger and what its verbs answer, beside the records: independent of any kind of database."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar

from msgspec import Struct

from receiver.model.measures import Histogram
from receiver.model.records import (
    Api,
    CheckKind,
    End,
    JsonObject,
    Kind,
    Line,
    MissCause,
    MissState,
    Purpose,
    ReplayMode,
    Result,
    SavedFile,
    Source,
    Task,
    TaskError,
    TaskState,
)
from receiver.model.records import Json as Json  # by this name JsonObject refers to it
from receiver.model.tallies import Tally

T = TypeVar("T")


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


class ListedTask(Struct, frozen=True, kw_only=True):
    """A task as a list has it: of its input, which may be large, only how it begins and how many bytes it has."""

    key: int
    id: str
    kind: Kind
    api: Api
    target: str
    labels: dict[str, str]
    state: TaskState
    created_at: float
    submitted_at: float | None
    ended_at: float | None
    provider_task_id: str | None
    provider_status: str | None
    callback: bool
    error: TaskError | None
    check_at: float | None
    delivered_at: float | None
    miss: MissState | None
    miss_cause: MissCause | None
    missed_at: float | None
    resent_at: float | None
    idempotency_key: str | None
    again_of: str | None
    input_start: str
    input_size: int


class NewDelivery(Struct, frozen=True, kw_only=True):
    """What the door knows of a callback before it is stored; the digest is the body's SHA-256."""

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
    provider_status: str | None = None
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


class Added(Struct, frozen=True, kw_only=True):
    """What adding a task came to: the task, whether it is new, and whether its key was used for another order."""

    task: Task
    new: bool
    conflict: bool = False


class Recorded(Struct, frozen=True):
    """What recording a delivery came to: whether the same bytes were there, the task is due, and the bytes are kept."""

    duplicate: bool
    due: bool
    kept: bool = True


class Saying(Struct, frozen=True, kw_only=True):
    """What a readable delivery says: the end it claims, and the provider's id it names."""

    delivery: int
    purpose: Purpose
    provider_task_id: str | None
    claim: End | None


class Settlement(Struct, frozen=True, kw_only=True):
    """How a try ended: `outcome` is done, retry, dead or returned; `due_at` belongs to retry and returned.

    `unwell` says that its target was not in a state to do it, `silent` that nothing was heard of it, and `retry_after`
    for how many seconds it asked.
    """

    outcome: str
    due_at: float | None = None
    unwell: bool = False
    silent: bool = False
    retry_after: float = 0.0
    reason: str | None = None
    detail: JsonObject = {}
    files: tuple[SavedFile, ...] = ()


class Change(NamedTuple):
    """Something moved in the ledger: what kind of row, its public id, and the state it came to.

    `told` is what the log says of it beside these; None when nothing has come of it yet. `task` is the id of the task
    that a task, an action or a delivery is about.
    """

    kind: str
    id: str
    state: str
    told: Line | None = None
    task: str | None = None


class Abandoned(NamedTuple):
    """What a node held of some definitions."""

    node: str
    names: Sequence[str]


class Turn(StrEnum):
    """What a cancellation, or its revocation, has yet to do for the actions of a replay."""

    CANCEL = "cancel"
    RESUME = "resume"


class Selection(Struct, frozen=True, kw_only=True):
    """Which actions or events a replay is about. Times in seconds."""

    action: int | None = None
    action_state: tuple[str, ...] = ()
    task_state: tuple[str, ...] = ()
    name: str | None = None
    task: str | None = None
    since: float | None = None
    until: float | None = None


class Candidate(Struct, frozen=True, kw_only=True):
    """An ended task that `again` or `missing` may owe something for, by the keys of its row and its event's.

    `generation` is the newest of its actions'; `present` are the definitions it has any action of, `underway` those
    of which one is owed or running.
    """

    task: int
    event: int
    state: End
    target: str
    labels: dict[str, str]
    generation: int
    present: frozenset[str]
    underway: frozenset[str]


class Reading(Struct, frozen=True, kw_only=True):
    """A kept delivery, read anew: what it says now, or why it cannot be read."""

    delivery: int
    provider_task_id: str | None = None
    claim: End | None = None
    problem: str | None = None
    results: list[Result] = []
    error: TaskError | None = None
    usage: JsonObject = {}
    extra: JsonObject = {}


class Storing(NamedTuple):
    """How the storage fares: what it is, seconds and writes of each commit, writes that wait, bytes of its files.

    Of a server's files nothing is known.
    """

    version: str
    commits: Histogram
    writes: Histogram
    waiting: int
    size: int | None


class Old(NamedTuple):
    """Something that may go: its key, how many rows that are, and about how many bytes."""

    key: int
    rows: int
    bytes: int


class OldRows(NamedTuple):
    """What may go of the rows that were looked at, and the place where the walk goes on, None at its end."""

    found: list[Old]
    after: tuple[float, int] | None


class Pruned(Struct, frozen=True, kw_only=True):
    """How many rows of a kind were ever removed, about how many bytes that was, since when, and when last."""

    removed: int = 0
    bytes: int = 0
    since: float | None = None
    at: float | None = None


class Figures(Struct, frozen=True, kw_only=True):
    """How the ledger stands: `counters` by name, counts of tasks by state and of actions by name and state.

    The oldest task of a state is told by when it was made, the oldest action of a name by when it became due; `broken`
    says whether a definition's breaker is open. `alerts` are the open ones by kind, `tallies` those of all time.
    """

    counters: dict[str, int]
    tasks: dict[str, int]
    oldest_tasks: dict[str, float]
    actions: dict[tuple[str, str], int]
    oldest_due: dict[str, float]
    paused: dict[str, bool]
    broken: dict[str, bool]
    alerts: dict[str, int]
    tallies: list[Tally]


class Replay(Struct, frozen=True, kw_only=True):
    """A bulk replay: what it matched, how far it is, and whether it was cancelled.

    While it is `searching`, more may be found yet.
    """

    id: int
    mode: ReplayMode
    filter: JsonObject
    rate: float | None
    created_at: float
    matched: int
    searching: bool
    done: int
    dead: int
    cancelled: int
    state: str
    finished_at: float | None


class Search(Struct, frozen=True, kw_only=True):
    """How far a replay has come with finding what it is about, and what else is to be done for it: its `turn`.

    What is found lies beyond (`place_at`, `place`), a time and a key, and has no greater key than `upto`; None: all was
    found.
    """

    id: int
    mode: ReplayMode
    selection: Selection
    rate: float | None
    created_at: float
    matched: int
    place_at: float
    place: int
    upto: int | None
    turn: Turn | None


class Slice(Struct, Generic[T], frozen=True, kw_only=True):
    """The next few that a replay is about, and the place up to which was looked; `more`: there may be others."""

    items: list[T]
    place: tuple[float, int]
    more: bool
