"""The two forms that most commands have: a list, and one request about one task, action, replay or the like."""

from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

import click

from receiver.cli import options
from receiver.cli.connect import connect
from receiver.cli.show import Row, answer, document_of, note, table

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
        def print_page(found: "Listed[T]", items: Iterable[T]) -> None:
            if found.items:
                table(headers, map(row, items))
            else:
                note(f"no {row.__name__}")
            below(found)
            if found.next:
                note("there are more: --all, or a larger --limit")

        @options.json_option
        @options.filters(*filters)
        @options.limit_option
        @options.all_option
        @wraps(row)
        def command(everything: bool, as_json: bool, **given: object) -> None:
            if not options.is_for_subcommand():
                with connect() as client:
                    found, items = _found(client, page(client), everything, given)
                    (document_of if as_json else print_page)(found, items)

        return command

    return decorate


def _found(
    client: "Client", page: "Callable[..., Listed[T]]", everything: bool, given: dict[str, Any]
) -> "tuple[Listed[T], Iterable[T]]":
    """The page of a list that the options ask for, and its items; with `everything`, all as they come."""
    from msgspec.structs import replace

    narrow = {**given, "limit": options.PAGE_OF_ALL} if everything else given
    found = page(**narrow)
    if not everything or found.next is None:
        return found, found.items
    rest = client.each(page, **{**narrow, "cursor": found.next})
    return replace(found, next=None), chain(found.items, rest)


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
