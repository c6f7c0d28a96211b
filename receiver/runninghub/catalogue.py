"""What RunningHub's models are called and what they take: our own data file, finding a model in it, reading values.

The data file holds every distinct parameter once and every model on one line. `scripts/catalogue` makes it out of
facts: one JSON object a line, with the fields of `Model`. Whether an input suits a model is judged in `validation`.
"""

import math
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import cache
from pkgutil import get_data
from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct

from receiver.model.errors import Refused
from receiver.model.records import Json, JsonObject

PACKAGE, DATA = "receiver.runninghub", "catalogue.json"
PREFIX = "openapi/v2/"
NEAREST = 5
"""How many names an unknown name is answered with at the most."""
WORD = re.compile(r"[a-z]{3,}(?:-[a-z]+)*")
"""A word of an endpoint: veo, nano-banana."""
LIKENESS = 0.6
"""From here on two texts may be one and its misspelling (0 nothing in common, 1 the same)."""
LONGEST = 200
"""Characters of a text that are compared: a stranger's text has any length, and comparing is slow."""
WORDS = {"true": True, "yes": True, "false": False, "no": False}
WHOLE = re.compile(r"[+-]?[0-9]{1,19}")
FILES_APART = re.compile(r",(?=https?://|data:|@|upload:|asset://)", re.IGNORECASE)
"""The comma between two files of a list; links and data URIs have commas of their own."""
ENDINGS = {"image": "png", "video": "mp4", "audio": "mp3"}
SENTENCE = "A paper boat drifts down a quiet river at dawn. "


class Type(StrEnum):
    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    OBJECT = "object"
    STRINGS = "array<string>"
    OBJECTS = "array<object>"


ITEMS = {Type.STRINGS: Type.STRING, Type.OBJECTS: Type.OBJECT}


class Param(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A parameter of a model. Some pages of the provider call it `alias` and its values `enum_codes`, others `name` and
    `enum`; it is not documented that either is wrong, so both count."""

    name: str
    type: Type
    required: bool = False
    alias: str | None = None
    default: str | bool | int | float | tuple[str, ...] | None = None
    enum: tuple[str, ...] = ()
    enum_codes: tuple[str, ...] = ()
    ignore_case: bool = False
    min: int | float | None = None
    max: int | float | None = None
    step: int | float | None = None
    min_length: int | None = None
    max_length: int | None = None
    min_items: int | None = None
    max_items: int | None = None
    media: Literal["image", "video", "audio"] | None = None
    accept: tuple[str, ...] = ()
    max_size_mb: int | float | None = None


class Model(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A model. `endpoint` is without the part that all share; `listed` models are documented, the others are newer.
    `alt_endpoints` lead to the same model; of `later_params` only the names are known."""

    endpoint: str
    name: str
    group: tuple[str, ...]
    output: str
    listed: bool
    alt_endpoints: tuple[str, ...] = ()
    later_params: tuple[str, ...] = ()
    params: tuple[Param, ...] = ()


class Found(Struct, frozen=True, kw_only=True):
    """The model behind a name, and what the asker should know of that name (None: nothing)."""

    model: Model
    note: str | None = None


class UnknownModel(Refused):
    """No model has this name. `nearest` are names that look like it, best first."""

    def __init__(self, name: str, nearest: Sequence[str]) -> None:
        hint = f"; the nearest are {', '.join(nearest)}" if nearest else ""
        super().__init__(404, "unknown_model", f"there is no model {name}{hint}", {"nearest": list(nearest)})
        self.nearest = tuple(nearest)


def find(name: str) -> Found:
    """The model with this endpoint or name; letters may be large or small. Raises UnknownModel."""
    asked = bare(name.strip())
    found = _known(asked)
    if found is None:
        raise UnknownModel(asked[:LONGEST], _nearest(asked))
    return found


def endpoint_of(name: str) -> str:
    """The endpoint under which `find` orders by this name; a text that names no model stays as it is."""
    found = _known(bare(name.strip()))
    return name if found is None else found.model.endpoint


def _known(asked: str) -> Found | None:
    endpoints, names, others = _tables()
    for key in (asked, asked.casefold()):
        if key in endpoints:
            return Found(model=endpoints[key][0])
        if key in names:
            return _named(asked, names[key])
        if key in others:
            model = others[key][0]
            return Found(model=model, note=f"{asked} is another endpoint of {model.name}: took {model.endpoint}")
    return None


def _named(name: str, found: tuple[Model, ...]) -> Found:
    first, *others = of_record(found)
    if not others:
        return Found(model=first)
    also = " and ".join(model.endpoint for model in others)
    return Found(model=first, note=f"{name} is the name of {len(found)} models: took {first.endpoint}, not {also}")


def of_record(found: Iterable[Model]) -> list[Model]:
    """Models of one name, first the one that is meant: documented, not withdrawn, and then by endpoint."""
    return sorted(found, key=lambda each: (not each.listed, "deprecated" in each.endpoint.casefold(), each.endpoint))


def search(pattern: str) -> list[Model]:
    """The models with the pattern in name, endpoint, group or output; with * or ? it must fit one of these whole."""
    wanted = pattern.strip().casefold().replace("[", "[[]")  # some endpoints have brackets in them
    if not set("*?") & set(wanted):
        wanted = f"*{wanted}*"
    texts = ((model, (model.name, model.endpoint, *model.group, model.output)) for model in models())
    return [model for model, known in texts if any(fnmatchcase(text.casefold(), wanted) for text in known)]


def parameter(model: Model, name: str) -> Param | None:
    """The model's parameter of this name or alias."""
    return next((param for param in model.params if name in (param.name, param.alias)), None)


def closest(text: str, candidates: Iterable[str]) -> list[str]:
    """The candidates that may be meant by a misspelt text, best first."""
    forms = {candidate.casefold(): candidate for candidate in candidates}
    near = get_close_matches(text[:LONGEST].casefold(), forms, n=NEAREST, cutoff=LIKENESS)
    return [forms[form] for form in near]


def _nearest(name: str) -> list[str]:
    every = sorted(sorted({text for model in models() for text in (model.name, model.endpoint)}), key=len)
    holding = [text for text in every if len(name) > 2 and name.casefold() in text.casefold()]
    near = [*closest(name, every), *holding] or [text for word in _near_words(name) for text in every if word in text]
    return list(dict.fromkeys(near))[:NEAREST]


def _near_words(name: str) -> list[str]:
    """The words of endpoints and names that a name, or what it is made of but for numbers, may be a misspelling of."""
    words = sorted({word for model in models() for word in WORD.findall(f"{model.endpoint} {model.name}".casefold())})
    whole = {word.replace("-", ""): word for word in words}
    asked = [*WORD.findall(name.casefold()), name.casefold()]
    found = (closest(text.replace("-", ""), whole) for text in asked if len(text) > 2)
    return [whole[word] for near in found for word in near]


_Table: TypeAlias = dict[str, tuple[Model, ...]]


@cache
def _tables() -> tuple[_Table, _Table, _Table]:
    """Models by endpoint, by name and by other endpoint; every key also in small letters."""
    tables: tuple[_Table, _Table, _Table] = ({}, {}, {})
    for model in models():
        for table, keys in zip(tables, ((model.endpoint,), (model.name,), model.alt_endpoints), strict=True):
            for form in {form for key in keys for form in (key, key.casefold())}:
                table[form] = (*table.get(form, ()), model)
    return tables


def bare(endpoint: str) -> str:
    """An endpoint without slashes around it and without the part that all of them share."""
    return endpoint.strip("/").removeprefix(PREFIX)


class _File(Struct, frozen=True):
    """A model's row is the model's fields, with places in `params` for its parameters."""

    params: tuple[Param, ...]
    models: tuple[tuple[str, str, tuple[str, ...], str, bool, tuple[str, ...], tuple[str, ...], tuple[int, ...]], ...]


@cache
def models() -> tuple[Model, ...]:
    """Every model, by endpoint. The file is read once."""
    return unpack(get_data(PACKAGE, DATA) or b"")


def unpack(data: bytes) -> tuple[Model, ...]:
    """The models in a data file."""
    file = msgspec.json.decode(data, type=_File)
    return tuple(Model(*row[:7], tuple(file.params[place] for place in row[7])) for row in file.models)


def coerce(model: Model, name: str, text: str | Sequence[str]) -> Json:
    """What `name=text` on a command line means; several texts when the name was repeated, which makes a list.

    A text that cannot be what the parameter takes stays a text, for `validate` to complain about. Without a known
    parameter JSON is JSON, and all else is text.
    """
    param = parameter(model, name)
    if not isinstance(text, str):
        each = msgspec.structs.replace(param, type=ITEMS.get(param.type, param.type)) if param else None
        return [_decoded(one, one) if each is None else read(each, one) for one in text]
    return _decoded(text, text) if param is None else read(param, text)


def read(param: Param, text: str) -> Json:
    """What a text means for a parameter; the text itself when it means nothing."""
    match param.type:
        case Type.BOOLEAN:
            return WORDS.get(text.strip().casefold(), text)
        case Type.INTEGER | Type.NUMBER:
            return _number(param, text)
        case Type.OBJECT:
            value = _decoded(text, None)
            return value if isinstance(value, dict) else text
        case Type.OBJECTS:
            value = _decoded(text, None)
            return [value] if isinstance(value, dict) else value if isinstance(value, list) else text
        case Type.STRINGS:
            value = _decoded(text, None) if text.lstrip().startswith("[") else None
            parts = FILES_APART.split(text) if param.media else text.split(",")
            return value if isinstance(value, list) else [part.strip() for part in parts if text.strip()]
    return text


def _number(param: Param, text: str) -> Json:
    if WHOLE.fullmatch(text.strip()):
        return int(text)
    try:
        number = float(text) if param.type is Type.NUMBER else math.nan
    except ValueError:
        return text
    return number if math.isfinite(number) else text


def _decoded(text: str, otherwise: Json) -> Json:
    try:
        value: Json = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return otherwise
    return value


def example(model: Model, *, full: bool = False) -> JsonObject:
    """A valid input made of facts alone: all that is required, and something at least; or everything."""
    required = [param for param in model.params if param.required] or model.params[:1]
    return {param.name: _sample(param) for param in (model.params if full else required)}


def _sample(param: Param) -> Json:
    if param.default is not None:
        return list(param.default) if isinstance(param.default, tuple) else param.default
    match param.type:
        case Type.STRING:
            return _sample_text(param)
        case Type.INTEGER | Type.NUMBER:
            return param.min if param.min is not None else min(1, param.max or 1)
        case Type.BOOLEAN:
            return False
        case Type.OBJECT:
            return {}
        case Type.OBJECTS:
            return [{}] * (param.min_items or 1)
        case Type.STRINGS:
            return [_sample_text(param)] * (param.min_items or 1)


def _sample_text(param: Param) -> str:
    if param.media is not None:
        return f"https://example.com/{param.media}.{(*param.accept, ENDINGS[param.media])[0].lower()}"
    if param.enum:
        return param.enum[0] or param.enum[-1]
    length = max(param.min_length or 0, min(len(SENTENCE) - 1, param.max_length or math.inf))
    return (SENTENCE * (1 + int(length) // len(SENTENCE)))[: int(length)]
