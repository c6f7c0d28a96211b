"""The commands about actions: those of ended tasks, their definitions, and a test of one."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from receiver.cli.connect import connect
from receiver.cli.options import EVENT_STATES, json_option, label_option
from receiver.cli.outcome import FAILED, NOT_FOUND, Ended
from receiver.cli.shapes import about, list_group
from receiver.cli.show import Row, answer, document, fields, json_text, note, table
from receiver.model import sentences
from receiver.model.sentences import moment

if TYPE_CHECKING:
    from receiver.client import Client
    from receiver.events import Event
    from receiver.model.definitions import Definition
    from receiver.model.views import ActionView, DefinitionView
    from receiver.rehearse import Rehearsal

SHOWN_ALREADY = frozenset({"error", "seconds", "files"})
"""Parts of an outcome's detail that the outcome itself has as well."""


@list_group(
    lambda client: client.actions,
    ("action_state", "name", "task", "label"),
    ("id", "name", "state", "tries", "due (UTC)", "task", "reason"),
)
def actions(action: "ActionView") -> Row:
    """List actions, newest first, or work on one.

    The column of the due time says what an action waits for, if that is no time.

    \b
    Examples:
      receiver actions --state dead --since 1d
      receiver actions retry 17
      receiver actions pause notify-team
    """
    due = sentences.due(action)
    return action.id, action.name, action.state, action.attempts, due, action.task, action.reason


@actions.command()
@json_option
def definitions(as_json: bool) -> None:
    """List the configured actions, with how many are in each state.

    \b
    Example:
      receiver actions definitions
    """
    with connect() as client:
        answer(client.definitions(), as_json, lambda page: _print_definitions(*page.items))


def _print_definitions(*found: "DefinitionView") -> None:
    if not found:
        note("no actions are configured")
        return
    rows = [
        (each.name, each.kind, sentences.definition_state(each), ", ".join(each.on), sentences.definition_counts(each))
        for each in found
    ]
    table(("name", "kind", "state", "on", "actions"), rows)
    if any(state.startswith(sentences.WAITING) for _, _, state, _, _ in rows):
        note("what waits tries by itself; to have it try at once: receiver actions resume NAME")


@about(str, _print_definitions, "actions pause notify-team", metavar="NAME", group=actions)
def pause(client: "Client", name: str) -> "DefinitionView":
    """Pause a definition: its actions stay owed until it is resumed."""
    return client.pause(name)


@about(str, _print_definitions, "actions resume notify-team", metavar="NAME", group=actions)
def resume(client: "Client", name: str) -> "DefinitionView":
    """Resume a paused definition; one that waits after failures runs again at once."""
    return client.resume(name)


def _print_action(action: "ActionView") -> None:
    fields(
        *(("id", action.id), ("name", action.name), ("state", action.state), ("reason", action.reason)),
        *(("task", action.task), ("generation", action.generation)),
        ("created (UTC)", moment(action.created_at)),
        ("due (UTC)", sentences.due(action)),
        ("settled (UTC)", moment(action.settled_at)),
        ("replay", action.replay),
    )
    rows = [
        (each.number, moment(each.started_at), each.seconds, each.outcome or "running", _said(each.detail))
        for each in action.tries
    ]
    table(("try", "at (UTC)", "seconds", "outcome", "detail"), rows, "Tries")


def _said(detail: Mapping[str, object] | None) -> str:
    """What is kept of a try: its error first, the rest by name; no seconds, which stand beside it."""
    found = {name: json_text(value).strip() for name, value in (detail or {}).items() if name != "seconds"}
    error = found.pop("error", "")
    return ", ".join(filter(None, [error, *(f"{name}: {value}" for name, value in found.items() if value)]))


@about(int, _print_action, "actions show 17", group=actions)
def show(client: "Client", action_id: int) -> "ActionView":
    """Show one action with all its attempts."""
    return client.action(action_id)


@about(int, _print_action, "actions retry 17", group=actions)
def retry(client: "Client", action_id: int) -> "ActionView":
    """Run a dead, done or skipped action again, with all its attempts anew."""
    return client.retry(action_id)


@about(int, _print_action, "actions skip 17", group=actions)
def skip(client: "Client", action_id: int) -> "ActionView":
    """Give up an action that is owed or dead."""
    return client.skip(action_id)


@actions.command()
@click.argument("name")
@click.option("--event", type=click.File("rb"), metavar="FILE", help="Use the event document in FILE; - is stdin.")
@click.option("--on", type=click.Choice(EVENT_STATES), help="How the task ended.  [default: what the action is for]")
@click.option("--target", metavar="NAME", help="The model, workflow or app.  [default: one that the action is for]")
@label_option("A label of the task; may be repeated.")
@click.option("--result", multiple=True, metavar="URL", help="A result of the task; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print what happened, and the event, as a JSON document.")
def test(
    name: str,
    event: IO[bytes] | None,
    on: str | None,
    target: str | None,
    label: dict[str, str],
    result: tuple[str, ...],
    as_json: bool,
) -> None:
    """Run one action of the local settings, once and now.

    Its effect is real: the URL is called, the command or function runs, the files are saved. No server is needed, and
    nothing is stored in the database. The event is made up (a success with one tiny picture, if the action is for
    that) or read from FILE. Its idempotency key is new and begins with "test:". A failed attempt is not repeated; you
    are told when a server would. Exit code: 0 done, 1 failed, 3 no such action.

    \b
    Examples:
      receiver actions test notify-team
      receiver actions test notify-team --on failed --label project=shop
      receiver actions test index --json | jq .event > event.json
      receiver actions test index --event event.json
    """
    import asyncio

    from receiver.rehearse import UnknownAction, find_definition, fitting_event, mismatch, run_once
    from receiver.server.settings import load_settings

    settings = load_settings(os.environ, Path.cwd())
    try:
        definition = find_definition(settings.definitions, name)
    except UnknownAction as unknown:
        raise Ended(str(unknown), NOT_FOUND) from unknown
    made_up = {"--on": on, "--target": target, "--label": label, "--result": result}
    if event is not None and (strange := [option for option, given in made_up.items() if given]):
        raise click.UsageError(f"{strange[0]} is for a made-up event, and --event names a whole one")
    try:
        if event is not None:
            used = _read_event(event)
        else:
            used = fitting_event(definition, on, target=target, labels=label, results=result or None)
        outcome = asyncio.run(run_once(definition, used, settings=settings))
    except ValueError as error:
        raise click.UsageError(str(error) if event is None else f"{event.name}: {error}") from error
    _print_outcome(definition, outcome, mismatch(definition, used, settings), as_json)
    if outcome.state != "done":
        click.get_current_context().exit(FAILED)


def _read_event(source: IO[bytes]) -> "Event":
    import msgspec

    from receiver.rehearse import read_event

    try:
        return read_event(msgspec.json.decode(source.read(), type=dict[str, object]))
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ValueError(f"is no JSON object: {error}") from error
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error


def _print_outcome(definition: "Definition", outcome: "Rehearsal", doubt: str | None, as_json: bool) -> None:
    if as_json:
        from msgspec.structs import asdict

        document({"name": definition.name, "kind": definition.kind, **asdict(outcome), "note": doubt})
        return
    if doubt:
        note(f"Note: {doubt}")
    again = "" if outcome.retry_after is None else f"after {outcome.retry_after:g} s, at the earliest"
    fields(
        ("action", f"{definition.name} ({definition.kind})"),
        ("event", f"{outcome.event.type} of {outcome.event.task.target}"),
        ("idempotency key", outcome.event.idempotency_key),
        *(("state", outcome.state), ("reason", outcome.reason), ("next try", again), ("seconds", outcome.seconds)),
        *((name, json_text(value)) for name, value in outcome.detail.items() if name not in SHOWN_ALREADY),
    )
    rows = [(each.result, each.path, each.size, each.sha256) for each in outcome.files]
    table(("result", "file", "bytes", "sha256"), rows, "Files")
