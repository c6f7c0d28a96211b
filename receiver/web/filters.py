"""How the API reads what it is asked: the filters that each list has, times, and fields that are read one by one."""

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import TypeAlias, TypeVar

import msgspec
from starlette.requests import Request

from receiver.model.errors import Refused, problems
from receiver.model.records import ActionState, End, Filter, JsonObject, Kind, TaskState
from receiver.runninghub import catalogue

T = TypeVar("T")

Reader: TypeAlias = Callable[[T], object]
"""Reads a field, None when it is as good as left out. Raises ValueError with what was expected."""
Filters: TypeAlias = Mapping[str, Reader[list[str]]]
Problems: TypeAlias = list[tuple[str, str]]

LIMIT_MOST = 500
CURSOR_LIMIT = 200


def read_filter(request: Request, filters: Filters) -> Filter:
    """What a list is narrowed to, from the request's query. Raises Refused (422) with every problem."""
    query = request.query_params
    found: Problems = []
    values = read_fields({name: query.getlist(name) for name in query}, filters, found)
    if found:
        raise problems(found)
    return msgspec.convert(values, Filter)


def refuse_unknown(request: Request, filters: Collection[str]) -> None:
    """Raises Refused (400) for a filter that the list has not: unheard, it would show everything."""
    unknown = [name for name in request.query_params if name not in filters]
    if unknown:
        known = f"there are {', '.join(filters)}" if filters else "this list has none"
        details: list[JsonObject] = [{"path": name, "message": f"there is no such filter; {known}"} for name in unknown]
        named = ", ".join(name[:100] for name in unknown)
        raise Refused(400, "unknown_filter", f"there is no filter {named} here; {known}", list(details))


def read_fields(
    given: Mapping[str, T], readers: Mapping[str, Reader[T]], found: Problems, within: str = ""
) -> dict[str, object]:
    """The fields that are given and there is a reader for. What is wrong with the others is added to `found`."""
    values: dict[str, object] = {}
    for name, read in readers.items():
        try:
            value = read(given[name]) if name in given else None
        except ValueError as problem:
            found.append((f"{within}{name}", str(problem)))
        else:
            values |= {} if value is None else {name: value}
    return values


def read_time(value: object) -> float | None:
    """RFC 3339, or seconds since 1970. Raises ValueError."""
    if value is None or value == "":
        return None
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        moment = datetime.fromisoformat(str(value))
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise ValueError("expected a time such as 2026-11-22T08:00:00Z") from None


def _several(values: list[str]) -> tuple[str, ...]:
    return tuple(part for value in values for part in value.split(",") if part)


def _any_of(*known: str) -> Reader[list[str]]:
    def read(values: list[str]) -> tuple[str, ...]:
        named = _several(values)
        if not set(named) <= set(known):
            raise ValueError(f"expected any of {', '.join(known)}")
        return named

    return read


def _text(values: list[str]) -> str:
    return values[-1]


def _text_if_any(values: list[str]) -> str | None:
    return values[-1] or None


def _target(values: list[str]) -> str:
    """A task is kept under its model's endpoint, by whatever name it was ordered."""
    return catalogue.endpoint_of(values[-1])


def _labels(values: list[str]) -> tuple[tuple[str, str], ...]:
    pairs = [text.replace("=", ":", 1).partition(":") for text in values]
    if not all(separator for _, separator, _ in pairs):
        raise ValueError("expected name:value")
    return tuple((name, value) for name, _, value in pairs)


def _time(values: list[str]) -> float | None:
    return read_time(values[-1])


def _limit(values: list[str]) -> int | None:
    text = values[-1]
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20 and 1 <= int(text) <= LIMIT_MOST):
        raise ValueError(f"expected a whole number from 1 to {LIMIT_MOST}")
    return int(text)


def _cursor(values: list[str]) -> str | None:
    """The store gave it and the store reads it; here it is a text that is not too long."""
    if len(values[-1]) > CURSOR_LIMIT:
        raise ValueError("expected `next` of the page before")
    return values[-1] or None


_PAGED: Filters = {"since": _time, "until": _time, "limit": _limit, "cursor": _cursor}

TASKS: Filters = {
    "state": _any_of(*TaskState),
    "kind": _any_of(*Kind),
    "target": _target,
    "label": _labels,
    "q": _text_if_any,
    **_PAGED,
}
DELIVERIES: Filters = {"state": _any_of("readable", "unreadable", "contradicting"), "task": _text, **_PAGED}
EVENTS: Filters = {"state": _any_of(*End), "task": _text, "label": _labels, **_PAGED}
ACTIONS: Filters = {"state": _any_of(*ActionState), "name": _text, "task": _text, "label": _labels, **_PAGED}
ALERTS: Filters = {"state": _any_of("open", "closed"), "kind": _several, **_PAGED}
REPLAYS: Filters = _PAGED
MODELS: Filters = {"q": _text}
DEFINITIONS: Filters = {}
