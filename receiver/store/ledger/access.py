"""How the verbs of this folder reach the database, and how rows become records."""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import msgspec

from receiver.model.records import (
    Action,
    ActionState,
    Alert,
    Api,
    Check,
    CheckKind,
    Delivery,
    End,
    Event,
    JsonObject,
    Kind,
    MissCause,
    MissState,
    Page,
    Purpose,
    Result,
    Source,
    Task,
    TaskError,
    TaskState,
    Upload,
)
from receiver.store.sqlite.database import Readers
from receiver.store.writer import Writer

T = TypeVar("T")
R = TypeVar("R")


class Access:
    """The writer and the readers, as two short verbs for the classes that hold SQL."""

    _writer: Writer
    _readers: Readers
    _refuse_without_room: Callable[[], None]

    async def _write_new(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """For what comes from outside: refused when the disk is below its floor, so that our own work can go on."""
        self._refuse_without_room()
        return await self._writer.run(work)

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._writer.run(work)

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._readers.run(work)


def encode(value: object) -> str:
    """Any record or JSON value as text for a column."""
    return msgspec.json.encode(value).decode()


def decode(text: str) -> JsonObject:
    """A JSON object out of a column."""
    value: JsonObject = msgspec.json.decode(text)
    return value


def marks(values: Iterable[object]) -> str:
    """As many question marks as values, for an `in (…)`."""
    return ", ".join("?" for _ in values)


def count_up(connection: sqlite3.Connection, name: str) -> None:
    connection.execute(
        "insert into counters (name, value) values (?, 1) on conflict (name) do update set value = value + 1", (name,)
    )


class Conditions:
    """Collects `where` conditions with their bound values."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.values: list[object] = []

    def add(self, text: str, *values: object) -> None:
        self.texts.append(text)
        self.values.extend(values)

    def among(self, column: str, values: Sequence[str]) -> None:
        if values:
            self.add(f"{column} in ({marks(values)})", *values)

    @property
    def where(self) -> str:
        return f"where {' and '.join(self.texts)}" if self.texts else ""


def page_of(rows: Sequence[sqlite3.Row], limit: int, read: Callable[[sqlite3.Row], R], key: str) -> Page[R]:
    """A page from `limit + 1` rows in falling order of `key`; the extra row only says that there is more."""
    shown = rows[:limit]
    after = str(shown[-1][key]) if len(rows) > limit else None
    return Page(items=[read(row) for row in shown], next=after)


def like_prefix(text: str) -> str:
    """A pattern for `like … escape '\\'` that matches what begins with the text."""
    for special in ("\\", "%", "_"):
        text = text.replace(special, "\\" + special)
    return text + "%"


def task_of(row: sqlite3.Row) -> Task:
    return Task(
        key=row["key"],
        id=row["id"],
        kind=Kind(row["kind"]),
        api=Api(row["api"]),
        target=row["target"],
        input=decode(row["input"]),
        labels=msgspec.json.decode(row["labels"], type=dict[str, str]),
        state=TaskState(row["state"]),
        created_at=row["created_at"],
        sent_at=row["sent_at"],
        submitted_at=row["submitted_at"],
        ended_at=row["ended_at"],
        provider_task_id=row["provider_task_id"],
        provider_status=row["provider_status"],
        callback=bool(row["callback"]),
        error=error_of(row["error"]),
        check_at=row["check_at"],
        asked=row["asked"],
        unsure_asked=row["unsure_asked"],
        delivered_at=row["delivered_at"],
        queried_at=row["queried_at"],
        empty_since=row["empty_since"],
        empty_count=row["empty_count"],
        miss=MissState(row["miss"]) if row["miss"] else None,
        miss_cause=MissCause(row["miss_cause"]) if row["miss_cause"] else None,
        missed_at=row["missed_at"],
        resends=row["resends"],
        resent_at=row["resent_at"],
        refresh=row["refresh"] == 1,
        confirmed=bool(row["confirmed"]),
        idempotency_key=row["idempotency_key"],
        again_of=row["again_of"],
        uploads=msgspec.json.decode(row["uploads"], type=dict[str, str]) if row["uploads"] else {},
    )


def error_of(text: str | None) -> TaskError | None:
    return msgspec.json.decode(text, type=TaskError) if text else None


def delivery_of(row: sqlite3.Row) -> Delivery:
    """`task_id` must be selected beside the columns of the delivery."""
    return Delivery(
        id=row["id"],
        task=row["task_id"],
        purpose=Purpose(row["purpose"]),
        received_at=row["received_at"],
        last_at=row["last_at"],
        count=row["count"],
        size=row["size"],
        readable=row["problem"] is None,
        contradicting=bool(row["contradicting"]),
        provider_task_id=row["provider_task_id"],
        claim=row["claim"],
        problem=row["problem"],
    )


def event_of(row: sqlite3.Row) -> Event:
    """`task_id` must be selected beside the columns of the event."""
    return Event(
        id=row["id"],
        task=row["task_id"],
        state=End(row["state"]),
        source=Source(row["source"]),
        confirmed=bool(row["confirmed"]),
        contradicted=bool(row["contradicted"]),
        no_results=bool(row["no_results"]),
        at=row["at"],
        results=msgspec.json.decode(row["results"], type=list[Result]),
        error=error_of(row["error"]),
        usage=decode(row["usage"]),
        extra=decode(row["extra"]),
    )


def action_of(row: sqlite3.Row) -> Action:
    """`task_id` and `event_id` must be selected beside the columns of the action."""
    return Action(
        id=row["id"],
        task=row["task_id"],
        event=row["event_id"],
        name=row["name"],
        generation=row["generation"],
        state=ActionState(row["state"]),
        due_at=row["due_at"],
        lease_until=row["lease_until"],
        attempts=row["attempts"],
        created_at=row["created_at"],
        settled_at=row["settled_at"],
        reason=row["reason"],
        replay=row["replay"],
    )


def check_of(row: sqlite3.Row) -> Check:
    """`task_id` must be selected beside the columns of the check."""
    return Check(
        id=row["id"],
        task=row["task_id"],
        kind=CheckKind(row["kind"]),
        at=row["at"],
        seconds=row["seconds"],
        ok=bool(row["ok"]),
        summary=row["summary"],
        answer=row["answer"],
    )


def alert_of(row: sqlite3.Row) -> Alert:
    return Alert(
        id=row["id"],
        kind=row["kind"],
        subject=row["subject"],
        message=row["message"],
        opened_at=row["opened_at"],
        last_at=row["last_at"],
        closed_at=row["closed_at"],
        count=row["count"],
    )


def upload_of(row: sqlite3.Row) -> Upload:
    return Upload(
        id=row["id"],
        name=row["name"],
        type=row["type"],
        size=row["size"],
        sha256=row["sha256"],
        url=row["url"],
        file_name=row["file_name"],
        at=row["at"],
        site=row["site"],
    )
