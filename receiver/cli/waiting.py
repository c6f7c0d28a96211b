"""Progress on standard error, while something takes its time: a living line on a terminal, else a line per change."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from receiver.cli.show import clean


@contextmanager
def spinner(text: str) -> Iterator[Callable[[str], None]]:
    """A line that shows what is waited for and how long; what it yields changes the text."""
    if not sys.stderr.isatty():
        yield _line_per_change()
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        line = progress.add_task(clean(text), total=None)
        yield lambda text: progress.update(line, description=clean(text))


@contextmanager
def byte_bar(text: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar for bytes; what it yields is told how many there are so far, and of how many if that is known."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        line = progress.add_task(clean(text), total=None)
        yield lambda done, total: progress.update(line, completed=done, total=total)


@contextmanager
def count_bar(text: str) -> Iterator[Callable[[int, int], None]]:
    """A bar for things; what it yields is told how many are through, and of how many."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        line = progress.add_task(clean(text), total=None)
        yield lambda done, total: progress.update(line, completed=done, total=total)


def _line_per_change() -> Callable[[str], None]:
    told: list[str] = []

    def tell(text: str) -> None:
        if told[-1:] != [text]:
            told[:] = [text]
            click.echo(clean(text), err=True)

    return tell
