"""Progress on standard error while something takes its time: a living line on a terminal, else a line per change."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import TYPE_CHECKING

import click

from receiver.cli.show import clean

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

Tell = Callable[[int, int | None], None]
"""Is told how much is through, and of how much where that is known."""


@contextmanager
def spinner(text: str) -> Iterator[Callable[[str], None]]:
    """A line that shows what is waited for and how long; what it yields changes the text."""
    if not sys.stderr.isatty():
        yield _line_per_change()
        return
    with _living_line(text, "SpinnerColumn", "", "TimeElapsedColumn") as update:
        yield lambda text: update(description=clean(text))


def byte_bar(text: str) -> AbstractContextManager[Tell]:
    """A bar for bytes."""
    return _bar(text, "DownloadColumn", "TransferSpeedColumn")


def count_bar(text: str) -> AbstractContextManager[Tell]:
    """A bar for things."""
    return _bar(text, "MofNCompleteColumn", "TimeRemainingColumn")


@contextmanager
def _bar(text: str, *figures: str) -> Iterator[Tell]:
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    with _living_line(text, "", "BarColumn", *figures) as update:
        yield lambda done, total: update(completed=done, total=total)


@contextmanager
def _living_line(text: str, *columns: str) -> Iterator[Callable[..., None]]:
    """A line of these columns of rich.progress, "" being the text; rich is imported only where it can be seen."""
    from rich import progress as parts
    from rich.console import Console

    def column(name: str) -> "ProgressColumn":
        made: ProgressColumn = getattr(parts, name)() if name else parts.TextColumn("{task.description}", markup=False)
        return made

    with parts.Progress(*map(column, columns), console=Console(stderr=True), transient=True) as progress:
        yield partial(progress.update, progress.add_task(clean(text), total=None))


def _line_per_change() -> Callable[[str], None]:
    told = ""

    def tell(text: str) -> None:
        nonlocal told
        if told != text:
            told = text
            click.echo(clean(text), err=True)

    return tell
