"""What an AI app or a workflow takes, with a command line that orders it, and the styles of quick creations."""

from typing import TYPE_CHECKING

import click

from receiver.cli.connect import connect
from receiver.cli.options import json_option
from receiver.cli.show import clean, document, fields, note, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from receiver.client import Client
    from receiver.model.records import Node
    from receiver.model.views import AppView

MEDIA = {"IMAGE": "one.jpg", "VIDEO": "one.mp4", "AUDIO": "one.mp3"}
WORDS = frozenset({"text", "prompt", *(name.lower() for name in MEDIA)})
"""Fields of a workflow that are most often set: it has a hundred others."""
STYLE_FIELDS = {
    "id": "id",
    "modelName": "name",
    "modelKey": "key",
    "modelCategory": "category",
    "modelTrigger": "trigger",
    "content": "content",
    "modelLoar1FileName": "LoRA",
    "modelLoar1Weight": "weight",
    "modelLoar2FileName": "second LoRA",
    "modelLoar2Weight": "weight",
}
"""What is shown of a style, under which headings; --json has the rest. The spelling of LoRA is the provider's."""
QUICK_FIELDS = ("nodeName", "fieldType", "description")
"""What a quick creation wants to be told of every node beside its value (page "Initiate Quick Create Task")."""
SHOWN = 60
SHOWN_OPTIONS = 8


@click.command()
@click.argument("app_id", metavar="ID")
@json_option
def app(app_id: str, as_json: bool) -> None:
    """Show what an AI app takes: its nodes' fields, and a command line that orders it.

    \b
    Example:
      receiver app 1877265245566922801
    """
    with connect() as client:
        found = client.app(app_id)
    _show("--app", found, found.nodes, as_json)


@click.command()
@click.argument("workflow_id", metavar="ID")
@json_option
def workflow(workflow_id: str, as_json: bool) -> None:
    """Show what a workflow takes: its nodes' fields, and a command line that orders it.

    \b
    Example:
      receiver workflow 1904136902449209346
    """
    with connect() as client:
        found = client.workflow(workflow_id)
    usual = [node for node in found.nodes if node.field.lower() in WORDS]
    _show("--workflow", found, usual or found.nodes[:1], as_json)


@click.command()
@click.argument("app_id", metavar="APP_ID")
@click.option(
    "--type", "kind", type=click.IntRange(0, 999_999_999), default=2, show_default=True, help="Of which kind."
)
@json_option
def styles(app_id: str, kind: int, as_json: bool) -> None:
    """Show what a quick creation of an AI app can look like.

    \b
    Examples:
      receiver styles 1877265245566922801
      receiver styles 1877265245566922801 --type 1 --json
    """
    with connect() as client:
        found = client.styles(app_id, kind)
    if as_json:
        document(found)
    elif not found.items:
        note(f"AI app {app_id} has no styles of type {kind}")
    else:
        rows = [tuple(_style_field(each.get(name)) for name in STYLE_FIELDS) for each in found.items]
        table(list(STYLE_FIELDS.values()), rows)


def complete(client: "Client", app_id: str, order: "dict[str, object]") -> None:
    """Lays what RunningHub says of an app's nodes under the overrides of a quick creation, which wants all of it.

    Nodes that the app does not have stay as they are, for the server to refuse.
    """
    given = order.get("nodeInfoList")
    nodes = [node for node in given if isinstance(node, dict)] if isinstance(given, list) else []
    if all(name in node for node in nodes for name in QUICK_FIELDS):
        return
    known = {(node.node, node.field): node for node in client.app(app_id).nodes}
    for node in nodes:
        found = known.get((str(node.get("nodeId")), str(node.get("fieldName"))))
        if found is not None:
            told = (
                found.name or found.title or found.field,
                found.type,
                found.description or found.title or found.field,
            )
            node.update({**dict(zip(QUICK_FIELDS, told, strict=True)), **node})


def _style_field(value: object) -> str:
    return "" if value is None or isinstance(value, dict | list) else str(value)


def _show(option: str, found: "AppView", usual: "Sequence[Node]", as_json: bool) -> None:
    if as_json:
        document(found)
        return
    if found.name:
        fields([("name", found.name), ("id", found.id)])
        click.echo()
    rows = [
        (f"{node.node}.{node.field}", node.type, node.title, _said(node.value), _choices(node)) for node in found.nodes
    ]
    table(["node", "type", "what it is", "has", "choices"], rows)
    click.echo()
    click.echo(clean(_order(option, found.id, usual)))


def _order(option: str, target: str, nodes: "Sequence[Node]") -> str:
    import shlex

    given = [word for node in nodes for word in ("--node", f"{node.node}.{node.field}={_example(node)}")]
    return shlex.join(["receiver", "submit", option, target, *given])


def _example(node: "Node") -> str:
    """What the field has now; a file's place is for a file of one's own."""
    file = MEDIA.get(node.type.upper()) or MEDIA.get(node.field.upper())
    if file is not None:
        return f"@{file}"
    said = _value(node.value)
    if isinstance(node.value, str) and _is_json(said):
        import msgspec

        return msgspec.json.encode(said).decode()
    return f"@{said}" if said.startswith("@") else said


def _is_json(text: str) -> bool:
    """Whether `--node` would read a text as something else, such as a number."""
    from receiver.cli.inputs import read_nodes

    return read_nodes([f"1.x={text}"])[0]["fieldValue"] != text


def _value(value: object) -> str:
    import msgspec

    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _said(value: object) -> str:
    text = "" if value is None else _value(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def _choices(node: "Node") -> str:
    more = len(node.options) - SHOWN_OPTIONS
    return ", ".join(node.options[:SHOWN_OPTIONS]) + (f" and {more} more" if more > 0 else "")
