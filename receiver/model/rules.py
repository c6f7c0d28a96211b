"""Every number and every table that decides something. Pure: no I/O, no clock, no environment.

Two laws hold here. All moves of a task and of an action stand in the two tables below; the store builds its
conditions from them, so that an illegal move changes nothing. And every delay, patience and limit stands here with
the reason for its size; the rest of the program asks.
"""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from msgspec import Struct

from receiver.model.definitions import Definition
from receiver.model.entries import Candidate, NewEvent, OwedAction
from receiver.model.records import ActionState, End, MissCause, Result, Task, TaskState, Upload

_RAN = frozenset({TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED})
ENDED = _RAN | {TaskState.REJECTED}
"""States of a task that has an event."""

TASK_MOVES: dict[TaskState, frozenset[TaskState]] = {
    TaskState.QUEUED: frozenset({TaskState.SUBMITTING, TaskState.CANCELLED}),
    TaskState.SUBMITTING: ENDED | {TaskState.QUEUED, TaskState.SUBMITTED, TaskState.IN_DOUBT},
    TaskState.SUBMITTED: _RAN | {TaskState.LOST},
    TaskState.IN_DOUBT: _RAN | {TaskState.SUBMITTED, TaskState.LOST},
    TaskState.LOST: _RAN | {TaskState.SUBMITTED},
    # An end that rested on an unconfirmed callback may be contradicted by the provider; a confirmed one never moves.
    TaskState.SUCCEEDED: _RAN - {TaskState.SUCCEEDED},
    TaskState.FAILED: _RAN - {TaskState.FAILED},
    TaskState.CANCELLED: _RAN - {TaskState.CANCELLED},
    TaskState.REJECTED: frozenset(),
}

ACTION_MOVES: dict[ActionState, frozenset[ActionState]] = {
    ActionState.OWED: frozenset({ActionState.RUNNING, ActionState.SKIPPED, ActionState.DEAD, ActionState.DONE}),
    ActionState.RUNNING: frozenset({ActionState.DONE, ActionState.OWED, ActionState.DEAD}),
    ActionState.DONE: frozenset({ActionState.OWED}),
    ActionState.DEAD: frozenset({ActionState.OWED, ActionState.SKIPPED}),
    ActionState.SKIPPED: frozenset({ActionState.OWED}),
}


ID_TYPED = 4
"""Characters of a task's id that name the task, when no other id begins so. Fewer are more likely a slip."""
ID_SHOWN = 13
"""Characters of a task's id that are shown at least: the whole time in it, so that no later task's id begins so."""
IDS_TOLD = 8
"""Tasks that are named when an id is the beginning of several."""

LORA_LIMIT = 2 * 1024**3
"""Bytes of a LoRA; they have hundreds of megabytes."""
UPLOAD_LIMIT = 100 * 2**20
"""Bytes of a file that is uploaded. The provider's older page says 30 MB; nobody says what the newer endpoint takes."""
UPLOAD_LIMITS = {"file": UPLOAD_LIMIT, "nodes": UPLOAD_LIMIT, "lora": LORA_LIMIT}
"""What a file can be brought to the provider as, and its bytes at the most."""
UPLOAD_KEPT = 23 * 3600.0
"""Seconds for which an upload is used again: its link dies after a day, and a task may wait in our queue."""


UPLOAD_REMEMBERED = 30 * 86400.0
"""Seconds for which an upload is remembered after it was made. After a day nothing can use it, but an order that waits
in our queue, or that is sent again, may still name it: then the file's name tells more than the id."""


def is_fresh(upload: Upload, now: float, site: str) -> bool:
    """Whether an upload may be used yet in an order to this site, the provider's base URL."""
    return upload.site == site and now - upload.at < UPLOAD_KEPT


BODY_LIMIT = 8 * 2**20
"""Bytes of a request to the API, files in it (as data: URIs) and all."""
ORDER_LIMIT = 2**20
"""Bytes of a request without these files: the largest workflows have a few hundred thousand, and it is read at once."""
FILTER_LIMIT = 500
"""Characters of one value of a filter: no target, label or list of states has more."""
FILTERS_LIMIT = 20
"""How often one filter may be repeated: an order has no more labels."""

INPUT_SHOWN = 200
"""Characters of an input that a list shows: enough to know an order by its prompt."""

METRICS_KEPT = 5.0
"""Seconds for which what was gathered for the metrics is told again, however many ask."""
REPLAY_SLICE = 250
"""Rows that a replay looks at, or changes, at once: callbacks wait for its writes some tens of milliseconds."""
REPLAY_STRIDE = 2000
"""Events among which it looks for so many at once."""
REPLAY_AT_ONCE = 20
"""Slices that are done before whoever asked is answered, within a second: small replays are whole by then."""
REPLAY_BYTES = 4 * 2**20
"""Bytes of kept callbacks that are read anew at once; one of them may have as many."""


class Policy(Struct, frozen=True, kw_only=True):
    """What the operator may turn; the settings have the defaults. Times in seconds."""

    confirm: bool
    confirm_patience: float
    patience: float
    overdue: float
    resend: str
    max_in_flight: int


class DoorLimits(Struct, frozen=True, kw_only=True):
    """What anybody may take of this server before having shown anything; the settings have the defaults."""

    connections: int
    header_bytes: int
    header_seconds: float
    body_seconds: float
    idle_seconds: float
    answer_seconds: float
    bytes_in_flight: int


DOOR_ROUND = 1.0
"""Seconds between two looks at all connections: limits are kept to a second, and no request needs a timer."""
LINGER = 2.0
"""Seconds for which a connection that was refused is listened to, so that the refusal reaches its sender."""
HEADERS = 128
"""Header lines of a request: each costs far more memory than its bytes. Browsers behind proxies send about forty."""
PIPELINED = 16
"""Requests of one connection that may wait for their answers, where they cannot be told apart before they are read."""
BODY_RATE = 16 * 1024
"""Bytes of a body that buy it another second: an upload over a slow line goes on, one byte now and then does not."""
SMALL_REQUEST = 16 * 1024
"""Bytes of a request that is let in while larger ones must give way; nearly every callback is smaller."""
IN_FLIGHT_RELIEVED = 0.75
"""The part of the limit that is in flight when enough have given way."""
IN_FLIGHT_AT_LAST = 1.5
"""At so many times the limit of bytes in flight small requests give way as well."""
FILES_RESERVED = 256
"""Files and sockets that connections leave to the ledger, to downloads and to commands."""

LOG_KEPT = 64 * 2**20
"""Bytes of SQLite's log that are kept for what comes next. It has a few megabytes, unless somebody always reads."""
LOG_PATIENCE = 0.1
"""Seconds for which writes wait for reads, so that a log of that length can be begun anew."""
LOG_PATIENCE_MOST = 1.0
"""Seconds for which they wait however long it is: only a backup reads for longer, and writes go on meanwhile."""
READ_AT_ONCE = 16 * 1024
"""Bytes of a callback that are read where they arrive, which takes a millisecond; more would hold up the others."""
CALLBACK_VALUES = 20_000
"""Values in a callback's JSON. The largest that were seen have some hundreds; this many take some 10 MiB to read."""
DOCUMENT_VALUES = 500_000
"""Values in any other JSON document, such as a large workflow, which has some ten thousand."""

LADDER = (30.0, 60.0, 120.0, 240.0)
"""When a submitted task is asked about, in seconds after its submission."""
LADDER_REST = 600.0
"""And then every so many seconds."""

FOLLOW_LADDER = (5.0, 10.0, 20.0, 30.0)
FOLLOW_REST = 30.0
"""The same for a task without a callback URL: asking is the only way to hear of its end."""

UNSURE_DELAYS = (2.0, 5.0, 15.0, 30.0, 60.0)
UNSURE_REST = 120.0
"""Between two questions while a delivery claims an end that the provider does not confirm."""

EMPTY_QUERIES = 3
EMPTY_PATIENCE = 300.0
"""SUCCESS without results is believed after so many queries over so many seconds: results have come late before, most
of them by a moment. So the first questions follow soon, as do those about a claim."""

UNKNOWN_GRACE = 60.0
"""For so long after submission "task not found" may only mean that the provider's own stores have not met yet."""

LOST_REST = 21600.0
LOST_KEPT = 7 * 86400.0
"""A lost task is asked about every so many seconds, until it is so old. How long tasks are kept nobody knows."""

OVERDUE_LEAST = 3600.0
OVERDUE_TIMES = 10.0
OVERDUE_REST = 3600.0
"""A task is overdue after this many times the longest of its target's last tasks, and never before an hour. Then it is
asked about every so many seconds."""

MISS_PATIENCE = 300.0
"""A callback is missed so many seconds after its task was seen to have ended; the provider's series takes about 103."""
MISS_RECHECK = 30.0
PROVIDER_RETRIES = 3
"""The retryCount after which the provider was seen never to call back again."""

RESEND_SPACING = 1.0
"""Seconds between two resends: a door that has just opened is not flooded."""
RESEND_TRIES = 5
RESEND_RETRY = 60.0
"""Seconds until a resend is asked for again that could not be, so often."""
RESEND_LADDER = (600.0, 3600.0, 6 * 3600.0)
RESEND_REST = 86400.0
RESEND_KEPT = 14 * 86400.0
"""A resend that did not arrive is repeated after so many seconds, for so long after the end: a broken address may need
days to be noticed, and the provider was never seen to forget a callback."""
RESEND_SHORTCUT = 60.0
RESEND_WOKEN = 100
"""When any callback comes, so many missed ones are asked for at once, but none whose last resend is younger than this
times the square of its resends: one that cannot come must not cost a resend with every other callback."""

QUERY_SPACING = 10.0
"""At the most one confirming query per task in so many seconds, whatever a stranger with a leaked URL posts."""
DELIVERY_BODIES = 50
"""Distinct bodies kept per task; then a readable one takes another's place, and an unreadable one is refused."""
UNREADABLE_KEPT = 64 * 1024
"""Bytes kept of a body over the limit."""

NODE = "local"
"""The name of a node that is the only one of its ledger."""

WELL_KNOWN = 5.0
"""Seconds after an answer of RunningHub in which the next ones are no reason to look for alerts about it: only another
server can have opened one meanwhile."""

SUBMIT_PATIENCE = 600.0
"""A task that is still being sent after so many seconds has lost its sender."""
DOUBT_LOOK = 60.0
"""Seconds until a task that came into doubt is looked at."""
IN_DOUBT_COUNTS = 900.0
"""Seconds for which a task in doubt is counted as in flight."""

CHECK_HOLD = 60.0
"""How far a due task is pushed away before it is looked at, so that one that breaks its examiner cannot spin."""

CLOCK_SLACK = 60.0
"""What happened so many seconds in the future was told by a wrong clock: those of two nodes differ by less."""

BACKOFF_FIRST = 2.0
BACKOFF_FACTOR = 3.0
BACKOFF_CAP = 3600.0

RATE_BURST = 0.1
"""Seconds of a definition's rate that may be used at once: a worker that wakes a moment late loses nothing."""

ORPHANS_KEPT = 7 * 86400.0
"""Seconds for which what a definition owes is held while the definition is missing from the settings."""

REFUSALS_TOLD = 3600.0
"""Seconds for which the alert about a storage that refused writes stays open after the last of them."""

STRAY_THREADS = 8
"""Threads of a definition beside those of its workers, for functions that run on past their timeout."""
THREAD_PATIENCE = 30.0
"""Seconds for which an action waits for a thread, half its timeout at the most, and then until it tries again."""

CRASHES = 3
"""An action whose worker died so often while it ran is taken to be the reason."""

PRESSED_TWICE = 10.0
"""Within so many seconds the same replay is the same button, pressed twice."""

LINKS_LIVE = 86400.0
"""The provider's result links die so many seconds after the end (console page of a model)."""
LINKS_ALERT = 72000.0
EXPIRED_RETRY = 60.0
"""Between two tries of a link that is refused: RunningHub is asked for another meanwhile."""
EXPIRED_ALERT = 6
"""After so many tries (some five minutes) such a link is alerted; it is given up only when links die."""

FILES_FLOOR = 2
"""Files, which can wait, stop at so many times the free space at which callbacks, which cannot, are refused."""
FILES_SPARE = 64 * 2**20
"""Bytes that files leave free on a disk that holds no ledger."""

SECRET_KEPT = 86400.0
"""Seconds for which a signing secret that was replaced is accepted: tasks that were ordered under it end by then."""
REFUSALS_LOGGED = 1.0
"""Between two lines about callbacks that were refused: strangers must not fill the log."""


def sources(target: TaskState) -> tuple[TaskState, ...]:
    """The states from which a task may move to `target`."""
    return tuple(state for state, moves in TASK_MOVES.items() if target in moves)


def action_sources(target: ActionState) -> tuple[ActionState, ...]:
    """The states from which an action may move to `target`."""
    return tuple(state for state, moves in ACTION_MOVES.items() if target in moves)


REPLAYABLE = tuple(state for state in action_sources(ActionState.OWED) if state is not ActionState.RUNNING)
"""States of an action that a retry may take up; one that is owed or running is on its way already."""


LATER_PAUSES: dict[str, float] = {
    "415": 60.0,
    "421": 15.0,
    "814": 60.0,
    "1003": 10.0,
    "1010": 30.0,
    "1011": 20.0,
    "1520": 15.0,
    "http_429": 15.0,
    "busy": 20.0,
    "not_sent": 10.0,
    "moved": 60.0,
}
"""Answers that certainly mean "not taken, try again", and how long the whole queue pauses, in seconds."""

DOUBTFUL_CODES = frozenset({"500", "1000", "1005", "1012", "unanswered", "unreadable", "unclear"})
"""Answers after which the task may exist, and may be billed."""

KEPT_HTTP_REFUSALS = frozenset({400, 401, 403, 404, 405, 413, 415, 422})
"""HTTP statuses that are a refusal even when their body cannot be read."""


class Later(Struct, frozen=True):
    """Not taken. `pause` is how long the queue rests, in seconds."""

    pause: float


class InDoubt(Struct, frozen=True):
    """May have been taken. Never sent again by itself."""


class Rejected(Struct, frozen=True):
    """Refused for good."""


def is_gateways(code: str) -> bool:
    """Whether a code in a body is an HTTP status of 5xx, which gateways write there; the provider has but 500."""
    return len(code) == 3 and code.isascii() and code.isdecimal() and code.startswith("5")


def submission_verdict(code: str, http_status: int | None = None) -> Later | InDoubt | Rejected:
    """What a submission without a task id means, by its code ("421", "http_503", "not_sent", "unanswered", …)."""
    if code in LATER_PAUSES:
        return Later(LATER_PAUSES[code])
    if code in DOUBTFUL_CODES or is_gateways(code) or (http_status is not None and http_status >= 500):
        return InDoubt()
    if code.startswith("http_") and http_status not in KEPT_HTTP_REFUSALS:
        return InDoubt()
    return Rejected()


def ladder(submitted_at: float, asked: int, now: float, *, callback: bool) -> float:
    """When a task that has not ended is asked about next, after `asked` questions. Never in the past."""
    steps, rest = (LADDER, LADDER_REST) if callback else (FOLLOW_LADDER, FOLLOW_REST)
    due = submitted_at + steps[asked] if asked < len(steps) else now + rest
    return max(due, now)


def overdue_after(longest: float | None, cap: float) -> float:
    """Seconds after which a running task is overdue, from the longest of its target's last tasks (None: unknown)."""
    return cap if longest is None else min(cap, max(OVERDUE_LEAST, OVERDUE_TIMES * longest))


def unsure_delay(asked: int) -> float:
    """Seconds until the next question about a claim that is not confirmed, after `asked` of them."""
    return UNSURE_DELAYS[asked] if asked < len(UNSURE_DELAYS) else UNSURE_REST


def empty_again(count: int, since: float, now: float) -> float:
    """When SUCCESS without results, seen `count` times since `since`, is asked about again."""
    return max(now + 1, min(now + unsure_delay(count - 1), since + EMPTY_PATIENCE))


def empty_is_final(count: int, since: float, now: float) -> bool:
    """Whether SUCCESS without results, seen `count` times since `since`, is the truth."""
    return count >= EMPTY_QUERIES and now - since >= EMPTY_PATIENCE


def callback_is_missed(callback_status: str | None, retry_count: int, seen_at: float, now: float) -> bool:
    """Whether to stop waiting: the provider's tries are used up, or it took too long."""
    used_up = callback_status == "FAILED" and retry_count >= PROVIDER_RETRIES
    return used_up or now - seen_at >= MISS_PATIENCE


def resend_again(resends: int, ended_at: float, now: float) -> float | None:
    """When a callback is asked for again that was resent so often and did not come; None when it never is."""
    rest = RESEND_LADDER[resends - 1] if resends <= len(RESEND_LADDER) else RESEND_REST
    return now + rest if now - ended_at < RESEND_KEPT else None


def miss_cause(callback_status: str | None, callback_response: str | None, retry_count: int) -> MissCause:
    """Why a callback did not arrive, from the detail's callbackStatus and callbackResponse.

    A refusal reads `404 Not Found: "…"` (Spring's wording of an HTTP error), a failed connection `I/O error on …`.
    """
    status = (callback_status or "").upper()
    response = (callback_response or "").strip()
    if status == "SUCCESS":
        return MissCause.ELSEWHERE
    if not status and not response and retry_count == 0:
        return MissCause.NEVER_SENT
    if response[:3].isdigit() and response[3:4] in ("", " "):
        return MissCause.REFUSED
    if status == "FAILED":
        return MissCause.UNREACHABLE
    return MissCause.UNKNOWN


def backoff(attempt: int, jitter: float) -> float:
    """Seconds before attempt `attempt + 1`: grows threefold to an hour, spread by a quarter. `jitter` is in [0, 1)."""
    exponent = min(attempt - 1, 20)
    return min(BACKOFF_CAP, BACKOFF_FIRST * BACKOFF_FACTOR**exponent) * (0.75 + jitter / 2)


def crash_delay(crashes: int) -> float:
    """Seconds before an action is tried again whose worker died; at once after the first time."""
    return backoff(crashes - 1, 0.5) if crashes > 1 else 0.0


def matches(definition: Definition, end: End, task: Task | Candidate) -> bool:
    """Whether a definition is for a task that ended so."""
    when = definition.when
    return (
        end in definition.on
        and (when.target is None or fnmatchcase(task.target, when.target))
        and all(task.labels.get(name) == value for name, value in when.labels.items())
    )


def owed(definitions: Iterable[Definition], event: NewEvent) -> list[OwedAction]:
    """What an event owes by today's definitions; while it is unconfirmed, only what may run then is not held."""
    certain = event.confirmed or event.settled
    return [
        OwedAction(name=definition.name, held=not (certain or definition.unconfirmed), after=definition.after)
        for definition in definitions
        if matches(definition, event.state, event.task)
    ]


def has_content(results: Sequence[Result]) -> bool:
    """Whether any result is a file or a text."""
    return any(result.url or result.text for result in results)
