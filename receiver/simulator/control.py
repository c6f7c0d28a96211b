"""Owns the simulator's own routes under `/simulator`: for somebody who watches it or breaks it from another process."""

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from starlette.requests import Request as Asked
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from receiver.simulator.app import Simulator
from receiver.simulator.faults import read_plan
from receiver.simulator.outages import EVERY_ROUTE

Document: TypeAlias = Mapping[str, Any]


def control_routes(simulator: Simulator) -> list[Route]:
    """The control routes; they meet no outage, need no key and are not counted. A bad request is told why with 400."""

    async def plan(asked: Asked) -> Response:
        return await _obey(asked, lambda document: simulator.add_plan(read_plan(document)))

    async def outage(asked: Asked) -> Response:
        return await _obey(asked, lambda document: _begin_outage(simulator, document))

    async def heal(asked: Asked) -> Response:
        return await _obey(asked, lambda document: simulator.heal(_text(document, "route", EVERY_ROUTE)))

    async def state(asked: Asked) -> Response:
        return JSONResponse(state_of(simulator))

    return [
        Route("/simulator/plan", plan, methods=["POST"]),
        Route("/simulator/outage", outage, methods=["POST"]),
        Route("/simulator/heal", heal, methods=["POST"]),
        Route("/simulator/state", state, methods=["GET"]),
    ]


def state_of(simulator: Simulator) -> dict[str, object]:
    """What happened so far: requests per route, tasks, callbacks, uploads, the account. Times in seconds since 1970."""
    return {
        "requests": {route: simulator.count(route) for route in simulator.routes},
        "tasks": [
            {
                "taskId": task.id,
                "kind": task.order.kind.value,
                "model": task.model,
                "status": task.status.value,
                "faults": sorted(task.plan.faults),
                "createdAt": task.created_at,
                "endedAt": task.ended_at,
                "callbackStatus": row.status if (row := simulator.webhooks.get(task.id)) else None,
            }
            for task in simulator.tasks.values()
        ],
        "callbacks": [
            {"taskId": sent.task_id, "url": sent.url, "at": sent.at, "status": sent.status, "attempt": sent.attempt}
            for sent in simulator.callbacks
        ],
        "account": simulator.account.shown(),
        "uploads": [
            {"fileName": upload.name, "type": upload.type, "size": upload.size, "until": upload.until}
            for upload in simulator.uploads.by_name.values()
        ],
        "loras": [
            {"loraName": lora.name, "md5": lora.md5, "size": lora.size} for lora in simulator.uploads.loras.values()
        ],
    }


def _begin_outage(simulator: Simulator, document: Document) -> None:
    times = document.get("times")
    if times is not None and (not isinstance(times, int) or isinstance(times, bool) or times < 1):
        raise ValueError("times is a whole number above 0, or left out")
    seconds = document.get("seconds", 30.0)
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or seconds < 0:
        raise ValueError("seconds is a number of at least 0")
    simulator.outage(
        _text(document, "route", EVERY_ROUTE),
        _text(document, "kind", ""),
        times,
        seconds=seconds,
        code=_text(document, "code", "500"),
    )


async def _obey(asked: Asked, command: Callable[[Document], None]) -> Response:
    """Performs a command on the request's JSON object, an empty body being the empty object."""
    try:
        document = json.loads(await asked.body() or b"{}")
        if not isinstance(document, dict):
            raise ValueError("the body is a JSON object")
        command(document)
    except (ValueError, RecursionError) as error:
        return JSONResponse({"error": str(error)}, 400)
    return JSONResponse({"ok": True})


def _text(document: Document, name: str, default: str) -> str:
    value = document.get(name, default)
    if not isinstance(value, str):
        raise ValueError(f"{name} is text")
    return value
