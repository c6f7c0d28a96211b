"""Owns the webhook rows: what is sent at a task's end, what the receiver said, when it is tried again, the resends."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from http import HTTPStatus
from typing import TypeAlias

from receiver.simulator import answers, outputs, task_objects
from receiver.simulator.agenda import Agenda, Entry
from receiver.simulator.answers import Document, to_bytes
from receiver.simulator.faults import Fault
from receiver.simulator.ids import Snowflakes, chance_source
from receiver.simulator.ledger import SentCallback
from receiver.simulator.options import Options
from receiver.simulator.orders import Dialect
from receiver.simulator.tasks import Status, Task

HEADERS = {"Content-Type": "application/json", "User-Agent": "Java/17.0.9"}
MASKED_KEY = "*" * 18
KEPT_TEXT = 200
"""Characters of a refusing receiver's body that the provider keeps."""


@dataclass(frozen=True)
class DeliveryAnswer:
    """What a delivery met: the HTTP status and body, or None and the reason why there was no connection."""

    status: int | None
    text: str


Deliver: TypeAlias = Callable[[str, bytes, Mapping[str, str]], Awaitable[DeliveryAnswer]]


@dataclass
class WebhookRow:
    """What the provider keeps of one task's callback, from the submission on. Times in seconds since 1970."""

    id: str
    task_id: str
    url: str
    created_at: float
    updated_at: float
    dialect: Dialect
    event_data: str = ""
    """The JSON text of the event's data, whatever the dialect; empty before the end."""
    status: str | None = None
    response: str | None = None
    retry_count: int = 0
    attempts: int = 0

    def shown(self) -> Document:
        """The row as the detail tells it, the key masked (page "Get Webhook Event Details")."""
        return {
            "id": self.id,
            "userApiKey": MASKED_KEY,
            "taskId": self.task_id,
            "webhookUrl": self.url,
            "eventData": self.event_data,
            "callbackStatus": self.status,
            "callbackResponse": self.response,
            "retryCount": self.retry_count,
            "createTime": answers.local_time(self.created_at),
            "updateTime": answers.local_time(self.updated_at),
        }


@dataclass(frozen=True)
class Message:
    """One sending. `then` are the pauses before the attempts that follow a failed one, in seconds."""

    row: WebhookRow
    url: str
    body: bytes
    then: tuple[float, ...] = ()
    again: bool = False
    """Whether the row counts it as a retry."""
    echo: bool = False
    """A copy of the message before it: the row does not notice."""


@dataclass(frozen=True)
class Callbacks:
    """Rows by webhook id and by task id. Whatever is sent goes through `deliver`, at a time the agenda keeps."""

    options: Options
    clock: Callable[[], float]
    deliver: Deliver
    agenda: Agenda
    snowflakes: Snowflakes
    sent: list[SentCallback] = field(default_factory=list)
    by_id: dict[str, WebhookRow] = field(default_factory=dict)
    by_task: dict[str, WebhookRow] = field(default_factory=dict)

    def register(self, task: Task) -> None:
        """Opens the row of a task that named a webhook URL; its id comes right after the task's."""
        if task.order.webhook_url is None:
            return
        at, dialect = task.created_at, task.order.dialect
        row = WebhookRow(self.snowflakes.mint(), task.id, task.order.webhook_url, at, at, dialect)
        self.by_id[row.id] = self.by_task[task.id] = row

    def announce(self, task: Task) -> Sequence[Entry]:
        """Puts what a task's end makes us send on the agenda."""
        row = self.by_task.get(task.id)
        if row is None or (task.status is Status.CANCEL and not self.options.callback_on_cancel):
            return ()
        ended_at = task.ended_at if task.ended_at is not None else self.clock()
        row.event_data = to_bytes(_event_data(task, task.status, task.id)).decode()
        row.updated_at = ended_at
        if task.plan.has(Fault.NEVER_SENT):
            return ()
        if task.plan.has(Fault.LOST_CALLBACK):
            row.status, row.retry_count = "FAILED", len(self.options.retry_seconds)
            row.response = _failure(row.url, DeliveryAnswer(None, "Connection refused"))
            return ()
        message = Message(row, self._url(task, row), self._body(task), self.options.retry_seconds)
        due = ended_at + self._delay(task)
        messages = [message, replace(message, echo=True)] if task.plan.has(Fault.DUPLICATE) else [message]
        return [self.agenda.add(due, partial(self._send, each)) for each in messages]

    def resend(self, row: WebhookRow, url: str | None, now: float) -> None:
        """Sends a row's event once more at the next turn, to `url` or where it went first; without further retries.

        Faults distort what is sent by itself. A resend always tells the row's own event, truthfully.
        """
        body = to_bytes(_event(row.dialect, json.loads(row.event_data), row.task_id))
        self.agenda.add(now, partial(self._send, Message(row, url or row.url, body, again=True)))

    def _delay(self, task: Task) -> float:
        # A callback that is to outrun its own submit answer cannot wait, whatever holds the others back.
        general = 0.0 if task.plan.has(Fault.BEFORE_ANSWER) else self.options.delay
        return general + (task.plan.delay if task.plan.has(Fault.LATE) else 0.0)

    def _url(self, task: Task, row: WebhookRow) -> str:
        if not task.plan.has(Fault.WRONG_TOKEN):
            return row.url
        address, question, query = row.url.partition("?")
        front, slash, segment = address.rpartition("/")
        # The first character, since the last one of a base64 text may decode to the same bytes when changed.
        changed = ("A" if segment[:1] != "A" else "B") + segment[1:]
        return f"{front}{slash}{changed}{question}{query}"

    def _body(self, task: Task) -> bytes:
        rng = chance_source(self.options.seed, "callback", task.id)
        shown_id = self.snowflakes.mint() if task.plan.has(Fault.OTHER_ID) else task.id
        claims = task.plan.has(Fault.FALSE_CLAIM) and task.status is not Status.CANCEL
        status = Status.SUCCESS if claims else task.status
        event_data = _event_data(task, status, shown_id)
        if task.plan.has(Fault.HUGE_BODY):
            padded = "promptTips" if task.order.dialect is Dialect.V2 else "errorMessages"
            event_data[padded] = "x" * int(task.plan.megabytes * 1024 * 1024)
        body = to_bytes(_event(task.order.dialect, event_data, shown_id))
        if task.plan.has(Fault.JUNK_BODY):
            return rng.choice((b"", b"<html>it works</html>", body[: len(body) // 2], b"[" * 2000, b"\xff\xfe\x00junk"))
        return body

    async def _send(self, message: Message) -> None:
        """One attempt: sent, noted, and if it failed put on the agenda again while pauses are left."""
        row = message.row
        if not message.echo:
            row.attempts += 1
        attempt, at = row.attempts, self.clock()
        answer = await self.deliver(message.url, message.body, HEADERS)
        self.sent.append(SentCallback(at, message.body, message.url, answer.status, row.task_id, attempt))
        if message.echo:
            return
        now = self.clock()
        row.retry_count += message.again
        row.updated_at = now
        delivered = answer.status is not None and 200 <= answer.status < 300
        row.status = "SUCCESS" if delivered else "FAILED"
        row.response = answer.text if delivered else _failure(message.url, answer)
        if not delivered and message.then:
            follow_up = replace(message, then=message.then[1:], again=True)
            self.agenda.add(now + message.then[0], partial(self._send, follow_up))


def _event_data(task: Task, status: Status, shown_id: str) -> Document:
    """What the task's dialect has for the data of its event; `shown_id` may lie."""
    if task.order.dialect is Dialect.V1:
        return outputs.event_data(task, status)
    return task_objects.ended(task, status, shown_id)


def _event(dialect: Dialect, event_data: Document, task_id: str) -> Document:
    callback = outputs.callback if dialect is Dialect.V1 else task_objects.callback
    return callback(event_data, task_id)


def _failure(url: str, answer: DeliveryAnswer) -> str:
    """A failed delivery in the words of the provider's Java client."""
    if answer.status is None:
        return f'I/O error on POST request for "{url}": {answer.text or "Connection refused"}'
    reason = next((status.phrase for status in HTTPStatus if status == answer.status), "Unknown")
    body = f'"{answer.text[:KEPT_TEXT]}"' if answer.text else "[no body]"
    return f"{answer.status} {reason}: {body}"
