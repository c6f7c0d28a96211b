"""The commands about tasks: the list, one task with all that is known of it, and what can be done to it."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

import click

from receiver.cli.connect import connect
from receiver.cli.options import gather, json_option, narrowing
from receiver.cli.show import clean, document, due, fields, labels, moment, note, table

if TYPE_CHECKING:
    from receiver.client import Client
    from receiver.model.views import OutputsView, TaskDetail, TaskView, WebhookView

T = TypeVar("T")


@click.command()
@narrowing("task_state", "kind", "target", "label", "q")
def tasks(everything: bool, as_json: bool, **given: object) -> None:
    """List tasks, newest first.

    \b
    Examples:
      receiver tasks --state failed --state lost --since 1d
      receiver tasks --label project=north --all --json
    """
    with connect() as client:
        page = gather(client, client.tasks, everything, given)
    if as_json:
        document(page)
    elif not page.items:
        note("no tasks")
    else:
        rows = [
            (task.id, _state(task), task.target, labels(task.labels), moment(task.created_at), _code(task))
            for task in page.items
        ]
        table(("id", "state", "target", "labels", "created (UTC)", "error"), rows)
        if page.next:
            note("there are more: --all, or a larger --limit")


@click.command()
@click.argument("task_id", metavar="ID")
@click.option(
    "--status",
    "asked",
    flag_value="status",
    help="Only RunningHub's own word for it, asked now; nothing is recorded of it.",
)
@click.option("--outputs", "asked", flag_value="outputs", help="Only what RunningHub says that it made, asked now.")
@click.option(
    "--webhook", "asked", flag_value="webhook", help="Only what became of its callback at RunningHub, asked now."
)
@json_option
def task(task_id: str, asked: str | None, as_json: bool) -> None:
    """Show one task: its timeline, results, actions, and what RunningHub was asked.

    \b
    Examples:
      receiver task 0197b0a2-5f0e-7c61-9d39-0a4f3a7d1c55
      receiver task 0197b0a2-5f0e-7c61-9d39-0a4f3a7d1c55 --webhook
    """
    with connect() as client:
        if asked is None:
            show_task(client.task(task_id), as_json)
        elif asked == "status":
            _say(client.provider_status(task_id), as_json, lambda said: click.echo(clean(said.status)))
        elif asked == "outputs":
            _say(client.provider_outputs(task_id), as_json, _show_outputs)
        else:
            _say(client.provider_webhook(task_id), as_json, _show_webhook)


def _say(said: T, as_json: bool, show: Callable[[T], None]) -> None:
    if as_json:
        document(said)
    else:
        show(said)


def _show_outputs(said: "OutputsView") -> None:
    error = said.error
    why = f"{error.code} {error.name}: {error.message}" if error else None
    fields([("state", said.state or "not ended"), ("error", why)])
    if said.results:
        table(
            ("type", "node", "link or text"),
            [(each.type, each.node_id, each.url or each.text) for each in said.results],
        )


def _show_webhook(said: "WebhookView") -> None:
    status = said.status or "not tried yet"
    fields([("id", said.id), ("status", status), ("tried again", said.retry_count), ("answer", said.response)])


@click.command()
@click.argument("task_id", metavar="ID")
@json_option
def reconcile(task_id: str, as_json: bool) -> None:
    """Ask RunningHub about a task now.

    \b
    Example:
      receiver reconcile 0197b0a2-5f0e-7c61-9d39-0a4f3a7d1c55
    """
    _do(lambda client: client.reconcile(task_id), as_json)


@click.command()
@click.argument("task_id", metavar="ID")
@json_option
def resend(task_id: str, as_json: bool) -> None:
    """Have RunningHub send a task's callback again, to a fresh URL.

    \b
    Example:
      receiver resend 0197b0a2-5f0e-7c61-9d39-0a4f3a7d1c55
    """
    _do(lambda client: client.resend(task_id), as_json)


@click.command()
@click.argument("task_id", metavar="ID")
@json_option
def cancel(task_id: str, as_json: bool) -> None:
    """Cancel a task: at once while it is in our own queue, else at RunningHub.

    \b
    Example:
      receiver cancel 0197b0a2-5f0e-7c61-9d39-0a4f3a7d1c55
    """
    _do(lambda client: client.cancel(task_id), as_json)


@click.command("submit-again")
@click.argument("task_id", metavar="ID")
@json_option
def submit_again(task_id: str, as_json: bool) -> None:
    """Order the same once more, as a new task; that costs money again.

    \b
    Example:
      receiver submit-again 0197b0a2-5f0e-7c61-9d39-0a4f3a7d1c55
    """
    with connect() as client:
        again = client.submit_again(task_id)
    if as_json:
        document(again)
    else:
        note(f"{again.state}; see how it goes: receiver task {again.id}")
        click.echo(again.id)


def _do(verb: "Callable[[Client], TaskDetail]", as_json: bool) -> None:
    with connect() as client:
        show_task(verb(client), as_json)


def show_task(task: "TaskDetail", as_json: bool) -> None:
    if as_json:
        document(task)
        return
    _show_fields(task)
    if task.results:
        results = [(each.type, each.file or "", each.url or each.text) for each in task.results]
        table(("type", "file", "link or text"), results, "Results")
    if task.actions:
        actions = [
            (each.id, each.name, each.state, each.attempts, due(each.state, each.due_at), each.reason)
            for each in task.actions
        ]
        table(("id", "name", "state", "tries", "due (UTC)", "reason"), actions, "Actions")
    if task.checks:
        checks = [
            (moment(each.at), each.kind, "ok" if each.ok else "no", f"{each.seconds:.2f}", each.summary)
            for each in task.checks
        ]
        table(("at (UTC)", "asked for", "answer", "seconds", "what it said"), checks, "Checks")
    table(
        ("at (UTC)", "what", "detail"),
        [(moment(each.at), each.what, each.detail) for each in task.timeline],
        "Timeline",
    )


def _show_fields(task: "TaskDetail") -> None:
    event = task.event
    known = event and f"{event.source}, {'confirmed' if event.confirmed else 'unconfirmed'}"
    flags = [name for name in ("contradicted", "no_results") if event and getattr(event, name)]
    fields(
        [
            ("id", task.id),
            ("state", _state(task)),
            ("error", _reason(task)),
            ("learned by", ", ".join([known, *flags]) if known else None),
            ("kind", task.kind),
            ("target", task.target),
            ("labels", labels(task.labels)),
            ("RunningHub's id", task.provider_task_id),
            ("created (UTC)", moment(task.created_at)),
            ("submitted (UTC)", moment(task.submitted_at)),
            ("ended (UTC)", moment(task.ended_at)),
            ("next check (UTC)", moment(task.next_check_at)),
            ("callback", _callback(task)),
            ("idempotency key", task.idempotency_key),
            ("again of", task.again_of),
            ("cost", _cost(task.usage)),
            *((f"of which {child}", cost) for child, cost in _children(task.usage)),
        ]
    )


def _state(task: "TaskView") -> str:
    """Our state, and beside it what RunningHub calls it while it has the task."""
    said = task.provider_status if task.state == "submitted" else None
    return f"{task.state} {said}" if said else task.state


def _reason(task: "TaskView") -> str | None:
    return f"{task.error.code} {task.error.name}: {task.error.message}" if task.error else None


def _code(task: "TaskView") -> str | None:
    return f"{task.error.code} {task.error.name}" if task.error else None


def _callback(task: "TaskView") -> str:
    callback = task.callback
    if callback.miss:
        told = [callback.miss, callback.cause, f"missed {moment(callback.missed_at)}" if callback.missed_at else None]
        if callback.resent_at:
            told.append(f"asked for again {moment(callback.resent_at)}")
        return ", ".join(each for each in told if each)
    if callback.delivered_at:
        return f"came {moment(callback.delivered_at)}"
    return "no callback yet" if callback.sent else "no callback URL was sent; RunningHub is asked"


def _cost(usage: Mapping[str, object]) -> str:
    """What a task cost, in money, coins and seconds, as far as the provider says."""
    money = [usage.get("consumeMoney"), usage.get("thirdPartyConsumeMoney")]
    parts = [f"money {amount}" for amount in money if amount]
    parts += [f"coins {usage['consumeCoins']}"] if usage.get("consumeCoins") else []
    parts += [f"{usage['taskCostTime']} s"] if usage.get("taskCostTime") not in (None, "", "0") else []
    return ", ".join(parts)


def _children(usage: Mapping[str, object]) -> list[tuple[str, str]]:
    """The tasks a task was made of, by RunningHub's ids, and what each cost."""
    listed = usage.get("children")
    return [(str(each.get("task_id")), _cost(each)) for each in (listed if isinstance(listed, list) else [])]
