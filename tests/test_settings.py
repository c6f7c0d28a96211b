"""receiver.toml and the environment: what is read, which wins, and how every mistake is told."""

from pathlib import Path

import msgspec
import pytest

from receiver.actions.settings import (
    DEFINITIONS,
    CommandDefinition,
    DownloadDefinition,
    HttpDefinition,
    PythonDefinition,
)
from receiver.model.definitions import ActionKind, When
from receiver.model.errors import SettingsError
from receiver.model.fields import fields_of
from receiver.model.records import End
from receiver.model.rules import Policy
from receiver.server.definitions import GONE, KEEP_FILES
from receiver.server.settings import FIELDS, LogFormat, LogLevel, Settings, load_settings, read_settings

KEY = "0123456789abcdef0123456789abcdef"
SECRET = "a-signing-secret-of-nobody"
TOKEN = "an-admin-token-of-nobody"
ENDS = "succeeded, failed, cancelled, rejected"
KINDS = "download, http, command, python"
SIGNING = "c2VudGluZWwtc2VjcmV0LWtleQ=="


def load(directory: Path, toml: str = "", **environment: str) -> Settings:
    (directory / "receiver.toml").write_text(toml)
    return load_settings(environment, directory)


def problems(directory: Path, toml: str = "", **environment: str) -> list[str]:
    with pytest.raises(SettingsError) as error:
        load(directory, toml, **environment)
    return error.value.problems


def test_with_nothing_given_everything_has_its_default(tmp_path: Path) -> None:
    assert load_settings({}, tmp_path) == Settings(
        public_url=None,
        database="sqlite:///receiver.db",
        secrets=(),
        admin_token=None,
        api_key=None,
        base_url="https://www.runninghub.ai",
        max_in_flight=3,
        host="127.0.0.1",
        port=8000,
        confirm=True,
        max_body=4 * 1024 * 1024,
        disk_floor=512 * 1024 * 1024,
        confirm_patience=600,
        patience=86400,
        resend="missed",
        metrics_public=False,
        keep_files=True,
        definitions=(KEEP_FILES,),
    )


def test_the_default_policy_is_made_of_the_defaults(tmp_path: Path) -> None:
    assert load_settings({}, tmp_path).policy == Policy(
        confirm=True, confirm_patience=600, patience=86400, overdue=21600, resend="missed", max_in_flight=3
    )


def test_the_policy_carries_every_setting_that_it_names(tmp_path: Path) -> None:
    toml = """
    runninghub.max_in_flight = 7
    callbacks.confirm = false
    callbacks.confirm_patience = 1
    reconcile.patience = 61
    reconcile.overdue = 3601
    reconcile.resend = "never"
    """
    assert load(tmp_path, toml).policy == Policy(
        confirm=False, confirm_patience=1, patience=61, overdue=3601, resend="never", max_in_flight=7
    )


FILE = f"""
public_url = "https://file.example"
database = "sqlite:///file.db"
secrets = ["{SECRET}-file", "{SECRET}-older"]
admin_token = "{TOKEN}-file"
view_token = "{TOKEN}-view"
hosts = ["studio.lan"]
host = "192.0.2.1"
port = 8001
metrics_public = true
keep_files = false
log_level = "error"
log_format = "text"

[runninghub]
api_key = "{KEY}-file"
base_url = "https://www.runninghub.cn"
max_in_flight = 50

[callbacks]
confirm = false
max_body = 1024
disk_floor = 0
confirm_patience = 0.5

[door]
connections = 100
header_bytes = 8192
header_seconds = 5
body_seconds = 20
idle_seconds = 15
answer_seconds = 45
bytes_in_flight = 4194304

[reconcile]
patience = 3600
overdue = 7200
resend = "unknown"

[keep]
bodies = 7
checks = 8
attempts = 9
deliveries = 10
events = 11
tasks = 12.5
replays = 13
closed_alerts = 14
audit = 15
"""
FROM_FILE = Settings(
    public_url="https://file.example",
    database="sqlite:///file.db",
    secrets=(f"{SECRET}-file", f"{SECRET}-older"),
    admin_token=f"{TOKEN}-file",
    api_key=f"{KEY}-file",
    base_url="https://www.runninghub.cn",
    max_in_flight=50,
    view_token=f"{TOKEN}-view",
    hosts=("studio.lan",),
    host="192.0.2.1",
    port=8001,
    confirm=False,
    max_body=1024,
    disk_floor=0,
    confirm_patience=0.5,
    connections=100,
    header_bytes=8192,
    header_seconds=5,
    body_seconds=20,
    idle_seconds=15,
    answer_seconds=45,
    bytes_in_flight=4194304,
    patience=3600,
    overdue=7200,
    resend="unknown",
    metrics_public=True,
    keep_files=False,
    log_level=LogLevel.ERROR,
    log_format=LogFormat.TEXT,
    bodies=7,
    checks=8,
    attempts=9,
    deliveries=10,
    events=11,
    tasks=12.5,
    replays=13,
    closed_alerts=14,
    audit=15,
    definitions=(),
)

VARIABLES: dict[str, tuple[str, str, object]] = {
    "RECEIVER_PUBLIC_URL": ("https://environment.example", "public_url", "https://environment.example"),
    "RECEIVER_DATABASE": ("sqlite:////data/environment.db", "database", "sqlite:////data/environment.db"),
    "DATABASE_URL": ("sqlite:///platform.db", "database", "sqlite:///platform.db"),
    "RECEIVER_SECRETS": (f"{SECRET}-new, {SECRET}-old,", "secrets", (f"{SECRET}-new", f"{SECRET}-old")),
    "RECEIVER_ADMIN_TOKEN": (f"{TOKEN}-new", "admin_token", f"{TOKEN}-new"),
    "RECEIVER_VIEW_TOKEN": (f"{TOKEN}-looks", "view_token", f"{TOKEN}-looks"),
    "RECEIVER_HOSTS": ("a.lan, b.lan", "hosts", ("a.lan", "b.lan")),
    "RUNNINGHUB_API_KEY": (KEY, "api_key", KEY),
    "RUNNINGHUB_BASE_URL": ("http://127.0.0.1:9000", "base_url", "http://127.0.0.1:9000"),
    "RUNNINGHUB_MAX_IN_FLIGHT": ("12", "max_in_flight", 12),
    "HOST": ("::", "host", "::"),
    "PORT": ("0", "port", 0),
    "RECEIVER_CONFIRM": ("TRUE", "confirm", True),
    "RECEIVER_METRICS_PUBLIC": ("false", "metrics_public", False),
    "RECEIVER_LOG_LEVEL": ("DEBUG", "log_level", LogLevel.DEBUG),
    "RECEIVER_LOG_FORMAT": ("json", "log_format", LogFormat.JSON),
}


def test_every_setting_can_stand_in_the_file(tmp_path: Path) -> None:
    assert load(tmp_path, FILE) == FROM_FILE
    differing = [field.name for field in FIELDS if getattr(FROM_FILE, field.name) == field.default]
    assert differing == [], "a setting that has its default proves nothing"


@pytest.mark.parametrize("variable", VARIABLES)
def test_the_environment_wins_over_the_file(tmp_path: Path, variable: str) -> None:
    value, name, expected = VARIABLES[variable]
    assert load(tmp_path, FILE, **{variable: value}) == msgspec.structs.replace(FROM_FILE, **{name: expected})


def test_every_variable_is_in_the_table_above() -> None:
    assert {variable for field in FIELDS for variable in field.variables} == set(VARIABLES)


def test_an_empty_variable_is_not_given(tmp_path: Path) -> None:
    assert load(tmp_path, FILE, **dict.fromkeys(VARIABLES, "")) == FROM_FILE


def test_our_own_variable_for_the_database_goes_before_the_platforms(tmp_path: Path) -> None:
    environment = {"RECEIVER_DATABASE": "sqlite:///ours.db", "DATABASE_URL": "postgres://platform"}
    assert load(tmp_path, **environment).database == "sqlite:///ours.db"


@pytest.mark.parametrize(
    ("toml", "environment", "host"),
    [
        ("", {}, "127.0.0.1"),
        ("", {"PORT": "80"}, "0.0.0.0"),
        ("", {"PORT": "80", "HOST": "192.0.2.9"}, "192.0.2.9"),
        ("", {"PORT": "80", "HOST": ""}, "0.0.0.0"),
        ("", {"PORT": ""}, "127.0.0.1"),
        ("port = 80", {}, "127.0.0.1"),
        ('host = "192.0.2.7"', {"PORT": "80"}, "192.0.2.7"),
        ("port = 81", {"PORT": "80"}, "0.0.0.0"),
    ],
    ids=[
        *["nothing", "PORT alone", "PORT and HOST", "HOST is empty", "PORT is empty", "port of the file"],
        *["host of the file", "PORT over the file"],
    ],
)
def test_a_platform_that_names_the_port_reaches_us_from_outside(
    tmp_path: Path, toml: str, environment: dict[str, str], host: str
) -> None:
    assert load(tmp_path, toml, **environment).host == host


# ---------------------------------------------------------------- the file


def test_the_file_may_have_another_name(tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text("port = 8002")
    named = {"RECEIVER_CONFIG": str(tmp_path / "other.toml")}
    (tmp_path / "receiver.toml").write_text("port = 8001")
    assert load_settings(named, tmp_path).port == 8002
    assert load_settings({"RECEIVER_CONFIG": ""}, tmp_path).port == 8001


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.toml")
    assert problems(tmp_path, RECEIVER_CONFIG=missing) == [f"RECEIVER_CONFIG: there is no file {missing}"]


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    assert problems(tmp_path, RECEIVER_CONFIG=str(tmp_path)) == [f"{tmp_path}: cannot be read: Is a directory"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"port = ", "Invalid value"),
        (b"port 8000", "Expected '='"),
        (b"port = 1\nport = 2", "Cannot overwrite a value"),
        (b"\xff\xfe", "'utf-8' codec can't decode byte 0xff"),
        (b'{"port": 8000}', "Invalid statement"),
        (b"a.b = " + b"[" * 5000, "maximum recursion depth exceeded"),
    ],
    ids=["half a line", "no equals sign", "twice the same", "not UTF-8", "JSON", "nested without end"],
)
def test_a_file_that_is_no_toml_is_one_problem(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "receiver.toml").write_bytes(content)
    with pytest.raises(SettingsError) as error:
        load_settings({}, tmp_path)
    (problem,) = error.value.problems
    assert problem.startswith(f"receiver.toml: is not TOML: {reason}")


def test_a_broken_file_does_not_hide_what_is_wrong_with_the_environment(tmp_path: Path) -> None:
    file, port = problems(tmp_path, "port = ", PORT="x")
    assert file.startswith("receiver.toml: is not TOML")
    assert port == "PORT: port: expected a whole number, got 'x'"


# ---------------------------------------------------------------- one mistake each

URL_WANTED = "expected an http:// or https:// address without a query"
ROOT_WANTED = f"{URL_WANTED}, and without the /callbacks behind it"
KEY_WANTED = "expected a key of printable characters, without spaces, line ends or quotes around it, got [secret]"
SQLITE_WANTED = (
    "expected sqlite:///PATH, a plain path without ~, ?, # or %, or postgresql://USER:PASSWORD@HOST/DATABASE,"
    " got [secret]"
)
TOKEN_WANTED = (
    "admin_token: expected a token of at least 16 characters, without spaces or quotes around it, got [secret]"
)
SECRETS_WANTED = "expected secrets of at least 16 characters each, newest first, got [secret]"

WRONG = [
    ("public_url = 7", "public_url: expected a text, got 7"),
    *[
        (f'public_url = "{url}"', f"public_url: {ROOT_WANTED}, got {url!r}")
        for url in (
            "",
            "receiver.example",
            "ftp://x",
            "http://",
            "https://x/?a=b",
            "https://x/#a",
            "http://x:99999",
            "http://[x",
            "https://x/callbacks",
            "https://x/callbacks/",
            "https://x/behind/healthz",
        )
    ],
    ('runninghub.base_url = "x"', f"runninghub.base_url: {URL_WANTED}, got 'x'"),
    ('database = "receiver.db"', f"database: {SQLITE_WANTED}"),
    ('database = "sqlite:///"', f"database: {SQLITE_WANTED}"),
    ('database = "sqlite:////data/r.db?mode=rwc"', f"database: {SQLITE_WANTED}"),
    ('database = "sqlite:///r.db#main"', f"database: {SQLITE_WANTED}"),
    ('database = "sqlite:///my%20r.db"', f"database: {SQLITE_WANTED}"),
    ('database = "sqlite:///~/r.db"', f"database: {SQLITE_WANTED}"),
    ('database = "sqlite:///:memory:"', f"database: {SQLITE_WANTED}"),
    ('database = "sqlite:///data/"', f"database: {SQLITE_WANTED}"),
    ('database = "sqlite:///r.db\\n"', f"database: {SQLITE_WANTED}"),
    ('database = "postgresql+psycopg://user:sentinel@host/db"', f"database: {SQLITE_WANTED}"),
    ("database = 1", "database: expected a text, got [secret]"),
    ('secrets = "sentinel-that-is-no-list"', "secrets: expected a list, got [secret]"),
    ("secrets = [1]", "secrets: expected a list, got [secret]"),
    ('secrets = ["sentinel"]', f"secrets: {SECRETS_WANTED}"),
    (f'secrets = ["{SECRET}", "sentinel"]', f"secrets: {SECRETS_WANTED}"),
    ('admin_token = "sentinel"', TOKEN_WANTED),
    ("admin_token = true", "admin_token: expected a text, got [secret]"),
    ("runninghub.api_key = 12345678", "runninghub.api_key: expected a text, got [secret]"),
    ("runninghub.max_in_flight = 0", "runninghub.max_in_flight: expected a number of at least 1, got 0"),
    ('runninghub.max_in_flight = "3"', "runninghub.max_in_flight: expected a whole number, got '3'"),
    ("runninghub.max_in_flight = 2.5", "runninghub.max_in_flight: expected a whole number, got 2.5"),
    ("runninghub.max_in_flight = true", "runninghub.max_in_flight: expected a whole number, got True"),
    ("host = 127", "host: expected a text, got 127"),
    ("port = -1", "port: expected a port from 0 to 65535, got -1"),
    ("port = 65536", "port: expected a port from 0 to 65535, got 65536"),
    ('port = "http"', "port: expected a whole number, got 'http'"),
    ("port = 2026-11-22", "port: expected a whole number, got datetime.date(2026, 11, 22)"),
    ("callbacks.confirm = 1", "callbacks.confirm: expected true or false, got 1"),
    ('callbacks.confirm = "true"', "callbacks.confirm: expected true or false, got 'true'"),
    ("callbacks.max_body = 1023", "callbacks.max_body: expected a number of at least 1024, got 1023"),
    ("callbacks.disk_floor = -1", "callbacks.disk_floor: expected a number of at least 0, got -1"),
    ("callbacks.confirm_patience = nan", "callbacks.confirm_patience: expected a number of at least 0, got nan"),
    ("callbacks.confirm_patience = inf", "callbacks.confirm_patience: expected a number of at least 0, got inf"),
    ("callbacks.confirm_patience = []", "callbacks.confirm_patience: expected a number, got []"),
    ("reconcile.patience = 59", "reconcile.patience: expected a number of at least 60, got 59"),
    ('reconcile.resend = "always"', "reconcile.resend: expected missed, unknown or never, got 'always'"),
    ("metrics_public = 0", "metrics_public: expected true or false, got 0"),
    ("keep_files = []", "keep_files: expected true or false, got []"),
    ("colour = 1", "colour: there is no such setting"),
    ("confirm = true", "confirm: there is no such setting; did you mean callbacks.confirm?"),
    ("callbacks = 5", "callbacks: there is no such setting"),
    ("callbacks.confrim = true", "callbacks.confrim: there is no such setting; did you mean callbacks.confirm?"),
    ("reconcile.deep.deeper = 1", "reconcile.deep.deeper: there is no such setting"),
    ("[[runninghub]]\nmax_in_flight = 4", "runninghub: there is no such setting"),
    ('[[alerts]]\nname = "mail"', "alerts: there is no such setting"),
    ("actions = 5", "actions: expected [[actions]] tables"),
    ("actions = [1]", "actions: expected [[actions]] tables"),
    ("[actions]\nname = 'a'", "actions: expected [[actions]] tables"),
]


@pytest.mark.parametrize(("toml", "problem"), WRONG, ids=[toml.replace("\n", " ") for toml, _ in WRONG])
def test_a_mistake_in_the_file_is_told_with_its_place_and_what_was_expected(
    tmp_path: Path, toml: str, problem: str
) -> None:
    assert problems(tmp_path, toml) == [f"receiver.toml: {problem}"]


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("PORT", "eighty", "port: expected a whole number, got 'eighty'"),
        ("PORT", "70000", "port: expected a port from 0 to 65535, got '70000'"),
        ("RUNNINGHUB_MAX_IN_FLIGHT", "0", "runninghub.max_in_flight: expected a number of at least 1, got '0'"),
        ("RECEIVER_CONFIRM", "no", "callbacks.confirm: expected true or false, got 'no'"),
        ("RECEIVER_CONFIRM", "null", "callbacks.confirm: expected true or false, got 'null'"),
        ("RECEIVER_PUBLIC_URL", "x", f"public_url: {ROOT_WANTED}, got 'x'"),
        ("RUNNINGHUB_API_KEY", f'"{KEY}"', f"runninghub.api_key: {KEY_WANTED}"),
        ("RUNNINGHUB_API_KEY", f"{KEY}'", f"runninghub.api_key: {KEY_WANTED}"),
        ("RECEIVER_ADMIN_TOKEN", f"'{TOKEN}'", TOKEN_WANTED),
        ("RECEIVER_LOG_LEVEL", "loud", "log_level: expected one of debug, info, warning, error, got 'loud'"),
        ("RECEIVER_LOG_FORMAT", "xml", "log_format: expected one of auto, text, json, got 'xml'"),
        ("RECEIVER_SECRETS", f"{SECRET},sentinel", f"secrets: {SECRETS_WANTED}"),
        ("RECEIVER_ADMIN_TOKEN", "sentinel", TOKEN_WANTED),
        ("DATABASE_URL", "mysql://user:sentinel@host", f"database: {SQLITE_WANTED}"),
    ],
)
def test_a_mistake_in_the_environment_is_told_with_its_variable(
    tmp_path: Path, variable: str, value: str, problem: str
) -> None:
    assert problems(tmp_path, **{variable: value}) == [f"{variable}: {problem}"]


def test_a_value_is_shown_in_eighty_characters_at_the_most(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, f'host = ["{"x" * 500}"]')
    assert problem == f"receiver.toml: host: expected a text, got ['{'x' * 78}"


# ---------------------------------------------------------------- actions

WHOLE = """
[[actions]]
name = "save"
kind = "download"
directory = "kept"
when = { labels = { project = "x" }, target = "google/*" }
unconfirmed = false
max_attempts = 5

[[actions]]
name = "tell"
kind = "http"
url = "https://hooks.example/in"
secret = "whsec_c2VudGluZWwtc2VjcmV0LWtleQ=="
headers = { Authorization = "Bearer sentinel" }
on = ["succeeded", "failed", "cancelled", "rejected"]
timeout = 5
lease = 30
concurrency = 1
allow_private = true
after = ["save"]

[[actions]]
name = "run_it-2"
kind = "command"
command = ["notify", "--quiet"]

[[actions]]
name = "call"
kind = "python"
function = "package.module:name"
unconfirmed = true
"""


def test_every_kind_of_action_is_read_with_its_own_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, WHOLE).definitions == (
        DownloadDefinition(
            name="save",
            timeout=900,
            unconfirmed=False,
            directory="kept",
            when=When(labels={"project": "x"}, target="google/*"),
            max_attempts=5,
        ),
        HttpDefinition(
            name="tell",
            url="https://hooks.example/in",
            secret=f"whsec_{SIGNING}",
            headers={"Authorization": "Bearer sentinel"},
            on=tuple(End),
            timeout=5,
            lease=30,
            concurrency=1,
            allow_private=True,
            after=("save",),
        ),
        CommandDefinition(name="run_it-2", timeout=300, command=("notify", "--quiet")),
        PythonDefinition(name="call", timeout=300, function="package.module:name", unconfirmed=True),
    )


def test_every_kind_of_action_has_settings_of_its_own() -> None:
    assert list(DEFINITIONS) == list(ActionKind)
    assert [fields_of(record)["kind"].default for record in DEFINITIONS.values()] == list(ActionKind)


def test_a_bare_download_is_like_the_one_that_is_built_in(tmp_path: Path) -> None:
    (bare,) = load(tmp_path, '[[actions]]\nname = "keep-files"\nkind = "download"').definitions
    assert bare == KEEP_FILES
    assert bare.unconfirmed
    assert bare.directory == "results"
    assert bare.max_attempts == 40
    assert bare.on == (End.SUCCEEDED,)


@pytest.mark.parametrize(
    ("toml", "names"),
    [
        ("", ["keep-files"]),
        ("actions = []", ["keep-files"]),
        ("keep_files = false", []),
        ("keep_files = false\nactions = []", []),
        ('[[actions]]\nname = "a"\nkind = "command"\ncommand = ["x"]', ["a"]),
        ('keep_files = true\n[[actions]]\nname = "a"\nkind = "command"\ncommand = ["x"]', ["a"]),
    ],
    ids=["nothing", "an empty list", "turned off", "both", "an action", "an action and yes"],
)
def test_results_are_kept_unless_something_else_is_configured(tmp_path: Path, toml: str, names: list[str]) -> None:
    assert [definition.name for definition in load(tmp_path, toml).definitions] == names


COMMAND_WANTED = 'command: expected a list of a program and its arguments, such as ["notify", "--quiet"]'
SIGNING_WANTED = "secret: expected base64, with or without whsec_ before it, got [secret]"
NAME_WANTED = "name: expected lower-case letters, digits, - and _"
RATE_WANTED = "a finite number, at least one in 30 days (3.9e-07 in a second)"
BREAKER_WANTED = "0 (never) or how many actions must fail in a row, at most 1000"
BASES = {
    "download": 'kind = "download"\n',
    "http": 'kind = "http"\nurl = "https://x"\n',
    "command": 'kind = "command"\ncommand = ["x"]\n',
    "python": 'kind = "python"\nfunction = "m:f"\n',
    "bare http": 'kind = "http"\n',
    "bare command": 'kind = "command"\n',
    "bare python": 'kind = "python"\n',
    "": "",
}

WRONG_ACTIONS = [
    ("", "", f"kind: expected one of {KINDS}"),
    ("", 'kind = "mail"', f"kind: expected one of {KINDS}, got 'mail'"),
    ("", "kind = 1", f"kind: expected one of {KINDS}, got 1"),
    ("download", "bogus = 1", "bogus: there is no such key"),
    ("download", "deduplicate = true", f"deduplicate: there is no such key: {GONE['deduplicate']}"),
    ("download", "breaker = -1", f"breaker: expected {BREAKER_WANTED}, got -1"),
    ("download", "rate = inf", f"rate: expected {RATE_WANTED}, got inf"),
    ("", "kind = []", f"kind: expected one of {KINDS}, got []"),
    ("download", 'url = "https://x"', "url: does not belong to kind download"),
    ("download", f'secret = "{SIGNING}"', "secret: does not belong to kind download"),
    ("http", 'command = ["x"]', "command: does not belong to kind http"),
    ("command", 'function = "m:f"', "function: does not belong to kind command"),
    ("python", 'directory = "x"', "directory: does not belong to kind python"),
    ("download", "timeout = 0", "timeout: expected more than 0, at most 2592000, got 0"),
    ("download", "lease = 0", "lease: expected more than 0, at most 2592000, got 0"),
    ("download", "max_attempts = 0", "max_attempts: expected more than 0, at most 1000000, got 0"),
    ("download", "concurrency = 0", "concurrency: expected more than 0, at most 1000, got 0"),
    ("download", "timeout = 1e300", "timeout: expected more than 0, at most 2592000, got 1e+300"),
    ("download", "lease = 1e300", "lease: expected more than 0, at most 2592000, got 1e+300"),
    (
        "download",
        "breaker = 10000000000000000000000",
        f"breaker: expected {BREAKER_WANTED}, got 10000000000000000000000",
    ),
    (
        "download",
        "max_attempts = 10000000000000000000000",
        "max_attempts: expected more than 0, at most 1000000, got 10000000000000000000000",
    ),
    ("download", "concurrency = 100000", "concurrency: expected more than 0, at most 1000, got 100000"),
    ("download", "rate = 1e-320", f"rate: expected {RATE_WANTED}, got 1e-320"),
    ("download", "timeout = -0.5", "timeout: expected more than 0, at most 2592000, got -0.5"),
    ("download", "timeout = nan", "timeout: expected more than 0, at most 2592000, got nan"),
    ("download", 'timeout = "5"', "timeout: expected a number, got '5'"),
    ("download", "max_attempts = 1.5", "max_attempts: expected a whole number, got 1.5"),
    ("download", "unconfirmed = 1", "unconfirmed: expected true or false, got 1"),
    ("download", "on = []", f"on: expected at least one of {ENDS}, got []"),
    ("download", 'on = "failed"', f"on: expected a list of {ENDS}, got 'failed'"),
    ("download", 'on = ["lost"]', f"on: expected a list of {ENDS}, got ['lost']"),
    ("download", "when = { labels = { a = 1 } }", "when: expected str, got {'labels': {'a': 1}}"),
    ("download", "when = { on = 1 }", "when: expected Object contains unknown field on, got {'on': 1}"),
    ("download", 'after = "b"', "after: expected a list, got 'b'"),
    ("http", 'secret = "sentinel!"', SIGNING_WANTED),
    ("http", 'secret = "whsec_sentinel!"', SIGNING_WANTED),
    ("http", 'secret = ""', SIGNING_WANTED),
    ("http", 'secret = "whsec_"', SIGNING_WANTED),
    ("http", 'secret = "sentinel-é"', SIGNING_WANTED),
    ("http", "secret = 5", "secret: expected a text, got [secret]"),
    ("http", 'headers = { a = "sentinel", b = 1 }', "headers: expected a table of texts, got [secret]"),
    ("http", 'headers = "sentinel"', "headers: expected a table of texts, got [secret]"),
    ("bare http", "", "url: expected an http:// or https:// address"),
    ("bare http", 'url = "hooks.example"', "url: expected an http:// or https:// address, got 'hooks.example'"),
    ("bare http", 'url = "http://[x"', "url: expected an http:// or https:// address, got 'http://[x'"),
    ("bare command", "", COMMAND_WANTED),
    ("bare command", "command = []", f"{COMMAND_WANTED}, got []"),
    ("bare python", "", "function: expected module:name"),
    ("bare python", 'function = "module.name"', "function: expected module:name, got 'module.name'"),
    ("bare python", 'function = "a:b:c"', "function: expected module:name, got 'a:b:c'"),
]


@pytest.mark.parametrize(
    ("base", "toml", "problem"), WRONG_ACTIONS, ids=[f"{base} {toml}" for base, toml, _ in WRONG_ACTIONS]
)
def test_a_mistake_in_an_action_is_told_with_its_place_and_name(
    tmp_path: Path, base: str, toml: str, problem: str
) -> None:
    table = f'[[actions]]\nname = "a"\n{BASES[base]}{toml}\n'
    assert problems(tmp_path, table) == [f"receiver.toml: actions[0] (a): {problem}"]


def test_a_name_is_made_of_small_letters_digits_and_dashes(tmp_path: Path) -> None:
    for name in ("", "A", "a b", "-a", "_a", "a/b", "ä", "a\\n", "x" * 64, "../a", "a.b"):
        (problem,) = problems(tmp_path, f'[[actions]]\nname = "{name}"\nkind = "download"')
        assert f": {NAME_WANTED}, got " in problem, name
    for name in ("a", "0", "a-b_c", "x" * 63):
        (definition,) = load(tmp_path, f'[[actions]]\nname = "{name}"\nkind = "download"').definitions
        assert definition.name == name


def test_an_action_needs_a_name(tmp_path: Path) -> None:
    assert problems(tmp_path, '[[actions]]\nkind = "download"') == [f"receiver.toml: actions[0]: {NAME_WANTED}"]


def after(**forerunners: str) -> str:
    """Downloads that wait for those whose one-letter names are given."""
    return "\n".join(
        f'[[actions]]\nname = "{name}"\nkind = "download"\nafter = {list(names)}' for name, names in forerunners.items()
    )


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        (after(a="a"), ["a: after: it waits for itself"]),
        (after(a="b", b="a"), ["a: after: it waits for itself", "b: after: it waits for itself"]),
        (
            after(a="b", b="c", c="d", d="e", e="a"),
            [f"{name}: after: it waits for itself" for name in "abcde"],
        ),
        (after(a="b", b="c", c="b"), ["b: after: it waits for itself", "c: after: it waits for itself"]),
        (after(a="x"), ["a: after: there is no action x"]),
        (after(a="xy", b=""), ["a: after: there is no action x", "a: after: there is no action y"]),
        (after(a="") + "\n" + after(a=""), ["the name a is used twice"]),
    ],
    ids=["itself", "each other", "in a ring", "beside a ring", "nobody", "two nobodies", "twice the same name"],
)
def test_actions_must_be_able_to_come_after_one_another(tmp_path: Path, toml: str, expected: list[str]) -> None:
    assert problems(tmp_path, toml) == [f"receiver.toml: actions: {problem}" for problem in expected]


DOWNLOADS = """
[[actions]]
name = "a"
kind = "download"
[[actions]]
name = "b"
kind = "download"
directory = "{directory}"
files = "{files}"
"""


def test_downloads_into_one_directory_name_their_files_alike(tmp_path: Path) -> None:
    clash = DOWNLOADS.replace("{directory}", "./results/").replace("{files}", "{task}/{index}.{ext}")
    expected = "receiver.toml: actions: b: files: a names files in ./results/ otherwise"
    assert problems(tmp_path, clash) == [expected]
    for directory, files in (("results", "{task}/{name}"), ("elsewhere", "{task}/{index}.{ext}")):
        sound = DOWNLOADS.replace("{directory}", directory).replace("{files}", files)
        assert [getattr(each, "directory", None) for each in load(tmp_path, sound).definitions] == [
            "results",
            directory,
        ]


def test_actions_may_wait_for_several_and_for_later_ones(tmp_path: Path) -> None:
    definitions = load(tmp_path, after(a="bcd", b="d", c="d", d="")).definitions
    assert [definition.after for definition in definitions] == [("b", "c", "d"), ("d",), ("d",), ()]


# ---------------------------------------------------------------- all at once, and never a secret

EVERYTHING_WRONG = """
port = "sentinel-is-no-port"
secrets = ["sentinel"]
colour = "blue"
callbacks.max_body = 1
reconcile.resend = "always"
runninghub.api_key = 1
runninghub.speed = "fast"

[[actions]]
name = "BAD"
kind = "http"
secret = "sentinel!"
headers = { a = "sentinel", b = 1 }
timeout = 0
lease = "long"

[[actions]]
kind = "mail"

[[actions]]
name = "fine"
kind = "download"
after = ["nobody"]
"""


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    found = problems(tmp_path, EVERYTHING_WRONG, RUNNINGHUB_MAX_IN_FLIGHT="many", RECEIVER_ADMIN_TOKEN="sentinel")
    assert found == [
        f"receiver.toml: secrets: {SECRETS_WANTED}",
        f"RECEIVER_ADMIN_TOKEN: {TOKEN_WANTED}",
        "receiver.toml: runninghub.api_key: expected a text, got [secret]",
        "RUNNINGHUB_MAX_IN_FLIGHT: runninghub.max_in_flight: expected a whole number, got 'many'",
        "receiver.toml: port: expected a whole number, got 'sentinel-is-no-port'",
        "receiver.toml: callbacks.max_body: expected a number of at least 1024, got 1",
        "receiver.toml: reconcile.resend: expected missed, unknown or never, got 'always'",
        f"receiver.toml: actions[0] (BAD): {NAME_WANTED}, got 'BAD'",
        f"receiver.toml: actions[0] (BAD): {SIGNING_WANTED}",
        "receiver.toml: actions[0] (BAD): headers: expected a table of texts, got [secret]",
        "receiver.toml: actions[0] (BAD): timeout: expected more than 0, at most 2592000, got 0",
        "receiver.toml: actions[0] (BAD): lease: expected a number, got 'long'",
        "receiver.toml: actions[0] (BAD): url: expected an http:// or https:// address",
        f"receiver.toml: actions[1]: kind: expected one of {KINDS}, got 'mail'",
        "receiver.toml: actions: fine: after: there is no action nobody",
        "receiver.toml: colour: there is no such setting",
        "receiver.toml: runninghub.speed: there is no such setting",
    ]


def test_what_is_wrong_stands_at_its_default_and_hides_nothing_that_is_right(tmp_path: Path) -> None:
    (tmp_path / "receiver.toml").write_text(
        'port = "x"\npublic_url = "https://receiver.example"\n'
        '[[actions]]\nname = "BAD"\nkind = "command"\ncommand = ["sh"]\ntimeout = 0\n'
        '[[actions]]\nname = "later"\nkind = "download"\nafter = ["BAD", "strange"]\n'
        '[[actions]]\nname = "strange"\nkind = "mail"\n'
    )
    settings, found = read_settings({}, tmp_path)
    assert (settings.port, settings.public_url) == (8000, "https://receiver.example")
    assert [each.name for each in settings.definitions] == ["BAD", "later"]
    assert settings.definitions[0].timeout == 300
    assert [problem.split(": ")[-2] for problem in found] == ["port", "name", "timeout", "kind"]


def test_the_error_is_its_problems_a_line_each(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as error:
        load(tmp_path, "port = -1\nhost = 1")
    assert str(error.value).splitlines() == error.value.problems
    assert len(error.value.problems) == 2


def test_no_problem_shows_a_secret() -> None:
    """Their exact texts stand in the tables above; this holds the tables to it."""
    hidden = [problem for toml, problem in WRONG if "sentinel" in toml]
    hidden += [problem for _, toml, problem in WRONG_ACTIONS if "sentinel" in toml]
    assert len(hidden) >= 10
    assert [problem for problem in hidden if "sentinel" in problem] == []


def test_neither_settings_nor_definitions_show_their_secrets_when_printed(tmp_path: Path) -> None:
    environment = {
        "RECEIVER_SECRETS": "sentinel-of-sixteen",
        "RECEIVER_ADMIN_TOKEN": "sentinel-of-sixteen",
        "RUNNINGHUB_API_KEY": "sentinel",
    }
    settings = load(tmp_path, WHOLE, **environment)
    assert settings.api_key == "sentinel"
    assert isinstance(settings.definitions[1], HttpDefinition)
    assert settings.definitions[1].headers == {"Authorization": "Bearer sentinel"}
    for shown in (settings, settings.definitions, *settings.definitions):
        for text in (repr(shown), str(shown), f"{shown}"):
            assert "sentinel" not in text
            assert SIGNING not in text
