"""`receiver secrets`: the secret that signs callback URLs, when the database made it."""

import click

from receiver.cli.connect import connect
from receiver.cli.guesses import Guessed
from receiver.cli.options import json_option
from receiver.cli.show import answer
from receiver.model.sentences import moment


@click.group(cls=Guessed)
def secrets() -> None:
    """About the secret that signs callback URLs.

    \b
    Example:
      receiver secrets rotate
    """


@secrets.command()
@json_option
def rotate(as_json: bool) -> None:
    """Sign with a new secret from now on; the old one is accepted for a day.

    For the secret that the server made. Those in RECEIVER_SECRETS are rotated there.

    \b
    Example:
      receiver secrets rotate
    """
    with connect() as client:
        made = client.rotate_secret()
    said = f"a new secret signs; callbacks signed with the old one are accepted until {moment(made.accepted_until)} UTC"
    answer(made, as_json, lambda _: click.echo(said))
