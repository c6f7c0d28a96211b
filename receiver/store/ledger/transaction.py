"""What the ledger's verbs speak SQL through: one transaction of one engine. Question marks stand for bound values."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from msgspec import Struct

from receiver.model.entries import Change
from receiver.model.records import Line

S = TypeVar("S", bound=Struct)


class Row(Protocol):
    """A row, read by the names of its columns."""

    def __getitem__(self, column: str) -> Any: ...


class Transaction(ABC):
    """One transaction, or a read-only view of one moment. Nothing in it is visible before its commit.

    Engines implement the statements and the few fragments of SQL in which they differ. Errors are the engine's own.
    """

    def __init__(self) -> None:
        self.changes: list[Change] = []
        """What `changed` was told, in its order; told to others only when the commit is on disk."""

    @abstractmethod
    def all(self, sql: str, *values: object) -> list[Any]:
        """The rows of a statement, each a `Row`."""

    @abstractmethod
    def change(self, sql: str, *values: object) -> int:
        """Runs a statement; returns how many rows it wrote."""

    @abstractmethod
    def one(self, sql: str, *values: object) -> Any:
        """The first row of a statement as a `Row`; None when there is none."""

    @abstractmethod
    def lock(self, name: str) -> None:
        """Nobody else is past this line with the same name before this transaction ends."""

    @abstractmethod
    def each_text(self, column: str) -> str:
        """A query for the texts in a JSON array, one a row."""

    @abstractmethod
    def each_row(self, *columns: str) -> str:
        """A query for the rows of a bound JSON array of arrays: columns (each `name type`), and the row's `number`."""

    @abstractmethod
    def records(self, kind: type[S], sql: str, *values: object) -> list[S]:
        """The rows of a query, which has a column for each field of `kind`, read in one step. No blobs."""

    @abstractmethod
    def new_ids(self, table: str, count: int) -> Sequence[int]:
        """Ids that no row of a table has or had, in ascending order."""

    def value(self, sql: str, *values: object) -> Any:
        """What the statement selects as `value`; None when there is no row."""
        row = self.one(sql, *values)
        return row["value"] if row is not None else None

    def is_there(self, sql: str, *values: object) -> bool:
        """Whether the statement gives any row."""
        return self.one(sql, *values) is not None

    def changed(self, kind: str, id: object, state: str, told: Line | None = None, *, task: str | None = None) -> None:
        """Tells, after the commit, that a row came to a state; `id` is the public one, `told` what the log says of it.

        Without `told` it is no outcome: the log does not speak of it. `task` is the id of the task it is about.
        """
        self.changes.append(Change(kind, str(id), str(state), told, task))
