"""`receiver submit`: an order from the command line, and waiting for what it makes."""

from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from receiver.cli.connect import connect
from receiver.cli.following import see_through
from receiver.cli.options import expecting, files_from_option, folder_of, json_option, label_option
from receiver.cli.show import answer, document, fields, note
from receiver.cli.tasks import print_ordered
from receiver.model import sentences

if TYPE_CHECKING:
    from receiver.client.tasks import OrderOptions
    from receiver.model.records import JsonObject
    from receiver.model.views import PreviewView


BODY = click.Path(exists=True, dir_okay=False, allow_dash=True)


@expecting("expected printable ASCII characters")
def _header(text: str) -> bool:
    return text.isascii() and text.isprintable() and bool(text.strip())


@click.command()
@click.argument("words", nargs=-1, metavar="[MODEL] [KEY=VALUE]...")
@click.option("--workflow", metavar="ID", help="Run a ComfyUI workflow instead of a model.")
@click.option("--app", metavar="ID", help="Run an AI app instead of a model.")
@click.option("--quick", metavar="ID", help="Run a quick creation, with quickCreateCode=CODE.")
@click.option("--node", "nodes", multiple=True, metavar="NODE.FIELD=VALUE", help="Set a node's field; may be repeated.")
@click.option("--v1", "api", flag_value="v1", help="Submit a workflow or an app in the provider's older form.")
@click.option("--input", "text", metavar="JSON", help="The input as one JSON object.")
@click.option("--body", "file", type=BODY, metavar="FILE", help="The input from a JSON file; - is stdin.")
@files_from_option
@label_option("A label to find the task by; may be repeated.")
@click.option("--idempotency-key", metavar="KEY", callback=_header, help="The same order again is the same task.")
@click.option("--force", is_flag=True, help="Send the input unchecked, to any endpoint.")
@click.option("--dry-run", is_flag=True, help="Order nothing: print the checked input and its price.")
@click.option("--wait", is_flag=True, help="Wait until the task has ended, and print its results.")
@json_option
def submit(
    words: tuple[str, ...],
    nodes: tuple[str, ...],
    api: str | None,
    text: str | None,
    file: str | None,
    files_from: tuple[Path, ...],
    label: dict[str, str],
    idempotency_key: str | None,
    force: bool,
    dry_run: bool,
    wait: bool,
    as_json: bool,
    **ids: str | None,
) -> None:
    """Order a task: from MODEL, by its name or endpoint, or from a workflow, an AI app or a quick creation.

    A VALUE has the type the model's parameter has; `receiver models MODEL` shows them. Elsewhere it is read as JSON
    when it is JSON, else as text. A KEY that is repeated, or written KEY[], is a list. Pairs are laid over --input or
    --body.

    Where a file is expected, in --node, and in the inputs of a whole workflow's nodes (workflow=JSON), @PATH uploads
    one first (also in a dry run); @@TEXT is the text @TEXT. What --body names must be below the folder of its FILE, or
    below a DIR of --files-from, and not hidden.

    Without --wait the task's id is printed, and the server sees to the rest. With --wait the results are printed, one
    a line, and the exit code is 1 when the task did not succeed.

    \b
    Examples:
      receiver submit alibaba/qwen-image-2.0/text-to-image \\
          prompt="a lighthouse" --wait
      receiver submit vidu/image-to-video-q3-pro-fast --body order.json \\
          --label project=north
      receiver submit --workflow 1904136902449209346 --node 6.text="a lighthouse"
      receiver submit --app 1877265245566922802 --node 39.image=@one.jpg --dry-run
      receiver submit --quick 1877265245566922801 quickCreateCode=002 \\
          --node 6.text="a lighthouse"
    """
    from receiver.cli.apps import complete
    from receiver.cli.files import read_files, upload_files
    from receiver.cli.inputs import read_input, read_nodes
    from receiver.cli.local_files import Limits, types_of
    from receiver.runninghub.bodies import NODES

    kind, target, pairs = _target(words, ids)
    if kind == "model" and (nodes or api):
        raise click.UsageError("--node and --v1 go with --workflow, --app or --quick")
    if dry_run and (wait or idempotency_key):
        raise click.UsageError("--dry-run orders nothing: leave --wait and --idempotency-key out")
    body = _content(file) if file else None
    typed = read_input(None, None, pairs, types_of(kind, target))
    if nodes:
        typed[NODES] = [*read_nodes(nodes)]
    input = read_input(text, body, ()) | typed
    if kind == "quick" and not force:
        with connect() as client:
            complete(client, target, input)
    how: OrderOptions = {"kind": kind, "api": api, "validate": not force, "labels": label}
    limits = Limits((folder_of(file), *files_from), typed) if file else None
    order = read_files(input, cast("JsonObject", {"target": target, **how}), limits)
    with connect() as client:
        input = upload_files(client, order)
        if dry_run:
            answer(client.preview(target, input, **how), as_json, _print_preview)
            return
        task = client.submit(target, input, idempotency_key=idempotency_key, **how)
        if task.note:
            note(task.note)
        if wait:
            see_through(client, task.id, as_json)
        else:
            answer(task, as_json, print_ordered)


def _content(file: str) -> bytes:
    with click.open_file(file, "rb") as opened:
        content: bytes = opened.read()
    return content


def _target(words: tuple[str, ...], ids: dict[str, str | None]) -> tuple[str, str, tuple[str, ...]]:
    """The kind of task, its target, and the KEY=VALUE words. Raises UsageError."""
    named = [(kind, target) for kind, target in ids.items() if target is not None]
    if len(named) > 1:
        raise click.UsageError("give one of --workflow, --app and --quick")
    if named:
        return *named[0], words
    if not words or "=" in words[0]:
        raise click.UsageError("name a model, or give --workflow, --app or --quick")
    return "model", words[0], words[1:]


def _print_preview(preview: "PreviewView") -> None:
    if preview.note:
        note(preview.note)
    fields((preview.kind, preview.target), ("price", sentences.price(preview.price)))
    click.echo()
    document(preview.input)
    if preview.price_problem:
        note(f"no price: {preview.price_problem}")
