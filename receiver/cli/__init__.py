"""The command line: `receiver` and its commands. Whatever is slow to import is imported inside the commands."""

import click

from receiver.cli.actions import actions
from receiver.cli.apps import app, styles, workflow
from receiver.cli.backup import backup
from receiver.cli.batch.command import batch
from receiver.cli.deliveries import alerts, deliveries
from receiver.cli.docs import docs
from receiver.cli.files import upload
from receiver.cli.local import check, config, token
from receiver.cli.models import account, models
from receiver.cli.outcome import Verbs
from receiver.cli.replays import replay
from receiver.cli.serving import demo, serve
from receiver.cli.simulate import simulate
from receiver.cli.submit import submit
from receiver.cli.tasks import cancel, reconcile, resend, submit_again, task, tasks


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="receiver")
def main() -> None:
    """Order tasks from RunningHub, and lose none of their results.

    Most commands speak to a running server: the one named by RECEIVER_URL, else the one on this machine.

    \b
    Examples:
      receiver demo
      receiver serve
      receiver submit alibaba/qwen-image-2.0/text-to-image prompt="a lighthouse" --wait
    """


main.section("Run", serve, demo, simulate)
main.section("Tasks", submit, batch, tasks, task, reconcile, resend, cancel, submit_again)
main.section("What came, and what was done", deliveries, actions, replay, alerts)
main.section("What can be ordered", models, app, workflow, styles, upload, account)
main.section("Care", token, check, config, backup, docs)
