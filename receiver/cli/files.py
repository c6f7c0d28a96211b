"""Local files: `receiver upload`, and `@path` in an order. All of them are looked at before the first one is sent."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from receiver.cli.connect import connect
from receiver.cli.options import json_option
from receiver.cli.outcome import USED_WRONGLY, Ended, problems_of
from receiver.cli.show import clean, document, note
from receiver.cli.waiting import byte_bar

if TYPE_CHECKING:
    from receiver.cli.local_files import Limits, LocalOrder
    from receiver.client import Client, Progress
    from receiver.model.records import JsonObject
    from receiver.model.views import FileNameView, UploadView

T = TypeVar("T")

PURPOSES = "For whatever takes a file; for nodes alone, RunningHub's older way; or a LoRA."


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@click.option(
    *("--as", "purpose"), type=click.Choice(("file", "nodes", "lora")), default="file", show_default=True, help=PURPOSES
)
@click.option("--name", metavar="NAME", help="The name it is given at RunningHub, instead of the file's own.")
@json_option
def upload(files: tuple[Path, ...], purpose: str, name: str | None, as_json: bool) -> None:
    """Upload files to RunningHub, and print an id for each: an order may hold it where a file is expected.

    The same bytes are sent once in 23 hours at the most. With --as nodes or --as lora no id is printed, but the file
    name that goes into a node's field, such as RHLoraLoader's.

    \b
    Examples:
      receiver upload one.jpg two.jpg
      receiver submit vidu/image-to-video-q3-pro-fast \\
          imageUrl="$(receiver upload one.jpg)" prompt="she turns round"
      receiver upload --as lora style.safetensors --name my-style
    """
    from receiver.cli.local_files import unsendable

    if name is not None and len(files) > 1:
        raise Ended("--name is for one file; upload them one by one", USED_WRONGLY)
    problems = [f"  {path}: {problem}" for path in files if (problem := unsendable(path, purpose, name))]
    if problems:
        raise Ended("nothing was uploaded:", USED_WRONGLY, problems)
    with connect() as client:
        made = [_bring(client, path, purpose, name, as_json) for path in files]
    if as_json:
        document(made)


def _bring(client: "Client", path: Path, purpose: str, name: str | None, as_json: bool) -> "UploadView | FileNameView":
    """Uploads a file, and says at once what it is called now: a later file may fail."""
    made: UploadView | FileNameView
    if purpose == "file":
        made = sent = _with_bar(path, lambda tell: client.upload(path, tell, name=name))
        told, answer = f"{sent.name}: {sent.type}, {sent.size} bytes, until {sent.expires_at}", sent.id
    else:
        bring = client.upload_lora if purpose == "lora" else client.upload_for_nodes
        made = _with_bar(path, lambda tell: bring(path, tell, name=name))
        told, answer = f"{name or path.name}: a file name for a node's field", made.file_name
    if not as_json:
        note(told)
        click.echo(clean(answer))
    return made


def read_files(input: "JsonObject", rest: "JsonObject", limits: "Limits | None" = None) -> "LocalOrder":
    """An order, see LocalOrder; one that names files is judged here already. Raises Ended with all that is wrong."""
    from receiver.cli.local_files import LocalOrder
    from receiver.model.errors import Refused

    order = LocalOrder(input, rest, limits)
    try:
        if order.files:
            order.judged()
    except Refused as refused:
        lines = [f"  {path}: {message}" for path, message in problems_of(refused)]
        raise Ended("nothing was sent:", USED_WRONGLY, lines) from None
    return order


def upload_files(client: "Client", order: "LocalOrder") -> "JsonObject":
    """Uploads the files of an order. Returns its input with their ids."""
    paths = dict.fromkeys(file.path for file in order.files)
    return order.with_ids({path: _with_bar(path, partial(client.upload, path)).id for path in paths})


def _with_bar(path: Path, send: "Callable[[Progress], T]") -> "T":
    """Sends a file, and shows how far it is. Raises Ended when it cannot be read any more."""
    try:
        with byte_bar(f"uploading {clean(path.name)}") as tell:
            return send(tell)
    except OSError as error:
        raise Ended(f"{path}: {error.strerror or 'cannot be read'}") from error
