"""The commands that need no server: the admin token, a look at the settings, an example of them."""

import os
from pathlib import Path

import click

from receiver.cli.connect import database_file, made_token
from receiver.cli.guesses import Guessed
from receiver.cli.options import json_option
from receiver.cli.outcome import USED_WRONGLY, Ended
from receiver.cli.show import answer, note, table


@click.command()
@json_option
def token(as_json: bool) -> None:
    """Print the admin token, from the settings or the database here.

    \b
    Example:
      curl -H "Authorization: Bearer $(receiver token)" \\
          http://127.0.0.1:8000/api/tasks
    """
    from receiver.server.settings import load_settings

    settings = load_settings(os.environ, Path.cwd())
    found = settings.admin_token or made_token(settings, Path.cwd())
    if found is None:
        place = database_file(settings, Path.cwd())
        raise Ended(f"there is no admin token in {place} yet: `receiver serve` makes one when it starts")
    answer({"admin_token": found}, as_json, lambda printed: click.echo(found))


@click.command()
@json_option
def check(as_json: bool) -> None:
    """Look at the settings here: the files, folders, programs and functions they name, and RunningHub's site.

    Everything that is wrong is told at once. Python functions are imported, as the server would. With an API key, the
    site is asked once, without the key. Ends with 2 when something is wrong; a warning is something to know.

    \b
    Example:
      receiver check
    """
    from receiver.cli.check import examine
    from receiver.server.settings import read_settings

    settings, wrong = read_settings(os.environ, Path.cwd())
    findings = examine(settings, Path.cwd(), wrong)
    problems = [each for each in findings if not each.ok]
    rows = [(each.verdict, each.what, each.found) for each in findings]
    answer({"ok": not problems, "found": findings}, as_json, lambda printed: table(("", "what", "found"), rows))
    if problems:
        note(f"{len(problems)} to put right")
        click.get_current_context().exit(USED_WRONGLY)


@click.group(cls=Guessed)
def config() -> None:
    """About the settings.

    \b
    Example:
      receiver config example > receiver.toml
    """


@config.command()
def example() -> None:
    """Print a receiver.toml with every setting, each commented out at its default.

    \b
    Example:
      receiver config example > receiver.toml
    """
    from receiver.cli.example import example_toml

    click.echo(example_toml(), nl=False)
