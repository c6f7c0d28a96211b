"""What a list or a replay may be narrowed by, and how it is read, with everything that is wrong said at once."""

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Annotated, TypeAlias, TypeVar

import msgspec
from msgspec import Meta
from msgspec.structs import replace
from starlette.requests import Request

from receiver.model.entries import Selection
from receiver.model.errors import Refused, problems
from receiver.model.records import ActionState, AlertKind, End, Filter, JsonObject, Kind, ReplayMode, TaskState
from receiver.model.rules import FILTER_LIMIT, FILTERS_LIMIT
from receiver.model.streaming import KINDS
from receiver.model.views import PruneBody, ReplayBody
from receiver.orders.reading import CONTROL, NO_CONTROL
from receiver.runninghub import catalogue
from receiver.store import Store

T = TypeVar("T")

Reader: TypeAlias = Callable[[T], object]
"""Reads a field; None stands for one that was left out. Raises ValueError, which says what was expected."""
Filters: TypeAlias = Mapping[str, Reader[list[str]]]
Problems: TypeAlias = list[tuple[str, str]]

Text: TypeAlias = Annotated[str, Meta(pattern=rf"^(?!(?s:.*){CONTROL.pattern})", max_length=FILTER_LIMIT)]
TEXT_EXPECTED = f"a text of {FILTER_LIMIT} characters at the most, without control characters"
LIMIT_MOST = 500
CURSOR_LIMIT = 200
CURSORS = ("cursor", "after", "before")
SLOWEST = 10_000
"""Seconds from one action of a replay to the next: a hundred thousand of them end within our calendar."""
FASTEST = 1_000_000
ACTION_FIELDS = ("action", "action_state", "name")
OF_ACTIONS = "reprocess reads deliveries, which are chosen by task, task_state, since and until"


def read_filter(request: Request, filters: Filters) -> Filter:
    """What a list is narrowed to, from the request's query. Raises Refused (422) with every problem."""
    query = request.query_params
    given = {name: query.getlist(name) for name in query}
    found: Problems = [(name, problem) for name, texts in given.items() if (problem := _unfit(texts))]
    values = {} if found else _read_fields(given, filters, found)
    if len(cursors := [name for name in CURSORS if name in values]) > 1:
        found.append((cursors[-1], f"goes without {cursors[0]}: a page is on one side of one cursor"))
    if found:
        raise problems(found)
    return msgspec.convert(values, Filter)


async def wanted_of(store: Store, request: Request, filters: Filters) -> Filter:
    """The same, with the whole id of the task. Raises Refused (409) too, when the ids of several begin so."""
    wanted = read_filter(request, filters)
    return wanted if wanted.task is None else replace(wanted, task=await store.whole_id(wanted.task) or wanted.task)


def refuse_unknown(request: Request, filters: Collection[str]) -> None:
    """Raises Refused (400) for a filter that the list has not: unheard, it would show everything."""
    unknown = [name[:100] for name in request.query_params if name not in filters]
    if unknown:
        known = f"there are {', '.join(filters)}" if filters else "this list has none"
        details: list[JsonObject] = [{"path": name, "message": f"there is no such filter; {known}"} for name in unknown]
        raise Refused(400, "unknown_filter", f"there is no filter {', '.join(unknown)} here; {known}", list(details))


def read_replay(document: JsonObject) -> tuple[ReplayBody, JsonObject]:
    """The replay in a request, and its filter as it was written. Raises Refused (422) with every problem."""
    found = _strange(document, ReplayBody)
    written = document.get("filter", {})
    if not isinstance(written, dict):
        found.append(("filter", "expected an object"))
        written = {}
    found += _strange(written, Selection, "filter.")
    order = _read_fields(document, REPLAY, found)
    wanted = _read_fields(written, SELECTION, found, "filter.")
    if order.get("mode") == ReplayMode.REPROCESS:
        found += [(f"filter.{name}", OF_ACTIONS) for name in ACTION_FIELDS if written.get(name) is not None]
    if found:
        raise problems(found)
    return msgspec.convert({**order, "filter": wanted}, ReplayBody), written


def read_prune(document: JsonObject) -> PruneBody:
    """The order in a request to prune. Raises Refused (422) with every problem."""
    found = _strange(document, PruneBody)
    given = _read_fields({**document}, {"dry_run": REPLAY["dry_run"]}, found)
    if found:
        raise problems(found)
    return msgspec.convert(given, PruneBody)


def _strange(document: JsonObject, body: type[msgspec.Struct], within: str = "") -> Problems:
    """The fields that a document should not have."""
    strange = sorted(document.keys() - set(body.__struct_fields__))
    return [(f"{within}{name}", "there is no such field") for name in strange]


def _unfit(texts: list[str]) -> str | None:
    """What is wrong with the number, the length or the characters of a filter's values."""
    if len(texts) > FILTERS_LIMIT:
        return f"expected it {FILTERS_LIMIT} times at the most, got it {len(texts)} times"
    longest = max(map(len, texts))
    if longest > FILTER_LIMIT:
        return f"expected {FILTER_LIMIT} characters at the most, got {longest}"
    return NO_CONTROL if any(map(CONTROL.search, texts)) else None


def _read_fields(
    given: Mapping[str, T], readers: Mapping[str, Reader[T]], found: Problems, within: str = ""
) -> dict[str, object]:
    """The fields that are given and can be read. What is wrong with the others is added to `found`."""
    values: dict[str, object] = {}
    for name, read in readers.items():
        try:
            values[name] = read(given[name]) if name in given else None
        except ValueError as problem:
            found.append((f"{within}{name}", str(problem)))
    return {name: value for name, value in values.items() if value is not None}


def _time(value: object) -> float | None:
    if value is None or value == "":
        return None
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        moment = datetime.fromisoformat(str(value))
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise ValueError("expected a time such as 2026-11-22T08:00:00Z") from None


def _one(kind: object, expected: str, *, text: bool = False) -> Reader[object]:
    """Reads what msgspec takes for a type, or what a `text` says."""

    def read(value: object) -> object:
        try:
            return None if text and not value else msgspec.convert(value, kind, strict=not text)
        except msgspec.ValidationError:
            raise ValueError(f"expected {expected}") from None

    return read


def _any_of(*known: str) -> Reader[object]:
    """Reads one or several of the texts that are known."""

    def read(value: object) -> tuple[object, ...]:
        several = value if isinstance(value, list) else [] if value is None else [value]
        if not all(each in known for each in several):
            raise ValueError(f"expected any of {', '.join(known)}")
        return tuple(dict.fromkeys(several))

    return read


def _several(read: Reader[object] = lambda parts: parts) -> Reader[list[str]]:
    """Reads a filter that may be repeated, or name several with commas between."""
    return lambda values: read([part for value in values for part in value.split(",") if part])


def _last(read: Reader[str] = str) -> Reader[list[str]]:
    return lambda values: read(values[-1])


def _labels(values: list[str]) -> list[tuple[str, str]]:
    pairs = [text.replace("=", ":", 1).partition(":") for text in values]
    if not all(separator for _, separator, _ in pairs):
        raise ValueError("expected name:value")
    return [(name, value) for name, _, value in pairs]


def _cursor(name: str) -> Reader[list[str]]:
    return _last(_one(Annotated[str, Meta(max_length=CURSOR_LIMIT)], f"`{name}` of another page", text=True))


_PAGED: Filters = {
    "since": _last(_time),
    "until": _last(_time),
    "limit": _last(
        _one(Annotated[int, Meta(ge=1, le=LIMIT_MOST)], f"a whole number from 1 to {LIMIT_MOST}", text=True)
    ),
    "cursor": _cursor("next"),
    "after": _cursor("next"),
    "before": _cursor("prev"),
}
TASKS: Filters = {
    "state": _several(_any_of(*TaskState)),
    "kind": _several(_any_of(*Kind)),
    "target": _last(catalogue.endpoint_of),  # under which a task is kept, by whatever name it was ordered
    "label": _labels,
    "q": _last(lambda text: text or None),
    **_PAGED,
}
DELIVERIES: Filters = {"state": _several(_any_of("readable", "unreadable", "contradicting")), "task": _last(), **_PAGED}
EVENTS: Filters = {"state": _several(_any_of(*End)), "task": _last(), "label": _labels, **_PAGED}
ACTIONS: Filters = {
    "state": _several(_any_of(*ActionState)),
    "name": _last(),
    "task": _last(),
    "label": _labels,
    **_PAGED,
}
ALERTS: Filters = {"state": _several(_any_of("open", "closed")), "kind": _several(_any_of(*AlertKind)), **_PAGED}
REPLAYS: Filters = _PAGED
AUDIT: Filters = {"verb": _last(_one(str, "what was done", text=True)), **_PAGED}
MODELS: Filters = {"q": _last()}
DEFINITIONS: Filters = {}
STREAM: Filters = {"kind": _several(_any_of(*KINDS)), "task": _last(), "last_event_id": _last()}

REPLAY: Mapping[str, Reader[object]] = {
    "mode": _one(ReplayMode, f"one of {', '.join(ReplayMode)}"),
    "rate": _one(
        Annotated[float, Meta(ge=1 / SLOWEST, le=FASTEST)] | None,
        f"actions per second, from one in {SLOWEST} seconds to {FASTEST}",
    ),
    "dry_run": _one(bool, "true or false"),
    "all": _one(bool, "true or false"),
    "expected": _one(Annotated[int, Meta(ge=0, le=2**63 - 1)] | None, "a whole number, such as a dry run told"),
}
SELECTION: Mapping[str, Reader[object]] = {
    "action": _one(Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None, "a whole number"),
    "action_state": _any_of(*ActionState),
    "task_state": _any_of(*TaskState),
    "name": _one(Text | None, TEXT_EXPECTED),
    "task": _one(Text | None, TEXT_EXPECTED),
    "since": _time,
    "until": _time,
}
