"""Replays: one is chosen, counted and looked at before it is begun; then it has a page of its own."""

import math
from collections.abc import Mapping
from functools import partial

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from receiver.console.lists import List, problems_of
from receiver.console.page import Console, Handler, after, cleaned, read_form
from receiver.console.words import MODES
from receiver.model.entries import Replay
from receiver.model.errors import Refused
from receiver.model.records import ActionState, Filter, JsonObject, ReplayMode, TaskState
from receiver.model.rules import REPLAYABLE
from receiver.model.shown import action_view
from receiver.model.views import ActionView, ReplayView
from receiver.store import Store
from receiver.web import filters, ledger
from receiver.web.answers import found_by_id

LIST: List[Replay, ReplayView] = List(
    "/replays",
    Store.replays,
    ledger.replay_view,
    filters.REPLAYS,
    "",
    ("id", "mode", "state", "matched", "done", "dead", "cancelled", "rate", "created_at", "finished_at"),
)
FIELDS = ("name", "task", "since", "until")
SEVERAL = ("action_state", "task_state")
TYPED = 1000
"""Replays of more than so many ask that the number is typed: a click is done too easily."""
SAMPLES = 10


class Preview(Struct, frozen=True, kw_only=True):
    """What a replay would be about: how many, some of them, and the fields that say the same again."""

    matched: int
    samples: list[ActionView]
    short: dict[str, str]
    fields: list[tuple[str, str]]
    seconds: float | None
    typed: bool
    changed: bool


async def show_list(console: Console, request: Request) -> Response:
    listed = await LIST.listed(console, request)
    return await console.page(request, "replays.html", 422 if listed.problems else 200, listed=listed)


async def show(console: Console, request: Request) -> Response:
    found = ledger.replay_view(await found_by_id(request, "replay", console.store.replay))
    left = max(0, found.matched - found.done - found.cancelled)
    can_resume = found.cancelled > 0 or (found.searching and found.state == "cancelled")
    return await console.page(request, "replay.html", replay=found, left=left, can_resume=can_resume)


async def new(console: Console, request: Request) -> Response:
    """The form; with `preview` in the address also what it would be about."""
    query = cleaned(request).query_params
    several = {name: ",".join(query.getlist(name)) for name in SEVERAL}
    return await _choose(console, request, {**query, **several}, count="preview" in query)


async def _choose(
    console: Console,
    request: Request,
    form: Mapping[str, str],
    *,
    count: bool,
    again: bool = False,
    changed: bool = False,
) -> Response:
    """The form, with the count below it; `again` when it was sent and nothing was done."""
    given = _given(form)
    preview, wrong, status = None, list[JsonObject](), 409 if again else 200
    if count:
        try:
            preview = await _preview(console, given, changed=changed)
        except Refused as refused:
            wrong, status = problems_of(refused), 422
    names = [each.name for each in await console.store.definition_states()]
    return await console.page(
        request,
        "replay_new.html",
        status,
        given=given,
        preview=preview,
        problems_found=wrong,
        modes=MODES,
        names=names,
        action_states=[state.value for state in REPLAYABLE],
        task_states=[state.value for state in TaskState],
    )


async def _preview(console: Console, given: dict[str, str], *, changed: bool) -> Preview:
    document = _document(given)
    counted = await ledger.replayed(console.service, {**document, "dry_run": True})
    frozen = given | {"until": given["until"] or counted.until or ""}
    samples, short = await _samples(console, document)
    return Preview(
        matched=counted.matched,
        samples=samples,
        short=short,
        fields=[*((name, value) for name, value in frozen.items() if value), ("expected", str(counted.matched))],
        seconds=counted.matched / counted.rate if counted.rate else None,
        typed=_is_typed(document, counted.matched),
        changed=changed,
    )


def _is_typed(document: JsonObject, matched: int) -> bool:
    return matched > TYPED or document["mode"] == ReplayMode.AGAIN


async def _samples(console: Console, document: JsonObject) -> tuple[list[ActionView], dict[str, str]]:
    """Some of the actions that are tried again; the other modes are about tasks."""
    wanted = document["filter"]
    assert isinstance(wanted, dict)
    if document["mode"] != ReplayMode.RETRY or wanted.get("task_state"):
        return [], {}
    order, _ = filters.read_replay(document)
    task = order.filter.task and await console.store.whole_id(order.filter.task)
    states = order.filter.action_state or (ActionState.DEAD.value,)
    about = Filter(state=states, name=order.filter.name, task=task, since=order.filter.since, limit=SAMPLES)
    found = [action_view(each) for each in (await console.store.actions(about)).items]
    return found, await console.store.short_ids([each.task for each in found]) if found else {}


def _given(form: Mapping[str, str]) -> dict[str, str]:
    """The fields that say what a replay is about."""
    return {name: form.get(name, "") for name in ("mode", "rate", *FIELDS, *SEVERAL)}


def _document(given: dict[str, str]) -> JsonObject:
    """The replay of a form, as the API takes it. Raises Refused (422) for a rate that is none."""
    wanted: JsonObject = {name: given[name] for name in FIELDS if given.get(name)}
    for name in SEVERAL:
        if given.get(name):
            wanted[name] = [each for each in given[name].split(",") if each]
    document: JsonObject = {"mode": given.get("mode") or ReplayMode.RETRY.value, "filter": wanted}
    if given.get("rate"):
        try:
            rate = float(given["rate"])
        except ValueError:
            rate = math.nan
        if not math.isfinite(rate):
            details: list[JsonObject] = [{"path": "rate", "message": "expected actions per second, such as 5"}]
            raise Refused(422, "invalid", "rate: expected a number", [*details])
        document["rate"] = rate
    return document


async def begin(console: Console, request: Request) -> Response:
    """Begins what was counted. When more or less matches by now, it is counted again and nothing is done."""
    form = await read_form(request)
    told = form.get("expected", "")
    if not (told.isascii() and told.isdecimal() and len(told) < 16):
        return await _choose(console, request, form, count=True)
    document, expected = _document(_given(form)), int(told)
    if _is_typed(document, expected) and form.get("typed", "").strip() != told:
        return await _choose(console, request, form, count=True, again=True)
    try:
        begun = await ledger.replayed(console.service, {**document, "expected": expected})
    except Refused as refused:
        return await _choose(console, request, form, count=True, again=True, changed=refused.code == "another_count")
    return after(f"/replays/{begun.id}", "begun")


async def turn(console: Console, request: Request, *, resume: bool) -> Response:
    verb = ledger.resume_replay if resume else ledger.cancel_replay
    await verb(console.service, request)
    return after(f"/replays/{request.path_params['id']}", "resumed_replay" if resume else "cancelled_replay")


ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/replays", show_list),
    ("GET", "/replays.csv", LIST.exported()),
    ("GET", "/replays/new", new),
    ("POST", "/replays", begin),
    ("GET", "/replays/{id}", show),
    ("POST", "/replays/{id}/cancel", partial(turn, resume=False)),
    ("POST", "/replays/{id}/resume", partial(turn, resume=True)),
)
