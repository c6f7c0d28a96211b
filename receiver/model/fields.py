"""How a setting is declared and read: a record's attribute, annotated with what there is to know of it. Pure.

port: Annotated[int, Setting(Condition("a port", is_port), variables=("PORT",)), "the port to listen on"] = 8000
"""

from collections.abc import Callable
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, Struct

from receiver.model.redaction import MASK

WORDS: dict[object, str] = {
    **dict.fromkeys((str, str | None), "a text"),
    **dict.fromkeys((float, float | None), "a number"),
    int: "a whole number",
    bool: "true or false",
    tuple[str, ...]: "a list",
    dict[str, str]: "a table of texts",
}
SHOWN = 80
"""Characters of a wrong value that are repeated."""


class Condition(Struct, frozen=True):
    """What a value of the right type must be besides, in words that follow "expected"."""

    expected: str
    holds: Callable[[Any], object]


class Setting(Struct, frozen=True):
    """What there is to know of a setting beside its name, type, default, and what it is for: a text after it.

    It stands in `table` of the file; the first of its `variables` that is set goes before the file. The value of a
    `secret` is never repeated. `problems` tells what is wrong inside a value, a sentence each that begins with the
    place; when `raw`, it judges the value as it was given, whatever its type.
    """

    condition: Condition | None = None
    table: str = ""
    variables: tuple[str, ...] = ()
    secret: bool = False
    problems: Callable[[Any], list[str]] | None = None
    raw: bool = False


class Field(Setting, frozen=True, kw_only=True):
    """A setting with its name, its type, its default (NODEFAULT: it must be given), and what it is for."""

    name: str
    type: Any
    default: object
    help: str

    @property
    def key(self) -> str:
        return f"{self.table}.{self.name}" if self.table else self.name

    def missing(self) -> list[str]:
        """The problem that it was not given, if that is one."""
        if self.default is not NODEFAULT:
            return []
        return [f"{self.key}: expected {self.condition.expected if self.condition else _in_words(self.type)}"]

    def read(self, given: object, *, from_text: bool = False) -> tuple[object, list[str]]:
        """The value that was given, and what is wrong with it. `from_text`: it is a variable of the environment."""
        value = _out_of_text(str(given), self.type) if from_text else given
        try:
            if not self.raw:
                value = msgspec.convert(value, self.type, strict=not from_text or self.type in (str, str | None))
        except msgspec.ValidationError as error:
            said = str(error).replace("`", "").partition(", got")[0].removeprefix("Expected ")
            return given, [self._refusal(_in_words(self.type) or said, given)]
        if self.condition is not None and not self.condition.holds(value):
            return value, [self._refusal(self.condition.expected, given)]
        return value, self.problems(value) if self.problems else []

    def _refusal(self, expected: str, given: object) -> str:
        return f"{self.key}: expected {expected}, got {MASK if self.secret else repr(given)[:SHOWN]}"


@cache
def fields_of(record: type[Struct]) -> dict[str, Field]:
    """The settings that a record is made of, by their names."""
    return {each.name: _field(each) for each in msgspec.structs.fields(record)}


def _field(info: msgspec.structs.FieldInfo) -> Field:
    wanted, *notes = get_args(info.type) if get_origin(info.type) is Annotated else (info.type,)
    setting = next((note for note in notes if isinstance(note, Setting)), Setting())
    told = next((note for note in notes if isinstance(note, str)), "")
    default = info.default if info.default_factory is NODEFAULT else info.default_factory()
    return Field(**msgspec.structs.asdict(setting), name=info.name, type=wanted, default=default, help=told)


def at_least(least: float) -> Condition:
    return Condition(f"a number of at least {least:g}", lambda value: least <= value < float("inf"))


def more_than_0(most: float = float("inf")) -> Condition:
    upper = "" if most == float("inf") else f", at most {most:.0f}"
    return Condition(f"more than 0{upper}", lambda value: 0 < value <= most)


def _out_of_text(text: str, wanted: Any) -> object:  # noqa: ANN401
    if get_origin(wanted) is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    is_word = isinstance(wanted, type) and issubclass(wanted, bool | StrEnum)
    return text.lower() if is_word else text


def _in_words(wanted: Any) -> str:  # noqa: ANN401
    """What a type is called in a message; empty when only the one who refused a value can say what was wrong."""
    of = next(iter(get_args(wanted)), wanted)
    if isinstance(of, type) and issubclass(of, StrEnum):
        return f"{'one' if of is wanted else 'a list'} of {', '.join(of)}"
    return WORDS.get(wanted, "")
