"""`receiver backup`: the server's database as one file here."""

from pathlib import Path

import click

from receiver.cli.connect import connect
from receiver.cli.options import json_option
from receiver.cli.outcome import USED_WRONGLY, Ended
from receiver.cli.show import answer
from receiver.cli.waiting import byte_bar


@click.command()
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--overwrite", is_flag=True, help="Replace a file that is there.")
@json_option
def backup(path: Path, overwrite: bool, as_json: bool) -> None:
    """Copy the server's database, all in one moment, into the file PATH.

    It holds the server's secrets, so only you may read it. Start a server on the copy to restore it.

    \b
    Example:
      receiver backup receiver-2026-11-22.db
    """
    with connect() as client, byte_bar(f"copying to {path}") as progress:
        try:
            size = client.backup(path, progress, overwrite=overwrite)
        except FileExistsError as error:
            raise Ended(f"{error}; name another file, or say --overwrite", USED_WRONGLY) from error
        except OSError as error:
            raise Ended(f"{path} cannot be written: {error.strerror or error}") from error
    answer({"path": str(path), "bytes": size}, as_json, lambda made: click.echo(f"{path}: {size} bytes"))
