"""The two forms that most commands have: a list, and one request about one task, action, replay or the like."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import wraps
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

import click

from receiver.cli import options
from receiver.cli.connect import connect
from receiver.cli.guesses import Guessed
from receiver.cli.show import Row, answer, document_of, note, room, table

if TYPE_CHECKING:
    from receiver.client import Client, Listed

I = TypeVar("I", int, str)  # noqa: E741
T = TypeVar("T")


def listing(
    page: "Callable[[Client], Callable[..., Listed[T]]]",
    filters: Sequence[str],
    headers: Sequence[str],
    below: "Callable[[Listed[T]], None]" = lambda page: None,
    watch: "Callable[..., None] | None" = None,
) -> Callable[[Callable[[T], Row]], Callable[..., None]]:
    """Turns a function that makes an item's row into the function of a list command.

    The function's name is what is listed, its docstring the help. `page` gives the client's method for the list,
    `filters` are the names of its filters in options.FILTERS, and `below` prints what stands below the table. With
    `watch` there is --follow, with which that prints what changes.
    """

    def decorate(row: Callable[[T], Row]) -> Callable[..., None]:
        def print_page(first: "Listed[T]", pages: "Iterable[Listed[T]]", wide: bool) -> None:
            if first.items:
                rows = (_shortened(row(item), page, wide) for page in pages for item in page.items)
                table(headers, rows, width=room(wide=wide))
            else:
                note(f"no {row.__name__}")
            below(first)
            if first.next:
                note("there are more: --all, or a larger --limit")

        @options.json_option
        @options.filters(*filters)
        @options.limit_option
        @options.all_option
        @options.wide_option
        @options.follow_option(there=watch is not None)
        @wraps(row)
        def command(everything: bool, wide: bool, as_json: bool, follow: bool = False, **given: object) -> None:
            if follow and (everything or given.get("q")):
                raise click.UsageError("--follow goes without --all and --q: narrow it by the other filters")
            if not options.is_for_subcommand():
                with connect() as client:
                    if follow and watch is not None:
                        watch(client, given, wide=wide, as_json=as_json)
                        return
                    first, pages = _found(page(client), everything, given)
                    if as_json:
                        document_of(first, (item for each in pages for item in each.items))
                    else:
                        print_page(first, pages, wide)

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


def _shortened(row: Row, page: "Listed[Any]", wide: bool) -> Row:
    """The row with the beginnings of ids that are enough to name a task."""
    return row if wide else [page.short.get(cell, cell) if isinstance(cell, str) else cell for cell in row]


def _found(
    page: "Callable[..., Listed[T]]", everything: bool, given: dict[str, Any]
) -> "tuple[Listed[T], Iterable[Listed[T]]]":
    """The page of a list that the options ask for, as the first of the pages; with `everything` the others follow.

    It is then told as one that is the whole list, without the beginnings of ids that other pages would have to add.
    """
    from msgspec.structs import replace

    narrow = {**given, "limit": options.PAGE_OF_ALL} if everything else given
    found = page(**narrow)
    if not everything or found.next is None:
        return found, [found]
    return replace(found, next=None, short={}), chain([found], _rest(page, narrow, found.next))


def _rest(page: "Callable[..., Listed[T]]", narrow: dict[str, Any], cursor: str | None) -> "Iterator[Listed[T]]":
    while cursor is not None:
        found = page(**{**narrow, "cursor": cursor})
        yield found
        cursor = found.next


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
