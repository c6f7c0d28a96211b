"""Tasks over HTTP: ordering them, looking at one, and what can be done to it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import msgspec
import uuid_utils
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from receiver.model.deeds import about
from receiver.model.entries import NewTask
from receiver.model.errors import Refused, problems
from receiver.model.records import JsonObject, Kind, Price, Task
from receiver.model.rules import ORDER_LIMIT
from receiver.model.shown import shown, task_view
from receiver.model.views import OrderedView, OutputsView, PreviewView, StatusView, WebhookView
from receiver.orders import upload as uploads
from receiver.orders.attachments import named_uploads, refreshed
from receiver.orders.inline import InlineFile, take_out
from receiver.orders.reading import Order, read_order
from receiver.reconcile import Reconciler
from receiver.runninghub.client import FileToSend
from receiver.runninghub.errors import ProviderError
from receiver.server.service import Service
from receiver.submit import accept
from receiver.web.answers import Handler, answer, known, read_object, refuse_without_key
from receiver.web.gather import gather_task

AGAIN_FROM = frozenset({"in_doubt", "rejected", "failed", "cancelled", "lost", "succeeded"})


async def submit(service: Service, request: Request) -> Response:
    key = request.headers.get("idempotency-key")
    document, files = await _inline_files(await read_object(request))
    order = await _order(service, document, key)
    _refuse_large(order.task)
    refuse_without_key(service.provider)
    if files and order.unknown and not await _was_taken(service, order.task):
        # Only what is otherwise sound is uploaded.
        await _upload(service, files)
        order = await _order(service, document, key)
    if order.unknown and not await _was_taken(service, order.task):
        raise problems(order.unknown)
    about(f"tasks/{order.task.id}")
    task, new = await accept(service.store, order.task, service.clock())
    about(f"tasks/{task.id}")
    service.wake()
    return answer(task_view(OrderedView, task, note=order.note, new=new), 202 if new else 200)


async def preview(service: Service, request: Request) -> Response:
    """What an order would be and cost. Nothing is queued."""
    order = await _order(service, await read_object(request), None)
    if order.unknown:
        raise problems(order.unknown)
    price, why_not = await price_of(service, order.task)
    return answer(shown(PreviewView, order.task, note=order.note, price=price, price_problem=why_not))


async def _inline_files(document: JsonObject) -> tuple[JsonObject, dict[str, InlineFile]]:
    """The order without the files that stand in it, which are read beside the loop: they may be large."""
    return await asyncio.to_thread(take_out, document)


async def _upload(service: Service, files: Mapping[str, InlineFile]) -> None:
    """Brings the files of an order to the provider, each once a day at most, under the same ids as any upload."""
    for file in files.values():

        async def content(content: bytes = file.content) -> AsyncIterator[bytes]:
            yield content

        sent = FileToSend(name=file.name, size=len(file.content), open=content)
        async with service.uploading.setdefault(file.sha256, asyncio.Lock()):
            await uploads.upload(service.store, service.resources, sent, file.sha256, service.clock)


def _refuse_large(order: NewTask) -> None:
    size = len(msgspec.json.encode(order.input))
    if size > ORDER_LIMIT:
        message = f"expected {ORDER_LIMIT // 2**20} MiB at the most, got {size} bytes"
        raise problems([("input", f"{message}; upload large files first (POST /api/uploads)")])


async def _order(service: Service, document: JsonObject, key: str | None) -> Order:
    named = await named_uploads(service.store, document, service.provider.site, service.clock())
    return read_order(document, _new_id(service), key, named=named)


def _new_id(service: Service) -> str:
    """Random behind its time. The library's own counter would make ids of one millisecond alike for most of their
    length, and so hard to tell apart by their beginnings."""
    return str(uuid_utils.uuid7(nanoseconds=int(service.clock() * 1e9)))


async def _was_taken(service: Service, order: NewTask) -> bool:
    """Whether there is a task of this order's idempotency key already; then it needs its uploads no more."""
    key = order.idempotency_key
    return key is not None and await service.store.task_by_idempotency_key(key) is not None


async def price_of(service: Service, order: NewTask | Task) -> tuple[Price | None, str | None]:
    """A price is told where it can be, else why not; without it an order is as good."""
    if order.kind is not Kind.MODEL:
        return None, "RunningHub tells prices of models alone"
    try:
        return await service.resources.price(order.target, order.input), None
    except ProviderError as error:
        return None, f"RunningHub: {error}"


async def submit_again(service: Service, request: Request) -> Response:
    """The same order once more."""
    ordered = await order_again(service, await task_of(service, request), request.headers.get("idempotency-key"))
    return answer(ordered, 202 if ordered.new else 200)


async def order_again(service: Service, task: Task, key: str | None) -> OrderedView:
    """A new task with the same order: the old one stays as it is, for it may still end.

    The same idempotency key makes no second one. Its uploads get the links that they have now.
    Raises Refused (422) for those that are too old.
    """
    if task.state not in AGAIN_FROM:
        raise Refused(409, "not_ended", f"the task is {task.state}; it may be submitted again when that has changed")
    refuse_without_key(service.provider)
    now = service.clock()
    input, uploads, too_old = await refreshed(service.store, task, service.provider.site, now)
    if too_old:
        raise problems([(path, f"{message}; then submit the task again") for path, message in too_old])
    document: JsonObject = {
        "kind": task.kind.value,
        "api": task.api.value,
        "target": task.target,
        "input": input,
        "labels": dict(task.labels),
        "validate": False,  # it was checked when it was ordered first
    }
    order = read_order(document, _new_id(service), key, again_of=task.id)
    again, new = await accept(service.store, replace(order.task, uploads=uploads), now)
    service.wake()
    return task_view(OrderedView, again, note=order.note, new=new)


async def show(service: Service, request: Request) -> Response:
    task_id = request.path_params["task"]
    task = known(await service.store.task_shown(task_id), "task", task_id)
    return answer(await gather_task(service.store, task))


def done(verb: Callable[[Reconciler, str], Awaitable[object]]) -> Handler:
    """The handler that does something to a task and shows what it is then."""

    async def handler(service: Service, request: Request) -> Response:
        task = await task_of(service, request)
        await verb(service.reconciler, task.id)
        service.wake()
        return await show(service, request)

    return handler


# ------------------------------------------------------------ asked of the provider now; nothing is recorded of it


async def status(service: Service, request: Request) -> Response:
    """The provider's own word for a task."""
    task, provider_id = await _sent(service, request)
    return answer(StatusView(status=await service.resources.at(task.site).status(provider_id)))


async def outputs(service: Service, request: Request) -> Response:
    """What the provider says that a task made, or why it did not."""
    task, provider_id = await _sent(service, request)
    report = (await service.provider.at(task.site).outputs(provider_id)).content
    if not report.known:
        raise Refused(404, "unknown_to_provider", "RunningHub does not know this task (any more)")
    return answer(shown(OutputsView, report, state=report.end))


async def webhook(service: Service, request: Request) -> Response:
    """What became of a task's callback at the provider."""
    task, provider_id = await _sent(service, request)
    detail = (await service.provider.at(task.site).webhook_detail(provider_id)).content
    if detail is None:
        raise Refused(404, "no_webhook", "RunningHub has no callback of this task; was it sent with a callback URL?")
    return answer(shown(WebhookView, detail, response=service.redact.text(detail.response)))


async def _sent(service: Service, request: Request) -> tuple[Task, str]:
    """A task, and what it is called at the provider."""
    task = await task_of(service, request)
    if task.provider_task_id is None:
        raise Refused(409, "not_submitted", f"the task is {task.state}; RunningHub's id for it is not known")
    return task, task.provider_task_id


async def task_of(service: Service, request: Request) -> Task:
    """The task with the id in the path, or with the one id that begins so. Raises Refused (404, 409)."""
    task_id = request.path_params["task"]
    task = known(await service.store.find_task(task_id), "task", task_id)
    about(f"tasks/{task.id}")
    return task
