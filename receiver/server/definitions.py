"""`[[actions]]` of the configuration, read into definitions, every problem told."""

import base64
import binascii
import math
import re
from collections.abc import Sequence
from typing import get_type_hints
from urllib.parse import urlsplit

import msgspec

from receiver.actions.body import body_problems
from receiver.actions.download.names import template_problem
from receiver.model.records import ActionKind, Definition, End

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
FUNCTION = re.compile(r"[^:\s]+:[^:\s]+")
HIDDEN = frozenset({"secret", "headers"})
TIMEOUTS = {ActionKind.DOWNLOAD: 900.0, ActionKind.HTTP: 30.0, ActionKind.COMMAND: 300.0, ActionKind.PYTHON: 300.0}
"""Seconds a try may take unless `timeout` says otherwise."""
DOWNLOAD_ATTEMPTS = 40
"""About as many tries as fit into the day that result links live, an hour apart at the most."""

KEEP_FILES = Definition(
    name="keep-files",
    kind=ActionKind.DOWNLOAD,
    timeout=TIMEOUTS[ActionKind.DOWNLOAD],
    max_attempts=DOWNLOAD_ATTEMPTS,
    unconfirmed=True,
)
"""What runs when nothing is configured: a paid result is never let go."""

OWN_KEYS = {
    ActionKind.DOWNLOAD: {"directory", "files", "max_size", "deduplicate"},
    ActionKind.HTTP: {"url", "secret", "headers", "body"},
    ActionKind.COMMAND: {"command"},
    ActionKind.PYTHON: {"function"},
}
COMMON_KEYS = frozenset(Definition.__struct_fields__) - frozenset().union(*OWN_KEYS.values())
TYPES = get_type_hints(Definition)
LONGEST = 30 * 86400.0
"""Seconds; what would take longer is a slip of the pen, and no calendar has the year in which it ends."""
MOST = {"timeout": LONGEST, "lease": LONGEST, "max_attempts": 1_000_000, "breaker": 1000, "concurrency": 1000}
"""A worker costs memory and a look at the ledger; of more than a thousand none would find the machine free."""
SLOWEST_RATE = 1 / LONGEST
POSITIVE = ("timeout", "lease", "max_attempts", "concurrency", "rate", "max_size")


def read_definitions(tables: object, source: str, problems: list[str]) -> list[Definition]:
    """The definitions of a configuration; whatever is wrong is added to `problems`, with its place."""
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        problems.append(f"{source}: actions: expected [[actions]] tables")
        return []
    definitions: list[Definition] = []
    for index, table in enumerate(tables):
        found: list[str] = []
        definition = _read(table, found)
        place = f"{source}: actions[{index}]" + (f" ({table['name']})" if isinstance(table.get("name"), str) else "")
        problems += [f"{place}: {problem}" for problem in found]
        if definition is not None:
            definitions.append(definition)
    problems += [f"{source}: actions: {problem}" for problem in _together(definitions)]
    return definitions


def _read(table: dict[str, object], problems: list[str]) -> Definition | None:
    values: dict[str, object] = {}
    for key, raw in table.items():
        if key not in TYPES:
            problems.append(f"{key}: there is no such key")
            continue
        if key == "body":
            values[key] = raw
            continue
        try:
            values[key] = msgspec.convert(raw, TYPES[key])
        except msgspec.ValidationError as error:
            shown = "(hidden)" if key in HIDDEN else repr(raw)[:80]
            problems.append(f"{key}: expected {_expected(key, error)}, got {shown}")
    kind = values.get("kind")
    if not isinstance(kind, ActionKind):
        if "kind" not in table:
            problems.append(f"kind: expected one of {', '.join(ActionKind)}")
        return None
    _check(kind, values, problems)
    if problems:
        return None
    values.setdefault("timeout", TIMEOUTS[kind])
    if kind is ActionKind.DOWNLOAD:
        values.setdefault("unconfirmed", True)
        values.setdefault("max_attempts", DOWNLOAD_ATTEMPTS)
    return Definition(**values)  # type: ignore[arg-type]


def _expected(key: str, error: msgspec.ValidationError) -> str:
    if key == "kind":
        return f"one of {', '.join(ActionKind)}"
    if key == "on":
        return f"a list of {', '.join(End)}"
    return str(error).replace("`", "").partition(", got")[0].removeprefix("Expected ")


def _check(kind: ActionKind, values: dict[str, object], problems: list[str]) -> None:
    name = values.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        problems.append(f"name: expected lower-case letters, digits, - and _, got {name!r}")
    foreign = sorted(values.keys() - COMMON_KEYS - OWN_KEYS[kind])
    problems += [f"{key}: does not belong to kind {kind}" for key in foreign]
    for key in POSITIVE:
        value = values.get(key)
        if isinstance(value, int | float) and not 0 < value < math.inf:
            expected = "a finite number" if value == math.inf else "more than 0"
            problems.append(f"{key}: expected {expected}, got {value}")
    for key, most in MOST.items():
        value = values.get(key)
        if isinstance(value, int | float) and most < value < math.inf:
            problems.append(f"{key}: expected at most {most:.0f}, got {value:g}")
    rate = values.get("rate")
    if isinstance(rate, float) and 0 < rate < SLOWEST_RATE:
        problems.append(f"rate: expected at least one in 30 days ({SLOWEST_RATE:.1e} in a second), got {rate:g}")
    breaker = values.get("breaker", 0)
    if isinstance(breaker, int) and breaker < 0:
        problems.append(f"breaker: expected 0 (never) or how many actions must fail in a row, got {breaker}")
    if values.get("on") == ():
        problems.append(f"on: expected at least one of {', '.join(End)}")
    if kind is ActionKind.HTTP:
        _check_http(values, problems)
    if kind is ActionKind.DOWNLOAD and isinstance(template := values.get("files"), str):
        problem = template_problem(template)
        problems += [f"files: {problem}, got {template[:80]!r}"] if problem else []
    if kind is ActionKind.COMMAND and not values.get("command"):
        problems.append('command: expected a list of a program and its arguments, such as ["notify", "--quiet"]')
    if kind is ActionKind.PYTHON and not FUNCTION.fullmatch(str(values.get("function", ""))):
        problems.append("function: expected module:name")


def _check_http(values: dict[str, object], problems: list[str]) -> None:
    try:
        parts = urlsplit(str(values.get("url", "")))
        sound = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        sound = False
    if not sound:
        given = values.get("url")
        shown = "(hidden)" if "@" in str(given) else repr(given)
        problems.append(f"url: expected an http:// or https:// address, got {shown}")
    headers = values.get("headers")
    for name, text in headers.items() if isinstance(headers, dict) else ():
        if not (HEADER.fullmatch(str(name)) and str(text).isprintable()):
            problems.append(f"headers: {name!r}: expected printable characters, got (hidden)")
    if "body" in values:
        problems += body_problems(values["body"])
    secret = values.get("secret")
    if isinstance(secret, str):
        try:
            key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not key:
            problems.append("secret: expected base64, with or without whsec_ before it, got (hidden)")


def _together(definitions: Sequence[Definition]) -> list[str]:
    """What is wrong between definitions: names used twice, forerunners that do not exist or wait for each other."""
    names = [definition.name for definition in definitions]
    problems = [f"the name {name} is used twice" for name in sorted({name for name in names if names.count(name) > 1})]
    before = {definition.name: definition.after for definition in definitions}
    for definition in definitions:
        problems += [
            f"{definition.name}: after: there is no action {name}" for name in definition.after if name not in before
        ]
        if _waits_for_itself(definition.name, before):
            problems.append(f"{definition.name}: after: it waits for itself")
    return problems + _in_one_place(definitions)


def _in_one_place(definitions: Sequence[Definition]) -> list[str]:
    """Downloads into one directory that name files differently: one might take the other's file for its own."""
    first: dict[str, Definition] = {}
    problems = []
    for each in definitions:
        if each.kind is ActionKind.DOWNLOAD:
            other = first.setdefault(each.directory.removeprefix("./").rstrip("/"), each)
            if other.files != each.files:
                problems.append(f"{each.name}: files: {other.name} names files in {each.directory} otherwise")
    return problems


def _waits_for_itself(name: str, before: dict[str, tuple[str, ...]]) -> bool:
    seen: set[str] = set()
    waiting = list(before[name])
    while waiting:
        current = waiting.pop()
        if current == name:
            return True
        if current not in seen:
            seen.add(current)
            waiting += before.get(current, ())
    return False
