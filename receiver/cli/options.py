"""Options that several commands share, and how their values become the filters of an API list."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

if TYPE_CHECKING:
    from receiver.client import Client, Listed, ListFilter

    P = TypeVar("P", bound=Listed[Any])

F = TypeVar("F", bound=Callable[..., object])

PAGE_OF_ALL = 500
AGO = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
TASK_STATES = (
    *("queued", "submitting", "submitted", "in_doubt"),
    *("rejected", "succeeded", "failed", "cancelled", "lost"),
)
DELIVERY_STATES = ("readable", "unreadable", "contradicting")
ACTION_STATES = ("owed", "running", "done", "dead", "skipped")
EVENT_STATES = ("succeeded", "failed", "cancelled", "rejected")
KINDS = ("model", "workflow", "app", "quick")
REPLAY_MODES = ("retry", "again", "missing", "reprocess")


def when(text: str) -> str:
    """The type of an option: how long ago (`90s`, `30m`, `2h`, `1d`, `1w`), or RFC 3339, UTC when it names no zone."""
    read = read_moment(text, time.time())
    if read is None:
        raise click.BadParameter(f"{text!r} is neither a time ago such as 2h nor a time such as 2026-11-22T08:00:00Z")
    return read


def pair(text: str | tuple[str, str]) -> tuple[str, str]:
    """The type of an option: `name=value`."""
    if isinstance(text, tuple):
        return text
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise click.BadParameter(f"expected name=value, got {text!r}")
    return name, value


def read_moment(text: str, now: float) -> str | None:
    """The moment as RFC 3339, None when it cannot be read. `now` in seconds since 1970."""
    try:
        if ago := AGO.fullmatch(text.strip()):
            seconds = float(ago[1]) * SECONDS[ago[2]]
            return (datetime.fromtimestamp(now, UTC) - timedelta(seconds=seconds)).isoformat()
        read = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        return None
    return (read if read.tzinfo else read.replace(tzinfo=UTC)).isoformat()


json_option = click.option("--json", "as_json", is_flag=True, help="Print the API's JSON document.")


def _choice(option: str, choices: Sequence[str], help: str) -> Callable[[F], F]:
    return click.option(option, multiple=True, type=click.Choice(choices), help=help)


SOME_STATES = "Only these states; may be repeated."
FILTERS: Mapping[str, Callable[[F], F]] = {
    "task_state": _choice("--state", TASK_STATES, SOME_STATES),
    "action_state": _choice("--state", ACTION_STATES, SOME_STATES),
    "delivery_state": _choice("--state", DELIVERY_STATES, SOME_STATES),
    "alert_state": _choice("--state", ("open", "closed"), "Open or closed."),
    "kind": _choice("--kind", KINDS, "Only these kinds of task."),
    "alert_kind": click.option("--kind", multiple=True, metavar="KIND", help="Only these kinds of alert."),
    "target": click.option("--target", metavar="NAME", help="Only this model, workflow or app."),
    "label": click.option(
        "--label", multiple=True, type=pair, metavar="NAME=VALUE", help="Only tasks with this label; may be repeated."
    ),
    "q": click.option("--q", metavar="TEXT", help="An id, or the beginning of a target or a label."),
    "task": click.option("--task", metavar="ID", help="Only what belongs to this task."),
    "name": click.option("--name", metavar="NAME", help="Only actions of this definition."),
    "since": click.option("--since", type=when, metavar="WHEN", help="Not before: 2h ago, or 2026-11-22T08:00:00Z."),
    "until": click.option("--until", type=when, metavar="WHEN", help="Before: 30m ago, or 2026-11-22T08:00:00Z."),
}
LIMIT = click.option("--limit", type=click.IntRange(1, PAGE_OF_ALL), help="At most this many.  [default: 50]")
ALL = click.option("--all", "everything", is_flag=True, help="The whole list, whatever its length.")


def filters(*names: str) -> Callable[[F], F]:
    """Adds these filters of FILTERS to a command as options, in this order, then --since and --until."""

    def decorate(command: F) -> F:
        for name in reversed((*names, "since", "until")):
            command = FILTERS[name](command)
        return command

    return decorate


def list_options(*names: str) -> Callable[[F], F]:
    """Adds the options of a list command: these filters, --since, --until, --limit, --all and --json."""
    return lambda command: json_option(filters(*names)(LIMIT(ALL(command))))


def gather(client: "Client", page: "Callable[..., P]", everything: bool, given: Mapping[str, object]) -> "P":
    """The page of a list that the options ask for; with `everything`, one page that holds the whole list."""
    from msgspec.structs import replace

    labels = dict(cast("Sequence[tuple[str, str]]", given.get("label") or ()))
    narrow = cast("ListFilter", {**given, "label": labels} | ({"limit": PAGE_OF_ALL} if everything else {}))
    found = page(**narrow)
    if not everything or found.next is None:
        return found
    narrow["cursor"] = found.next
    return replace(found, items=[*found.items, *client.each(page, **narrow)], next=None)


def is_for_subcommand() -> bool:
    """Whether a group runs one of its subcommands. Raises UsageError when options of its own stand before that."""
    ctx = click.get_current_context()
    verb = ctx.invoked_subcommand
    given = click.core.ParameterSource.COMMANDLINE
    for option in ctx.command.params if verb else ():
        if option.name and ctx.get_parameter_source(option.name) is given:
            raise click.UsageError(f"{option.opts[0]} comes too early: write it after `{verb}`, if it has it", ctx)
    return verb is not None
