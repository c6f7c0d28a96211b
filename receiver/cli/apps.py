"""What an AI app or a workflow takes, with a command line that orders it, and the styles of quick creations."""

from typing import TYPE_CHECKING

import click

from receiver.cli.connect import connect
from receiver.cli.options import json_option
from receiver.cli.shapes import about
from receiver.cli.show import clean, document, fields, json_text, note, submit_line, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from receiver.client import Client
    from receiver.model.offers import AppView, NodeView

MEDIA = {"IMAGE": "one.jpg", "VIDEO": "one.mp4", "AUDIO": "one.mp3"}
USUAL_FIELDS = frozenset({"text", "prompt", *(name.lower() for name in MEDIA)})
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


def _print_nodes(option: str, found: "AppView", usual: "Sequence[NodeView]") -> None:
    if found.name:
        fields([("name", found.name), ("id", found.id)])
        click.echo()
    rows = [
        (f"{node.node}.{node.field}", node.type, node.title, _shortened(node.value), _choices(node))
        for node in found.nodes
    ]
    table(["node", "type", "what it is", "has", "choices"], rows)
    click.echo()
    nodes = [word for node in usual for word in ("--node", f"{node.node}.{node.field}={_example(node)}")]
    click.echo(clean(submit_line(option, found.id, *nodes)))


def _print_app(found: "AppView") -> None:
    _print_nodes("--app", found, found.nodes)


def _print_workflow(found: "AppView") -> None:
    usual = [node for node in found.nodes if node.field.lower() in USUAL_FIELDS]
    _print_nodes("--workflow", found, usual or found.nodes[:1])


@click.command()
@about(str, _print_app, "app 1877265245566922801")
def app(client: "Client", app_id: str) -> "AppView":
    """Show what an AI app takes: its nodes' fields, and a command line that orders it."""
    return client.app(app_id)


@click.command()
@about(str, _print_workflow, "workflow 1904136902449209346")
def workflow(client: "Client", workflow_id: str) -> "AppView":
    """Show what a workflow takes: its nodes' fields, and a command line that orders it."""
    return client.workflow(workflow_id)


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
        values = ([each.get(name) for name in STYLE_FIELDS] for each in found.items)
        rows = [
            ["" if value is None or isinstance(value, dict | list) else str(value) for value in row] for row in values
        ]
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
            title = found.title or found.field
            texts = (found.name or title, found.type, found.description or title)
            node.update({**dict(zip(QUICK_FIELDS, texts, strict=True)), **node})


def _example(node: "NodeView") -> str:
    """What the field has now; a file's place is for a file of one's own."""
    file = MEDIA.get(node.type.upper()) or MEDIA.get(node.field.upper())
    if file is not None:
        return f"@{file}"
    text = json_text(node.value)
    if isinstance(node.value, str) and _is_json(text):
        import msgspec

        return msgspec.json.encode(text).decode()
    return f"@{text}" if text.startswith("@") else text


def _is_json(text: str) -> bool:
    """Whether `--node` would read a text as something else, such as a number."""
    from receiver.cli.inputs import read_nodes

    return read_nodes([f"1.x={text}"])[0]["fieldValue"] != text


def _shortened(value: object) -> str:
    text = "" if value is None else json_text(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def _choices(node: "NodeView") -> str:
    more = len(node.options) - SHOWN_OPTIONS
    return ", ".join(node.options[:SHOWN_OPTIONS]) + (f" and {more} more" if more > 0 else "")
