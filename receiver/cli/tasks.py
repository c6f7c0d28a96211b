"""The commands about tasks: the list, one task with all that is known of it, and what can be done to it."""

from typing import TYPE_CHECKING

import click

from receiver.cli.connect import connect
from receiver.cli.following import exit_by, follow
from receiver.cli.options import json_option
from receiver.cli.shapes import about, listing
from receiver.cli.show import Row, answer, clean, fields, note, table
from receiver.cli.watching import watch
from receiver.model import sentences
from receiver.model.sentences import moment

if TYPE_CHECKING:
    from receiver.client import Client
    from receiver.model.views import OrderedView, OutputsView, TaskDetail, TaskFacts, TaskRow, WebhookView

EXAMPLE = "0197b0a2-5f0e"


@click.command()
@listing(
    lambda client: client.tasks,
    ("task_state", "kind", "target", "label", "q"),
    ("id", "state", "target", "labels", "created (UTC)", "error"),
    watch=watch,
)
def tasks(task: "TaskRow") -> Row:
    """List tasks, newest first. With --follow print those that change, a line each, until it is interrupted.

    \b
    Examples:
      receiver tasks --state failed --state lost --since 1d
      receiver tasks --label project=north --all --json
      receiver tasks --follow --label project=north
    """
    error = f"{task.error.code} {task.error.name}" if task.error else None
    return task.id, sentences.task_state(task), task.target, _labels(task), moment(task.created_at), error


@click.command()
@click.argument("task_id", metavar="ID")
@click.option(
    "--follow", "asked", flag_value="follow", help="Wait until it has ended, telling how it goes, and then show it."
)
@click.option(
    "--status", "asked", flag_value="status", help="Only its status at RunningHub, asked now and not recorded."
)
@click.option("--outputs", "asked", flag_value="outputs", help="Only its outputs at RunningHub, asked now.")
@click.option(
    "--webhook", "asked", flag_value="webhook", help="Only the state of its callback at RunningHub, asked now."
)
@json_option
def task(task_id: str, asked: str | None, as_json: bool) -> None:
    """Show one task: its results, actions, timeline, and what RunningHub was asked about it.

    With --follow the exit code is 1 when the task did not succeed.

    \b
    Examples:
      receiver task 0197b0a2-5f0e
      receiver task 0197b0a2-5f0e --follow
      receiver task 0197b0a2-5f0e --webhook
    """
    with connect() as client:
        if asked is None:
            answer(client.task(task_id), as_json, _print_task)
        elif asked == "follow":
            followed = follow(client, task_id)
            answer(followed, as_json, _print_task)
            exit_by(followed)
        elif asked == "status":
            answer(client.provider_status(task_id), as_json, lambda said: click.echo(clean(said.status)))
        elif asked == "outputs":
            answer(client.provider_outputs(task_id), as_json, _print_outputs)
        else:
            answer(client.provider_webhook(task_id), as_json, _print_webhook)


def _print_outputs(said: "OutputsView") -> None:
    fields(("state", said.state or "not ended"), ("error", sentences.error(said.error)))
    if said.results:
        rows = [(each.type, each.node_id, each.url or each.text) for each in said.results]
        table(("type", "node", "link or text"), rows)


def _print_webhook(said: "WebhookView") -> None:
    status = said.status or "not tried yet"
    fields(("id", said.id), ("status", status), ("tried again", said.retry_count), ("answer", said.response))


def _print_task(task: "TaskDetail") -> None:
    fields(
        ("id", task.id),
        ("state", sentences.task_state(task)),
        ("which means", sentences.standing(task)),
        ("error", sentences.error(task.error)),
        ("learned by", sentences.source(task.event)),
        ("kind", task.kind),
        ("target", task.target),
        ("labels", _labels(task)),
        ("RunningHub's id", task.provider_task_id),
        ("created (UTC)", moment(task.created_at)),
        ("submitted (UTC)", moment(task.submitted_at)),
        ("ended (UTC)", moment(task.ended_at)),
        ("next check (UTC)", moment(task.next_check_at)),
        ("callback", sentences.callback(task)),
        ("idempotency key", task.idempotency_key),
        ("again of", task.again_of),
        ("cost", sentences.cost(task.usage)),
        *((f"of which {child}", cost) for child, cost in sentences.costs_of_children(task.usage)),
    )
    _print_results(task)
    actions = [(a.id, a.name, a.state, a.attempts, sentences.due(a), a.reason) for a in task.actions]
    table(("id", "name", "state", "tries", "due (UTC)", "reason"), actions, "Actions")
    checks = [(moment(c.at), c.kind, "ok" if c.ok else "no", f"{c.seconds:.2f}", c.summary) for c in task.checks]
    table(("at (UTC)", "asked for", "answer", "seconds", "what it said"), checks, "Checks")
    asked = {(check.at, check.kind) for check in task.checks}  # these stand above already
    timeline = [(moment(m.at), m.what, m.detail) for m in task.timeline if (m.at, m.what) not in asked]
    table(("at (UTC)", "what", "detail"), timeline, "Timeline")


def _print_results(task: "TaskDetail") -> None:
    """Prints each file, link and text on a line of its own, so that it can be copied whatever the terminal's width."""
    if task.results:
        click.echo("\nResults")
    for number, result in enumerate(task.results, start=1):
        said = [clean(each) for each in (result.file, result.url or result.text) if each]
        click.echo("\n".join([f"{number}  {clean(result.type or '')}", *(f"   {each}" for each in said)]))


def _labels(task: "TaskFacts") -> str:
    return " ".join(f"{name}={value}" for name, value in task.labels.items())


def _print_done(task: "TaskDetail") -> None:
    """Prints how a task stands after something was done to it, and what RunningHub said to that."""
    said = task.checks[-1] if task.checks else None
    fields(
        ("task", task.id),
        ("state", sentences.task_state(task)),
        ("error", sentences.error(task.error)),
        ("callback", sentences.callback(task)),
        ("next check (UTC)", moment(task.next_check_at)),
        ("asked last", f"{said.kind}: {said.summary}" if said else None),
    )


@about(str, _print_done, f"reconcile {EXAMPLE}")
def reconcile(client: "Client", task_id: str) -> "TaskDetail":
    """Ask RunningHub about a task now."""
    return client.reconcile(task_id)


@about(str, _print_done, f"resend {EXAMPLE}")
def resend(client: "Client", task_id: str) -> "TaskDetail":
    """Have RunningHub send a task's callback again, to a fresh URL."""
    return client.resend(task_id)


@about(str, _print_done, f"cancel {EXAMPLE}")
def cancel(client: "Client", task_id: str) -> "TaskDetail":
    """Cancel a task: at once while it is in our own queue, else at RunningHub."""
    return client.cancel(task_id)


def print_ordered(task: "OrderedView") -> None:
    """Prints the id of a task that was just ordered."""
    note(f"{task.state}; see how it goes: receiver task {task.id}")
    click.echo(task.id)


@about(str, print_ordered, f"submit-again {EXAMPLE}")
def submit_again(client: "Client", task_id: str) -> "OrderedView":
    """Submit the same order as a new task, which costs money again."""
    return client.submit_again(task_id)
