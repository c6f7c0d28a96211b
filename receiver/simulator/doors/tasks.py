"""Owns the doors of tasks that exist: their state, their results, their end by hand, and their callbacks."""

from starlette.requests import Request as HttpRequest

from receiver.simulator.answers import Document, Family, Refused, envelope
from receiver.simulator.callbacks import WebhookRow
from receiver.simulator.faults import Fault
from receiver.simulator.gate import Door, json_object, v1, webhook_url_of
from receiver.simulator.intake import progress_url
from receiver.simulator.outputs import outputs, state
from receiver.simulator.provider import Provider
from receiver.simulator.task_objects import queried
from receiver.simulator.tasks import Status, Task

NO_EVENT = "webhook event not exists"


async def query(provider: Provider, request: HttpRequest, body: bytes) -> Document:
    """`taskId` in, the V2 task object out (page "Query generation result (V2)")."""
    task = _known(provider, json_object(body) or {}, unknown=1004)
    now = provider.clock()
    provider.tasks.note_query(task, now)
    return queried(task, task.told_status(now))


async def task_status(provider: Provider, request: HttpRequest, body: bytes) -> Document:
    """`apiKey` and `taskId` in, one word out (page "Check Task Status")."""
    return state(_known(provider, v1(provider, body, "taskId")).told_status(provider.clock()))


async def task_outputs(provider: Provider, request: HttpRequest, body: bytes) -> Document:
    """`apiKey` and `taskId` in, the files out once there are any (page "Check Task Output")."""
    task = _known(provider, v1(provider, body, "taskId"))
    now = provider.clock()
    provider.tasks.note_query(task, now)
    return outputs(task, task.told_status(now), progress_url(provider, task))


async def cancel(provider: Provider, request: HttpRequest, body: bytes) -> Document:
    """`apiKey` and `taskId` in, the bare envelope out (page "Cancel ComfyUI Task")."""
    task = provider.tasks.by_id.get(v1(provider, body, "taskId")["taskId"])
    if task is None:
        raise Refused(807)
    if task.status.ended:
        raise Refused(805)
    provider.tasks.end(task, provider.clock(), Status.CANCEL)
    return envelope()


async def detail(provider: Provider, request: HttpRequest, body: bytes) -> Document:
    """`apiKey` and `taskId` in, the webhook row out (page "Get Webhook Event Details")."""
    row = provider.callbacks.by_task.get(v1(provider, body, "taskId")["taskId"])
    if row is None or _is_forgotten(provider, row):
        raise Refused(1, NO_EVENT)
    return envelope(row.shown())


async def resend(provider: Provider, request: HttpRequest, body: bytes) -> Document:
    """`apiKey`, `webhookId` and perhaps `webhookUrl` in; sends soon (page "Resend Specific Webhook Event")."""
    wanted = v1(provider, body, "webhookId")
    url = webhook_url_of(wanted)
    row = provider.callbacks.by_id.get(wanted["webhookId"])
    # Before the end there is a row, but no event yet which could be sent.
    if row is None or not row.event_data or _is_forgotten(provider, row):
        raise Refused(1, NO_EVENT)
    provider.callbacks.resend(row, url, provider.clock())
    return envelope(msg="")


def _known(provider: Provider, wanted: Document, *, unknown: int = 807) -> Task:
    task_id = wanted.get("taskId")
    if not isinstance(task_id, str) or not _is_positive(task_id):
        raise Refused(301, "taskId must be positive")
    task = provider.tasks.known(task_id)
    if task is None:
        raise Refused(unknown)
    return task


def _is_forgotten(provider: Provider, row: WebhookRow) -> bool:
    plan = provider.tasks.by_id[row.task_id].plan
    return plan.has(Fault.FORGOTTEN) and not plan.detail_knows and bool(row.event_data)


def _is_positive(task_id: str) -> bool:
    return task_id.isascii() and task_id.isdigit() and task_id.strip("0") != ""


DOORS = (
    Door("query", "/openapi/v2/query", query, Family.V2),
    Door("status", "/task/openapi/status", task_status, Family.V1),
    Door("outputs", "/task/openapi/outputs", task_outputs, Family.V1),
    Door("cancel", "/task/openapi/cancel", cancel, Family.V1),
    Door("detail", "/task/openapi/getWebhookDetail", detail, Family.V1),
    Door("resend", "/task/openapi/retryWebhook", resend, Family.V1),
)
