"""Judges the orders of models by the facts of them, for a simulator that is told to; with code of its own.

The program judges by the same facts before it orders. Here nothing of it is used, so that a mistake shows.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from receiver.simulator.answers import Refused
from receiver.simulator.options import Judge
from receiver.simulator.orders import TEXT

FRONT = "/openapi/v2/"
EXTENSIONS = {"video": "mp4", "image": "png", "audio": "mp3", "3d": "glb", "text": TEXT, "json": TEXT}
MEDIA = ("http://", "https://", "data:")
TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "object": (dict,),
    "array<string>": (list,),
    "array<object>": (list,),
}


@dataclass(frozen=True)
class ParamFacts:
    """What is known of one parameter. `names` are those it goes by; `values` all that an enumeration accepts."""

    names: tuple[str, ...]
    type: str
    required: bool = False
    media: bool = False
    values: tuple[str, ...] = ()
    ignore_case: bool = False
    least: float | None = None
    most: float | None = None
    shortest: int | None = None
    longest: int | None = None
    most_items: int | None = None


@dataclass(frozen=True)
class ModelFacts:
    """What is known of one model. `extension` is that of its results; `later` are names that need no further facts.

    Of a model without `params` nothing is known, and so it takes anything.
    """

    extension: str
    params: tuple[ParamFacts, ...]
    later: frozenset[str] = frozenset()

    def check(self, given: Mapping[str, Any]) -> None:
        """Refused 1007 with a sentence per parameter that is missing, unknown or wrong."""
        problems = [*self._unknown(given), *(problem for param in self.params for problem in _problems(param, given))]
        if problems:
            raise Refused("1007", "; ".join(problems))

    def _unknown(self, given: Mapping[str, Any]) -> Iterator[str]:
        if not self.params:
            return iter(())
        known = {name for param in self.params for name in param.names} | self.later
        return (f"{name} is not a parameter" for name in given if name not in known)


def judge_of(rows: Iterable[Mapping[str, Any]]) -> Judge:
    """A judge who knows the models that the rows describe, by every path that they answer to.

    Refused 1001 for another model. ValueError for a row that describes none.
    """
    facts = dict(_paths(rows))

    def judge(path: str, params: Mapping[str, Any]) -> str:
        model = facts.get(path)
        if model is None:
            raise Refused(1001)
        model.check(params)
        return model.extension

    return judge


def _paths(rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, ModelFacts]]:
    """The facts by path; a model's own path comes last, since it goes before another one's second path."""
    own: list[tuple[str, ModelFacts]] = []
    for row in rows:
        try:
            model = _model(row)
            own.append((row["endpoint"].removeprefix(FRONT), model))
            yield from ((each.removeprefix(FRONT), model) for each in row.get("alt_endpoints", ()))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no facts of a model: {error!r}") from error
    yield from own


def _model(row: Mapping[str, Any]) -> ModelFacts:
    params = tuple(_param(param) for param in row.get("params", ()))
    return ModelFacts(EXTENSIONS[row["output"]], params, frozenset(row.get("later_params", ())))


def _param(row: Mapping[str, Any]) -> ParamFacts:
    return ParamFacts(
        names=(row["name"], *((row["alias"],) if "alias" in row else ())),
        type=row["type"],
        required=row.get("required", False),
        media="media" in row,
        values=(*row.get("enum", ()), *row.get("enum_codes", ())),
        ignore_case=row.get("ignore_case", False),
        least=row.get("min"),
        most=row.get("max"),
        shortest=row.get("min_length"),
        longest=row.get("max_length"),
        most_items=row.get("max_items"),
    )


def _problems(param: ParamFacts, given: Mapping[str, Any]) -> Iterator[str]:
    name = next((each for each in param.names if given.get(each) not in (None, "")), None)
    if name is None:
        if param.required:
            yield f"{param.names[0]} must not be blank"
        return
    value = given[name]
    # A bool is an int to Python, and to nobody else.
    if not isinstance(value, TYPES[param.type]) or (isinstance(value, bool) and param.type != "boolean"):
        yield f"{name} must be of type {param.type}"
        return
    if isinstance(value, list):
        yield from _items(param, name, value)
    elif isinstance(value, str):
        yield from _text(param, name, value)
    elif isinstance(value, int | float):
        yield from _number(param, name, value)


def _items(param: ParamFacts, name: str, value: list[Any]) -> Iterator[str]:
    if param.required and not value:
        yield f"{name} must not be empty"
    if param.most_items is not None and len(value) > param.most_items:
        yield f"{name} must have at most {param.most_items} items"
    kind = str if param.type == "array<string>" else dict
    for number, item in enumerate(value):
        if not isinstance(item, kind):
            yield f"{name}[{number}] must be of type {'string' if kind is str else 'object'}"
        elif isinstance(item, str):
            yield from _text(param, f"{name}[{number}]", item)


def _text(param: ParamFacts, name: str, value: str) -> Iterator[str]:
    accepted = [each.lower() for each in param.values] if param.ignore_case else param.values
    if param.values and (value.lower() if param.ignore_case else value) not in accepted:
        yield f"{name} must be one of {', '.join(param.values)}"
    if param.media and not value.startswith(MEDIA):
        yield f"{name} must be a URL"
    if not param.media and param.shortest is not None and len(value) < param.shortest:
        yield f"{name} must have at least {param.shortest} characters"
    if not param.media and param.longest is not None and len(value) > param.longest:
        yield f"{name} must have at most {param.longest} characters"


def _number(param: ParamFacts, name: str, value: float) -> Iterator[str]:
    if param.least is not None and value < param.least:
        yield f"{name} must be at least {param.least}"
    if param.most is not None and value > param.most:
        yield f"{name} must be at most {param.most}"
