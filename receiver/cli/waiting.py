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


Tell = Callable[[int, int | None], None]
"""Is told how much is through, and of how much where that is known."""


@contextmanager
def byte_bar(text: str) -> Iterator[Tell]:
    """A bar for bytes."""
    with _bar(text, "DownloadColumn", "TransferSpeedColumn") as tell:
        yield tell


@contextmanager
def count_bar(text: str) -> Iterator[Tell]:
    """A bar for things."""
    with _bar(text, "MofNCompleteColumn", "TimeRemainingColumn") as tell:
        yield tell


@contextmanager
def _bar(text: str, *figures: str) -> Iterator[Tell]:
    """A bar with columns of rich.progress, which is imported only where it can be seen."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich import progress as parts
    from rich.console import Console

    named = (getattr(parts, name)() for name in figures)
    columns = (parts.TextColumn("{task.description}", markup=False), parts.BarColumn(), *named)
    with parts.Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        line = progress.add_task(clean(text), total=None)
        yield lambda done, total: progress.update(line, completed=done, total=total)


def _line_per_change() -> Callable[[str], None]:
    told: list[str] = []

    def tell(text: str) -> None:
        if told[-1:] != [text]:
            told[:] = [text]
            click.echo(clean(text), err=True)

    return tell
