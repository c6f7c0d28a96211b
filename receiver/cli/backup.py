"""`receiver backup` and `receiver restore`: the server's database as one file here, and such a file in its place."""

import os
from datetime import UTC, datetime
from pathlib import Path

import click

from receiver.cli.connect import connect, database_file
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

    It holds the server's secrets, so only you may read it. `receiver restore` puts it back.

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


@click.command()
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@json_option
def restore(path: Path, as_json: bool) -> None:
    """Put the backup PATH in the place of the database here, while no server runs.

    The backup is checked first, and stays as it is. What it replaces is kept beside the database.

    \b
    Example:
      receiver restore receiver-2026-11-22.db
    """
    from receiver.model.errors import DatabaseInUse
    from receiver.server.settings import load_settings
    from receiver.store import is_server
    from receiver.store.sqlite.copies import restore as put_in_place

    settings = load_settings(os.environ, Path.cwd())
    if is_server(settings.database):
        raise Ended("the ledger is in PostgreSQL: `pg_restore`, or `psql`, puts a copy back", USED_WRONGLY)
    database = database_file(settings, Path.cwd())
    try:
        kept = put_in_place(path, database, datetime.now(UTC))
    except DatabaseInUse as error:
        raise Ended(f"{error}; stop that one first", USED_WRONGLY) from error
    except OSError as error:
        raise Ended(f"{database} cannot be replaced: {error}") from error
    size = database.stat().st_size
    told = "\n".join(
        [
            f"{database} is now a copy of {path}: {size} bytes",
            *(f"kept what it replaced: {each}" for each in kept),
        ]
    )
    made = {"database": str(database), "bytes": size, "kept": [str(each) for each in kept]}
    answer(made, as_json, lambda _: click.echo(told))
