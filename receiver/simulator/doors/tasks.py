"""Owns the doors of tasks that exist: their state, their results, their end by hand, and their callbacks."""

from dataclasses import dataclass

from starlette.requests import Request as HttpRequest
from starlette.routing import Route

from receiver.simulator import outputs
from receiver.simulator.answers import Document, Family, Refused, envelope
from receiver.simulator.callbacks import Callbacks, WebhookRow
from receiver.simulator.faults import Fault
from receiver.simulator.gate import Gate, json_object, webhook_url_of
from receiver.simulator.intake import Intake
from receiver.simulator.task_objects import queried
from receiver.simulator.tasks import Status, Task, Tasks

NO_EVENT = "webhook event not exists"


@dataclass(frozen=True)
class TaskDoors:
    """Every kind of task may be asked about by every one of these."""

    gate: Gate
    intake: Intake
    tasks: Tasks
    callbacks: Callbacks

    def routes(self) -> list[Route]:
        route = self.gate.route
        return [
            route("query", "/openapi/v2/query", self.query, Family.V2),
            route("status", "/task/openapi/status", self.status, Family.V1),
            route("outputs", "/task/openapi/outputs", self.outputs, Family.V1),
            route("cancel", "/task/openapi/cancel", self.cancel, Family.V1),
            route("detail", "/task/openapi/getWebhookDetail", self.detail, Family.V1),
            route("resend", "/task/openapi/retryWebhook", self.resend, Family.V1),
        ]

    async def query(self, request: HttpRequest, body: bytes) -> Document:
        """`taskId` in, the V2 task object out (page "Query generation result (V2)")."""
        task_id = (json_object(body) or {}).get("taskId")
        if not isinstance(task_id, str) or not _is_positive(task_id):
            raise Refused("1007", "taskId must be positive")
        task = self.tasks.known(task_id)
        if task is None:
            raise Refused("1004")
        now = self.gate.clock()
        self.tasks.note_query(task, now)
        return queried(task, task.told_status(now))

    async def status(self, request: HttpRequest, body: bytes) -> Document:
        """`apiKey` and `taskId` in, one word out (page "Check Task Status")."""
        return outputs.state(self._asked_for(body).told_status(self.gate.clock()))

    async def outputs(self, request: HttpRequest, body: bytes) -> Document:
        """`apiKey` and `taskId` in, the files out once there are any (page "Check Task Output")."""
        task = self._asked_for(body)
        now = self.gate.clock()
        self.tasks.note_query(task, now)
        return outputs.outputs(task, task.told_status(now), self.intake.progress_url(task))

    async def cancel(self, request: HttpRequest, body: bytes) -> Document:
        """`apiKey` and `taskId` in, the bare envelope out (page "Cancel ComfyUI Task")."""
        task = self.tasks.by_id.get(self.gate.v1(body, "taskId")["taskId"])
        if task is None:
            raise Refused(807)
        if task.status.ended:
            raise Refused(805)
        self.tasks.end(task, self.gate.clock(), Status.CANCEL)
        return envelope()

    async def detail(self, request: HttpRequest, body: bytes) -> Document:
        """`apiKey` and `taskId` in, the webhook row out (page "Get Webhook Event Details")."""
        row = self.callbacks.by_task.get(self.gate.v1(body, "taskId")["taskId"])
        if row is None or self._is_forgotten(row):
            raise Refused(1, NO_EVENT)
        return envelope(row.shown())

    async def resend(self, request: HttpRequest, body: bytes) -> Document:
        """`apiKey`, `webhookId` and perhaps `webhookUrl` in; sends soon (page "Resend Specific Webhook Event")."""
        wanted = self.gate.v1(body, "webhookId")
        url = webhook_url_of(wanted)
        row = self.callbacks.by_id.get(wanted["webhookId"])
        # Before the end there is a row, but no event yet which could be sent.
        if row is None or not row.event_data or self._is_forgotten(row):
            raise Refused(1, NO_EVENT)
        self.callbacks.resend(row, url, self.gate.clock())
        return envelope(msg="")

    def _asked_for(self, body: bytes) -> Task:
        task_id = self.gate.v1(body, "taskId")["taskId"]
        if not _is_positive(task_id):
            raise Refused(301, "taskId must be positive")
        task = self.tasks.known(task_id)
        if task is None:
            raise Refused(807)
        return task

    def _is_forgotten(self, row: WebhookRow) -> bool:
        plan = self.tasks.by_id[row.task_id].plan
        return plan.has(Fault.FORGOTTEN) and not plan.detail_knows and bool(row.event_data)


def _is_positive(task_id: str) -> bool:
    return task_id.isascii() and task_id.isdigit() and task_id.strip("0") != ""
