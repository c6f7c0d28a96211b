"""What every measurement is handed and hands back, and how it becomes known to the command."""

from collections.abc import Callable, Coroutine
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

Row = tuple[str, str, str]
"""Of the printed table: what, the figure, and its ratio or a remark."""


class Scale(StrEnum):
    FULL = "full"
    QUICK = "quick"
    LEAST = "least"
    """Shows that everything runs; the figures mean nothing."""

    def pick(self, full: int, quick: int, least: int) -> int:
        return {Scale.FULL: full, Scale.QUICK: quick, Scale.LEAST: least}[self]


class Run(NamedTuple):
    """One run of the command. `size` is what the measurement's option says, `directory` is the run's own."""

    size: int
    scale: Scale
    directory: Path


class Result(NamedTuple):
    figures: dict[str, Any]
    rows: list[Row]


Work = Callable[[Run], Coroutine[Any, Any, Result]]


class Measurement(NamedTuple):
    name: str
    about: str
    option: str
    sizes: tuple[int, int, int]
    """Of the option, when it is not given: for each scale."""
    whole: bool
    """Whether it is part of a run without a name."""
    work: Work

    @property
    def module(self) -> str:
        return self.work.__module__


MEASUREMENTS: dict[str, Measurement] = {}


def measurement(about: str, *, whole: bool = False, **option: tuple[int, int, int]) -> Callable[[Work], Work]:
    """Makes a function a measurement of its own name, which is measured at one size: `rows=(full, quick, least)`."""
    ((name, sizes),) = option.items()

    def known(work: Work) -> Work:
        called = work.__name__
        MEASUREMENTS[called] = Measurement(called, about, name, sizes, whole, work)
        return work

    return known
