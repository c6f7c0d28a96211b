"""What came and what is done about it, over HTTP: deliveries, actions, definitions, replays and the backup."""

import asyncio
import math
import os
from collections.abc import AsyncIterator
from functools import partial
from typing import IO

from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from receiver.model.deeds import about
from receiver.model.entries import Selection
from receiver.model.errors import Refused, not_found, problems
from receiver.model.records import JsonObject, rfc3339
from receiver.model.rules import REPLAYABLE
from receiver.model.shown import action_view, definition_view, shown
from receiver.model.views import (
    AlertView,
    DefinitionView,
    DeliveryPage,
    DeliveryView,
    PageView,
    ReplayBody,
    ReplayView,
    RotatedView,
)
from receiver.replay import go_on, replay
from receiver.server.service import Service
from receiver.web.answers import answer, found_by_id, read_id, read_object
from receiver.web.filters import DELIVERIES, read_replay, wanted_of

CHUNK = 1024 * 1024

replay_view = partial(shown, ReplayView, dry_run=False, until=None)


async def deliveries(service: Service, request: Request) -> Response:
    found = await service.store.deliveries(await wanted_of(service.store, request, DELIVERIES))
    counters = await service.store.counters()
    totals = {name: count for name, count in counters.items() if name.startswith("callbacks_")}
    short = await service.store.short_ids([each.task for each in found.items])
    items = [shown(DeliveryView, delivery) for delivery in found.items]
    return answer(DeliveryPage(items=items, next=found.next, prev=found.prev, short=short, totals=totals))


async def delivery_body(service: Service, request: Request) -> Response:
    """The raw bytes, as data: no browser may take them for a page."""
    body = await found_by_id(request, "delivery", service.store.delivery_body)
    headers = {"content-disposition": "attachment", "x-content-type-options": "nosniff"}
    return Response(body, media_type="application/octet-stream", headers=headers)


async def rotate_secret(service: Service, _: Request) -> Response:
    return answer(RotatedView(accepted_until=rfc3339(await service.rotate_secret()) or ""))


async def action(service: Service, request: Request) -> Response:
    found = await found_by_id(request, "action", service.store.action)
    return answer(action_view(found, await service.store.attempts(found.id)))


async def retry(service: Service, request: Request) -> Response:
    action_id = read_id(request, "action")
    found = await service.store.action(action_id)
    if found is not None and found.name not in {each.name for each in service.definitions}:
        raise Refused(409, "definition_gone", f"{found.name} is not configured any more: nothing would run it")
    selection = Selection(action=action_id, action_state=REPLAYABLE)
    order, note = ReplayBody(filter=selection), {"action": action_id}
    taken, _ = await replay(service.store, service.definitions, order, dict(note), service.clock())
    after = await action(service, request)
    if taken == 0:
        raise Refused(409, "on_its_way", f"action {action_id} is owed or running already, or was retried just now")
    service.wake()
    return after


async def skip(service: Service, request: Request) -> Response:
    action_id = read_id(request, "action")
    done = await service.store.skip_action(action_id, "skipped by hand", service.clock())
    after = await action(service, request)
    if not done:
        raise Refused(409, "not_owed", f"action {action_id} is neither owed nor dead, so it cannot be skipped")
    service.wake()
    return after


async def definitions(service: Service, _: Request) -> Response:
    return answer(PageView(items=await all_definitions(service), next=None))


async def set_paused(service: Service, request: Request, *, paused: bool) -> Response:
    name = request.path_params["name"]
    if not await service.store.set_paused(name, service.clock(), paused=paused):
        raise not_found("definition", name[:64])
    if not paused:
        service.wake()
    return answer(next(each for each in await all_definitions(service) if each.name == name))


async def all_definitions(service: Service) -> list[DefinitionView]:
    configured = {definition.name: definition for definition in service.definitions}
    now = service.clock()
    return [definition_view(each, configured.get(each.name), now) for each in await service.store.definition_states()]


async def settle_alert(service: Service, request: Request, *, close: bool) -> Response:
    settle = partial(service.store.settle_alert, now=service.clock(), close=close)
    settled = await found_by_id(request, "alert", settle)
    return answer(shown(AlertView, settled))


async def begin_replay(service: Service, request: Request) -> Response:
    begun = await replayed(service, await read_object(request))
    return answer(begun, 200 if begun.dry_run else 202)


async def replayed(service: Service, document: JsonObject) -> ReplayView:
    """Begins a replay, or counts what one would be about. Raises Refused (409, 422)."""
    order, written = await _with_known(service, *read_replay(document))
    if order.dry_run and order.filter.until is None:
        order = replace(order, filter=replace(order.filter, until=_just_after(service.clock())))
    about(filter={"mode": order.mode.value, **written})
    matched, made = await replay(service.store, service.definitions, order, written, service.clock())
    if made is None:
        counted = ReplayView(mode=order.mode, matched=matched, rate=order.rate, filter=written, dry_run=True)
        return replace(counted, until=rfc3339(order.filter.until))
    about(f"replays/{made.id}", count=matched)
    service.wake()
    return replay_view(made)


def _just_after(now: float) -> float:
    """A time that comes through a text as it is, and after which nothing has been made yet."""
    return math.floor(now * 1000 + 1) / 1000


async def _with_known(service: Service, order: ReplayBody, written: JsonObject) -> tuple[ReplayBody, JsonObject]:
    """The order with the whole id of its task. Raises Refused (409, 422) for what it names and is not there."""
    wanted, found = order.filter, list[tuple[str, str]]()
    if wanted == Selection() and not (order.all or order.dry_run):
        found.append(("filter", 'is empty: name what is replayed, or send "all": true'))
    if wanted != Selection() and order.all:
        found.append(("all", "goes without a filter"))
    names = [each.name for each in await service.store.definition_states()]
    if wanted.name is not None and wanted.name not in names:
        found.append(("filter.name", f"there is no action of this name; there are {', '.join(names) or 'none'}"))
    if wanted.task is not None:
        task = await service.store.whole_id(wanted.task)
        if task is None:
            found.append(("filter.task", "there is no such task"))
        else:
            order, written = replace(order, filter=replace(wanted, task=task)), {**written, "task": task}
    if found:
        raise problems(found)
    return order, written


async def replay_state(service: Service, request: Request) -> Response:
    return answer(replay_view(await found_by_id(request, "replay", service.store.replay)))


async def resume_replay(service: Service, request: Request) -> Response:
    """Takes up what a cancelled replay had not begun."""
    found = await found_by_id(request, "replay", service.store.replay)
    if not (found.cancelled or (found.searching and found.state == "cancelled")):
        raise Refused(409, "not_cancelled", f"replay {found.id} has nothing that was cancelled")
    await service.store.resume_replay(found.id, service.clock())
    resumed = await go_on(service.store, service.definitions, found.id, service.clock())
    service.wake()
    return answer(replay_view(resumed or found), 202)


async def cancel_replay(service: Service, request: Request) -> Response:
    """What it has not begun stays as it was; one that is done stays done."""
    found = await found_by_id(request, "replay", service.store.replay)
    if found.state == "running":
        await service.store.cancel_replay(found.id, service.clock())
        found = await go_on(service.store, service.definitions, found.id, service.clock()) or found
        service.wake()
    return answer(replay_view(found))


async def backup(service: Service, _: Request) -> Response:
    """The whole database of one moment."""
    file = await service.store.backup()
    headers = {
        "content-disposition": 'attachment; filename="receiver.db"',
        "content-length": str(os.fstat(file.fileno()).st_size),
    }
    return StreamingResponse(_read(file), media_type="application/vnd.sqlite3", headers=headers)


async def _read(file: IO[bytes]) -> AsyncIterator[bytes]:
    with file:
        while chunk := await asyncio.to_thread(file.read, CHUNK):
            yield chunk
