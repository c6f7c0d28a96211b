"""Alerts: what is wrong, what to do about it; seen, and closed."""

from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from receiver.console.lists import List
from receiver.console.page import Console, Handler, after
from receiver.console.words import WRONG
from receiver.model.records import Alert, AlertKind
from receiver.model.remedies import remedy
from receiver.model.shown import shown
from receiver.model.views import AlertView
from receiver.store import Store
from receiver.web import filters, ledger

LIST: List[Alert, AlertView] = List(
    "/alerts",
    Store.alerts,
    partial(shown, AlertView),
    filters.ALERTS,
    "",
    (*("id", "kind", "subject", "message", "count", "opened_at", "last_at", "acknowledged_at", "closed_at"),),
)


async def show_list(console: Console, request: Request) -> Response:
    listed = await LIST.listed(console, request)
    given = {"listed": listed, "kinds": list(AlertKind), "titles": WRONG, "remedy": remedy}
    return await console.page(request, "alerts.html", 422 if listed.problems else 200, **given)


async def settle(console: Console, request: Request, *, close: bool) -> Response:
    await ledger.settle_alert(console.service, request, close=close)
    return after("/alerts", "closed" if close else "acknowledged")


ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/alerts", show_list),
    ("GET", "/alerts.csv", LIST.exported()),
    ("POST", "/alerts/{id}/acknowledge", partial(settle, close=False)),
    ("POST", "/alerts/{id}/close", partial(settle, close=True)),
)
