"""The commands about actions: what is owed downstream, by which definition, and another try."""

from typing import TYPE_CHECKING

import click

from receiver.cli.connect import connect
from receiver.cli.options import gather, is_for_subcommand, json_option, narrowing
from receiver.cli.show import document, fields, moment, note, table

if TYPE_CHECKING:
    from receiver.views import ActionView, DefinitionView


@click.group(invoke_without_command=True)
@narrowing("action_state", "name", "task", "target", "label", "q")
def actions(everything: bool, as_json: bool, **given: object) -> None:
    """List actions, newest first, or work on one.

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
            (each.id, each.name, each.state, each.attempts, moment(each.due_at), each.task, each.reason)
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
    """Let a definition's actions run again.

    \b
    Example:
      receiver actions resume notify-team
    """
    with connect() as client:
        _definition(client.resume(name), as_json)


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
            ("due (UTC)", moment(action.due_at)),
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
            _standing(each),
            ", ".join(each.on),
            ", ".join(f"{count} {state}" for state, count in each.counts.items()),
        )
        for each in definitions
    ]
    table(("name", "kind", "state", "on", "actions"), rows)


def _standing(definition: "DefinitionView") -> str:
    if not definition.configured:
        return "gone"
    if definition.paused:
        return "paused"
    if definition.breaker == "closed":
        return "running"
    return f"waiting: {definition.failures} failures in a row, next trial {moment(definition.open_until)}"
