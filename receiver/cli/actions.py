"""The commands about actions: what is owed downstream, by which definition, and another try."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import click

from receiver.cli.connect import connect
from receiver.cli.options import EVENT_STATES, gather, is_for_subcommand, json_option, narrowing, pair
from receiver.cli.outcome import FAILED, NOT_FOUND, Ended
from receiver.cli.show import document, due, fields, moment, note, table

if TYPE_CHECKING:
    from receiver.events import Event
    from receiver.model.definitions import Definition
    from receiver.model.views import ActionView, DefinitionView
    from receiver.rehearse import Rehearsal


WAITING = "waiting"
TOLD_ALREADY = frozenset({"error", "seconds", "files"})
"""What an outcome says beside its detail as well."""


@click.group(invoke_without_command=True)
@narrowing("action_state", "name", "task", "target", "label", "q")
def actions(everything: bool, as_json: bool, **given: object) -> None:
    """List actions, newest first, or work on one.

    One whose time is `held` waits for the actions that come before it, or for the task's end to be confirmed.

    \b
    Examples:
      receiver actions --state dead --since 1d
      receiver actions retry 17
      receiver actions pause notify-team
    """
    if is_for_subcommand():
        return
    with connect() as client:
        page = gather(client, client.actions, everything, given)
    if as_json:
        document(page)
    elif not page.items:
        note("no actions")
    else:
        rows = [
            (each.id, each.name, each.state, each.attempts, due(each.state, each.due_at), each.task, each.reason)
            for each in page.items
        ]
        table(("id", "name", "state", "tries", "due (UTC)", "task", "reason"), rows)
        if page.next:
            note("there are more: --all, or a larger --limit")


@actions.command()
@click.argument("action_id", metavar="ID", type=int)
@json_option
def show(action_id: int, as_json: bool) -> None:
    """Show one action with all its tries.

    \b
    Example:
      receiver actions show 17
    """
    with connect() as client:
        _show(client.action(action_id), as_json)


@actions.command()
@click.argument("action_id", metavar="ID", type=int)
@json_option
def retry(action_id: int, as_json: bool) -> None:
    """Owe a dead, done or skipped action again, with fresh tries.

    \b
    Example:
      receiver actions retry 17
    """
    with connect() as client:
        _show(client.retry(action_id), as_json)


@actions.command()
@click.argument("action_id", metavar="ID", type=int)
@json_option
def skip(action_id: int, as_json: bool) -> None:
    """Give up an owed or dead action.

    \b
    Example:
      receiver actions skip 17
    """
    with connect() as client:
        _show(client.skip(action_id), as_json)


@actions.command()
@json_option
def definitions(as_json: bool) -> None:
    """List the configured actions, with how many are in each state.

    \b
    Example:
      receiver actions definitions
    """
    with connect() as client:
        page = client.definitions()
    if as_json:
        document(page)
    elif not page.items:
        note("no actions are configured")
    else:
        _definitions(page.items)


@actions.command()
@click.argument("name")
@json_option
def pause(name: str, as_json: bool) -> None:
    """Hold back a definition's actions; they stay owed.

    \b
    Example:
      receiver actions pause notify-team
    """
    with connect() as client:
        _definition(client.pause(name), as_json)


@actions.command()
@click.argument("name")
@json_option
def resume(name: str, as_json: bool) -> None:
    """Let a definition's actions run again; one that waits after failures tries at once.

    \b
    Example:
      receiver actions resume notify-team
    """
    with connect() as client:
        _definition(client.resume(name), as_json)


@actions.command()
@click.argument("name")
@click.option(
    "--event", "source", type=click.File("rb"), metavar="FILE", help="Use the event document in FILE; - is stdin."
)
@click.option(
    "--on", "end", type=click.Choice(EVENT_STATES), help="How the task ended.  [default: what the action is for]"
)
@click.option("--target", metavar="NAME", help="The model, workflow or app.  [default: one that the action is for]")
@click.option("--label", multiple=True, type=pair, metavar="NAME=VALUE", help="A label of the task; may be repeated.")
@click.option("--result", multiple=True, metavar="URL", help="A result of the task; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print what happened, and the event, as a JSON document.")
def test(name: str, source: IO[bytes] | None, as_json: bool, **made_up: object) -> None:
    """Run one action of the settings here, once and now.

    Its effect is real: the URL is called, the command or function run, the files saved. No server is needed, and
    nothing is kept in the database. The event is made up (a success if the action is for that, with one tiny picture)
    or read from FILE; its idempotency key is a fresh one that begins with "test:". What would happen next, a further
    try or the end, is only told. Ends with 0 when it was done, 1 when it failed, 3 when there is no such action.

    \b
    Examples:
      receiver actions test notify-team
      receiver actions test notify-team --on failed --label project=shop
      receiver actions test index --json | jq .event > event.json
      receiver actions test index --event event.json
    """
    import asyncio

    from receiver.rehearse import UnknownAction, find_definition, mismatch, run_once
    from receiver.server.settings import load_settings

    settings = load_settings(os.environ, Path.cwd())
    try:
        definition = find_definition(settings.definitions, name)
    except UnknownAction as unknown:
        raise Ended(str(unknown), NOT_FOUND) from unknown
    try:
        event = _made_up(definition, made_up) if source is None else _read_event(source, made_up)
        outcome = asyncio.run(run_once(definition, event, settings=settings))
    except ValueError as error:
        raise click.UsageError(str(error) if source is None else f"{source.name}: {error}") from error
    _tried(definition, outcome, mismatch(definition, event, settings), as_json)
    if outcome.state != "done":
        click.get_current_context().exit(FAILED)


def _made_up(definition: "Definition", given: Mapping[str, object]) -> "Event":
    from receiver.rehearse import fitting_event

    labels = dict(cast("Sequence[tuple[str, str]]", given["label"]))
    results = list(cast("Sequence[str]", given["result"])) or None
    end = cast("str | None", given["end"])
    return fitting_event(definition, end, target=given["target"], labels=labels, results=results)


def _read_event(source: IO[bytes], given: Mapping[str, object]) -> "Event":
    import msgspec

    from receiver.rehearse import read_event

    for name, value in given.items():
        if value:
            option = "--on" if name == "end" else f"--{name}"
            raise click.UsageError(f"{option} is for a made-up event, and --event names a whole one")
    try:
        return read_event(msgspec.json.decode(source.read(), type=dict[str, object]))
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ValueError(f"is no JSON object: {error}") from error
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error


def _tried(definition: "Definition", outcome: "Rehearsal", doubt: str | None, as_json: bool) -> None:
    if as_json:
        told = {name: getattr(outcome, name) for name in outcome.__struct_fields__}
        document({"name": definition.name, "kind": definition.kind, **told, "note": doubt})
        return
    if doubt:
        note(f"Note: {doubt}")
    again = "" if outcome.retry_after is None else f"after {outcome.retry_after:g} s, at the earliest"
    fields(
        [
            ("action", f"{definition.name} ({definition.kind})"),
            ("event", f"{outcome.event.type} of {outcome.event.task.target}"),
            ("idempotency key", outcome.event.idempotency_key),
            ("state", outcome.state),
            ("reason", outcome.reason),
            ("next try", again),
            ("seconds", outcome.seconds),
            *((name, _shown(value)) for name, value in outcome.detail.items() if name not in TOLD_ALREADY),
        ]
    )
    if outcome.files:
        rows = [(each.result, each.path, each.size, each.sha256) for each in outcome.files]
        table(("result", "file", "bytes", "sha256"), rows, "Files")


def _show(action: "ActionView", as_json: bool) -> None:
    if as_json:
        document(action)
        return
    fields(
        [
            ("id", action.id),
            ("name", action.name),
            ("state", action.state),
            ("reason", action.reason),
            ("task", action.task),
            ("generation", action.generation),
            ("created (UTC)", moment(action.created_at)),
            ("due (UTC)", due(action.state, action.due_at)),
            ("settled (UTC)", moment(action.settled_at)),
            ("replay", action.replay),
        ]
    )
    if action.tries:
        rows = [
            (each.number, moment(each.started_at), each.seconds, each.outcome or "running", _detail(each.detail))
            for each in action.tries
        ]
        table(("try", "at (UTC)", "seconds", "outcome", "detail"), rows, "Tries")


def _detail(detail: object) -> str:
    import msgspec

    return msgspec.json.encode(detail).decode() if detail else ""


def _shown(value: object) -> str:
    import msgspec

    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _definition(definition: "DefinitionView", as_json: bool) -> None:
    if as_json:
        document(definition)
    else:
        _definitions([definition])


def _definitions(definitions: "list[DefinitionView]") -> None:
    rows = [
        (
            each.name,
            each.kind,
            standing(each),
            ", ".join(each.on),
            ", ".join(f"{count} {state}" for state, count in each.counts.items()),
        )
        for each in definitions
    ]
    table(("name", "kind", "state", "on", "actions"), rows)
    if any(standing(each).startswith(WAITING) for each in definitions):
        note("what waits tries by itself; to have it try at once: receiver actions resume NAME")


def standing(definition: "DefinitionView") -> str:
    """What becomes of a definition's actions now, in a few words."""
    if not definition.configured:
        return "gone"
    if definition.paused:
        return "paused"
    if definition.breaker == "closed":
        return "running"
    return f"{WAITING}: {definition.failures} failed in a row, next trial {moment(definition.open_until)} UTC"
