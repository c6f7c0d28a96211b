"""The API beside tasks: uploads, previews of orders, and what apps and workflows take."""

import asyncio
import hashlib
import os
import re
import tempfile
from collections.abc import AsyncIterator
from typing import IO
from weakref import WeakValueDictionary

import uuid_utils
from msgspec.structs import asdict
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from receiver.model.errors import Refused, StoreUnavailable, invalid, not_found, problems
from receiver.model.offers import (
    AccountView,
    FileNameView,
    OutputsView,
    PreviewView,
    QueueView,
    StatusView,
    WebhookView,
    app_view,
    upload_view,
)
from receiver.model.records import JsonObject, Kind, Price
from receiver.model.rules import UPLOAD_KEPT, UPLOAD_LIMITS
from receiver.model.views import PageView
from receiver.orders.reading import NUMBER, read_order
from receiver.orders.references import named_uploads
from receiver.orders.upload import upload
from receiver.runninghub.client import FileToSend
from receiver.runninghub.errors import ProviderError
from receiver.server.service import Service
from receiver.web.answers import answer, read_object, refuse_without_key

CHUNK = 256 * 1024
NAME = re.compile(r"[^/\\\x00-\x1f\x7f]{1,200}")
NO_SUCH = frozenset({"380", "901"})
"""The provider's codes for a workflow or an app that it does not know."""


class ResourceDoors:
    """The handlers of uploads, previews, apps and workflows, over a running service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._store = service.store
        self._uploading: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def routes(self) -> list[Route]:
        return [
            Route("/uploads", self.upload, methods=["POST"]),
            Route("/previews", self.preview, methods=["POST"]),
            Route("/apps/{id}", self.app),
            Route("/apps/{id}/styles", self.styles),
            Route("/tasks/{task}/status", self.status),
            Route("/tasks/{task}/outputs", self.outputs),
            Route("/tasks/{task}/webhook", self.webhook),
            Route("/workflows/{id}", self.workflow),
            Route("/account", self.account),
        ]

    async def upload(self, request: Request) -> Response:
        """A file as the body, its name as `name`. The same bytes are sent to the provider once a day at the most.

        With `as=lora` it is a LoRA, with `as=nodes` it goes the provider's older way; both give a file name for nodes.
        """
        name = request.query_params.get("name", "")
        purpose = request.query_params.get("as", "file")
        if purpose not in UPLOAD_LIMITS:
            raise invalid("as", f"expected one of {', '.join(UPLOAD_LIMITS)}")
        limit = UPLOAD_LIMITS[purpose]
        if not NAME.fullmatch(name) or name in (".", ".."):
            raise invalid("name", "expected the file's name, without folders, such as one.jpg")
        refuse_without_key(self._service.provider)
        problem = self._store.problem()
        if problem is not None:
            raise StoreUnavailable(problem, "nothing can be stored now")
        _refuse_too_long(int(length) if (length := request.headers.get("content-length", "")).isdigit() else 0, limit)
        # A file without a name: whatever happens, nothing is left behind.
        with tempfile.TemporaryFile(dir=self._store.path.parent) as kept:
            size, sha256 = await _keep(request, kept, limit)
            if size == 0:
                raise invalid("body", "the file is empty")
            file = FileToSend(name=name, size=size, open=lambda: _read(kept))
            if purpose != "file":
                return answer(FileNameView(file_name=await self._for_nodes(file, kept, purpose)), 201)
            async with self._uploading.setdefault(sha256, asyncio.Lock()):
                made, new = await upload(self._store, self._service.resources, file, sha256, self._service.clock)
        return answer(upload_view(made, made.at + UPLOAD_KEPT), 201 if new else 200)

    async def _for_nodes(self, file: FileToSend, kept: IO[bytes], purpose: str) -> str:
        """The name that a node's field takes for a file that went one of the provider's older ways."""
        if purpose == "nodes":
            return await self._service.resources.upload_for_nodes(file)
        return await self._service.resources.upload_lora(file, await asyncio.to_thread(_md5, kept))

    async def preview(self, request: Request) -> Response:
        """What an order would be and cost. Nothing is queued."""
        document = await read_object(request)
        named = await named_uploads(self._store, document, self._service.provider.site, self._service.clock())
        order = read_order(document, str(uuid_utils.uuid7()), None, uploads=named.uploads, refused=named.refused)
        if order.unknown:
            raise problems(order.unknown)
        task, price, why_not = order.task, None, "RunningHub tells prices of models alone"
        if task.kind is Kind.MODEL:
            price, why_not = await self._price(task.target, task.input)
        return answer(
            PreviewView(
                kind=task.kind,
                api=task.api,
                target=task.target,
                input=task.input,
                labels=task.labels,
                note=order.note,
                price=price,
                price_problem=why_not if price is None else None,
            )
        )

    async def app(self, request: Request) -> Response:
        app_id = _number(request, "AI app")
        try:
            found = await self._service.resources.app(app_id)
        except ProviderError as error:
            raise _unless_unknown(error, "AI app", app_id) from error
        return answer(app_view(app_id, found.name, found.nodes))

    async def styles(self, request: Request) -> Response:
        """The styles a quick creation can be given; `type` is the provider's kind of style, usually 2."""
        app_id = _number(request, "AI app")
        kind = request.query_params.get("type", "2")
        if not kind.isascii() or not kind.isdigit() or len(kind) > 9:
            raise invalid("type", "expected a whole number, such as 2")
        try:
            found = await self._service.resources.styles(app_id, int(kind))
        except ProviderError as error:
            raise _unless_unknown(error, "AI app", app_id) from error
        return answer(PageView(items=found, next=None))

    async def status(self, request: Request) -> Response:
        """The provider's own word for a task, asked now; nothing is recorded of it."""
        return answer(StatusView(status=await self._service.resources.status(await self._provider_id(request))))

    async def outputs(self, request: Request) -> Response:
        """What the provider says that a task made, or why it did not, asked now; nothing is recorded of it."""
        report = (await self._service.provider.outputs(await self._provider_id(request))).content
        if not report.known:
            raise Refused(404, "unknown_to_provider", "RunningHub does not know this task (any more)")
        return answer(OutputsView(state=report.end, results=report.results, error=report.error, usage=report.usage))

    async def webhook(self, request: Request) -> Response:
        """What became of a task's callback at the provider, asked now; nothing is recorded of it."""
        detail = (await self._service.provider.webhook_detail(await self._provider_id(request))).content
        if detail is None:
            raise Refused(
                404, "no_webhook", "RunningHub has no callback of this task; was it sent with a callback URL?"
            )
        response = self._service.redact.text(detail.response)
        return answer(
            WebhookView(id=detail.id, status=detail.status, response=response, retry_count=detail.retry_count)
        )

    async def _provider_id(self, request: Request) -> str:
        """What a task is called at the provider."""
        task = await self._store.task(request.path_params["task"])
        if task is None:
            raise not_found("task", request.path_params["task"][:64])
        if task.provider_task_id is None:
            raise Refused(409, "not_submitted", f"the task is {task.state}; RunningHub's id for it is not known")
        return task.provider_task_id

    async def workflow(self, request: Request) -> Response:
        workflow_id = _number(request, "workflow")
        try:
            nodes = await self._service.resources.workflow(workflow_id)
        except ProviderError as error:
            raise _unless_unknown(error, "workflow", workflow_id) from error
        return answer(app_view(workflow_id, "", nodes))

    async def account(self, _: Request) -> Response:
        account = await self._service.provider.account()
        return answer(AccountView(**asdict(account), queue=await self._queue()))

    async def _queue(self) -> QueueView | None:
        """The endpoint is on no page of the provider's: an account is as good without it."""
        try:
            queue = await self._service.resources.queue()
        except ProviderError:
            return None
        return QueueView(limit=queue.limit, running=queue.running, queued=queue.queued, total=queue.total)

    async def _price(self, target: str, input: JsonObject) -> tuple[Price | None, str]:
        """A price is told where it can be; without it an order is as good."""
        try:
            return await self._service.resources.price(target, input), ""
        except ProviderError as error:
            return None, f"RunningHub: {error}"


async def _keep(request: Request, kept: IO[bytes], limit: int) -> tuple[int, str]:
    """The body into a file. Returns its size and its SHA-256."""
    size, digest = 0, hashlib.sha256()
    async for chunk in request.stream():
        size += len(chunk)
        _refuse_too_long(size, limit)
        digest.update(chunk)
        await asyncio.to_thread(_write, kept, chunk)
    await asyncio.to_thread(_flush, kept)
    return size, digest.hexdigest()


def _write(kept: IO[bytes], chunk: bytes) -> None:
    try:
        kept.write(chunk)
    except OSError as error:
        raise StoreUnavailable("disk_full", f"the file cannot be kept: {error.strerror}") from error


def _flush(kept: IO[bytes]) -> None:
    try:
        kept.flush()
    except OSError as error:
        raise StoreUnavailable("disk_full", f"the file cannot be kept: {error.strerror}") from error


async def _read(kept: IO[bytes]) -> AsyncIterator[bytes]:
    place = 0
    while chunk := await asyncio.to_thread(os.pread, kept.fileno(), CHUNK, place):
        place += len(chunk)
        yield chunk


def _md5(kept: IO[bytes]) -> str:
    """What the provider knows a LoRA by."""
    kept.seek(0)
    return hashlib.file_digest(kept, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()  # type: ignore[arg-type]


def _refuse_too_long(size: int, limit: int) -> None:
    if size > limit:
        raise Refused(413, "too_large", f"the file is larger than {limit // 2**20} MiB")


def _number(request: Request, what: str) -> str:
    text: str = request.path_params["id"]
    if not NUMBER.fullmatch(text):
        raise not_found(what, text[:64])
    return text


def _unless_unknown(error: ProviderError, what: str, name: str) -> Exception:
    return not_found(what, name) if error.code in NO_SUCH else error
