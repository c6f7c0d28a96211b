"""Following a task to its end, through restarts of the server, and printing what it made."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from receiver.cli.connect import connect
from receiver.cli.options import json_option
from receiver.cli.outcome import FAILED, Ended
from receiver.cli.show import answer, clean, document, note
from receiver.cli.waiting import is_unattempted, spinner
from receiver.model import sentences

if TYPE_CHECKING:
    from receiver.client import Client
    from receiver.model.views import TaskDetail

SAVING_PATIENCE = 120.0
"""Seconds to wait for the first attempts of an ended task's actions, so that results are shown as saved files."""


@click.command()
@click.argument("task_ids", metavar="ID...", nargs=-1, required=True)
@click.option("--timeout", type=click.FloatRange(0), metavar="SECONDS", help="Give up after so long; the tasks go on.")
@json_option
def wait(task_ids: tuple[str, ...], timeout: float | None, as_json: bool) -> None:
    """Wait until tasks have ended, and print their results, one a line. The exit code is 1 when any did not succeed.

    A server that is restarted meanwhile is waited for. With --json the task is printed, or a list of several.

    \b
    Examples:
      receiver wait 0197b0a2-5f0e
      receiver wait $(receiver submit --app 1877265245566922801) --timeout 600
    """
    with connect() as client:
        tasks = [follow(client, task_id, timeout) for task_id in task_ids]
    if not as_json:
        for task in tasks:
            print_results(task)
    else:
        document(tasks[0] if len(tasks) == 1 else {"items": tasks, "next": None})
    exit_by(*tasks)


def see_through(client: "Client", task_id: str, as_json: bool) -> None:
    """Waits for a task that was just ordered, prints its results, and ends with 1 when it did not succeed."""
    task = follow(client, task_id)
    answer(task, as_json, print_results)
    exit_by(task)


def follow(client: "Client", task_id: str, timeout: float | None = None) -> "TaskDetail":
    """The task when it has ended and its actions were tried; meanwhile its state is shown.

    When that is interrupted, or the server stays away for too long, it is said that the task goes on.
    """
    from receiver.client import Unreachable

    note(f"task {task_id}")
    try:
        return _followed(client, task_id, timeout)
    except TimeoutError as error:
        raise Ended(f"{error}; it goes on: receiver wait {task_id}") from None
    except Unreachable:
        note(_goes_on(task_id))
        raise
    except KeyboardInterrupt:
        note(_goes_on(task_id))
        raise click.Abort from None


def _goes_on(task_id: str) -> str:
    return f"the task goes on; to wait for it again: receiver wait {task_id}"


def exit_by(*tasks: "TaskDetail") -> None:
    """Ends the command with 1 when any of the tasks did not succeed."""
    bad = [task for task in tasks if task.state != "succeeded"]
    for task in bad:
        said = ": ".join(filter(None, (task.state, sentences.error(task.error))))
        note(said if len(tasks) == 1 else f"{task.id}: {said}")
    if bad:
        click.get_current_context().exit(FAILED)


def _followed(client: "Client", task_id: str, timeout: float | None) -> "TaskDetail":
    with spinner("asking") as tell:

        def away(why: str) -> None:
            tell(f"the task goes on; waiting for the server: {why}")

        task = client.wait(task_id, on_change=lambda task: tell(_progress(task)), on_away=away, timeout=timeout)
        if _actions_attempted(task):
            return task
        tell(f"{task.state}, its actions run")
        try:
            return client.wait(task.id, until=_actions_attempted, on_away=away, timeout=SAVING_PATIENCE)
        except TimeoutError:
            return client.task(task.id)


def _actions_attempted(task: "TaskDetail") -> bool:
    return not any(map(is_unattempted, task.actions))


def _progress(task: "TaskDetail") -> str:
    said = task.provider_status if task.state == "submitted" else None
    return f"{task.state}, RunningHub says {said}" if said else task.state


def print_results(task: "TaskDetail") -> None:
    """Prints a line for each result: the file it was saved in, if it is here, else its link, else its text."""
    elsewhere = False
    for result in task.results:
        here = result.file is not None and Path(result.file).is_file()
        elsewhere = elsewhere or (result.file is not None and not here)
        click.echo(clean((result.file if here else None) or result.url or result.text or "", keep="\n\t"))
    if elsewhere:
        note(f"the files are saved on the server; to have them here: receiver download {task.id}")
