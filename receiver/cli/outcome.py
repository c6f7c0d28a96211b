"""How a command ends: the exit codes, and the one place that turns errors into messages with a remedy.

0 done, 1 failed, 2 used wrongly, 3 not found, 4 server unreachable.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NoReturn

import click

from receiver.cli.guesses import SENTENCE, Guessed, with_guess
from receiver.cli.variables import add_variables

if TYPE_CHECKING:
    from receiver.client import ApiError
    from receiver.model.errors import Refused

FAILED = 1
USED_WRONGLY = 2
NOT_FOUND = 3
UNREACHABLE = 4
EXITS = {400: USED_WRONGLY, 401: USED_WRONGLY, 403: USED_WRONGLY, 404: NOT_FOUND, 413: USED_WRONGLY, 422: USED_WRONGLY}
"""The exit code of an API's refusal, by HTTP status; any other status is a failure."""


class Ended(click.ClickException):
    """Ends a command that failed: a message and further lines for standard error, and the exit code."""

    def __init__(self, message: str, exit_code: int = FAILED, lines: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]
        self.lines = lines

    def show(self, file: object = None) -> None:
        from receiver.cli.show import clean

        if self.message:
            click.echo(f"Error: {clean(self.message)}", err=True)
        for line in self.lines:
            click.echo(clean(line), err=True)


def why_not_listening(error: OSError) -> str:
    """The reason, without the address, which the error's own text would name again."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else "there is no such address"


def cannot_listen(host: str, port: int, error: OSError, hint: str = "") -> Ended:
    reason = why_not_listening(error) + hint
    return Ended(f"cannot listen on {host}:{port}: {reason}; name another --host or --port", USED_WRONGLY)


class Root(Guessed):
    """The command `receiver`: reports the errors of all commands, and lists the commands in sections."""

    _sections: ClassVar[dict[str, Sequence[click.Command]]] = {}

    def section(self, title: str, *commands: click.Command) -> None:
        """Adds commands under a heading."""
        self._sections[title] = commands
        for command in commands:
            self.add_command(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.commands))
        for title, commands in self._sections.items():
            with formatter.section(title):
                rows = [((each.name or "").ljust(width), each.get_short_help_str(SENTENCE)) for each in commands]
                formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> object:
        try:
            add_variables(os.environ, Path.cwd())
            return super().invoke(ctx)
        except click.NoSuchOption as error:
            raise with_guess(error) from None
        except Exception as error:
            ended = ending(error)
            if ended is None:
                raise
            raise ended from error

    def main(self, *args: object, **options: object) -> object:  # type: ignore[override]
        try:
            return super().main(*args, **options)  # type: ignore[call-overload]
        except OSError as error:
            if error.filename is not None:
                raise
            _end_unprinted(error)


def _end_unprinted(error: OSError) -> NoReturn:
    """Ends the program when what it prints cannot be written: a full disk, a closed descriptor."""
    with suppress(OSError):
        click.echo(f"Error: the output cannot be written: {error.strerror or error}", err=True)
    # What is left in the buffers would fail once more when Python ends, with a traceback.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            os.dup2(nowhere, stream.fileno())
    sys.exit(FAILED)


def ending(error: Exception) -> Ended | None:
    """The message and exit code for an error; None for an error of the program itself."""
    # Imported only here, so that --help does not wait for them.
    import sqlite3

    from receiver.client import ApiError, Unproved, Unreachable
    from receiver.model.errors import ReceiverError, SettingsError

    match error:
        case SettingsError():
            return Ended("", USED_WRONGLY, error.problems)
        case Unproved():
            remedy = "start one with `receiver serve`, or name another by RECEIVER_URL"
            return Ended(f"nothing was sent to a server: {error.reason}; {remedy}", UNREACHABLE)
        case Unreachable():
            remedy = "start one with `receiver serve`, or set RECEIVER_URL"
            return Ended(f"no server answers at {error.url} ({error.reason}): {remedy}", UNREACHABLE)
        case ApiError():
            return _refused(error)
        case ReceiverError():
            return Ended(str(error))
        case UnicodeEncodeError():
            # Python turns bytes of an argument that are not UTF-8 into lone surrogates.
            return Ended(f"not UTF-8: {str(error.object)[:60]!a}", USED_WRONGLY)
        case sqlite3.Error():
            return Ended(f"the database cannot be used: {error}")
    return None


def problems_of(error: "ApiError | Refused") -> list[tuple[str, str]]:
    """Everything that a refusal calls wrong, each with its path in what was asked; else the refusal's message alone."""
    details = error.details if isinstance(error.details, list) else []
    found = [(str(each.get("path", "")), str(each.get("message", ""))) for each in details if isinstance(each, dict)]
    return found or [("", error.message)]


def _refused(error: "ApiError") -> Ended:
    # A proxy's 404 does not mean that the thing asked for does not exist.
    code = FAILED if error.code == "http_error" else EXITS.get(error.status, FAILED)
    if error.code == "unauthorized":
        remedy = "set RECEIVER_ADMIN_TOKEN; `receiver token` prints it on the server's machine"
        return Ended(f"the server does not know this admin token: {remedy}", code)
    if error.code == "ambiguous_id":
        return Ended(error.message, USED_WRONGLY, [f"  {task}: {told}" for task, told in problems_of(error)])
    if isinstance(error.details, Mapping):
        return Ended(error.message, code, [f"  {name}: {value}" for name, value in error.details.items()])
    problems = problems_of(error) if error.status == 422 and isinstance(error.details, list) else []
    lines = [f"  {path}: {message}" for path, message in problems]
    return Ended("the server does not accept this:" if lines else error.message, code, lines)
