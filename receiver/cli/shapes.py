"""The two forms that most commands have: a list, and one request about one task, action, replay or the like."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from receiver.cli import options
from receiver.cli.connect import connect
from receiver.cli.guesses import Guessed
from receiver.cli.show import Row, answer, note, room, table

if TYPE_CHECKING:
    from receiver.client import Client, Listed

I = TypeVar("I", int, str)  # noqa: E741
T = TypeVar("T")


def listing(
    page: "Callable[[Client], Callable[..., Listed[T]]]",
    filters: Sequence[str],
    headers: Sequence[str],
    below: "Callable[[Listed[T]], None]" = lambda page: None,
) -> Callable[[Callable[[T], Row]], Callable[..., None]]:
    """Turns a function that makes an item's row into the function of a list command.

    The function's name is what is listed, its docstring the help. `page` gives the client's method for the list,
    `filters` are the names of its filters in options.FILTERS, and `below` prints what stands below the table.
    """

    def decorate(row: Callable[[T], Row]) -> Callable[..., None]:
        def print_page(found: "Listed[T]", wide: bool) -> None:
            if found.items:
                rows = map(row, found.items)
                table(headers, rows if wide else _shortened(rows, found.short), width=room(wide=wide))
            else:
                note(f"no {row.__name__}")
            below(found)
            if found.next:
                note("there are more: --all, or a larger --limit")

        @options.json_option
        @options.filters(*filters)
        @options.limit_option
        @options.all_option
        @options.wide_option
        @wraps(row)
        def command(everything: bool, wide: bool, as_json: bool, **given: object) -> None:
            if not options.is_for_subcommand():
                with connect() as client:
                    found = _found(page(client), everything, given)
                answer(found, as_json, lambda found: print_page(found, wide))

        return command

    return decorate


def list_group(
    page: "Callable[[Client], Callable[..., Listed[T]]]",
    filters: Sequence[str],
    headers: Sequence[str],
    below: "Callable[[Listed[T]], None]" = lambda page: None,
) -> Callable[[Callable[[T], Row]], click.Group]:
    """The same as a group of commands: it lists when it is run alone, and so does its command `list`."""

    def decorate(row: Callable[[T], Row]) -> click.Group:
        make, name = listing(page, filters, headers, below), row.__name__
        group = click.group(cls=Guessed, invoke_without_command=True)(make(row))
        help = f"The same as `receiver {name}`.\n\n\b\nExample:\n  receiver {name} list --limit 5"
        group.command("list", help=help)(make(row))
        return group

    return decorate


def _shortened(rows: Iterable[Row], short: Mapping[str, str]) -> Iterator[Row]:
    """The rows with the beginnings of ids that are enough to name a task."""
    for row in rows:
        yield [short.get(cell, cell) if isinstance(cell, str) else cell for cell in row]


def _found(page: "Callable[..., Listed[T]]", everything: bool, given: dict[str, Any]) -> "Listed[T]":
    """The page of a list that the options ask for; with `everything`, one page that holds the whole list."""
    from msgspec.structs import replace

    narrow = {**given, "limit": options.PAGE_OF_ALL} if everything else given
    found = page(**narrow)
    while everything and found.next is not None:
        more = page(**{**narrow, "cursor": found.next})
        found = replace(more, items=[*found.items, *more.items], short={**found.short, **more.short})
    return found


def about(
    kind: type[I], show: Callable[[T], None], example: str, metavar: str = "ID", group: click.Group | None = None
) -> "Callable[[Callable[[Client, I], T]], click.Command]":
    """Turns a request about one thing, given by its id, into a command, perhaps of a group; `show` prints the answer.

    `kind` is the type of the id. `example` is the example in the help, without `receiver`.
    """

    def decorate(ask: "Callable[[Client, I], T]") -> click.Command:
        @click.argument("thing", metavar=metavar, type=kind)
        @options.json_option
        @wraps(ask)
        def command(thing: I, as_json: bool) -> None:
            with connect() as client:
                answer(ask(client, thing), as_json, show)

        command.__doc__ = f"{ask.__doc__}\n\n\b\nExample:\n  receiver {example}"
        return click.command()(command) if group is None else group.command()(command)

    return decorate
