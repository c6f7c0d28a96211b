"""Local files: `receiver upload`, and `@path` in an order. All of them are looked at before the first one is sent."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from receiver.cli.connect import connect
from receiver.cli.options import json_option
from receiver.cli.outcome import USED_WRONGLY, Ended
from receiver.cli.places import FileSpot, Places
from receiver.cli.show import clean, document, note
from receiver.cli.waiting import byte_bar

if TYPE_CHECKING:
    from receiver.client import Client
    from receiver.offers import UploadView


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@json_option
def upload(files: tuple[Path, ...], as_json: bool) -> None:
    """Upload files to RunningHub, and print an id for each: an order may hold it where a file is expected.

    The same bytes are sent once in 23 hours at the most.

    \b
    Examples:
      receiver upload one.jpg two.jpg
      receiver submit vidu/image-to-video-q3-pro imageUrl="$(receiver upload one.jpg)" prompt="she turns round"
    """
    problems = [f"  {path}: {problem}" for path in files if (problem := _unsendable(path))]
    if problems:
        raise Ended("nothing was uploaded:", USED_WRONGLY, problems)
    with connect() as client:
        made = [_send(client, path) for path in files]
    if as_json:
        document(made)
        return
    for each in made:
        note(f"{each.name}: {each.type}, {each.size} bytes, until {each.expires_at}")
        click.echo(each.id)


def find_files(order: "dict[str, object]", target: str | None, *, checked: bool) -> Places:
    """The places of an order that name files, each file looked at. `target` is the model; None: no model's order.

    What has a second @ becomes the text behind the first. Raises Ended with everything that is wrong.
    """
    places = Places(order, target)
    problems = [f"  {each.spot.name}: {line}" for each in places.files if (line := file_problem(each, checked))]
    if places.files and checked and places.model is not None:
        from receiver.runninghub.validation import validate

        # A file of an order that will be refused need not be sent.
        problems += [f"  input.{each.path}: {each.message}" for each in validate(places.model, order)]  # type: ignore[arg-type]
    if problems:
        raise Ended("nothing was sent:", USED_WRONGLY, problems)
    return places


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


def _unsendable(path: Path) -> str | None:
    """Why a file cannot be uploaded at all."""
    from receiver.rules import UPLOAD_LIMIT

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
    return f"is larger than {UPLOAD_LIMIT // 2**20} MiB" if size > UPLOAD_LIMIT else None


def _send(client: "Client", path: Path) -> "UploadView":
    try:
        with byte_bar(f"uploading {clean(path.name)}") as tell:
            return client.upload(path, tell)
    except OSError as error:
        raise Ended(f"{path}: {error.strerror or 'cannot be read'}") from error
