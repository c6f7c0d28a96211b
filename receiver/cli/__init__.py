"""The command line: `receiver` and its commands. What is slow to import is imported inside the commands."""

import click

from receiver.cli.actions import actions
from receiver.cli.alerts import alerts
from receiver.cli.apps import app, styles, workflow
from receiver.cli.audit import audit
from receiver.cli.backup import backup, restore
from receiver.cli.batch.command import batch
from receiver.cli.deliveries import deliveries
from receiver.cli.docs import docs
from receiver.cli.download import download
from receiver.cli.files import upload
from receiver.cli.following import wait
from receiver.cli.local import check, config, token
from receiver.cli.models import account, models
from receiver.cli.outcome import Root
from receiver.cli.prune import prune
from receiver.cli.replays import replay
from receiver.cli.secrets import secrets
from receiver.cli.serving import demo, serve
from receiver.cli.simulate import simulate
from receiver.cli.status import status
from receiver.cli.submit import submit
from receiver.cli.tasks import cancel, reconcile, resend, submit_again, task, tasks


@click.group(cls=Root, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="receiver")
def main() -> None:
    """Order tasks from RunningHub, and lose none of their results.

    Most commands talk to a running server: the one named by RECEIVER_URL, else the one on this machine.

    \b
    Examples:
      receiver demo
      receiver serve
      receiver submit alibaba/qwen-image-2.0/text-to-image \\
          prompt="a lighthouse" --wait
    """


main.section("Run", serve, status, demo, simulate)
main.section("Tasks", submit, batch, tasks, task, wait, download, reconcile, resend, cancel, submit_again)
main.section("Callbacks and actions", deliveries, actions, replay, alerts)
main.section("Models, apps, files and the account", models, app, workflow, styles, upload, account)
main.section("Maintenance", token, secrets, check, config, backup, restore, prune, audit, docs)
