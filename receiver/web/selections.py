"""Reads the request for a replay out of JSON, and says everything that is wrong with it at once."""

from msgspec import Struct

from receiver.model.entries import Selection
from receiver.model.errors import problems
from receiver.model.records import ActionState, Json, JsonObject, ReplayMode, TaskState
from receiver.web.answers import read_time

FIELDS = frozenset({"filter", "mode", "dry_run", "rate"})
FILTER_FIELDS = frozenset({"action", "action_state", "task_state", "name", "task", "since", "until"})
ACTION_FIELDS = ("action", "action_state", "name")
OF_ACTIONS = "reprocess reads deliveries, which are chosen by task, task_state, since and until"

SLOWEST = 10_000
"""Seconds from one action to the next: a hundred thousand of them end within our calendar."""
FASTEST = 1_000_000


class ReplayOrder(Struct, frozen=True, kw_only=True):
    """A replay as it was asked for; `note` is the filter as it was written, `rate` in actions per second."""

    mode: ReplayMode
    wanted: Selection
    note: JsonObject
    rate: float | None
    dry_run: bool


def read_replay(document: JsonObject) -> ReplayOrder:
    """The replay in a request. Raises Refused (422) with every problem and its path."""
    found = [(name, "there is no such field") for name in sorted(document.keys() - FIELDS)]
    wanted = document.get("filter", {})
    if not isinstance(wanted, dict):
        found.append(("filter", "expected an object"))
        wanted = {}
    found += [(f"filter.{name}", "there is no such field") for name in sorted(wanted.keys() - FILTER_FIELDS)]
    mode = document.get("mode", "retry")
    if mode not in list(ReplayMode):
        found.append(("mode", f"expected one of {', '.join(ReplayMode)}"))
    rate = document.get("rate")
    if rate is not None and (
        isinstance(rate, bool) or not isinstance(rate, int | float) or not 1 / SLOWEST <= rate <= FASTEST
    ):
        found.append(("rate", f"expected actions per second, from one in {SLOWEST} seconds to {FASTEST}"))
    dry_run = document.get("dry_run", False)
    if not isinstance(dry_run, bool):
        found.append(("dry_run", "expected true or false"))
    selection = Selection(
        action=_number(wanted.get("action"), "filter.action", found),
        action_state=_states(wanted.get("action_state"), list(ActionState), "filter.action_state", found),
        task_state=_states(wanted.get("task_state"), list(TaskState), "filter.task_state", found),
        name=_text(wanted.get("name"), "filter.name", found),
        task=_text(wanted.get("task"), "filter.task", found),
        since=read_time(wanted.get("since"), "filter.since"),
        until=read_time(wanted.get("until"), "filter.until"),
    )
    if mode == ReplayMode.REPROCESS:
        found += [(f"filter.{name}", OF_ACTIONS) for name in ACTION_FIELDS if wanted.get(name) is not None]
    if found:
        raise problems(found)
    return ReplayOrder(
        mode=ReplayMode(str(mode)),
        wanted=selection,
        note=wanted,
        rate=float(rate) if isinstance(rate, int | float) else None,
        dry_run=dry_run is True,
    )


def _number(value: Json, path: str, found: list[tuple[str, str]]) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63):
        return value
    found.append((path, "expected a whole number"))
    return None


def _text(value: Json, path: str, found: list[tuple[str, str]]) -> str | None:
    if value is None or isinstance(value, str):
        return value
    found.append((path, "expected a text"))
    return None


def _states(value: Json, known: list[str], path: str, found: list[tuple[str, str]]) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [] if value is None else [value]
    states = tuple(each for each in values if isinstance(each, str) and each in known)
    if len(states) != len(values):
        found.append((path, f"expected any of {', '.join(known)}"))
    return states
