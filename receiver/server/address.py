"""Where a running server leaves its address for the command line: a file beside its database. Pure."""

from pathlib import Path


def address_file(database: Path) -> Path:
    """The file that holds the URL of the server that owns a database."""
    return database.with_name(database.name + ".server")
