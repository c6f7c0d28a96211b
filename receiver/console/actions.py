"""Actions: what is owed, what died and why, every try; and the definitions they are of."""

from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from receiver.console.lists import List
from receiver.console.page import Console, Handler, after
from receiver.console.show import address
from receiver.model.records import Action, ActionState
from receiver.model.rules import ACTION_MOVES
from receiver.model.shown import action_view
from receiver.model.views import ActionView
from receiver.store import Store
from receiver.web import filters, ledger
from receiver.web.answers import Handler as ApiHandler
from receiver.web.answers import found_by_id

LIST: List[Action, ActionView] = List(
    "/actions",
    Store.actions,
    action_view,
    filters.ACTIONS,
    "task",
    (
        *("id", "task", "name", "generation", "state", "due_at", "attempts", "created_at", "settled_at", "reason"),
        *("replay", "waits_for"),
    ),
)


async def show_list(console: Console, request: Request) -> Response:
    listed = await LIST.listed(console, request)
    definitions = await ledger.all_definitions(console.service)
    query = request.query_params
    narrowed = {"name": query.get("name"), "action_state": query.getlist("state"), "task": query.get("task")}
    replay = address("/replays/new", {**narrowed, "since": query.get("since"), "until": query.get("until")})
    given = {"listed": listed, "definitions": definitions, "states": list(ActionState), "replay": replay}
    return await console.page(request, "actions.html", 422 if listed.problems else 200, **given)


async def show(console: Console, request: Request) -> Response:
    found = await found_by_id(request, "action", console.store.action)
    action = action_view(found, await console.store.attempts(found.id))
    moves = ACTION_MOVES.get(found.state, frozenset())
    verbs = {
        "retry": ActionState.OWED in moves and found.state != ActionState.RUNNING,
        "skip": ActionState.SKIPPED in moves,
    }
    return await console.page(request, "action.html", action=action, verbs=verbs)


async def settle(console: Console, request: Request, *, verb: ApiHandler, word: str) -> Response:
    await verb(console.service, request)
    return after(f"/actions/{request.path_params['id']}", word)


async def set_paused(console: Console, request: Request, *, paused: bool) -> Response:
    await ledger.set_paused(console.service, request, paused=paused)
    return after("/actions", "paused" if paused else "resumed")


ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/actions", show_list),
    ("GET", "/actions.csv", LIST.exported()),
    ("GET", "/actions/{id}", show),
    ("POST", "/actions/{id}/retry", partial(settle, verb=ledger.retry, word="retried")),
    ("POST", "/actions/{id}/skip", partial(settle, verb=ledger.skip, word="skipped")),
    ("POST", "/definitions/{name}/pause", partial(set_paused, paused=True)),
    ("POST", "/definitions/{name}/resume", partial(set_paused, paused=False)),
)
