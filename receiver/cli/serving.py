"""The commands that run something: the server, the demonstration, the simulated provider."""

import logging
import os
import sys
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from receiver.cli.options import expecting
from receiver.cli.outcome import USED_WRONGLY, Ended, cannot_listen

if TYPE_CHECKING:
    from receiver.server.settings import Settings

PORT = click.IntRange(0, 65535)


@expecting("one process owns a SQLite file, so there is one worker")
def _one_worker(count: int) -> bool:
    return count == 1


@click.command()
@click.option("--host", help="The address to listen on.  [default: HOST, or host in receiver.toml, or 127.0.0.1]")
@click.option("--port", type=PORT, help="The port to listen on; 0 takes a free one.  [default: PORT, or 8000]")
@click.option("--workers", type=int, default=1, callback=_one_worker, hidden=True)
def serve(host: str | None, port: int | None, workers: int) -> None:
    """Run the server until it is told to stop.

    The settings are in receiver.toml, the environment and .env; `receiver config example` shows them all, `receiver
    check` looks at yours. What it would say of them is logged when the server starts.

    \b
    Example:
      RUNNINGHUB_API_KEY=... RECEIVER_PUBLIC_URL=https://receiver.example.com \\
          receiver serve
    """
    from msgspec.structs import replace

    from receiver.server.logs import configure_logging
    from receiver.server.settings import load_settings, sources

    settings = load_settings(os.environ, Path.cwd())
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    configure_logging(level=logging.getLevelNamesMapping()[settings.log_level.upper()], form=settings.log_format)
    told = {name: f"--{name}" for name in given}
    _serve(replace(settings, **given), {**sources(os.environ, Path.cwd()), **told})


def _serve(settings: "Settings", sources: dict[str, str]) -> None:
    import uvloop

    from receiver.cli.check import whence
    from receiver.console import create_app
    from receiver.model.errors import DatabaseInUse
    from receiver.server.service import Service
    from receiver.web.server import listen
    from receiver.web.server import serve as run

    try:
        listener = listen(settings.host, settings.port)
    except OSError as error:
        raise cannot_listen(settings.host, settings.port, error, whence(settings.host)) from error
    with listener:
        try:
            create = partial(create_app, sources=sources)
            uvloop.run(run(Service(settings), listener, ready=partial(_announce, settings=settings), create=create))
        except DatabaseInUse as error:
            raise Ended(f"{error}; one process serves a database, so stop that one first", USED_WRONGLY) from error
        except OSError as error:
            raise Ended(f"the database cannot be used: {error}") from error


def _announce(url: str, settings: "Settings") -> None:
    """Prints the server's address, and for somebody who starts it by hand where the token is. The log says the rest."""
    click.echo(f"receiver serves {url}")
    if settings.admin_token is None and sys.stdout.isatty():
        click.echo("  the admin token is in the database: `receiver token` prints it")
    # A function's module may take long to import, and callbacks are taken meanwhile.
    threading.Thread(target=_tell_lacking, args=(settings,), name="check", daemon=True).start()


def _tell_lacking(settings: "Settings") -> None:
    """Logs what `receiver check` would say of the running server, as far as it is not as it should be."""
    import structlog

    from receiver.cli.check import examine_running

    log = structlog.get_logger()
    for finding in examine_running(settings, Path.cwd()):
        if finding.verdict != "ok":
            log.warning("check", what=finding.what, found=finding.found)


@click.command()
def demo() -> None:
    """Show the whole story on a simulated RunningHub, in this process, without a key.

    \b
    Example:
      receiver demo
    """
    from importlib import import_module

    click.get_current_context().exit(import_module("receiver.demo").main())
