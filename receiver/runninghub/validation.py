"""Whether an input suits a model, told before money is spent: every problem at once, each with what would be allowed.

Pure. A file that is still to be uploaded stands as `@path` or `upload:id`. Where facts are missing anything will do: a
parameter of which only the name is known, a model without known parameters. A required parameter is required even when
its default is known: the provider's examples send it, and whether it would be filled in is not documented.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import islice
from typing import TypeAlias

from receiver.model.records import Json
from receiver.runninghub.catalogue import Model, Param, Type, closest, parameter, read

CALLBACK = "webhookUrl"
"""Every endpoint takes it beside the model's own parameters; whoever reads the order decides who may set it."""
MOST_PROBLEMS = 50
SHOWN = 60
"""Characters of a given value that are quoted."""
CHOICES_SHOWN = 16

REFERENCES = ("@", "upload:", "asset://")
"""A file of ours and an upload of ours, which become links before anything is sent; an asset is the provider's own."""
LINK = re.compile(r"https?://[^\s/?#]+(?P<path>[^\s?#]*)\S*", re.IGNORECASE)
DATA_URI = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+)(;[\w.+-]+=[\w.+-]+)*;base64,(?=.)", re.IGNORECASE)
DATA_URI_HEAD = 300
OTHER_NAMES = {
    "jpg": "jpeg",
    "mov": "quicktime",
    "avi": "x-msvideo msvideo",
    "mp3": "mpeg",
    "wav": "wave vnd.wave",
    "m4a": "mp4",
}
"""What media types call a kind of file beside its ending (and `x-` before it)."""
ENDINGS = {
    "image": "jpg jpeg png webp bmp gif tif tiff",
    "video": "mp4 mov avi webm mkv",
    "audio": "mp3 wav m4a flac aac",
}
MEDIA = {ending: medium for medium, endings in ENDINGS.items() for ending in endings.split()}
ARTICLES = {"image": "an image", "video": "a video", "audio": "an audio file"}


Problem: TypeAlias = tuple[str, str]
"""Where in an input something is wrong, and a sentence that says all of it."""


def validate(model: Model, given: Mapping[str, Json]) -> list[Problem]:
    """Everything that is wrong with an input, in the order of the model's parameters, strangers last."""
    return list(islice(_problems(model, given), MOST_PROBLEMS))


def _problems(model: Model, given: Mapping[str, Json]) -> Iterator[Problem]:
    known = {CALLBACK, *model.later_params, *(name for param in model.params for name in (param.name, param.alias))}
    unknown = (name for name in given if model.params and name not in known)
    strangers = {name: _meant(model, name, given) for name in islice(unknown, MOST_PROBLEMS)}
    for param in model.params:
        names = [name for name in (param.name, param.alias) if name is not None and name in given]
        for name in names:
            yield from _judge(param, name, given[name])
        if len(names) > 1:
            yield names[1], f"is {param.name}, which is given too; give one of them"
        elif not names and param.required and param.name not in strangers.values():
            yield param.name, _missing(param)
    for name, meant in strangers.items():
        yield _shortened(name), _unknown_parameter(model, meant)


def _meant(model: Model, name: str, given: Mapping[str, Json]) -> str | None:
    """The parameter that a misspelt name stands for: rather one that is not given than one that is."""
    near = closest(name, [*(param.name for param in model.params), *model.later_params])
    return next((each for each in near if each not in given), near[0] if near else None)


def _unknown_parameter(model: Model, meant: str | None) -> str:
    """A name that the model does not know. It stands for the required parameter that it is a misspelling of."""
    param = parameter(model, meant) if meant else None
    required = ", which is required" if param and param.required else ""
    return f"there is no such parameter{f'; did you mean {meant}{required}?' if meant else ''}"


def _missing(param: Param) -> str:
    default: Json = list(param.default) if isinstance(param.default, tuple) else param.default
    usual = "" if default is None else f"; usual is {_in_words(default)}"
    return f"is required: {takes(param)}{usual}"


def _judge(param: Param, path: str, value: Json) -> Iterator[Problem]:
    if value is None or value == [] or (value == "" and "" not in param.enum):
        yield path, _empty(param)
        return
    match param.type:
        case Type.STRING:
            yield from _judge_text(param, path, value)
        case Type.INTEGER | Type.NUMBER:
            yield from _judge_number(param, path, value)
        case Type.STRINGS | Type.OBJECTS:
            yield from _judge_list(param, path, value)
        case Type.BOOLEAN if not isinstance(value, bool):
            yield path, _mistyped(param, value)
        case Type.OBJECT if not isinstance(value, dict):
            yield path, _mistyped(param, value)


def _judge_text(param: Param, path: str, value: Json) -> Iterator[Problem]:
    allowed = _allowed_text(param)
    if not isinstance(value, str):
        number = isinstance(value, int | float) and not isinstance(value, bool) and _is_measurable(value)
        suits = number and not any(_judge_text(param, path, str(value)))
        yield path, _expected(allowed, value, str(value) if suits else None)
    elif not value and "" not in param.enum:
        yield path, _empty(param)
    elif param.media is not None:
        if (problem := _media_problem(param, value)) is not None:
            yield path, problem
    elif param.enum:
        if not _is_choice(param, value):
            yield path, _expected(allowed, value, _nearest_choice(value, param.enum))
    elif not (param.min_length or 0) <= len(value) <= (param.max_length or math.inf):
        yield path, f"expected {allowed}, got {len(value)} characters"


def _judge_number(param: Param, path: str, value: Json) -> Iterator[Problem]:
    kinds = int if param.type is Type.INTEGER else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not _is_measurable(value):
        yield path, _mistyped(param, value)
    elif (nearest := _nearest_number(param, value)) is not None:
        yield path, _expected(takes(param), value, nearest)


def _judge_list(param: Param, path: str, value: Json) -> Iterator[Problem]:
    most = param.max_items
    if not isinstance(value, list):
        yield path, _mistyped(param, value)
        return
    if len(value) < (param.min_items or 0):
        yield path, _expected(takes(param), value)
    for place, item in enumerate(value[:most]):
        if param.type is Type.STRINGS:
            yield from _judge_text(param, f"{path}[{place}]", item)
        elif not isinstance(item, dict):
            yield f"{path}[{place}]", _expected("an object", item)
    if most is not None and len(value) > most:
        # One problem, where the list should have ended, however many items there are beyond.
        yield f"{path}[{most}]", f"expected {takes(param)}, got {len(value)} items"


def _media_problem(param: Param, value: str) -> str | None:
    allowed = _allowed_text(param)
    if any(value.startswith(sign) and value != sign for sign in REFERENCES):
        return None
    if data := DATA_URI.match(value[:DATA_URI_HEAD]):
        if not accepts(param, data["type"]):
            return f"expected {allowed}, got {data['type']}"
        return _size_problem(param, (len(value) - data.end()) * 3 / 4)
    if link := LINK.fullmatch(value):
        medium = MEDIA.get(link["path"].rpartition(".")[2].casefold(), param.media)
        return None if medium == param.media else f"expected {allowed}, got a link to {ARTICLES[medium or '']}"
    return _expected(allowed, value)


def _size_problem(param: Param, size: float) -> str | None:
    megabytes = size / 2**20
    too_large = megabytes > (param.max_size_mb or math.inf)
    return f"expected at most {param.max_size_mb} MB, got {megabytes:.1f} MB" if too_large else None


def accepts(param: Param, media_type: str) -> bool:
    """Whether a file of this media type (`image/png`) suits the parameter."""
    medium, _, kind = media_type.casefold().partition("/")
    endings = [name.casefold() for name in param.accept]
    kinds = {kind for ending in endings for kind in (ending, f"x-{ending}", *OTHER_NAMES.get(ending, "").split())}
    return medium == param.media and (not kinds or kind in kinds)


def file_problem(param: Param, name: str, size: int) -> str | None:
    """What is wrong with a file for a parameter, judged by the ending of its name and its bytes; None: nothing."""
    ending = name.rpartition(".")[2].casefold() if "." in name else ""
    medium = param.media if ending in map(str.casefold, param.accept) else MEDIA.get(ending)
    if not any(accepts(param, f"{medium}/{kind}") for kind in (ending, *OTHER_NAMES.get(ending, "").split())):
        return f"expected {_medium(param)}, got {_shortened(name)}"
    return f"{_shortened(name)} is empty" if size == 0 else _size_problem(param, size)


def _mistyped(param: Param, value: Json) -> str:
    """A value of the wrong JSON type. A text is read as the command line would read it: perhaps that was meant."""
    meant: Json = None
    if isinstance(value, str):
        meant = read(param, value)
    elif param.type is Type.OBJECTS and isinstance(value, dict):
        meant = [value]
    elif param.type is Type.INTEGER and isinstance(value, float) and value.is_integer():
        meant = int(value)
    if type(meant) is type(value) or meant is None or any(_judge(param, "", meant)):
        meant = None
    return _expected(takes(param), value, meant)


def _is_choice(param: Param, value: str) -> bool:
    choices = {*param.enum, *param.enum_codes}
    return value in choices or (param.ignore_case and value.casefold() in map(str.casefold, choices))


def _nearest_choice(value: str, choices: Sequence[str]) -> str | None:
    """By number where there are numbers, else by likeness."""
    numbers = {choice: float(choice) for choice in choices if _is_number(choice)}
    if _is_number(value) and len(numbers) == len(choices):
        return min(choices, key=lambda choice: abs(numbers[choice] - float(value)))
    return next(iter(closest(value, choices)), None)


def _nearest_number(param: Param, value: int | float) -> int | float | None:
    """The allowed number nearest to one that is not allowed; None when it is."""
    low, high, step = (None if fact is None else _fraction(fact) for fact in (param.min, param.max, param.step))
    given = near = _fraction(value)
    near = near if high is None else min(near, high)
    near = near if low is None else max(near, low)
    if step is not None:
        start = low or Fraction(0)
        near = start + round((near - start) / step) * step
        near = near - step if high is not None and near > high else near
    if near == given:
        return None
    return int(near) if param.type is Type.INTEGER or near.denominator == 1 else float(near)


def _fraction(number: int | float) -> Fraction:
    """A number as it is written in decimals, so that 0.3 is three steps of 0.1, and 0.1 + 0.2 is 0.3."""
    return Fraction(number) if isinstance(number, int) else Fraction(str(round(number, 9)))


def _is_measurable(number: int | float) -> bool:
    return abs(number) < 2**63 if isinstance(number, int) else math.isfinite(number)


def _expected(allowed: str, given: Json, nearest: Json = None) -> str:
    """The sentence for a value; `nearest` is an allowed one, None when there is no telling."""
    hint = "" if nearest is None else f"; the nearest is {_in_words(nearest)}"
    return f"expected {allowed}, got {_in_words(given)}{hint}"


def _empty(param: Param) -> str:
    """Nothing is no value: the provider's own client never sends it."""
    return f"is required: {takes(param)}" if param.required else "is empty; leave it out instead"


def takes(param: Param) -> str:
    """What a parameter takes, in words."""
    match param.type:
        case Type.INTEGER | Type.NUMBER:
            number = "a whole number" if param.type is Type.INTEGER else "a number"
            steps = "" if param.step in (None, 1) else f" in steps of {param.step}"
            return f"{number}{_between(', ', param.min, param.max)}{steps}"
        case Type.STRINGS | Type.OBJECTS:
            items = _between(" of ", param.min_items, param.max_items, " items")
            return f"a list{items}, each {_allowed_text(param) if param.type is Type.STRINGS else 'an object'}"
        case Type.BOOLEAN:
            return "true or false"
    return "an object" if param.type is Type.OBJECT else _allowed_text(param)


def _allowed_text(param: Param) -> str:
    if param.media is not None:
        return f"a link, data URI or @file of {_medium(param)}"
    if param.enum:
        more = len(param.enum) - CHOICES_SHOWN
        return f"one of {', '.join(param.enum[:CHOICES_SHOWN])}{f' and {more} more' if more > 0 else ''}"
    return f"a text{_between(' of ', param.min_length, param.max_length, ' characters')}"


def _medium(param: Param) -> str:
    kinds = f" ({', '.join(param.accept)})" if param.accept else ""
    return f"{ARTICLES[param.media or '']}{kinds}"


def _between(start: str, low: float | None, high: float | None, unit: str = "") -> str:
    if low is None and high is None:
        return ""
    least = f"at least {low}" if high is None else f"{low} to {high}"
    return f"{start}{f'at most {high}' if low is None else least}{unit}"


def _in_words(value: Json) -> str:
    """A value inside a sentence."""
    match value:
        case str():
            return f'"{_shortened(value)}"'
        case None | bool():
            return {None: "null", True: "true", False: "false"}[value]
        case int() | float():
            return str(value) if _is_measurable(value) else "a number beyond measure"
        case list():
            return f"a list of {len(value)}"
    return "an object"


def _shortened(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?[0-9]+([.][0-9]+)?", text) is not None
