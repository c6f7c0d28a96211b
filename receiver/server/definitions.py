"""`[[actions]]` of the configuration, read into definitions, every problem told."""

from collections.abc import Collection, Mapping, Sequence

from msgspec import NODEFAULT

from receiver.actions.settings import DEFINITIONS, DownloadDefinition
from receiver.model.definitions import Definition
from receiver.model.fields import fields_of

KEEP_FILES = DownloadDefinition(name="keep-files")
"""What runs when nothing is configured: a paid result is never let go."""

GONE = {"deduplicate": "every task has its own files now, and none are linked to each other; take this line out"}
"""What became of keys that older versions knew."""


def read_definitions(tables: object, source: str, problems: list[str]) -> list[Definition]:
    """The definitions of a configuration, as far as they can be read; what is wrong is added to `problems`, with its
    place, and stands at its default."""
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        problems.append(f"{source}: actions: expected [[actions]] tables")
        return []
    definitions: list[Definition] = []
    sound: list[Definition] = []
    for index, table in enumerate(tables):
        found: list[str] = []
        definition = _read(table, found)
        place = f"{source}: actions[{index}]" + (f" ({table['name']})" if isinstance(table.get("name"), str) else "")
        problems += [f"{place}: {problem}" for problem in found]
        if definition is not None:
            definitions.append(definition)
            sound += [] if found else [definition]
    names = [table.get("name") for table in tables]
    problems += [f"{source}: actions: {problem}" for problem in _together(sound, names)]
    return definitions


def _read(table: Mapping[str, object], problems: list[str]) -> Definition | None:
    kind = next((each for each in DEFINITIONS if each == table.get("kind")), None)
    record = Definition if kind is None else DEFINITIONS[kind]
    known = fields_of(record)
    values: dict[str, object] = {}
    for key, given in table.items():
        if key in known:
            value, found = known[key].read(given)
            values |= {} if found else {key: value}
            problems += found
        elif not any(key in fields_of(each) for each in DEFINITIONS.values()):
            problems.append(f"{key}: there is no such key{f': {GONE[key]}' if key in GONE else ''}")
        elif kind is not None:
            problems.append(f"{key}: does not belong to kind {kind}")
    if kind is None:  # nobody knows what else it would need
        problems += known["kind"].missing() if "kind" not in table else []
        return None
    problems += [problem for field in known.values() if field.name not in table for problem in field.missing()]
    values.setdefault("name", str(table.get("name", "")))
    is_whole = all(field.default is not NODEFAULT or name in values for name, field in known.items())
    return record(**values) if is_whole else None  # type: ignore[arg-type]


def _together(definitions: Sequence[Definition], known: Collection[object]) -> list[str]:
    """What is wrong between definitions: names used twice, forerunners that do not exist or wait for each other.

    `known` are the names of all that are configured, also of those that cannot be read.
    """
    names = [definition.name for definition in definitions]
    problems = [f"the name {name} is used twice" for name in sorted({name for name in names if names.count(name) > 1})]
    before = {definition.name: definition.after for definition in definitions}
    for definition in definitions:
        unknown = [name for name in definition.after if name not in known]
        problems += [f"{definition.name}: after: there is no action {name}" for name in unknown]
        if _waits_for_itself(definition.name, before):
            problems.append(f"{definition.name}: after: it waits for itself")
    for index, definition in enumerate(definitions):
        if (conflict := definition.conflict(definitions[:index])) is not None:
            problems.append(f"{definition.name}: {conflict}")
    return problems


def _waits_for_itself(name: str, before: Mapping[str, Sequence[str]]) -> bool:
    found = set(before[name])
    while further := {each for known in found for each in before.get(known, ())} - found:
        found |= further
    return name in found
