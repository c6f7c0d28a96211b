"""The first look: what is wrong and what to press, whether anything moves, and whether callbacks come."""

from starlette.requests import Request
from starlette.responses import Response

from receiver.console.page import Console
from receiver.console.show import moment
from receiver.console.words import WRONG
from receiver.model.records import AlertKind, Filter, rfc3339
from receiver.model.shown import task_row
from receiver.web import ledger
from receiver.web.overview import standing

LATEST = 8
"""Tasks that are shown of the newest."""
SEE = {
    AlertKind.ACTION_DEAD: "/actions?state=dead",
    AlertKind.BREAKER_OPEN: "/actions",
    AlertKind.CALLBACK_MISSED: "/deliveries",
    AlertKind.DEFINITION_MISSING: "/actions",
    AlertKind.LINKS_EXPIRING: "/actions?state=owed",
    AlertKind.TASK_IN_DOUBT: "/tasks?state=in_doubt",
    AlertKind.TASK_LOST: "/tasks?state=lost",
    AlertKind.TASK_OVERDUE: "/tasks?state=submitted",
    AlertKind.KEY_REFUSED: "/settings",
    AlertKind.MOVED: "/settings",
    "no_api_key": "/settings",
}
"""Where one sees what an alert is about."""


async def show(console: Console, request: Request) -> Response:
    service, store = console.service, console.store
    stands = await standing(service)
    last = (await store.deliveries(Filter(limit=1))).items
    latest = await store.tasks(Filter(limit=LATEST))
    came = rfc3339(last[0].last_at) if last else None
    return await console.page(
        request,
        "overview.html",
        stands=stands,
        titles=WRONG,
        see=SEE,
        definitions=await ledger.all_definitions(service),
        totals=await store.counters(),
        most=service.settings.max_in_flight,
        came=came,
        came_ago=service.clock() - moment(came) if came else None,
        latest=[task_row(each) for each in latest.items],
        short=await store.short_ids([each.id for each in latest.items]) if latest.items else {},
        url=str(request.base_url).rstrip("/"),
    )
