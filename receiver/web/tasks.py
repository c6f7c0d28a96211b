"""Tasks over HTTP: ordering them, looking at one, and what can be done to it."""

from collections.abc import Awaitable, Callable

import uuid_utils
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from receiver.model.entries import NewTask
from receiver.model.errors import Refused, problems
from receiver.model.records import JsonObject, Kind, Price, Task
from receiver.model.shown import shown, task_view
from receiver.model.views import OrderedView, OutputsView, PreviewView, StatusView, WebhookView
from receiver.orders.attachments import named_uploads, refreshed
from receiver.orders.reading import Order, read_order
from receiver.reconcile import Reconciler
from receiver.runninghub.errors import ProviderError
from receiver.server.service import Service
from receiver.submit import accept
from receiver.web.answers import Handler, answer, known, read_object, refuse_without_key
from receiver.web.gather import gather_task

AGAIN_FROM = frozenset({"in_doubt", "rejected", "failed", "cancelled", "lost", "succeeded"})


async def submit(service: Service, request: Request) -> Response:
    order = await _order(service, request, request.headers.get("idempotency-key"))
    refuse_without_key(service.provider)
    if order.unknown and not await _was_taken(service, order.task):
        raise problems(order.unknown)
    task, new = await accept(service.store, order.task, service.clock())
    service.wake()
    return answer(task_view(OrderedView, task, note=order.note, new=new), 202 if new else 200)


async def preview(service: Service, request: Request) -> Response:
    """What an order would be and cost. Nothing is queued."""
    order = await _order(service, request, None)
    if order.unknown:
        raise problems(order.unknown)
    price, why_not = await _price(service, order.task)
    return answer(shown(PreviewView, order.task, note=order.note, price=price, price_problem=why_not))


async def _order(service: Service, request: Request, key: str | None) -> Order:
    document = await read_object(request)
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


async def _price(service: Service, order: NewTask) -> tuple[Price | None, str | None]:
    """A price is told where it can be, else why not; without it an order is as good."""
    if order.kind is not Kind.MODEL:
        return None, "RunningHub tells prices of models alone"
    try:
        return await service.resources.price(order.target, order.input), None
    except ProviderError as error:
        return None, f"RunningHub: {error}"


async def submit_again(service: Service, request: Request) -> Response:
    """A new task with the same order: the old one stays as it is, for it may still end.

    The same Idempotency-Key makes no second one. Its uploads get the links that they have now.
    Raises Refused (422) for those that are too old.
    """
    task = await task_of(service, request)
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
    key = request.headers.get("idempotency-key")
    order = read_order(document, _new_id(service), key, again_of=task.id)
    again, new = await accept(service.store, replace(order.task, uploads=uploads), now)
    service.wake()
    return answer(task_view(OrderedView, again, note=order.note, new=new), 202 if new else 200)


async def show(service: Service, request: Request) -> Response:
    return answer(await gather_task(service.store, await task_of(service, request)))


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
    return answer(StatusView(status=await service.resources.status(await _provider_id(service, request))))


async def outputs(service: Service, request: Request) -> Response:
    """What the provider says that a task made, or why it did not."""
    report = (await service.provider.outputs(await _provider_id(service, request))).content
    if not report.known:
        raise Refused(404, "unknown_to_provider", "RunningHub does not know this task (any more)")
    return answer(shown(OutputsView, report, state=report.end))


async def webhook(service: Service, request: Request) -> Response:
    """What became of a task's callback at the provider."""
    detail = (await service.provider.webhook_detail(await _provider_id(service, request))).content
    if detail is None:
        raise Refused(404, "no_webhook", "RunningHub has no callback of this task; was it sent with a callback URL?")
    return answer(shown(WebhookView, detail, response=service.redact.text(detail.response)))


async def _provider_id(service: Service, request: Request) -> str:
    """What a task is called at the provider."""
    task = await task_of(service, request)
    if task.provider_task_id is None:
        raise Refused(409, "not_submitted", f"the task is {task.state}; RunningHub's id for it is not known")
    return task.provider_task_id


async def task_of(service: Service, request: Request) -> Task:
    """The task with the id in the path, or with the one id that begins so. Raises Refused (404, 409)."""
    task_id = request.path_params["task"]
    return known(await service.store.find_task(task_id), "task", task_id)
