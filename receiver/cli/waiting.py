"""Progress on standard error while something takes its time: a live line on a terminal, else a line per change."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import click

from receiver.cli.show import clean


@contextmanager
def spinner(text: str) -> Iterator[Callable[[str], None]]:
    """A line that says what is waited for and how long; call what it yields to change the text."""
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
def _bar(figures: tuple[str, str], text: str) -> Iterator[Callable[[int, int | None], None]]:
    """A progress bar; call what it yields with how much is done, and of how much if that is known.

    `figures` are columns of rich.progress, which is imported only where it can be seen.
    """
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


byte_bar = partial(_bar, ("DownloadColumn", "TransferSpeedColumn"))
count_bar = partial(_bar, ("MofNCompleteColumn", "TimeRemainingColumn"))


def _line_per_change() -> Callable[[str], None]:
    printed = ""

    def tell(text: str) -> None:
        nonlocal printed
        if printed != text:
            printed = text
            click.echo(clean(text), err=True)

    return tell
