"""Reads the request for a replay out of JSON, and says everything that is wrong with it at once."""

from collections.abc import Collection
from functools import partial

import msgspec
from msgspec import Struct

from receiver.model.entries import Selection
from receiver.model.errors import problems
from receiver.model.records import ActionState, Json, JsonObject, ReplayMode, TaskState
from receiver.model.views import ReplayBody
from receiver.web.filters import Problems, Reader, read_fields, read_time

ACTION_FIELDS = ("action", "action_state", "name")
OF_ACTIONS = "reprocess reads deliveries, which are chosen by task, task_state, since and until"

SLOWEST = 10_000
"""Seconds from one action to the next: a hundred thousand of them end within our calendar."""
FASTEST = 1_000_000


class ReplayOrder(Struct, frozen=True, kw_only=True):
    """A replay as it was asked for; `note` is the filter as it was written, `rate` in actions per second."""

    mode: ReplayMode = ReplayMode.RETRY
    wanted: Selection
    note: JsonObject
    rate: float | None = None
    dry_run: bool = False


def read_replay(document: JsonObject) -> ReplayOrder:
    """The replay in a request. Raises Refused (422) with every problem and its path."""
    found: Problems = [(name, "there is no such field") for name in sorted(document.keys() - _fields(ReplayBody))]
    note = document.get("filter", {})
    if not isinstance(note, dict):
        found.append(("filter", "expected an object"))
        note = {}
    found += [(f"filter.{name}", "there is no such field") for name in sorted(note.keys() - _fields(Selection))]
    order = read_fields(document, ORDER, found)
    wanted = read_fields(note, SELECTION, found, within="filter.")
    if order.get("mode") == ReplayMode.REPROCESS:
        found += [(f"filter.{name}", OF_ACTIONS) for name in ACTION_FIELDS if note.get(name) is not None]
    if found:
        raise problems(found)
    return ReplayOrder(wanted=msgspec.convert(wanted, Selection), note=note, **order)  # type: ignore[arg-type]


def _fields(kind: type[Struct]) -> Collection[str]:
    return set(kind.__struct_fields__)


def _mode(value: Json) -> ReplayMode:
    if value not in list(ReplayMode):
        raise ValueError(f"expected one of {', '.join(ReplayMode)}")
    return ReplayMode(str(value))


def _rate(value: Json) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 / SLOWEST <= value <= FASTEST:
        raise ValueError(f"expected actions per second, from one in {SLOWEST} seconds to {FASTEST}")
    return float(value)


def _flag(value: Json) -> bool:
    if not isinstance(value, bool):
        raise ValueError("expected true or false")
    return value


def _number(value: Json) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63):
        return value
    raise ValueError("expected a whole number")


def _text(value: Json) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise ValueError("expected a text")


def _states(known: Collection[str], value: Json) -> tuple[Json, ...]:
    values = value if isinstance(value, list) else [] if value is None else [value]
    if not all(each in known for each in values):
        raise ValueError(f"expected any of {', '.join(known)}")
    return tuple(values)


ORDER: dict[str, Reader[Json]] = {"mode": _mode, "rate": _rate, "dry_run": _flag}
SELECTION: dict[str, Reader[Json]] = {
    "action": _number,
    "action_state": partial(_states, list(ActionState)),
    "task_state": partial(_states, list(TaskState)),
    "name": _text,
    "task": _text,
    "since": read_time,
    "until": read_time,
}
