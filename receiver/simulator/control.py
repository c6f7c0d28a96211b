"""Owns the simulator's own routes under `/simulator`: for somebody who watches it or breaks it from another process."""

from collections import Counter
from collections.abc import Callable
from typing import TypeVar

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from receiver.simulator.app import Simulator
from receiver.simulator.faults import Plan
from receiver.simulator.outages import EVERY_ROUTE, ActiveOutage
from receiver.simulator.uploads import kind_of

T = TypeVar("T")


class Healed(msgspec.Struct, frozen=True):
    """The route whose outage is to end."""

    route: str = EVERY_ROUTE


def control_routes(simulator: Simulator) -> list[Route]:
    """The control routes; they meet no outage, need no key and are not counted. A bad request is told why with 400."""

    def command(name: str, kind: type[T], obey: Callable[[T], None]) -> Route:
        async def answer(request: HttpRequest) -> Response:
            try:
                obey(msgspec.json.decode(await request.body() or b"{}", type=kind))
            except (ValueError, RecursionError) as error:
                return JSONResponse({"error": str(error)}, 400)
            return JSONResponse({"ok": True})

        return Route(f"/simulator/{name}", answer, methods=["POST"])

    async def state(request: HttpRequest) -> Response:
        return JSONResponse(state_of(simulator))

    return [
        command("plan", Plan, simulator.add_plan),
        command("outage", ActiveOutage, simulator.begin_outage),
        command("heal", Healed, lambda healed: simulator.heal(healed.route)),
        Route("/simulator/state", state, methods=["GET"]),
    ]


def state_of(simulator: Simulator) -> dict[str, object]:
    """What happened so far: requests per route, tasks, callbacks, uploads, the account. Times in seconds since 1970."""
    requests = Counter(request.route for request in simulator.requests)
    return {
        "requests": {route: requests[route] for route in simulator.routes},
        "tasks": [
            {
                "taskId": task.id,
                "kind": task.order.kind.value,
                "model": task.order.target,
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
            {"fileName": upload.name, "type": kind_of(upload.name), "size": upload.size, "until": upload.until}
            for upload in simulator.uploads.by_name.values()
        ],
        "loras": [
            {"loraName": lora.name, "md5": lora.md5, "size": lora.size} for lora in simulator.uploads.loras.values()
        ],
    }
