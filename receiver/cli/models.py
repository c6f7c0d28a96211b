"""The catalogue of models, which needs no server, and the account behind the server's key."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from receiver.cli.connect import connect
from receiver.cli.options import json_option, wide_option
from receiver.cli.outcome import NOT_FOUND, Ended
from receiver.cli.show import aligned, answer, clean, document, fields, json_text, note, room, submit_line, table

if TYPE_CHECKING:
    from receiver.model.views import AccountView
    from receiver.runninghub.catalogue import Found


@click.command()
@click.argument("pattern", default="")
@wide_option
@json_option
def models(pattern: str, wide: bool, as_json: bool) -> None:
    """List the models, or show one: its parameters, and a command line that runs it.

    PATTERN is a model's name or endpoint, or a part of a name, endpoint, group or output. * and ? are wildcards.

    \b
    Examples:
      receiver models image-to-video
      receiver models 'kling*pro*'
      receiver models google/veo3.1-pro/reference-to-video-official-stable
    """
    from receiver.runninghub import catalogue

    try:
        _show_model(catalogue.find(pattern), as_json)
        return
    except catalogue.UnknownModel as unknown:
        if not (found := catalogue.search(pattern)):
            lines = ["receiver models lists all of them, receiver models WORD those that have a word in their names"]
            raise Ended(unknown.message, NOT_FOUND, lines) from unknown
    if as_json:
        from receiver.model.shown import shown
        from receiver.model.views import ModelRow, PageView

        document(PageView(items=[shown(ModelRow, model) for model in found], next=None))
        return
    rows = [(model.endpoint, model.output, "yes" if model.listed else "no", model.name) for model in found]
    _list([("endpoint", "makes", "documented", "name"), *rows], room(wide=wide))
    note(f"{len(found)} models")


def _list(rows: list[tuple[str, str, str, str]], width: int | None) -> None:
    """Prints the models. Their names begin alike: what is left of them in a narrow terminal would say nothing."""
    fits = width is None or max(map(len, aligned(rows))) <= width
    head, *others = rows if fits else [row[:3] for row in rows]
    table(head, others, width=width)
    if not fits:
        note("their names are left out for want of width; --wide has them")


def _show_model(found: "Found", as_json: bool) -> None:
    from receiver.runninghub.catalogue import example
    from receiver.runninghub.shown import model_view

    model = model_view(found)
    if as_json:
        document(model)
        return
    if model.note:
        note(model.note)
    fields(("name", model.name), ("endpoint", model.endpoint), ("makes", model.output))
    click.echo()
    rows = [
        (p.name, p.type, "required" * p.required, "" if p.default is None else json_text(p.default), p.allowed)
        for p in model.params
    ]
    table(["parameter", "type", "", "usual", "allowed"], rows)
    for param in model.params:
        if param.choices and param.allowed != (choices := f"one of {', '.join(param.choices)}"):
            click.echo("\n" + clean(f"{param.name} is {choices}"))
    click.echo()
    click.echo(order_of(model.endpoint, example(found.model)))


def order_of(endpoint: str, input: Mapping[str, object]) -> str:
    """A command line that runs the model with this input, ready to be copied."""
    return submit_line(endpoint, *(f"{name}={json_text(value)}" for name, value in input.items()))


@click.command()
@json_option
def account(as_json: bool) -> None:
    """Show the balance at RunningHub, how many tasks run, and how many may run at once.

    \b
    Example:
      receiver account
    """
    with connect() as client:
        answer(client.account(), as_json, _print_account)


def _print_account(found: "AccountView") -> None:
    money = f"{found.money} {found.currency or ''}".strip() if found.money is not None else None
    queue = [("at once", found.queue.limit), ("in RunningHub's queue", found.queue.queued)] if found.queue else []
    fields(("coins", found.coins), ("money", money), ("running tasks", found.tasks), ("key", found.type), *queue)
