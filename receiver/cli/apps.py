"""The commands about AI apps and workflows: their nodes, and the styles of quick creations."""

from typing import TYPE_CHECKING

import click

from receiver.cli.connect import connect
from receiver.cli.options import json_option
from receiver.cli.shapes import about
from receiver.cli.show import clean, document, fields, json_text, note, submit_line, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from receiver.client import Client
    from receiver.model.records import JsonObject, Node
    from receiver.model.views import AppView

MEDIA = {"IMAGE": "one.jpg", "VIDEO": "one.mp4", "AUDIO": "one.mp3"}
USUAL_FIELDS = frozenset({"text", "prompt", *(name.lower() for name in MEDIA)})
"""Fields of a workflow that are set most often, out of a hundred or more."""
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
"""What a quick creation must say of every node beside its value (page "Initiate Quick Create Task")."""
SHOWN = 60
SHOWN_OPTIONS = 8


def _print_nodes(option: str, found: "AppView", usual: "Sequence[Node]") -> None:
    if found.name:
        fields(("name", found.name), ("id", found.id))
        click.echo()
    rows = [(f"{n.node}.{n.field}", n.type, n.title, _shortened(n.value), _choices(n)) for n in found.nodes]
    table(["node", "type", "what it is", "has", "choices"], rows)
    click.echo()
    nodes = [word for node in usual for word in ("--node", f"{node.node}.{node.field}={_example(node)}")]
    click.echo(clean(submit_line(option, found.id, *nodes)))


def _print_app(found: "AppView") -> None:
    _print_nodes("--app", found, found.nodes)


def _print_workflow(found: "AppView") -> None:
    usual = [node for node in found.nodes if node.field.lower() in USUAL_FIELDS]
    _print_nodes("--workflow", found, usual or found.nodes[:1])


@about(str, _print_app, "app 1877265245566922801")
def app(client: "Client", app_id: str) -> "AppView":
    """Show the inputs of an AI app, node by node, and a command line that runs it."""
    return client.app(app_id)


@about(str, _print_workflow, "workflow 1904136902449209346")
def workflow(client: "Client", workflow_id: str) -> "AppView":
    """Show the inputs of a workflow, node by node, and a command line that runs it."""
    return client.workflow(workflow_id)


@click.command()
@click.argument("app_id", metavar="APP_ID")
@click.option(
    "--type", "kind", type=click.IntRange(0, 10**9 - 1), default=2, show_default=True, help="The kind of style."
)
@json_option
def styles(app_id: str, kind: int, as_json: bool) -> None:
    """List the styles for quick creations with an AI app.

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
        table([*STYLE_FIELDS.values()], rows)


def complete(client: "Client", app_id: str, order: "JsonObject") -> None:
    """Completes the nodes of a quick creation with RunningHub's description of them; what the order says wins.

    Nodes that the app does not have stay as they are: the server refuses them.
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


def _example(node: "Node") -> str:
    """The value to show for a field: what it has now, or @FILE where a file is expected."""
    file = MEDIA.get(node.type.upper()) or MEDIA.get(node.field.upper())
    if file is not None:
        return f"@{file}"
    import msgspec

    from receiver.cli.inputs import json_or_text

    text = json_text(node.value)
    if isinstance(node.value, str) and json_or_text(text) != text:  # a text that looks like a number, for example
        return msgspec.json.encode(text).decode()
    return f"@{text}" if text.startswith("@") else text


def _shortened(value: object) -> str:
    text = "" if value is None else json_text(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def _choices(node: "Node") -> str:
    more = len(node.options) - SHOWN_OPTIONS
    return ", ".join(node.options[:SHOWN_OPTIONS]) + (f" and {more} more" if more > 0 else "")
