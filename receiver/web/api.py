"""The JSON API: tasks, deliveries, events, actions, definitions, alerts, replays and the backup."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import uuid_utils
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from receiver.model.entries import NewTask, Selection
from receiver.model.errors import Refused, not_found, problems
from receiver.model.records import ActionState, End, Filter, JsonObject, Task, TaskState
from receiver.model.rules import DELIVERY_BODIES, REPLAYABLE
from receiver.model.views import (
    DeliveryPage,
    PageView,
    action_view,
    alert_view,
    definition_view,
    delivery_view,
    dry_run_view,
    event_view,
    ordered_view,
    replay_view,
    task_detail,
    task_view,
)
from receiver.orders.attachments import named_uploads, refreshed
from receiver.orders.reading import read_order
from receiver.replay import replay
from receiver.runninghub import catalogue
from receiver.runninghub.shown import model_row, model_view
from receiver.server.service import Service
from receiver.submit import accept
from receiver.web.answers import answer, read_filter, read_id, read_object, refuse_without_key
from receiver.web.selections import read_replay

CHUNK = 1024 * 1024
ACTIONS_SHOWN = 200
ALERT_STATES = ("open", "closed")
DELIVERY_STATES = ("readable", "unreadable", "contradicting")
AGAIN_FROM = frozenset({"in_doubt", "rejected", "failed", "cancelled", "lost", "succeeded"})


class Api:
    """The handlers of /api, over a running service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._store = service.store

    def routes(self) -> list[Route]:
        return [
            Route("/tasks", self.submit, methods=["POST"]),
            Route("/tasks", self.tasks),
            Route("/tasks/{task}", self.task),
            Route("/tasks/{task}/reconcile", self.reconcile, methods=["POST"]),
            Route("/tasks/{task}/resend", self.resend, methods=["POST"]),
            Route("/tasks/{task}/cancel", self.cancel, methods=["POST"]),
            Route("/tasks/{task}/submit-again", self.submit_again, methods=["POST"]),
            Route("/deliveries", self.deliveries),
            Route("/deliveries/{id}/body", self.delivery_body),
            Route("/events", self.events),
            Route("/actions", self.actions),
            Route("/actions/{id}", self.action),
            Route("/actions/{id}/retry", self.retry, methods=["POST"]),
            Route("/actions/{id}/skip", self.skip, methods=["POST"]),
            Route("/definitions", self.definitions),
            Route("/definitions/{name}/pause", self.pause, methods=["POST"]),
            Route("/definitions/{name}/resume", self.resume, methods=["POST"]),
            Route("/alerts", self.alerts),
            Route("/replays", self.replays),
            Route("/replays", self.replay, methods=["POST"]),
            Route("/replays/{id}", self.replay_state),
            Route("/replays/{id}", self.cancel_replay, methods=["DELETE"]),
            Route("/replays/{id}/resume", self.resume_replay, methods=["POST"]),
            Route("/models", self.models),
            Route("/models/{name:path}", self.model),
            Route("/backup", self.backup),
        ]

    # ------------------------------------------------------------ tasks

    async def submit(self, request: Request) -> Response:
        document = await read_object(request)
        now = self._service.clock()
        named = await named_uploads(self._store, document, self._service.provider.site, now)
        key = request.headers.get("idempotency-key")
        order = read_order(document, str(uuid_utils.uuid7()), key, named=named)
        refuse_without_key(self._service.provider)
        if order.unknown and not await self._was_taken(order.task):
            raise problems(order.unknown)
        task, new = await accept(self._store, order.task, now)
        self._service.wake()
        return answer(ordered_view(task, order.note), 202 if new else 200)

    async def submit_again(self, request: Request) -> Response:
        """A new task with the same order: the old one stays as it is, for it may still end.

        Its uploads get the links that they have now. Raises Refused (422) for those that are too old.
        """
        task = await self._task(request)
        if task.state not in AGAIN_FROM:
            raise Refused(
                409, "not_ended", f"the task is {task.state}; it may be submitted again when that has changed"
            )
        refuse_without_key(self._service.provider)
        now = self._service.clock()
        attached, too_old = await refreshed(self._store, task, self._service.provider.site, now)
        if too_old:
            raise problems([(path, f"{message}; then submit the task again") for path, message in too_old])
        document: JsonObject = {
            "kind": task.kind.value,
            "api": task.api.value,
            "target": task.target,
            "input": attached.input,
            "labels": dict(task.labels),
            "validate": False,  # it was checked when it was ordered first
        }
        order = read_order(document, str(uuid_utils.uuid7()), None, again_of=task.id)
        again, _ = await accept(self._store, replace(order.task, uploads=attached.uploads), now)
        self._service.wake()
        return answer(ordered_view(again, order.note), 202)

    async def tasks(self, request: Request) -> Response:
        found = await self._store.tasks(read_filter(request, states=list(TaskState)))
        return answer(PageView(items=[task_view(task) for task in found.items], next=found.next))

    async def task(self, request: Request) -> Response:
        return await self._detail((await self._task(request)).id)

    async def reconcile(self, request: Request) -> Response:
        task = await self._task(request)
        await self._service.reconciler.reconcile(task.id)
        self._service.wake()
        return await self._detail(task.id)

    async def resend(self, request: Request) -> Response:
        task = await self._task(request)
        await self._service.reconciler.resend(task.id)
        return await self._detail(task.id)

    async def cancel(self, request: Request) -> Response:
        task = await self._task(request)
        await self._service.reconciler.cancel(task.id)
        self._service.wake()
        return await self._detail(task.id)

    # ------------------------------------------------------------ lists

    async def deliveries(self, request: Request) -> Response:
        found = await self._store.deliveries(read_filter(request, states=DELIVERY_STATES))
        totals = await self._store.counters()
        items = [delivery_view(delivery) for delivery in found.items]
        return answer(DeliveryPage(items=items, next=found.next, totals=totals))

    async def delivery_body(self, request: Request) -> Response:
        """The raw bytes, as data: no browser may take them for a page."""
        body = await self._store.delivery_body(read_id(request, "delivery"))
        if body is None:
            raise not_found("delivery", request.path_params["id"])
        headers = {"content-disposition": "attachment", "x-content-type-options": "nosniff"}
        return Response(body, media_type="application/octet-stream", headers=headers)

    async def events(self, request: Request) -> Response:
        found = await self._store.events(read_filter(request, states=list(End)))
        return answer(PageView(items=[event_view(event) for event in found.items], next=found.next))

    async def actions(self, request: Request) -> Response:
        found = await self._store.actions(read_filter(request, states=list(ActionState)))
        return answer(PageView(items=[action_view(action) for action in found.items], next=found.next))

    async def alerts(self, request: Request) -> Response:
        found = await self._store.alerts(read_filter(request, states=ALERT_STATES, kinds=()))
        return answer(PageView(items=[alert_view(alert) for alert in found.items], next=found.next))

    # ------------------------------------------------------------ actions and definitions

    async def action(self, request: Request) -> Response:
        action = await self._store.action(read_id(request, "action"))
        if action is None:
            raise not_found("action", request.path_params["id"])
        return answer(action_view(action, await self._store.attempts(action.id)))

    async def retry(self, request: Request) -> Response:
        action_id = read_id(request, "action")
        found = await self._store.action(action_id)
        if found is not None and found.name not in {each.name for each in self._service.definitions}:
            raise Refused(409, "definition_gone", f"{found.name} is not configured any more: nothing would run it")
        selection = Selection(action=action_id, action_state=REPLAYABLE)
        taken = await self._store.retry(selection, {"action": action_id}, None, self._service.clock())
        shown = await self.action(request)
        if taken.matched == 0:
            raise Refused(409, "on_its_way", f"action {action_id} is owed or running already, or was retried just now")
        self._service.wake()
        return shown

    async def skip(self, request: Request) -> Response:
        action_id = read_id(request, "action")
        done = await self._store.skip_action(action_id, "skipped by hand", self._service.clock())
        shown = await self.action(request)
        if not done:
            raise Refused(409, "not_owed", f"action {action_id} is neither owed nor dead, so it cannot be skipped")
        self._service.wake()
        return shown

    async def definitions(self, _: Request) -> Response:
        configured = {definition.name: definition for definition in self._service.definitions}
        states = await self._store.definition_states()
        return answer(
            PageView(
                items=[definition_view(each, configured.get(each.name), self._service.clock()) for each in states],
                next=None,
            )
        )

    async def pause(self, request: Request) -> Response:
        return await self._set_paused(request, paused=True)

    async def resume(self, request: Request) -> Response:
        shown = await self._set_paused(request, paused=False)
        self._service.wake()
        return shown

    # ------------------------------------------------------------ the provider

    async def models(self, request: Request) -> Response:
        """The catalogue, narrowed by `q`: a part of a name, endpoint, group or output, or a pattern with * and ?."""
        found = catalogue.search(request.query_params.get("q", ""))
        return answer(PageView(items=[model_row(model) for model in found], next=None))

    async def model(self, request: Request) -> Response:
        return answer(model_view(catalogue.find(request.path_params["name"])))

    # ------------------------------------------------------------ replays and backup

    async def replay(self, request: Request) -> Response:
        order = read_replay(await read_object(request))
        matched, made = await replay(
            self._store,
            self._service.definitions,
            order.mode,
            order.wanted,
            order.note,
            rate=order.rate,
            dry_run=order.dry_run,
            now=self._service.clock(),
        )
        if made is not None:
            self._service.wake()
            return answer(replay_view(made), 202)
        return answer(dry_run_view(order.mode, matched, order.rate))

    async def replay_state(self, request: Request) -> Response:
        found = await self._store.replay(read_id(request, "replay"))
        if found is None:
            raise not_found("replay", request.path_params["id"])
        return answer(replay_view(found))

    async def replays(self, request: Request) -> Response:
        found = await self._store.replays(read_filter(request, states=()))
        return answer(PageView(items=[replay_view(each) for each in found.items], next=found.next))

    async def resume_replay(self, request: Request) -> Response:
        """Takes up what a cancelled replay had not begun."""
        number = read_id(request, "replay")
        found = await self._store.replay(number)
        if found is None:
            raise not_found("replay", request.path_params["id"])
        if not found.cancelled:
            raise Refused(409, "not_cancelled", f"replay {number} has nothing that was cancelled")
        resumed = await self._store.resume_replay(number, self._service.clock())
        assert resumed is not None
        self._service.wake()
        return answer(replay_view(resumed), 202)

    async def cancel_replay(self, request: Request) -> Response:
        """What it has not begun stays as it was; one that is done stays done."""
        number = read_id(request, "replay")
        found = await self._store.replay(number)
        if found is None:
            raise not_found("replay", number)
        if found.state == "running":
            found = await self._store.cancel_replay(number, self._service.clock()) or found
        return answer(replay_view(found))

    async def backup(self, _: Request) -> Response:
        """The whole database, copied in one step into a file beside it that is gone when it was sent."""
        directory = Path(tempfile.mkdtemp(prefix=".backup-", dir=self._store.path.parent))
        copy = directory / "receiver.db"
        await self._store.backup(copy)
        headers = {
            "content-disposition": 'attachment; filename="receiver.db"',
            "content-length": str(copy.stat().st_size),
        }
        return StreamingResponse(_stream_once(copy), media_type="application/vnd.sqlite3", headers=headers)

    # ------------------------------------------------------------ shared

    async def _was_taken(self, order: NewTask) -> bool:
        """Whether there is a task of this order's idempotency key already; then it needs its uploads no more."""
        key = order.idempotency_key
        return key is not None and await self._store.task_by_idempotency_key(key) is not None

    async def _task(self, request: Request) -> Task:
        task_id = request.path_params["task"]
        task = await self._store.task(task_id)
        if task is None:
            raise not_found("task", task_id[:64])
        return task

    async def _detail(self, task_id: str) -> Response:
        task = await self._store.task(task_id)
        assert task is not None
        about = Filter(task=task_id, limit=DELIVERY_BODIES)
        actions = await self._store.actions(replace(about, limit=ACTIONS_SHOWN))
        tried = [(action, await self._store.attempts(action.id)) for action in reversed(actions.items)]
        deliveries = await self._store.deliveries(about)
        event = await self._store.event(task_id)
        checks = await self._store.checks(task_id)
        return answer(task_detail(task, event, tried, deliveries.items[::-1], checks))

    async def _set_paused(self, request: Request, *, paused: bool) -> Response:
        name = request.path_params["name"]
        if not await self._store.set_paused(name, self._service.clock(), paused=paused):
            raise not_found("definition", name[:64])
        configured = {definition.name: definition for definition in self._service.definitions}
        state = next(each for each in await self._store.definition_states() if each.name == name)
        return answer(definition_view(state, configured.get(name), self._service.clock()))


async def _stream_once(path: Path) -> AsyncIterator[bytes]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.unlink(path)
        os.rmdir(path.parent)
        while chunk := await asyncio.to_thread(os.read, descriptor, CHUNK):
            yield chunk
    finally:
        os.close(descriptor)
