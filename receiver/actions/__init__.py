"""What every kind of action has in common: the work it is given, what it gives back, and how it fails."""

from collections.abc import Awaitable, Callable
from dataclasses import KW_ONLY, dataclass, field
from typing import TypeAlias

from msgspec import Struct

from receiver.model.definitions import Definition, FailureClass
from receiver.model.errors import Failed
from receiver.model.records import JsonObject, Result, SavedFile


async def _unnoted(process: str) -> None:
    """Nobody but us has to know the program."""


class Work(Struct, frozen=True, kw_only=True):
    """One attempt at one action: what was configured, the event document that the action receives, its results.

    `note_process` writes down the program that it runs, should nobody be left to end it.
    """

    definition: Definition
    body: JsonObject
    results: list[Result]
    task_id: str
    key: str
    attempt: int
    note_process: Callable[[str], Awaitable[None]] = _unnoted


class Done(Struct, frozen=True, kw_only=True):
    """An attempt that worked. `detail` is kept with the attempt; `files` become the task's saved files."""

    detail: JsonObject
    files: tuple[SavedFile, ...] = ()


@dataclass(eq=False, repr=False)
class ActionFailed(Failed):
    """An attempt that did not work.

    `reason` is one redacted sentence, `permanent` ends the action, `retry_after` (seconds) is the earliest next
    attempt, `expired` says that the result link is dead, `category` what it says about the target. What was not
    `begun` is no attempt. `detail` is kept with the attempt, with reason and category beside it.
    """

    reason: str
    _: KW_ONLY
    permanent: bool = False
    retry_after: float | None = None
    expired: bool = False
    category: FailureClass = FailureClass.FAILED
    begun: bool = True
    detail: JsonObject = field(default_factory=dict)

    def __str__(self) -> str:
        return self.reason


def quoted(text: str) -> str:
    """The beginning of a configured text, as it may stand in a reason."""
    return ascii(text[:120])


def cause(error: Exception) -> str:
    """What an error says, without the path that an OSError tells of."""
    return (error.strerror if isinstance(error, OSError) else str(error)) or type(error).__name__


def readable(data: bytes) -> str:
    """Bytes that somebody else made, as a text that can be kept."""
    return data.decode(errors="replace").replace("\x00", "")


def left_behind(error: BaseException) -> list[str]:
    """What a performer noted while it was being cancelled, found on the cancellation or the TimeoutError it became."""
    notes: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        notes += getattr(cause, "__notes__", [])
        cause = cause.__cause__
    return notes


Performer: TypeAlias = Callable[[Work], Awaitable[Done]]
