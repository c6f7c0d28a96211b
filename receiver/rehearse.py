"""One attempt at one action with a made-up event: its real effect, judged as a server would, without one or a ledger.

Nothing is asked or told to RunningHub; a download whose link is dead ends as expired, where a server would first ask
for new links.
"""

import time as clock
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import msgspec
from msgspec import Struct

from receiver.actions import ActionFailed, Work
from receiver.actions.kinds import performers
from receiver.dispatch import bounded, judge, masked
from receiver.egress.client import Egress
from receiver.events import Event, event_body, without_input
from receiver.model import records, rules
from receiver.model.definitions import Definition
from receiver.model.entries import Settlement
from receiver.model.errors import ReceiverError, SettingsError
from receiver.model.records import End, Kind, Result, SavedFile, Source, Task, TaskError
from receiver.model.redaction import Redactor
from receiver.server.definitions import read_definitions
from receiver.server.service import host_and_port, secrets_of
from receiver.server.settings import Settings

TARGET = "rhart-video-v3.1-pro-official/reference-to-video"
TASK_MARK = "00000000-0000-7000-8000-"
"""How the id of every made-up task begins: a UUIDv7 of 1970, which no real task has."""
KEY_MARK = "test:"
"""How the idempotency key of a rehearsal begins, so that what it reaches can tell."""
TRIED: records.JsonObject = {"id": 0, "name": "test", "generation": 1, "attempt": 1}
"""What an event says of the action when there is none in any ledger."""
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c63f8cfc0f01f0005"
    "0001ff56c72f0d0000000049454e44ae426082"
)
"""A whole PNG, so that a made-up result can be saved without any network."""
PICTURE = f"data:image/png;base64,{b64encode(PIXEL).decode()}"
TASK_SECONDS = 60.0
MIDDLE = 0.5
"""The backoff is told without its spread."""
_tls = cache(httpx.create_ssl_context)
"""Made once: it takes 50 ms, which a suite of many tests would feel."""


class Rehearsal(Struct, frozen=True, kw_only=True):
    """What one attempt came to, redacted as the server would.

    `state` is done, retry or dead; `retry_after` is in seconds, None unless there would be another attempt; `event` is
    what the action received.
    """

    state: str
    reason: str | None
    retry_after: float | None
    detail: dict[str, Any]
    files: tuple[SavedFile, ...]
    seconds: float
    event: Event


class UnknownAction(ReceiverError):
    """There is no definition of that name."""


def make_event(
    state: str = "succeeded",
    *,
    target: str = TARGET,
    kind: str = "model",
    input: Mapping[str, Any] | None = None,
    labels: Mapping[str, str] | None = None,
    results: Sequence[Result | Mapping[str, Any] | str] | None = None,
    error: TaskError | Mapping[str, str] | None = None,
    usage: Mapping[str, Any] | None = None,
    confirmed: bool = True,
    time: datetime | float | None = None,
) -> Event:
    """The event of a made-up task that ended as succeeded, failed, cancelled or rejected; `input` is what was ordered.

    `results` are Results, their fields, or URLs; by default a success has one tiny picture in a data: URL, and a
    failure has an error. `time` is when it ended (a datetime or seconds since 1970; now by default). Raises ValueError,
    or msgspec.ValidationError, which is one, for what no event has.
    """
    if state not in list(End):
        raise ValueError(f"a task ends as {', '.join(End)}, got {state!r}")
    if isinstance(results, str):
        raise ValueError("`results` is a list; for one result write [...] around it")
    end = End(state)
    at = _seconds(time)
    if results is None:
        results = [PICTURE] if end is End.SUCCEEDED else []
    if error is None and end in (End.FAILED, End.REJECTED):
        error = TaskError(code="1015", name="GENERATION_FAILED", message="made up for a test")
    taken = end is not End.REJECTED
    task = _task(
        id=f"{TASK_MARK}{uuid4().hex[:12]}",
        kind=Kind(kind),
        target=target,
        input=dict({"prompt": "made up for a test"} if input is None else input),
        labels=msgspec.convert(dict(labels or {}), dict[str, str]),
        state=records.TaskState(end.value),
        submitted_at=at - TASK_SECONDS if taken else None,
        ended_at=at,
        provider_task_id=str(uuid4().int % 10**19).zfill(19) if taken else None,
    )
    event = records.Event(
        id=records.event_id(task.id),
        task=task.id,
        state=end,
        source=Source.CALLBACK if taken else Source.SUBMIT,
        confirmed=confirmed,
        at=at,
        results=[_result(each) for each in results],
        error=error if isinstance(error, TaskError | None) else msgspec.convert(dict(error), TaskError),
        usage=dict(usage or {}),
    )
    return Event(event_body(event, task, results=event.results, action=TRIED, key=new_key("test")))


@cache
def _picture_folder() -> Path:
    return Path(mkdtemp(prefix="receiver-test-"))


def _saved_picture() -> Path:
    """The made-up picture as a file of the system's temporary ones: the event may be kept, and used again."""
    path = _picture_folder() / "0.png"
    path.write_bytes(PIXEL)
    return path


def read_event(document: Mapping[str, Any]) -> Event:
    """An event from a document, which need not say of which action: ValueError for what is no event document."""
    unsaid = {"action": TRIED, "idempotency_key": new_key("test")}
    return Event({**document, **{name: document.get(name, value) for name, value in unsaid.items()}})


def new_key(name: str) -> str:
    """An idempotency key that no other attempt has, and that says that it is a test."""
    return f"{KEY_MARK}{uuid4()}:{name}"


def fitting_event(definition: Definition, end: str | None = None, **given: Any) -> Event:  # noqa: ANN401
    """A made-up event that the definition is for, as far as nothing else is `given`: see `make_event`.

    It ends as `end` says, else as succeeded when the definition is for that, else as the first that it is for. What
    comes after other actions finds the made-up picture saved, as those would have done it.
    """
    ends = definition.on
    chosen = end or (End.SUCCEEDED if End.SUCCEEDED in ends else ends[0]).value
    when = definition.when
    if given.get("target") is None:
        given["target"] = TARGET if when.target is None else when.target.replace("*", "test").replace("?", "x")
    if definition.after and chosen == End.SUCCEEDED and given.get("results") is None:
        given["results"] = [Result(url=PICTURE, type="png", file=str(_saved_picture()))]
    given["labels"] = {**when.labels, **(given.get("labels") or {})}
    return make_event(chosen, **given)


def mismatch(definition: Definition, event: Event, settings: Settings | None = None) -> str | None:
    """Why a server would not run the definition for this event by itself, redacted; None when it would."""
    end = event.type.removeprefix("task.")
    task = _task(target=event.task.target, labels=event.task.labels)
    if end not in list(End) or not rules.matches(definition, End(end), task):
        found = f"the event is {event.type} of {event.task.target} with {_labels(event.task.labels)}"
        doubt = f"a server would not run it for this event: it is for {_wanted(definition)}; {found}"
        return _redactor(definition, settings).text(doubt)
    if not event.confirmed and not definition.unconfirmed:
        return "a server would hold it back until the event is confirmed: it has not `unconfirmed = true`"
    return None


def find_definition(definitions: Iterable[Definition], name: str) -> Definition:
    """The definition of that name. Raises UnknownAction, which names those that are near."""
    known = {each.name: each for each in definitions}
    if name in known:
        return known[name]
    near = get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(known) or 'none'}"
    raise UnknownAction(f"there is no action {name} in the settings; {hint}")


def read_definition(table: Mapping[str, Any]) -> Definition:
    """A definition from what would stand in its [[actions]] table; without a name it is `test`.

    Its `after` is left out: a single attempt waits for nobody. Raises SettingsError with every problem.
    """
    problems: list[str] = []
    alone = {key: value for key, value in table.items() if key != "after"}
    found = read_definitions([{"name": "test", **alone}], "the action", problems)
    if problems:
        raise SettingsError([problem.replace("the action: actions[0]", "the action") for problem in problems])
    return found[0]


def changed(definition: Definition, changes: Mapping[str, Any]) -> Definition:
    """The definition with other settings. Raises SettingsError with every problem."""
    if not changes:
        return definition
    kept = {key: value for key, value in msgspec.to_builtins(definition).items() if value is not None}
    return msgspec.structs.replace(read_definition({**kept, **changes}), after=definition.after)


async def run_once(
    definition: Definition,
    event: Mapping[str, Any],
    *,
    attempt: int = 1,
    key: str | None = None,
    settings: Settings | None = None,
) -> Rehearsal:
    """Runs the definition once, now, for an event, with its real effect; what would follow a failure is told, not done.

    `attempt` counts from 1, `key` is the idempotency key (by default a fresh one that begins with `test:`). `settings`
    are whose secrets are masked and whose provider may be reached. Raises ValueError, before there is any effect, for
    what is no event document, or is nested too deeply.
    """
    key = key or new_key(definition.name)
    action = {**TRIED, "name": definition.name, "attempt": attempt}
    event = Event({**event, "action": action, "idempotency_key": key})
    if not definition.include_input:
        event = Event(without_input(event))
    redact = _redactor(definition, settings)
    try:
        shown = Event(redact.data(event))
    except RecursionError:
        raise ValueError("the event is nested too deeply") from None
    work = Work(
        definition=definition, body=dict(event), results=event.results, task_id=event.task.id, key=key, attempt=attempt
    )
    egress = Egress([host_and_port(settings.base_url)] if settings else [], tls=_tls())
    started = clock.perf_counter()
    try:
        settled, wait = await _settled(work, egress, event.time.timestamp())
        seconds = clock.perf_counter() - started
    finally:
        await egress.aclose()
    return Rehearsal(
        state=settled.outcome,
        reason=redact.text(settled.reason) if settled.reason else None,
        retry_after=wait,
        detail=masked(redact, settled.detail),
        files=settled.files,
        seconds=round(seconds, 3),
        event=shown,
    )


async def _settled(work: Work, egress: Egress, event_at: float) -> tuple[Settlement, float | None]:
    """How a server would settle the attempt, and the seconds until the next one."""
    definition = work.definition
    try:
        done = await bounded(definition, performers(egress, clock=clock.time)[definition.kind](work))
    except ActionFailed as failure:
        now = clock.time()
        settled = judge(definition, failure, attempts=work.attempt, event_at=event_at, now=now, jitter=MIDDLE)
        return settled, None if settled.due_at is None else round(settled.due_at - now, 3)
    return Settlement(outcome="done", detail=done.detail, files=done.files), None


def _redactor(definition: Definition, settings: Settings | None) -> Redactor:
    if settings is None:
        return Redactor(secrets_of((definition,)))
    own = [settings.api_key, settings.admin_token, settings.view_token, *settings.secrets]
    return Redactor([*own, *secrets_of((definition, *settings.definitions))])


def _seconds(moment: datetime | float | None) -> float:
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise ValueError("`time` is a datetime without a time zone; use one such as datetime.now(UTC)")
        return moment.timestamp()
    at = clock.time() if moment is None else moment
    try:
        datetime.fromtimestamp(at, UTC)
    except (OverflowError, OSError, ValueError):
        raise ValueError(f"`time` is no moment of the years 1 to 9999: {at}") from None
    return at


def _task(**known: object) -> Task:
    """A task of which only this is known; neither the event document nor `when` look at the rest."""
    return Task(**{**dict.fromkeys(Task.__struct_fields__), **known})  # type: ignore[arg-type]


def _result(given: Result | Mapping[str, Any] | str) -> Result:
    if isinstance(given, Result):
        return given
    if not isinstance(given, str):
        return msgspec.convert(dict(given), Result)
    if given.startswith("data:"):  # `png` of `data:image/png;base64,…`
        return Result(url=given, type=given[5:].partition(",")[0].partition(";")[0].rpartition("/")[2] or None)
    _, dot, ending = urlsplit(given).path.rpartition("/")[2].rpartition(".")
    return Result(url=given, type=ending if dot else None)


def _wanted(definition: Definition) -> str:
    ends = " or ".join(definition.on)
    target = f" of {definition.when.target}" if definition.when.target is not None else ""
    return f"{ends}{target}" + (f" with {_labels(definition.when.labels)}" if definition.when.labels else "")


def _labels(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in labels.items()) or "no labels"
