"""Deliveries: every callback that was kept, and what it said."""

from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from receiver.console.lists import List
from receiver.console.page import Console, Handler
from receiver.model.records import Delivery
from receiver.model.shown import shown
from receiver.model.views import DeliveryView
from receiver.store import Store
from receiver.web import filters
from receiver.web.answers import found_by_id

LIST: List[Delivery, DeliveryView] = List(
    "/deliveries",
    Store.deliveries,
    partial(shown, DeliveryView),
    filters.DELIVERIES,
    "task",
    (
        *("id", "task", "purpose", "received_at", "last_at", "count", "size", "readable", "contradicting"),
        *("provider_task_id", "claim", "problem"),
    ),
)
STATES = ("readable", "unreadable", "contradicting")


async def show_list(console: Console, request: Request) -> Response:
    listed = await LIST.listed(console, request)
    totals = await console.store.counters()
    public_url = console.service.settings.public_url
    given = {"listed": listed, "states": STATES, "totals": totals, "public_url": public_url}
    return await console.page(request, "deliveries.html", 422 if listed.problems else 200, **given)


async def show_body(console: Console, request: Request) -> Response:
    body = await found_by_id(request, "delivery", console.store.delivery_body)
    text = console.service.redact.body(body)
    number = request.path_params["id"]
    return await console.page(request, "body.html", number=number, text=text, size=len(body))


ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/deliveries", show_list),
    ("GET", "/deliveries.csv", LIST.exported()),
    ("GET", "/deliveries/{id}/body", show_body),
)
