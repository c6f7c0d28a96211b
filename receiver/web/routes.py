"""The table of the API: every route below /api, with what it takes and gives."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from receiver.model import views
from receiver.model.deeds import DeedView
from receiver.model.records import Filter, Page
from receiver.model.shown import action_view, event_view, shown, task_row
from receiver.model.views import PageView
from receiver.reconcile import Reconciler
from receiver.server.service import Service
from receiver.store import Store
from receiver.web import files, filters, ledger, overview, pruning, resources, stream, tasks
from receiver.web.answers import Handler, answer
from receiver.web.audited import VERBS, audited
from receiver.web.filters import Filters, refuse_unknown, wanted_of
from receiver.web.origins import SAFE

R = TypeVar("R")


class Endpoint(Struct, frozen=True):
    """One method of one path below /api. `gives` and `body` are the types of the JSON documents, bytes for raw ones.

    `filters` are the names in a query that a list takes: any other is refused. None: it is no list.
    """

    method: str
    path: str
    handler: Handler
    gives: object
    body: object = None
    filters: Filters | None = None

    def route(self, service: Service) -> Route:
        """The endpoint at the door of a running service."""

        verb = None if self.method in SAFE else VERBS[f"{self.method} {self.path}"]

        async def handle(request: Request) -> Response:
            request.scope["template"] = f"/api{self.path}"
            if self.filters is not None:
                refuse_unknown(request, self.filters)
            if verb is not None:
                return await audited(service, request, verb, self.handler)
            return await self.handler(service, request)

        return Route(self.path, handle, methods=[self.method])


def paged(
    path: str,
    verb: Callable[[Store, Filter], Awaitable[Page[R]]],
    view: Callable[[R], object],
    item: type[Struct],
    filters: Filters,
    task: str | None = None,
) -> Endpoint:
    """The endpoint of a list: what a verb of the store finds, each `item` as `view` shows it, page by page.

    `task` is the field that has the id of a task.
    """

    async def handler(service: Service, request: Request) -> Response:
        found = await verb(service.store, await wanted_of(service.store, request, filters))
        ids = [getattr(each, task) for each in found.items] if task else []
        short = await service.store.short_ids(ids) if ids else {}
        items = [view(each) for each in found.items]
        return answer(PageView(items=items, next=found.next, prev=found.prev, short=short))

    return Endpoint("GET", path, handler, PageView[item], filters=filters)  # type: ignore[valid-type]


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("GET", "/status", overview.overview, views.OverviewView),
    Endpoint("POST", "/tasks", tasks.submit, views.OrderedView, body=views.OrderBody),
    Endpoint("POST", "/previews", tasks.preview, views.PreviewView, body=views.OrderBody),
    paged("/tasks", Store.tasks, task_row, views.TaskRow, filters.TASKS, "id"),
    Endpoint("GET", "/tasks/{task}", tasks.show, views.TaskDetail),
    Endpoint("POST", "/tasks/{task}/reconcile", tasks.done(Reconciler.reconcile), views.TaskDetail),
    Endpoint("POST", "/tasks/{task}/resend", tasks.done(Reconciler.resend), views.TaskDetail),
    Endpoint("POST", "/tasks/{task}/cancel", tasks.done(Reconciler.cancel), views.TaskDetail),
    Endpoint("POST", "/tasks/{task}/submit-again", tasks.submit_again, views.OrderedView),
    Endpoint("GET", "/tasks/{task}/status", tasks.status, views.StatusView),
    Endpoint("GET", "/tasks/{task}/outputs", tasks.outputs, views.OutputsView),
    Endpoint("GET", "/tasks/{task}/webhook", tasks.webhook, views.WebhookView),
    Endpoint("GET", "/tasks/{task}/files/{n}", files.saved_file, bytes),
    Endpoint("GET", "/deliveries", ledger.deliveries, views.DeliveryPage, filters=filters.DELIVERIES),
    Endpoint("GET", "/deliveries/{id}/body", ledger.delivery_body, bytes),
    paged("/events", Store.events, event_view, views.EventView, filters.EVENTS, "task"),
    paged("/actions", Store.actions, action_view, views.ActionView, filters.ACTIONS, "task"),
    Endpoint("GET", "/actions/{id}", ledger.action, views.ActionView),
    Endpoint("POST", "/actions/{id}/retry", ledger.retry, views.ActionView),
    Endpoint("POST", "/actions/{id}/skip", ledger.skip, views.ActionView),
    Endpoint("GET", "/definitions", ledger.definitions, PageView[views.DefinitionView], filters=filters.DEFINITIONS),
    Endpoint("POST", "/definitions/{name}/pause", partial(ledger.set_paused, paused=True), views.DefinitionView),
    Endpoint("POST", "/definitions/{name}/resume", partial(ledger.set_paused, paused=False), views.DefinitionView),
    paged("/alerts", Store.alerts, partial(shown, views.AlertView), views.AlertView, filters.ALERTS),
    Endpoint("POST", "/alerts/{id}/acknowledge", partial(ledger.settle_alert, close=False), views.AlertView),
    Endpoint("POST", "/alerts/{id}/close", partial(ledger.settle_alert, close=True), views.AlertView),
    paged("/replays", Store.replays, ledger.replay_view, views.ReplayView, filters.REPLAYS),
    Endpoint("POST", "/replays", ledger.begin_replay, views.ReplayView, body=views.ReplayBody),
    Endpoint("GET", "/replays/{id}", ledger.replay_state, views.ReplayView),
    Endpoint("DELETE", "/replays/{id}", ledger.cancel_replay, views.ReplayView),
    Endpoint("POST", "/replays/{id}/resume", ledger.resume_replay, views.ReplayView),
    Endpoint("POST", "/uploads", resources.upload, views.UploadView | views.FileNameView, body=bytes),
    Endpoint("GET", "/models", resources.models, PageView[views.ModelRow], filters=filters.MODELS),
    Endpoint("GET", "/models/{name:path}", resources.model, views.ModelView),
    Endpoint("GET", "/apps/{id}", resources.app, views.AppView),
    Endpoint("GET", "/apps/{id}/styles", resources.styles, PageView[dict[str, object]]),
    Endpoint("GET", "/workflows/{id}", resources.workflow, views.AppView),
    Endpoint("GET", "/stream", stream.stream, bytes, filters=filters.STREAM),
    Endpoint("GET", "/account", resources.account, views.AccountView),
    paged("/audit", Store.audit, partial(shown, DeedView), DeedView, filters.AUDIT),
    Endpoint("GET", "/prune", pruning.show, views.PruneView),
    Endpoint("POST", "/prune", pruning.begin, views.PruneView, body=views.PruneBody),
    Endpoint("DELETE", "/prune", pruning.stop, views.PruneView),
    Endpoint("GET", "/backup", ledger.backup, bytes),
    Endpoint("POST", "/secrets/rotate", ledger.rotate_secret, views.RotatedView),
)
