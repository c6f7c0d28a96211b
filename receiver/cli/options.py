"""Options that several commands share, and how their values become the filters of an API list."""

import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import reduce
from pathlib import Path
from typing import TypeVar

import click

F = TypeVar("F", bound=Callable[..., object])
T = TypeVar("T")

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


def _pair(text: str) -> tuple[str, str]:
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


def expecting(problem: str) -> Callable[[Callable[[T], bool]], Callable[[click.Context, click.Parameter, T], T]]:
    """Turns a judge of values into the callback of an option, which refuses what is not right and lets None pass."""

    def decorate(is_right: Callable[[T], bool]) -> Callable[[click.Context, click.Parameter, T], T]:
        def callback(ctx: click.Context, param: click.Parameter, value: T) -> T:
            if value is None or is_right(value):
                return value
            raise click.BadParameter(problem.format(value), ctx, param)

        return callback

    return decorate


json_option = click.option("--json", "as_json", is_flag=True, help="Print the API's JSON document.")


def _some_of(
    option: str, words: tuple[str, ...], help: str = "Only these states; may be repeated."
) -> Callable[[F], F]:
    """An option that takes one of the words, and may be repeated."""
    return click.option(
        option,
        multiple=True,
        type=click.Choice(words),
        metavar=option[2:].upper(),
        help=f"{help}  [{', '.join(words)}]",
    )


files_from_option = click.option(
    "--files-from",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="A further folder that the file may name files in; may be repeated.",
)


def folder_of(file: str) -> Path:
    """The folder that a file of orders is really in; for standard input the working directory."""
    return Path.cwd() if file == "-" else Path(file).resolve().parent


def label_option(help: str) -> Callable[[F], F]:
    """The option --label; the command gets a dict."""
    return click.option(
        "--label", multiple=True, type=_pair, callback=lambda _, __, pairs: dict(pairs), metavar="NAME=VALUE", help=help
    )


FILTERS: Mapping[str, Callable[[F], F]] = {
    "task_state": _some_of("--state", TASK_STATES),
    "action_state": _some_of("--state", ACTION_STATES),
    "delivery_state": _some_of("--state", DELIVERY_STATES),
    "alert_state": _some_of("--state", ("open", "closed"), "Open or closed."),
    "replayed_actions": _some_of("--action-state", ACTION_STATES, "Only actions in these states."),
    "replayed_tasks": _some_of("--task-state", EVENT_STATES, "Only tasks that ended so."),
    "kind": _some_of("--kind", KINDS, "Only these kinds of task."),
    "alert_kind": click.option("--kind", multiple=True, metavar="KIND", help="Only these kinds of alert."),
    "target": click.option("--target", metavar="NAME", help="Only this model, workflow or app; * and ? are wildcards."),
    "label": label_option("Only tasks with this label; may be repeated."),
    "q": click.option("--q", metavar="TEXT", help="The beginning of an id, a target, a label or its value."),
    "task": click.option("--task", metavar="ID", help="Only what belongs to this task."),
    "name": click.option("--name", metavar="NAME", help="Only actions of this definition."),
    "verb": click.option("--verb", metavar="WORD", help="Only what was done so, such as cancel."),
    "since": click.option("--since", type=when, metavar="WHEN", help="Not before: 2h ago, or 2026-11-22T08:00:00Z."),
    "until": click.option("--until", type=when, metavar="WHEN", help="Before: 30m ago, or 2026-11-22T08:00:00Z."),
}
limit_option = click.option("--limit", type=click.IntRange(1, PAGE_OF_ALL), help="At most this many.  [default: 50]")
wide_option = click.option("--wide", is_flag=True, help="Whole ids and texts, however long the lines become.")
all_option = click.option("--all", "everything", is_flag=True, help="The whole list, whatever its length.")


def follow_option(*, there: bool) -> Callable[[F], F]:
    """The option --follow, where a command has it."""
    option = click.option("--follow", is_flag=True, help="Go on printing what changes; with --json a document a line.")
    return option if there else lambda command: command


def filters(*names: str) -> Callable[[F], F]:
    """Adds these filters of FILTERS to a command as options, in this order, then --since and --until."""
    return lambda command: reduce(lambda made, name: FILTERS[name](made), ("until", "since", *reversed(names)), command)


def is_for_subcommand() -> bool:
    """Whether a group runs one of its subcommands. Raises UsageError when options of its own stand before that."""
    ctx = click.get_current_context()
    verb = ctx.invoked_subcommand
    given = click.core.ParameterSource.COMMANDLINE
    for option in ctx.command.params if verb else ():
        if option.name and ctx.get_parameter_source(option.name) is given:
            raise click.UsageError(f"{option.opts[0]} comes too early: write it after `{verb}`, if it has it", ctx)
    return verb is not None
