"""Owns the provider's doors: which path does what, who may enter, and in which envelope the answer leaves."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from starlette.requests import Request as Asked
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from receiver.simulator.agenda import Agenda
from receiver.simulator.answers import TOKEN_INVALID, envelope, queried, refusal, submitted, to_bytes
from receiver.simulator.callbacks import Callbacks, WebhookRow
from receiver.simulator.faults import Fault, Plan
from receiver.simulator.files import Files, requested_range
from receiver.simulator.ledger import Ledger, Request
from receiver.simulator.outages import Break, BrokenAnswer, Outage, Outages, Pause, SlowAnswer, outage_answer
from receiver.simulator.tasks import Status, Task, Tasks

Endpoint: TypeAlias = Callable[[Asked, bytes], Awaitable[Response]]

NO_EVENT = "webhook event not exists"
NO_SUCH_KEY = b"<?xml version='1.0' encoding='utf-8' ?>\n<Error><Code>NoSuchKey</Code></Error>"


@dataclass(frozen=True)
class Terms:
    """What the house asks of its guests. `api_key` None accepts every key that is not blank."""

    api_key: str | None
    max_in_flight: int | None
    number_421: bool
    """Whether the concurrency limit says 421 as a number instead of as text; both were reported."""


@dataclass(frozen=True)
class Doors:
    """The endpoints over the parts they need. `next_plan` gives the plan of the task to come."""

    clock: Callable[[], float]
    terms: Terms
    tasks: Tasks
    callbacks: Callbacks
    files: Files
    agenda: Agenda
    ledger: Ledger
    outages: Outages
    next_plan: Callable[[], Plan]
    pause: Pause | None

    def routes(self) -> list[Route]:
        """The routes under the names by which they are counted and put out of order."""
        return [
            self._route("query", "/openapi/v2/query", self.query),
            self._route("submit", "/openapi/v2/{model:path}", self.submit),
            self._route("detail", "/task/openapi/getWebhookDetail", self.detail),
            self._route("resend", "/task/openapi/retryWebhook", self.resend),
            self._route("cancel", "/task/openapi/cancel", self.cancel),
            self._route("files", "/files/{user}/output/{name}", self.file, "GET"),
        ]

    async def submit(self, asked: Asked, body: bytes) -> Response:
        """Model parameters and perhaps `webhookUrl` in, the V2 task object out (page "Standard Model API")."""
        refused = self._refused_v2(asked)
        if refused is not None:
            return refused
        params = _object(body)
        if params is None:
            return _json(refusal("1007"))
        webhook_url = params.pop("webhookUrl", None) or None
        if webhook_url is not None and not isinstance(webhook_url, str):
            return _json(refusal("1007", "webhookUrl must be a string"))
        if self.terms.max_in_flight is not None and self.tasks.in_flight >= self.terms.max_in_flight:
            return _json(refusal(421 if self.terms.number_421 else "421", "TASK_QUEUE_MAXED"))
        task = self.tasks.accept(asked.path_params["model"], params, webhook_url, self.next_plan(), self.clock())
        self.callbacks.register(task)
        return await self._submit_answer(task)

    async def query(self, asked: Asked, body: bytes) -> Response:
        """`taskId` in, the V2 task object out (page "Query generation result (V2)")."""
        refused = self._refused_v2(asked)
        if refused is not None:
            return refused
        task_id = (_object(body) or {}).get("taskId")
        if not isinstance(task_id, str) or not task_id.isascii() or not task_id.isdigit() or int(task_id) == 0:
            return _json(refusal("1007", "taskId must be positive"))
        task = self.tasks.by_id.get(task_id)
        if task is None or (task.status.ended and task.plan.has(Fault.FORGOTTEN)):
            return _json(refusal("1004"))
        now = self.clock()
        self.tasks.note_query(task, now)
        return _json(queried(task, task.told_status(now)))

    async def detail(self, asked: Asked, body: bytes) -> Response:
        """`apiKey` and `taskId` in, the webhook row out (page "Get Webhook Event Details")."""
        wanted, refused = self._v1(body, "taskId")
        if refused is not None:
            return refused
        row = self.callbacks.by_task.get(wanted["taskId"])
        if row is None or self._is_forgotten(row):
            return _json(envelope(code=1, msg=NO_EVENT))
        return _json(envelope(row.shown()))

    async def resend(self, asked: Asked, body: bytes) -> Response:
        """`apiKey`, `webhookId` and perhaps `webhookUrl` in; sends soon (page "Resend Specific Webhook Event")."""
        wanted, refused = self._v1(body, "webhookId")
        if refused is not None:
            return refused
        url = wanted.get("webhookUrl") or None
        if url is not None and not isinstance(url, str):
            return _json(envelope(code=301, msg="webhookUrl must be a string"))
        row = self.callbacks.by_id.get(wanted["webhookId"])
        # Before the end there is a row, but no event yet which could be sent.
        if row is None or not row.event_data or self._is_forgotten(row):
            return _json(envelope(code=1, msg=NO_EVENT))
        self.callbacks.resend(row, url, self.clock())
        return _json(envelope(msg=""))

    async def cancel(self, asked: Asked, body: bytes) -> Response:
        """`apiKey` and `taskId` in, the bare envelope out (page "Cancel ComfyUI Task")."""
        wanted, refused = self._v1(body, "taskId")
        if refused is not None:
            return refused
        task = self.tasks.by_id.get(wanted["taskId"])
        if task is None:
            return _json(envelope(code=807, msg="APIKEY_TASK_NOT_FOUND"))
        if task.status.ended:
            return _json(envelope(code=805, msg="APIKEY_TASK_STATUS_ERROR"))
        self.tasks.end(task, self.clock(), Status.CANCEL)
        return _json(envelope())

    async def file(self, asked: Asked, body: bytes) -> Response:
        """A result file or one range of it; nobody is asked for a key, as with the provider's storage."""
        stored = self.files.find("/files/{user}/output/{name}".format(**asked.path_params), self.clock())
        if stored is None:
            return Response(NO_SUCH_KEY, 404, media_type="application/xml")
        headers = {"ETag": stored.etag, "Accept-Ranges": "bytes"}
        # A resumed download of another file than before gets the whole of the new one.
        same = asked.headers.get("if-range", stored.etag) == stored.etag
        try:
            part = requested_range(asked.headers.get("range") if same else None, stored.size)
        except ValueError:
            return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{stored.size}"})
        start, stop = part or (0, stored.size)
        headers["Content-Length"] = str(stop - start)
        if part:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{stored.size}"
        blocks: Iterable[bytes] = stored.read(start, stop) if asked.method == "GET" else ()
        return StreamingResponse(_flow(blocks), 206 if part else 200, headers, media_type=stored.content_type)

    async def _submit_answer(self, task: Task) -> Response:
        """The answer to an accepted submission, after whatever its plan lets happen before it."""
        answer = submitted(task)
        if task.plan.has(Fault.BEFORE_ANSWER):
            now = self.clock()
            await self.agenda.hurry(self.tasks.end(task, now), now)
            answer = submitted(task) if task.plan.answer_says_end else answer
        if task.plan.has(Fault.ANSWER_LOST):
            return BrokenAnswer(Break.LOST)
        return _json(answer)

    def _is_forgotten(self, row: WebhookRow) -> bool:
        plan = self.tasks.by_id[row.task_id].plan
        return plan.has(Fault.FORGOTTEN) and not plan.detail_knows and bool(row.event_data)

    def _refused_v2(self, asked: Asked) -> Response | None:
        """Why a V2 request may not enter, None when it may. HTTP says 200 either way: the body decides."""
        scheme, _, key = asked.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            return _json(TOKEN_INVALID)
        return None if self._accepts(key.strip()) else _json(refusal("1002"))

    def _v1(self, body: bytes, needed: str) -> tuple[dict[str, Any], Response | None]:
        """The document of a V1 request, or why it may not enter. The key counts in the body only."""
        document = _object(body)
        if document is None:
            return {}, _json(envelope(code=301, msg="PARAMS_INVALID"))
        for name in ("apiKey", needed):
            value = document.get(name)
            if not isinstance(value, str) or not value.strip():
                return {}, _json(envelope(code=301, msg=f"{name} must not be blank"))
        if not self._accepts(document["apiKey"]):
            return {}, _json(envelope(code=802, msg="APIKEY_UNAUTHORIZED"))
        return document, None

    def _accepts(self, key: str) -> bool:
        return self.terms.api_key is None or key == self.terms.api_key

    def _route(self, name: str, path: str, endpoint: Endpoint, method: str = "POST") -> Route:
        async def door(asked: Asked) -> Response:
            body = await asked.body()
            self.ledger.note_request(Request(name, asked.method, asked.url.path, self.clock(), body))
            outage = self.outages.meet(name)
            if outage is None:
                return await endpoint(asked, body)
            if outage.kind is Outage.SLOW:
                return SlowAnswer(await endpoint(asked, body), self.pause, outage.seconds)
            return outage_answer(outage.kind)

        return Route(path, door, methods=[method], name=name)


def _json(document: dict[str, Any]) -> Response:
    return Response(to_bytes(document), media_type="application/json")


async def _flow(blocks: Iterable[bytes]) -> AsyncIterator[bytes]:
    # A plain iterator would be moved to a thread per block, which costs more than making the block.
    for block in blocks:
        yield block


def _object(body: bytes) -> dict[str, Any] | None:
    """The JSON object in a body, or None for anything else."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
