"""Tasks: the list, all that is known of one, and what can be done to it."""

import secrets
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from receiver.console.lists import List
from receiver.console.page import Console, Handler, after, read_form
from receiver.console.show import moment
from receiver.model.entries import ListedTask
from receiver.model.records import TaskState
from receiver.model.rules import LINKS_LIVE
from receiver.model.shown import task_row
from receiver.model.views import TaskRow
from receiver.reconcile import Reconciler
from receiver.store import Store
from receiver.web import filters
from receiver.web.answers import known, refuse_without_key
from receiver.web.gather import gather_task
from receiver.web.tasks import AGAIN_FROM, order_again, price_of, task_of

LIST: List[ListedTask, TaskRow] = List(
    "/tasks",
    Store.tasks,
    task_row,
    filters.TASKS,
    "id",
    (
        *("id", "state", "kind", "target", "labels", "created_at", "submitted_at", "ended_at", "provider_task_id"),
        *("error.code", "error.name", "error.message", "callback.miss", "callback.cause", "input_size"),
    ),
)
PRESETS = (
    ("In flight", "/tasks?state=submitting,submitted"),
    ("Waiting", "/tasks?state=queued"),
    ("Needs a look", "/tasks?state=in_doubt,lost"),
    ("Failed", "/tasks?state=failed,rejected"),
)
NOT_ENDED = (TaskState.QUEUED, TaskState.SUBMITTED)


async def show_list(console: Console, request: Request) -> Response:
    listed = await LIST.listed(console, request)
    status = 422 if listed.problems else 200
    url = str(request.base_url).rstrip("/")
    return await console.page(
        request, "tasks.html", status, listed=listed, states=list(TaskState), presets=PRESETS, url=url
    )


async def show(console: Console, request: Request) -> Response:
    name = request.path_params["task"]
    task = known(await console.store.task_shown(name), "task", name)
    detail = await gather_task(console.store, task)
    sent = task.provider_task_id is not None
    verbs = {
        "reconcile": sent or task.state == TaskState.IN_DOUBT,
        "resend": sent and task.callback,
        "cancel": task.state in NOT_ENDED,
        "again": task.state in AGAIN_FROM,
        "replay": bool(detail.actions),
    }
    die_at = moment(detail.event.at) + LINKS_LIVE if detail.event else None
    links_left = die_at - console.service.clock() if die_at else None
    return await console.page(request, "task.html", task=detail, verbs=verbs, links_left=links_left)


async def ask(console: Console, request: Request) -> Response:
    return await _done(console, request, Reconciler.reconcile, "reconciled")


async def resend(console: Console, request: Request) -> Response:
    return await _done(console, request, Reconciler.resend, "resent")


async def cancel(console: Console, request: Request) -> Response:
    return await _done(console, request, Reconciler.cancel, "cancelled")


async def _done(console: Console, request: Request, verb: object, word: str) -> Response:
    task = await task_of(console.service, request)
    assert callable(verb)
    await verb(console.service.reconciler, task.id)
    console.service.wake()
    return after(f"/tasks/{task.id}", word)


async def confirm(console: Console, request: Request, *, verb: str) -> Response:
    """The page between the button and what cannot be taken back."""
    task = await task_of(console.service, request)
    return await console.page(request, "confirm.html", task=task, verb=verb, price=None, price_problem=None, key="")


async def confirm_again(console: Console, request: Request) -> Response:
    """The same before money is spent: with the price, and a key that makes two presses one order."""
    task = await task_of(console.service, request)
    price, problem = await price_of(console.service, task)
    key = f"console-{secrets.token_urlsafe(12)}"
    told = {"task": task, "verb": "submit-again", "price": price, "price_problem": problem, "key": key}
    return await console.page(request, "confirm.html", **told)


async def again(console: Console, request: Request) -> Response:
    task = await task_of(console.service, request)
    form = await read_form(request)
    refuse_without_key(console.service.provider)
    ordered = await order_again(console.service, task, form.get("key") or None)
    return after(f"/tasks/{ordered.id}", "ordered" if ordered.new else "there_already")


ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/tasks", show_list),
    ("GET", "/tasks.csv", LIST.exported()),
    ("GET", "/tasks/{task}", show),
    ("POST", "/tasks/{task}/reconcile", ask),
    ("GET", "/tasks/{task}/resend", partial(confirm, verb="resend")),
    ("POST", "/tasks/{task}/resend", resend),
    ("GET", "/tasks/{task}/cancel", partial(confirm, verb="cancel")),
    ("POST", "/tasks/{task}/cancel", cancel),
    ("GET", "/tasks/{task}/submit-again", confirm_again),
    ("POST", "/tasks/{task}/submit-again", again),
)
