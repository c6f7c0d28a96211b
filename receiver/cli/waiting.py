"""Progress on standard error while something takes its time: a live line on a terminal, else a line per change."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import click

from receiver.cli.show import clean

if TYPE_CHECKING:
    from receiver.model.views import ActionView


@contextmanager
def live_line(text: str, columns: Sequence[str], total: int | None = None) -> Iterator[Callable[..., None] | None]:
    """A line of rich.progress with these of its columns; yields the function that updates it, None off a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich import progress as parts
    from rich.console import Console

    description = parts.TextColumn("{task.description}", markup=False)
    shown = (description if name == "TextColumn" else getattr(parts, name)() for name in columns)
    with parts.Progress(*shown, console=Console(stderr=True), transient=True) as progress:
        yield partial(progress.update, progress.add_task(clean(text), total=total))


@contextmanager
def spinner(text: str) -> Iterator[Callable[[str], None]]:
    """A line that says what is waited for and how long; call what it yields to change the text."""
    with live_line(text, ("SpinnerColumn", "TextColumn", "TimeElapsedColumn")) as update:
        yield _line_per_change() if update is None else lambda text: update(description=clean(text))


@contextmanager
def _bar(figures: tuple[str, str], text: str) -> Iterator[Callable[[int, int | None], None]]:
    """A progress bar; call what it yields with how much is done, and of how much if that is known."""
    with live_line(text, ("TextColumn", "BarColumn", *figures)) as update:
        yield lambda done, total: update(completed=done, total=total) if update is not None else None


def is_unattempted(action: "ActionView") -> bool:
    """Whether an action that can run has not been attempted once to the end."""
    untried = action.state == "owed" and action.due_at is not None and action.attempts == 0
    return untried or action.state == "running"


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
