"""receiver.toml and the environment, read once into one frozen record. All problems are told at once.

The environment wins over the file. Every setting stands once, in `Settings`: its type, its default, its place in the
file and in the environment, and what it is for; the documents and the example file are held to it.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET, Struct

from receiver.model.definitions import Definition
from receiver.model.errors import SettingsError
from receiver.model.fields import Condition, Field, Setting, at_least, fields_of
from receiver.model.retention import KEPT_LEAST, Keep
from receiver.model.rules import DoorLimits, Policy
from receiver.server.definitions import KEEP_FILES, read_definitions
from receiver.store import is_server, unfit

CONFIG_VARIABLE = "RECEIVER_CONFIG"
CONFIG_FILE = "receiver.toml"
MIB = 1024 * 1024


def _is_site(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.query and not parts.fragment


def _is_word(text: str) -> bool:
    """Whether a header can carry it: a line end at the end of a secret's file is easily overlooked, and so are the
    quotes that a shell takes away and a file of variables does not."""
    is_plain = text.isascii() and text.isprintable() and " " not in text
    return bool(text) and is_plain and not set(text[0] + text[-1]) & set("\"'")


def _is_root(url: str) -> bool:
    """Whether paths of ours can follow: whoever copies a callback URL or a probe leaves the last word of it."""
    return _is_site(url) and urlsplit(url).path.rstrip("/").rpartition("/")[2] not in ("callbacks", "healthz", "readyz")


_SITE = Condition("an http:// or https:// address without a query", _is_site)
_ROOT = Condition("an http:// or https:// address without a query, and without the /callbacks behind it", _is_root)


def _names_a_file(url: str) -> bool:
    """Whether it is a plain path behind `sqlite:///`: any more would become part of the file's name."""
    path = url.removeprefix("sqlite:///")
    plain = path.isprintable() and path.strip() == path and not set(path) & set("?#%")
    return path != url and plain and bool(path) and not path.startswith((":memory:", "file:", "~")) and path[-1] != "/"


_DATABASE = Condition(
    "sqlite:///PATH, a plain path without ~, ?, # or %, or postgresql://USER:PASSWORD@HOST/DATABASE",
    lambda url: is_server(url) or _names_a_file(url),
)
_SECRETS = Condition(
    "secrets of at least 16 characters each, newest first", lambda secrets: all(len(secret) >= 16 for secret in secrets)
)
_TOKEN = Condition(
    "a token of at least 16 characters, without spaces or quotes around it",
    lambda text: len(text) >= 16 and _is_word(text),
)
_HOSTS = Condition(
    "names of this server, without scheme and port",
    lambda hosts: all(_is_word(host) and not set(host) & set("/:@*") for host in hosts),
)
_KEY = Condition("a key of printable characters, without spaces, line ends or quotes around it", _is_word)
_PORT = Condition("a port from 0 to 65535", lambda port: 0 <= port <= 65535)
_DAYS = Condition(
    f"0 (for ever), or days, at least {KEPT_LEAST:.0f}", lambda days: days == 0 or KEPT_LEAST <= days < float("inf")
)
_RESEND = Condition("missed, unknown or never", lambda resend: resend in ("missed", "unknown", "never"))


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """How lines are written; `auto` is text on a terminal and JSON anywhere else."""

    AUTO = "auto"
    TEXT = "text"
    JSON = "json"


class Settings(Struct, frozen=True, kw_only=True):
    """Everything that can be configured. Durations in seconds, sizes in bytes."""

    public_url: Annotated[
        str | None,
        Setting(_ROOT, variables=("RECEIVER_PUBLIC_URL",)),
        "where RunningHub reaches this server; without it no callback URL is sent, and RunningHub is polled",
    ] = None
    database: Annotated[
        str,
        Setting(_DATABASE, variables=("RECEIVER_DATABASE", "DATABASE_URL"), secret=True, problems=unfit),
        "the database: a file, or postgresql://USER:PASSWORD@HOST/DATABASE",
    ] = "sqlite:///receiver.db"
    secrets: Annotated[
        tuple[str, ...],
        Setting(_SECRETS, variables=("RECEIVER_SECRETS",), secret=True),
        "sign callback URLs; newest first, all are accepted; generated and kept in the database file if not set",
    ] = ()
    admin_token: Annotated[
        str | None,
        Setting(_TOKEN, variables=("RECEIVER_ADMIN_TOKEN",), secret=True),
        "needed to use the API; generated and kept in the database file if not set; `receiver token` prints it",
    ] = None
    view_token: Annotated[
        str | None,
        Setting(_TOKEN, variables=("RECEIVER_VIEW_TOKEN",), secret=True),
        "lets its bearer look at everything, in the console and the API, and change nothing",
    ] = None
    hosts: Annotated[
        tuple[str, ...],
        Setting(_HOSTS, variables=("RECEIVER_HOSTS",)),
        "further names by which browsers reach the console; localhost, addresses and public_url's name are known",
    ] = ()
    api_key: Annotated[
        str | None,
        Setting(_KEY, table="runninghub", variables=("RUNNINGHUB_API_KEY",), secret=True),
        "without it tasks cannot be submitted; callbacks are still received",
    ] = None
    base_url: Annotated[
        str,
        Setting(_SITE, table="runninghub", variables=("RUNNINGHUB_BASE_URL",)),
        "the provider's site; a key works only on the site it was made on (.ai or .cn)",
    ] = "https://www.runninghub.ai"
    max_in_flight: Annotated[
        int,
        Setting(at_least(1), table="runninghub", variables=("RUNNINGHUB_MAX_IN_FLIGHT",)),
        "how many tasks RunningHub may work on at once; the rest wait in the local queue",
    ] = 3
    host: Annotated[
        str,
        Setting(variables=("HOST",)),
        "the address to listen on; 0.0.0.0 when PORT comes from the environment and HOST does not",
    ] = "127.0.0.1"
    port: Annotated[int, Setting(_PORT, variables=("PORT",)), "the port to listen on; 0 takes a free one"] = 8000
    confirm: Annotated[
        bool,
        Setting(table="callbacks", variables=("RECEIVER_CONFIRM",)),
        "ask RunningHub before trusting a callback, because callbacks are not signed",
    ] = True
    max_body: Annotated[
        int,
        Setting(at_least(1024), table="callbacks"),
        "bytes of a callback; only the beginning of a larger one is kept",
    ] = 4 * MIB
    disk_floor: Annotated[
        int,
        Setting(at_least(0), table="callbacks"),
        "bytes of free disk below which callbacks are answered 503, so that RunningHub tries again",
    ] = 512 * MIB
    confirm_patience: Annotated[
        float,
        Setting(at_least(0), table="callbacks"),
        "seconds until a callback is recorded unconfirmed when RunningHub cannot be asked",
    ] = 600.0
    connections: Annotated[
        int,
        Setting(at_least(16), table="door"),
        "connections at once, and no more than the system allows files; of too many the oldest idle one is closed",
    ] = 8192
    header_bytes: Annotated[
        int, Setting(at_least(4096), table="door"), "bytes of a request's headers; more are answered 431"
    ] = 64 * 1024
    header_seconds: Annotated[
        float, Setting(at_least(1), table="door"), "seconds in which the headers of a request must have come"
    ] = 10.0
    body_seconds: Annotated[
        float,
        Setting(at_least(1), table="door"),
        "seconds in which a request's body must have come; every 16 KiB that come give it one more",
    ] = 30.0
    idle_seconds: Annotated[
        float, Setting(at_least(1), table="door"), "seconds for which a connection may wait before its next request"
    ] = 30.0
    answer_seconds: Annotated[
        float, Setting(at_least(1), table="door"), "seconds for which an answer may wait for somebody to read on"
    ] = 60.0
    bytes_in_flight: Annotated[
        int,
        Setting(at_least(MIB), table="door"),
        "bytes of all unfinished requests in memory, two of the largest callbacks at least; "
        "beyond them the largest requests are answered 503",
    ] = 12 * MIB
    patience: Annotated[
        float,
        Setting(at_least(60), table="reconcile"),
        "seconds for which RunningHub must say that it does not know a task until it is lost",
    ] = 86400.0
    overdue: Annotated[
        float,
        Setting(at_least(3600), table="reconcile"),
        "seconds after which a running task is overdue at the latest: it does not count as in flight any more",
    ] = 21600.0
    resend: Annotated[
        str,
        Setting(_RESEND, table="reconcile"),
        "which callbacks RunningHub is asked to send again: missed, unknown (to its query) or never",
    ] = "missed"
    metrics_public: Annotated[
        bool, Setting(variables=("RECEIVER_METRICS_PUBLIC",)), "whether metrics may be read without the admin token"
    ] = False
    keep_files: Annotated[bool, "with no [[actions]] configured, save every result file below results/"] = True
    log_level: Annotated[
        LogLevel,
        Setting(variables=("RECEIVER_LOG_LEVEL",)),
        "the least that is logged: debug, info, warning or error",
    ] = LogLevel.INFO
    log_format: Annotated[
        LogFormat,
        Setting(variables=("RECEIVER_LOG_FORMAT",)),
        "how log lines look: text, json, or auto, which is text on a terminal and json elsewhere",
    ] = LogFormat.AUTO
    bodies: Annotated[
        float,
        Setting(_DAYS, table="keep"),
        "days for which the bytes of callbacks are kept, for ended tasks; 0 is for ever; the rest of their rows stays",
    ] = 30.0
    checks: Annotated[
        float,
        Setting(_DAYS, table="keep"),
        "days for which exchanges with RunningHub about ended tasks are kept; 0 is for ever",
    ] = 30.0
    attempts: Annotated[
        float, Setting(_DAYS, table="keep"), "days for which the attempts of ended actions are kept; 0 is for ever"
    ] = 0.0
    deliveries: Annotated[
        float, Setting(_DAYS, table="keep"), "days for which callbacks of ended tasks are kept; 0 is for ever"
    ] = 0.0
    events: Annotated[
        float,
        Setting(_DAYS, table="keep"),
        "days for which events are kept, with their results, actions and attempts; 0 is for ever",
    ] = 0.0
    tasks: Annotated[
        float,
        Setting(_DAYS, table="keep"),
        "days for which ended tasks are kept, with all that belongs to them but the result files; 0 is for ever",
    ] = 0.0
    replays: Annotated[float, Setting(_DAYS, table="keep"), "days for which ended replays are kept; 0 is for ever"] = (
        0.0
    )
    closed_alerts: Annotated[
        float, Setting(_DAYS, table="keep"), "days for which closed alerts are kept; 0 is for ever"
    ] = 0.0
    audit: Annotated[
        float, Setting(_DAYS, table="keep"), "days for which it is kept what people did; 0 is for ever"
    ] = 0.0
    definitions: tuple[Definition, ...] = ()

    __rich_repr__ = None  # type: ignore[assignment]  # it would show the secrets

    def __repr__(self) -> str:
        return f"Settings(database={self.database!r}, public_url={self.public_url!r}, …)"

    @property
    def policy(self) -> Policy:
        return msgspec.convert(self, Policy, from_attributes=True)

    @property
    def keep(self) -> Keep:
        return msgspec.convert(self, Keep, from_attributes=True)

    @property
    def door(self) -> DoorLimits:
        limits = msgspec.convert(self, DoorLimits, from_attributes=True)
        return msgspec.structs.replace(limits, bytes_in_flight=max(self.bytes_in_flight, 2 * self.max_body))


FIELDS = tuple(field for field in fields_of(Settings).values() if field.help)
TABLES = frozenset(field.table for field in FIELDS)


def load_settings(environment: Mapping[str, str], directory: Path) -> Settings:
    """The settings from `RECEIVER_CONFIG` or receiver.toml in `directory`, overridden by the environment.

    Raises SettingsError with every problem: where, key, the value given (never a secret's), what was expected.
    """
    settings, problems = read_settings(environment, directory)
    if problems:
        raise SettingsError(problems)
    return settings


def _meant(key: str) -> str:
    from difflib import get_close_matches

    words = {field.key.rpartition(".")[2]: field.key for field in FIELDS}
    near = get_close_matches(key.rpartition(".")[2], words, 1, 0.75)
    return f"; did you mean {words[near[0]]}?" if near else ""


def read_settings(environment: Mapping[str, str], directory: Path) -> tuple[Settings, list[str]]:
    """The settings as far as they can be read, and every problem; what is wrong stands at its default."""
    source, document, problems = _read_file(environment, directory)
    values: dict[str, object] = {}
    for field in FIELDS:
        place, given = _take(field, environment, document, source)
        if given is not UNSET:
            value, found = field.read(given, from_text=place != source)
            values |= {} if found else {field.name: value}
            problems += [f"{place}: {problem}" for problem in found]
    problems += _not_given(values)
    definitions = read_definitions(document.pop("actions", []), source, problems)
    problems += [f"{source}: {key}: there is no such setting{_meant(key)}" for key in _flat(document)]
    if "host" not in values and environment.get("PORT"):
        values["host"] = "0.0.0.0"
    if not definitions and values.get("keep_files", True):
        definitions = [KEEP_FILES]
    return Settings(**values, definitions=tuple(definitions)), problems  # type: ignore[arg-type]


def _not_given(values: Mapping[str, object]) -> list[str]:
    """What is made and kept in a database file, and must be given where the database is a server."""
    if not is_server(str(values.get("database", ""))):
        return []
    asked_for = (("RECEIVER_SECRETS", "secrets"), ("RECEIVER_ADMIN_TOKEN", "admin_token"))
    why = "must be given with PostgreSQL, which may be read by others: `openssl rand -hex 32` makes one"
    return [f"{variable}: {name}: {why}" for variable, name in asked_for if not values.get(name)]


def sources(environment: Mapping[str, str], directory: Path) -> dict[str, str]:
    """Where each setting that is given is given, by its key: the name of a variable or of the file."""
    source, document, _ = _read_file(environment, directory)
    found = {field.key: _take(field, environment, document, source) for field in FIELDS}
    return {key: place for key, (place, given) in found.items() if given is not UNSET}


def _read_file(environment: Mapping[str, str], directory: Path) -> tuple[str, dict[str, object], list[str]]:
    named = environment.get(CONFIG_VARIABLE)
    path = Path(named) if named else directory / CONFIG_FILE
    source = named or CONFIG_FILE
    try:
        return source, msgspec.toml.decode(path.read_bytes(), type=dict[str, object]), []
    except FileNotFoundError:
        return source, {}, [f"{CONFIG_VARIABLE}: there is no file {named}"] if named else []
    except OSError as error:
        return source, {}, [f"{source}: cannot be read: {error.strerror}"]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return source, {}, [f"{source}: is not TOML: {error}"]


def _take(field: Field, environment: Mapping[str, str], document: dict[str, object], source: str) -> tuple[str, object]:
    """Where a setting is given and its raw value, UNSET when it is not. What is in the document is taken out of it."""
    table = document.get(field.table) if field.table else document
    in_file = table.pop(field.name, UNSET) if isinstance(table, dict) else UNSET
    variable = next((name for name in field.variables if environment.get(name)), None)
    return (source, in_file) if variable is None else (variable, environment[variable])


def _flat(table: dict[str, object], prefix: str = "") -> Iterator[str]:
    for key, value in table.items():
        if isinstance(value, dict) and (value or prefix + key in TABLES):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key
