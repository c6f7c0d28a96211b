"""receiver.toml and the environment, read once into one frozen record. All problems are told at once.

The environment wins over the file. Every setting stands in `FIELDS`, once: its name in the file, its variable, its
default and what it is for; the README's table and the example file are held to it.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import get_args
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from receiver.model.errors import SettingsError
from receiver.model.records import Definition
from receiver.model.rules import Policy
from receiver.server.definitions import KEEP_FILES, read_definitions

CONFIG_VARIABLE = "RECEIVER_CONFIG"
CONFIG_FILE = "receiver.toml"
MIB = 1024 * 1024


class Settings(Struct, frozen=True, kw_only=True):
    """Everything that can be configured. Durations in seconds, sizes in bytes."""

    public_url: str | None
    database: str
    secrets: tuple[str, ...]
    admin_token: str | None
    api_key: str | None
    base_url: str
    max_in_flight: int
    host: str
    port: int
    confirm: bool
    max_body: int
    disk_floor: int
    confirm_patience: float
    patience: float
    resend: str
    metrics_public: bool
    keep_files: bool
    definitions: tuple[Definition, ...]

    __rich_repr__ = None  # type: ignore[assignment]  # it would show the secrets

    def __repr__(self) -> str:
        return f"Settings(database={self.database!r}, public_url={self.public_url!r}, …)"

    @property
    def policy(self) -> Policy:
        return Policy(
            confirm=self.confirm,
            confirm_patience=self.confirm_patience,
            patience=self.patience,
            resend=self.resend,
            max_in_flight=self.max_in_flight,
        )


class Field(Struct, frozen=True, kw_only=True):
    """One setting: `key` in the file, `variables` in the environment (the first that is set wins)."""

    name: str
    key: str
    type: type
    default: object
    help: str
    variables: tuple[str, ...] = ()
    secret: bool = False
    check: Callable[[object], str | None] | None = None


def _http_url(value: object) -> str | None:
    try:
        parts = urlsplit(str(value))
        sound = parts.scheme in ("http", "https") and parts.hostname and not parts.query and not parts.fragment
        _ = parts.port
    except ValueError:
        sound = False
    return None if sound else "an http:// or https:// address without a query"


def _database(value: object) -> str | None:
    if str(value).startswith("sqlite:///") and len(str(value)) > len("sqlite:///"):
        return None
    return "sqlite:///PATH (other databases are not supported yet)"


def _at_least(least: float) -> Callable[[object], str | None]:
    def check(value: object) -> str | None:
        sound = isinstance(value, int | float) and math.isfinite(value) and value >= least
        return None if sound else f"a number of at least {least:g}"

    return check


def _port(value: object) -> str | None:
    return None if isinstance(value, int) and 0 <= value <= 65535 else "a port from 0 to 65535"


def _resend(value: object) -> str | None:
    return None if value in ("missed", "unknown", "never") else "missed, unknown or never"


def _secrets(value: object) -> str | None:
    sound = isinstance(value, list) and all(len(str(secret)) >= 16 for secret in value)
    return None if sound else "secrets of at least 16 characters each, newest first"


def _token(value: object) -> str | None:
    return None if len(str(value)) >= 16 and _is_word(value) else "a token of at least 16 characters, without spaces"


def _key(value: object) -> str | None:
    return None if _is_word(value) else "a key of printable characters, without spaces or line ends"


def _is_word(value: object) -> bool:
    """Whether a header can carry it: a line end at the end of a secret's file is easily overlooked."""
    text = str(value)
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


FIELDS: tuple[Field, ...] = (
    Field(
        name="public_url",
        key="public_url",
        type=str,
        default=None,
        variables=("RECEIVER_PUBLIC_URL",),
        check=_http_url,
        help="where RunningHub reaches this server; without it no callback URL is sent, and tasks are asked about",
    ),
    Field(
        name="database",
        key="database",
        type=str,
        default="sqlite:///receiver.db",
        variables=("RECEIVER_DATABASE", "DATABASE_URL"),
        secret=True,
        check=_database,
        help="the ledger's file",
    ),
    Field(
        name="secrets",
        key="secrets",
        type=list[str],
        default=[],
        variables=("RECEIVER_SECRETS",),
        secret=True,
        check=_secrets,
        help="sign callback URLs; newest first, all are accepted; made and kept in the database when not given",
    ),
    Field(
        name="admin_token",
        key="admin_token",
        type=str,
        default=None,
        variables=("RECEIVER_ADMIN_TOKEN",),
        secret=True,
        check=_token,
        help="opens the API; made and kept in the database when not given, `receiver token` prints it",
    ),
    Field(
        name="api_key",
        key="runninghub.api_key",
        type=str,
        default=None,
        variables=("RUNNINGHUB_API_KEY",),
        secret=True,
        check=_key,
        help="without it submitting is refused, receiving works",
    ),
    Field(
        name="base_url",
        key="runninghub.base_url",
        type=str,
        default="https://www.runninghub.ai",
        variables=("RUNNINGHUB_BASE_URL",),
        check=_http_url,
        help="the provider's site; a key works only on the site it was made on (.ai or .cn)",
    ),
    Field(
        name="max_in_flight",
        key="runninghub.max_in_flight",
        type=int,
        default=3,
        variables=("RUNNINGHUB_MAX_IN_FLIGHT",),
        check=_at_least(1),
        help="how many tasks RunningHub may work on at once; the rest waits in our own queue",
    ),
    Field(
        name="host",
        key="host",
        type=str,
        default="127.0.0.1",
        variables=("HOST",),
        help="the address to listen on; 0.0.0.0 when PORT comes from the environment and HOST does not",
    ),
    Field(
        name="port",
        key="port",
        type=int,
        default=8000,
        variables=("PORT",),
        check=_port,
        help="the port to listen on; 0 takes a free one",
    ),
    Field(
        name="confirm",
        key="callbacks.confirm",
        type=bool,
        default=True,
        variables=("RECEIVER_CONFIRM",),
        help="ask RunningHub before a callback is believed, for it signs nothing",
    ),
    Field(
        name="max_body",
        key="callbacks.max_body",
        type=int,
        default=4 * MIB,
        check=_at_least(1024),
        help="bytes of a callback; of a larger one the beginning is kept",
    ),
    Field(
        name="disk_floor",
        key="callbacks.disk_floor",
        type=int,
        default=512 * MIB,
        check=_at_least(0),
        help="bytes of free disk below which callbacks are answered 503, so that RunningHub tries again",
    ),
    Field(
        name="confirm_patience",
        key="callbacks.confirm_patience",
        type=float,
        default=600.0,
        check=_at_least(0),
        help="seconds until a callback is recorded unconfirmed when RunningHub cannot be asked",
    ),
    Field(
        name="patience",
        key="reconcile.patience",
        type=float,
        default=86400.0,
        check=_at_least(60),
        help="seconds until a task of which nothing is heard is lost",
    ),
    Field(
        name="resend",
        key="reconcile.resend",
        type=str,
        default="missed",
        check=_resend,
        help="which callbacks RunningHub is asked to send again: missed, unknown (to its query) or never",
    ),
    Field(
        name="metrics_public",
        key="metrics_public",
        type=bool,
        default=False,
        variables=("RECEIVER_METRICS_PUBLIC",),
        help="whether metrics may be read without the admin token",
    ),
    Field(
        name="keep_files",
        key="keep_files",
        type=bool,
        default=True,
        help="with no [[actions]] configured, save every result file below results/",
    ),
)


TABLES = frozenset(field.key.rpartition(".")[0] for field in FIELDS)


def load_settings(environment: Mapping[str, str], directory: Path) -> Settings:
    """The settings from `RECEIVER_CONFIG` or receiver.toml in `directory`, overridden by the environment.

    Raises SettingsError with every problem: where, key, the value given (never a secret's), what was expected.
    """
    source, document, problems = _read_file(environment, directory)
    values: dict[str, object] = {}
    given: set[str] = set()
    for field in FIELDS:
        found, place, raw = _find(field, environment, document, source)
        if not found:
            values[field.name] = field.default
            continue
        given.add(field.name)
        value, problem = _read_value(field, raw, from_text=place != source)
        if problem:
            shown = "(hidden)" if field.secret else repr(raw)[:80]
            problems.append(f"{place}: {field.key}: expected {problem}, got {shown}")
        values[field.name] = value
    definitions = read_definitions(document.pop("actions", []), source, problems)
    problems += [f"{source}: {key}: there is no such setting" for key in _flat(document)]
    if problems:
        raise SettingsError(problems)
    if "host" not in given and environment.get("PORT"):
        values["host"] = "0.0.0.0"
    if not definitions and values["keep_files"]:
        definitions = [KEEP_FILES]
    values["secrets"] = tuple(values["secrets"])  # type: ignore[arg-type]
    return Settings(**values, definitions=tuple(definitions))  # type: ignore[arg-type]


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


def _find(
    field: Field, environment: Mapping[str, str], document: dict[str, object], source: str
) -> tuple[bool, str, object]:
    """Whether a setting is given, where, and its raw value. What is found in the document is taken out of it."""
    table: object = document
    *tables, key = field.key.split(".")
    for name in tables:
        table = table.get(name, {}) if isinstance(table, dict) else {}
    in_file = isinstance(table, dict) and key in table
    raw = table.pop(key) if isinstance(table, dict) and in_file else None
    for variable in field.variables:
        if environment.get(variable):
            return True, variable, environment[variable]
    return in_file, source, raw


def _read_value(field: Field, raw: object, *, from_text: bool) -> tuple[object, str | None]:
    wanted = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}.get(field.type, "a list")
    if from_text and get_args(field.type):
        raw = [part.strip() for part in str(raw).split(",") if part.strip()]
    elif from_text and field.type is bool:
        raw = str(raw).lower()
    try:
        value: object = msgspec.convert(raw, field.type, strict=not from_text)
    except msgspec.ValidationError:
        return raw, wanted
    problem = field.check(value) if field.check else None
    return value, problem


def _flat(table: dict[str, object], prefix: str = "") -> list[str]:
    names = []
    for key, value in table.items():
        if isinstance(value, dict) and (value or prefix + key in TABLES):
            names += _flat(value, f"{prefix}{key}.")
        else:
            names.append(prefix + key)
    return names
