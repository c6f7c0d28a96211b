"""Local files: `receiver upload`, and `@path` in an order. All of them are looked at before the first one is sent."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from receiver.cli.connect import connect
from receiver.cli.local_files import FileSpot, Places
from receiver.cli.options import json_option
from receiver.cli.outcome import USED_WRONGLY, Ended
from receiver.cli.show import clean, document, note
from receiver.cli.waiting import byte_bar

if TYPE_CHECKING:
    from receiver.client import Client, Progress
    from receiver.model.errors import Refused
    from receiver.model.views import FileNameView, UploadView

T = TypeVar("T")


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@click.option(
    "--as",
    "purpose",
    type=click.Choice(("file", "nodes", "lora")),
    default="file",
    show_default=True,
    help="For whatever takes a file; for nodes alone, RunningHub's older way; or a LoRA.",
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
      receiver submit vidu/image-to-video-q3-pro imageUrl="$(receiver upload one.jpg)" prompt="she turns round"
      receiver upload --as lora style.safetensors --name my-style
    """
    if name is not None and len(files) > 1:
        raise Ended("--name is for one file; upload them one by one", USED_WRONGLY)
    problems = [f"  {path}: {problem}" for path in files if (problem := _unsendable(path, purpose))]
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


def find_files(
    order: "dict[str, object]",
    target: str | None,
    *,
    checked: bool,
    rest: "Mapping[str, object] | None" = None,
) -> Places:
    """The places of an order that name files, each file looked at. `target` is the model; None: no model's order.

    `rest` is all that the order has beside its input: with files in it, all of it is judged here already, as the server
    will do it. What has a second @ becomes the text behind the first. Raises Ended with everything that is wrong.
    """
    places = Places(order, target)
    problems = [f"  {each.spot.name}: {line}" for each in places.files if (line := file_problem(each, checked))]
    if places.files and rest is not None:
        problems += _refusals(places, order, rest)
    if problems:
        raise Ended("nothing was sent:", USED_WRONGLY, problems)
    return places


def _refusals(places: Places, order: "dict[str, object]", rest: "Mapping[str, object]") -> list[str]:
    """What the server would refuse an order for: a file of such an order need not be sent."""
    from receiver.cli.batch.contents import PENDING, for_check
    from receiver.model.errors import Refused
    from receiver.orders.reading import read_order

    for spot, _ in places.files:
        spot.put(PENDING)
    places.seal()
    try:
        read_order({**rest, "input": for_check(order)}, "", None)  # type: ignore[arg-type, dict-item]
    except Refused as refused:
        return [f"  {path}: {message}" for path, message in problems_of(refused)]
    return []


def problems_of(refused: "Refused") -> list[tuple[str, str]]:
    """What is wrong with an order that was judged here already, each with its path in it."""
    details = refused.details if isinstance(refused.details, list) else []
    found = [(str(each.get("path", "")), str(each.get("message", ""))) for each in details if isinstance(each, dict)]
    return found or [("", refused.message)]


def upload_files(client: "Client", places: Places) -> None:
    """Uploads the files and puts their ids into the order."""
    made: dict[Path, UploadView] = {}
    for spot, path in places.files:
        if path not in made:
            made[path] = _send(client, path)
        spot.put(made[path].id)
    places.seal()


def file_problem(file: FileSpot, checked: bool) -> str | None:
    """Why a file cannot stand where it is named, with its path and the remedy; None when it can.

    When `checked`, its type and size are judged by what the catalogue knows of the place.
    """
    spot, path = file
    problem = _unsendable(path)
    if problem is not None:
        where = "" if path.is_absolute() else f" (looked for in {os.getcwd()})"
        return f"{path}: {problem}{where}; for the text itself write @@"
    if spot.param is not None and checked:
        from receiver.runninghub import validation

        problem = validation.file_problem(spot.param, path.name, path.stat().st_size)
    return f"{problem} ({path})" if problem else None


def _unsendable(path: Path, purpose: str = "file") -> str | None:
    """Why a file cannot be uploaded at all."""
    from receiver.model.rules import UPLOAD_LIMITS

    try:
        if not path.is_file():
            return "is no file" if path.exists() else "there is no such file"
        with path.open("rb"):
            size = path.stat().st_size
    except OSError as error:
        return error.strerror or "cannot be read"
    except ValueError:
        return "there is no such file"
    if size == 0:
        return "is empty"
    limit = UPLOAD_LIMITS[purpose]
    return f"is larger than {limit // 2**20} MiB" if size > limit else None


def _send(client: "Client", path: Path) -> "UploadView":
    return _with_bar(path, lambda tell: client.upload(path, tell))


def _with_bar(path: Path, send: "Callable[[Progress], T]") -> "T":
    """Sends a file, and shows how far it is. Raises Ended when it cannot be read any more."""
    try:
        with byte_bar(f"uploading {clean(path.name)}") as tell:
            return send(tell)
    except OSError as error:
        raise Ended(f"{path}: {error.strerror or 'cannot be read'}") from error
