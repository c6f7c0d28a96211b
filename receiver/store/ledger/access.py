"""How verbs become methods of the store, how rows become records, and how records become columns."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterable, Sequence
from enum import Enum
from functools import cache, wraps
from types import UnionType
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct

from receiver.model.deeds import ACTING, DONE, Deed
from receiver.model.errors import Refused
from receiver.model.records import JsonObject
from receiver.store.ledger.transaction import Row, Transaction

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741
S = TypeVar("S", bound=Struct)
P = ParamSpec("P")

Method = Callable[Concatenate["Access", P], Coroutine[Any, Any, T]]


class Access(ABC):
    """What a store gives its verbs: a transaction to write in, and one to read in."""

    @abstractmethod
    async def write(self, work: Callable[[Transaction], T]) -> T:
        """What `work` returns, after its commit is on disk. It may run twice, each time in a fresh transaction."""

    @abstractmethod
    async def write_together(self, verb: Callable[[Transaction, Sequence[I]], Sequence[T]], item: I) -> T:
        """The same for one item of a verb that is given all items that wait at once."""

    @abstractmethod
    async def read(self, work: Callable[[Transaction], T]) -> T:
        """What `work` returns of one moment."""

    @abstractmethod
    def refuse_without_room(self) -> None:
        """Raises StoreUnavailable when the disk is below its floor."""


def writes(verb: Callable[Concatenate[Transaction, P], T]) -> Method[P, T]:
    """A verb as a method of the store, in a transaction of its own."""

    @wraps(verb)
    async def method(store: Access, /, *args: P.args, **kwargs: P.kwargs) -> T:
        deed = ACTING.get()
        if deed is None or deed.row is not None:
            return await store.write(lambda tx: verb(tx, *args, **kwargs))
        done, deed.row = await store.write(lambda tx: (verb(tx, *args, **kwargs), _write_down(tx, deed)))
        return done

    return method


def _write_down(tx: Transaction, deed: Deed) -> int:
    """A deed stands in the transaction of the first change that comes of it."""
    row = tx.one(
        """
        insert into audit (at, door, session, verb, object, filter, count, result) values (?, ?, ?, ?, ?, ?, ?, ?)
        returning id
        """,
        *(deed.at, deed.door, deed.session, deed.verb, deed.object, encode(deed.filter), deed.count, DONE),
    )
    return int(row["id"])


def admits(verb: Callable[Concatenate[Transaction, P], T]) -> Method[P, T]:
    """The same for what comes from outside: refused when the disk is below its floor, so that our own work goes on."""
    method = writes(verb)

    @wraps(verb)
    async def guarded(store: Access, /, *args: P.args, **kwargs: P.kwargs) -> T:
        store.refuse_without_room()
        return await method(store, *args, **kwargs)

    return guarded


def admits_together(
    verb: Callable[[Transaction, Sequence[I]], Sequence[T]],
) -> Callable[["Access", I], Coroutine[Any, Any, T]]:
    """The same for a verb that is written for many items: one statement serves all that wait."""

    @wraps(verb)
    async def method(store: Access, item: I) -> T:
        store.refuse_without_room()
        return await store.write_together(verb, item)

    return method


def reads(verb: Callable[Concatenate[Transaction, P], T]) -> Method[P, T]:
    """A verb as a method of the store, which only reads."""

    @wraps(verb)
    async def method(store: Access, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await store.read(lambda tx: verb(tx, *args, **kwargs))

    return method


# ---------------------------------------------------------------- rows and records


def encode(value: object) -> str:
    """Any record or JSON value as text for a column."""
    return msgspec.json.encode(value).decode()


def encode_some(value: object) -> str | None:
    """The same, and null for what is not there."""
    return None if value is None else encode(value)


def decode(text: str) -> JsonObject:
    """A JSON object out of a column."""
    value: JsonObject = msgspec.json.decode(text)
    return value


class _Plan(NamedTuple):
    """How the columns of a row become the fields of a record: as they are, or read. Those with defaults may be null."""

    plain: tuple[str, ...]
    read: tuple[tuple[str, Callable[[Any], Any]], ...]
    defaults: tuple[tuple[str, Callable[[Any], Any]], ...]


def record(kind: type[S], row: Row, /, **given: object) -> S:
    """A row as a record: a column for each field that is not `given`, JSON where the field is no plain value.

    A null gives way to the field's default, where it has one. Raises Refused for what another version wrote.
    """
    plan = _plan(kind, tuple(given))
    name = ""
    try:
        for name in plan.plain:
            given[name] = row[name]
        for name, read in plan.read:
            value = row[name]
            given[name] = None if value is None else read(value)
        for name, read in plan.defaults:
            if (value := row[name]) is not None:
                given[name] = read(value)
    except (ValueError, TypeError, RecursionError, msgspec.MsgspecError) as problem:
        if not isinstance(row, Leniently):
            raise Refused(409, "unreadable", f"{name} of its row cannot be read: {problem}") from problem
        return record(kind, row, **{**given, name: row.in_place_of(name, get_type_hints(kind)[name])})
    return kind(**given)


class Leniently:
    """A row of which a list shows what can be read, and something in the place of what cannot."""

    def __init__(self, row: Row) -> None:
        self._row = row
        self.unread: list[str] = []

    def __getitem__(self, column: str) -> Any:
        return self._row[column]

    def in_place_of(self, column: str, hint: Any) -> Any:
        """The word itself where an unknown word stands, and nothing where a document does."""
        self.unread.append(column)
        if isinstance(hint, type) and issubclass(hint, Enum):
            return self._row[column]
        kind = get_origin(hint)
        return kind() if kind in (dict, list, tuple) else None


@cache
def _plan(kind: type[Struct], given: tuple[str, ...]) -> _Plan:
    hints = get_type_hints(kind)
    readers = {name: _reader(hints[name]) for name in kind.__struct_fields__ if name not in given}
    optional = {field.name for field in msgspec.structs.fields(kind) if not field.required}
    return _Plan(
        tuple(name for name, read in readers.items() if read is None and name not in optional),
        tuple((name, read) for name, read in readers.items() if read is not None and name not in optional),
        tuple((name, read or _as_it_is) for name, read in readers.items() if name in optional),
    )


def _as_it_is(value: T) -> T:
    return value


def _reader(hint: Any) -> Callable[[Any], Any] | None:
    """How a column becomes a value of that type; None when it is one already."""
    if isinstance(hint, UnionType):
        (hint,) = [each for each in get_args(hint) if each is not type(None)]
    if hint is bool or (isinstance(hint, type) and issubclass(hint, Enum)):
        return hint
    if hint in (str, int, float):
        return None
    if get_origin(hint) is dict and get_args(hint)[1] is not str:
        return decode
    return msgspec.json.Decoder(hint).decode


# ---------------------------------------------------------------- fragments of SQL


def marks(values: Iterable[object]) -> str:
    """As many question marks as values for an `in (…)`; null, which nothing equals, for none."""
    return ", ".join("?" for _ in values) or "null"


def count_up(tx: Transaction, name: str, by: int = 1) -> None:
    tx.change(
        "insert into counters (name, value) values (?, ?)"
        " on conflict (name) do update set value = counters.value + excluded.value",
        name,
        by,
    )


def keep_fact(tx: Transaction, name: str, value: float) -> None:
    """Writes down a single number that the ledger as a whole goes by."""
    tx.change(
        "insert into facts (name, value) values (?, ?) on conflict (name) do update set value = excluded.value",
        name,
        value,
    )


def fact(tx: Transaction, name: str) -> float | None:
    value: float | None = tx.value("select value from facts where name = ?", name)
    return value


class Conditions:
    """Collects `where` conditions with their bound values."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.values: list[object] = []

    def add(self, text: str, *values: object) -> None:
        self.texts.append(text)
        self.values.extend(values)

    def among(self, column: str, values: Sequence[str]) -> None:
        if values:
            self.add(f"{column} in ({marks(values)})", *values)

    def between(self, column: str, since: float | None, until: float | None) -> None:
        if since is not None:
            self.add(f"{column} >= ?", since)
        if until is not None:
            self.add(f"{column} < ?", until)

    @property
    def where(self) -> str:
        return f"where {' and '.join(self.texts)}" if self.texts else ""
