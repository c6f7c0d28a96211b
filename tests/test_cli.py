"""The command line, as its users type it: against a real server, and where there is none."""

import io
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import fields
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import click
import msgspec
import pytest
from click.testing import CliRunner, Result
from test_client import MODEL, RunningServer

from receiver.cli import inputs as pairs
from receiver.cli import main, options
from receiver.cli.connect import find_server
from receiver.cli.example import example_toml
from receiver.cli.outcome import ending
from receiver.cli.show import aligned, clean, document, draw
from receiver.client import ApiError, Unreachable
from receiver.model import sentences
from receiver.model.definitions import ActionKind
from receiver.model.errors import Failed, ReceiverError, SettingsError
from receiver.model.records import ActionState, End, Kind, ReplayMode, TaskState
from receiver.model.views import PageView, TaskRow
from receiver.server.address import address_file, announce
from receiver.server.settings import FIELDS, load_settings
from receiver.simulator import Fault, Options
from receiver.simulator.workflows import PICTURE_APP, TEXT_TO_IMAGE, VIDEO_APP

pytestmark = pytest.mark.story

SILENT = {
    "RECEIVER_URL": None,
    "RECEIVER_ADMIN_TOKEN": None,
    "RECEIVER_CONFIG": None,
    "RECEIVER_DATABASE": None,
    "DATABASE_URL": None,
    "RUNNINGHUB_API_KEY": None,
    "RECEIVER_PUBLIC_URL": None,
    "HOST": None,
    "PORT": None,
}
HEAVY = ("httpx", "uvicorn", "starlette", "sqlite_utils", "rich", "msgspec", "structlog")


def run(*words: str, env: Mapping[str, str | None] = {}, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, words, env={**SILENT, **env}, input=stdin)


class Operator:
    """Somebody at a shell that knows the server by its environment."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        self.environment = {"RECEIVER_URL": server.url, "RECEIVER_ADMIN_TOKEN": server.token}

    def __call__(self, *words: str, code: int = 0, stdin: str | None = None) -> Result:
        result = run(*words, env=self.environment, stdin=stdin)
        assert result.exit_code == code, result.output
        return result

    def ended(self) -> str:
        """The id of a task that has ended, all its actions tried."""
        with self.server.client() as client:
            return self.server.ended(client).id


# ---------------------------------------------------------------- help


@pytest.mark.slow
def test_help_is_quick_because_nothing_heavy_is_imported() -> None:
    script = (
        "import sys; from receiver.cli import main\n"
        "try: main(['--help'])\n"
        f"except SystemExit: sys.exit(' '.join(name for name in {HEAVY} if name in sys.modules))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.stderr == "\n"
    assert ended.stdout.startswith("Usage:")


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, each in getattr(command, "commands", {}).items():
        yield (*path, name), each
        yield from commands(each, (*path, name))


COMMANDS = list(commands(main))


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[" ".join(path) for path, _ in COMMANDS])
def test_every_command_has_help_with_an_example(path: tuple[str, ...], command: click.Command) -> None:
    result = run(*path, "--help")
    assert result.exit_code == 0
    assert f"receiver {' '.join(path)}" in result.output.partition("Example")[2].replace("RECEIVER", "")
    for option in command.params:
        if isinstance(option, click.Option) and not option.hidden:
            assert option.help, f"{path}: {option.name} has no help"


def test_help_names_every_command_once_and_the_version_is_told() -> None:
    help_ = run("--help").output
    for name in main.commands:
        assert sum(line.split()[:1] == [name] for line in help_.splitlines()) == 1
    assert "version" in run("--version").output


LISTS = {
    ("tasks",): {"state", "kind", "target", "label", "q"},
    ("deliveries",): {"state", "task"},
    ("actions",): {"state", "name", "task", "label"},
    ("alerts",): {"state", "kind"},
    ("replay", "list"): set(),
}


@pytest.mark.parametrize(("path", "filters"), LISTS.items(), ids=[" ".join(path) for path in LISTS])
def test_a_list_offers_the_filters_that_it_has_and_no_other(path: tuple[str, ...], filters: set[str]) -> None:
    offered = {option.name for option in dict(COMMANDS)[path].params}
    followed = {"follow"} if path == ("tasks",) else set()
    assert offered == filters | {"since", "until", "limit", "everything", "wide", "as_json"} | followed
    for strange in {"state", "kind", "target", "label", "q", "task", "name"} - filters:
        refused = run(*path, f"--{strange}", "a=b")
        assert (refused.exit_code, f"No such option '--{strange}'" in refused.stderr) == (2, True)


def test_the_choices_are_those_of_the_records() -> None:
    assert tuple(TaskState) == options.TASK_STATES
    assert tuple(ActionState) == options.ACTION_STATES
    assert tuple(End) == options.EVENT_STATES
    assert tuple(Kind) == options.KINDS
    assert tuple(ReplayMode) == options.REPLAY_MODES


def test_simulate_offers_every_option_of_the_simulator_with_its_default() -> None:
    offered = {each.name: each.default for each in fields(Options) if each.metadata}
    assert main.commands["simulate"].make_context("simulate", []).params == offered


# ---------------------------------------------------------------- tasks


def test_a_task_is_ordered_awaited_and_its_results_printed(operator: Operator) -> None:
    result = operator("submit", MODEL, "prompt=a lighthouse", "--label", "project=north", "--wait")
    assert result.stdout.startswith("http://")
    assert "succeeded" in result.stderr.splitlines()
    listed = operator("tasks", "--label", "project=north").stdout.splitlines()
    assert listed[0].split() == ["id", "state", "target", "labels", "created", "(UTC)", "error"]
    assert listed[1].split()[1:4] == ["succeeded", MODEL, "project=north"]
    shown = operator("task", listed[1].split()[0]).stdout
    for part in ("learned by", "callback, confirmed", "\nResults\n", "\nActions\n", "\nChecks\n", "\nTimeline\n"):
        assert part in shown


def test_what_runninghub_was_asked_is_shown_once_and_the_state_is_explained(operator: Operator) -> None:
    shown = operator("task", operator.ended()).stdout
    assert f"which means      {sentences.STATES['succeeded']}" in shown
    checks, timeline = shown.partition("\nChecks\n")[2].split("\nTimeline\n")
    assert " submit " in checks
    assert {" submit ", " query "} & {f" {line.split()[2]} " for line in timeline.splitlines()[1:]} == set()


def test_a_task_that_fails_ends_the_command_with_1_and_says_why(operator: Operator) -> None:
    operator.server.simulator.plan_next(Fault.FAILED)
    result = operator("submit", MODEL, "prompt=a lighthouse", "--wait", code=1)
    assert result.stdout == ""
    assert "failed: 1501 CONTENT_REFUSED: " in result.stderr


VIDEO_WORDS = ("--app", VIDEO_APP.id, "--node", "52.seconds=10", "accessPassword=open sesame")
QUICK_WORDS = ("--quick", PICTURE_APP.id, "quickCreateCode=002", "--node", "6.text=ink", "--node", "5.width=64")
MACHINE = ("instanceType=plus", "retainSeconds=10", "usePersonalQueue=false")
ORDERS = [
    (("--workflow", TEXT_TO_IMAGE.id, "--node", "6.text=a harbour", *MACHINE, "addMetadata=false"), "run_workflow"),
    (("--v1", "--workflow", TEXT_TO_IMAGE.id, "--node", "6.text=a harbour", *MACHINE), "create"),
    (("--app", PICTURE_APP.id, "--node", "6.text=a harbour"), "run_app"),
    ((*VIDEO_WORDS, "--v1"), "app_run"),
    (QUICK_WORDS, "quick_run"),
]


@pytest.mark.parametrize(("words", "route"), ORDERS, ids=[route for _, route in ORDERS])
def test_every_kind_is_ordered_from_the_command_line_and_makes_what_it_should(
    operator: Operator, words: tuple[str, ...], route: str
) -> None:
    simulator = operator.server.simulator
    before = simulator.count(route)
    task = json.loads(operator("submit", *words, "--wait", "--json").stdout)
    assert (task["state"], simulator.count(route)) == ("succeeded", before + 1)
    order = simulator.tasks[task["provider_task_id"]].order
    assert order.graph is not None
    for node in task["input"]["nodeInfoList"]:
        assert order.graph[node["nodeId"]]["inputs"][node["fieldName"]] == node["fieldValue"]


def test_a_text_is_printed_as_a_result_and_what_a_child_task_took_is_shown(operator: Operator) -> None:
    task = json.loads(operator("submit", *VIDEO_WORDS, "--wait", "--json").stdout)
    shown = operator("task", task["id"]).stdout
    (child,) = task["usage"]["children"]
    assert "cost" in shown
    assert "money 0.14" in shown
    assert f"of which {child['task_id']}" in shown
    assert "A text that node 61 wrote." in shown


def test_without_waiting_the_id_alone_is_on_standard_output(operator: Operator) -> None:
    task_id = operator("submit", MODEL, "prompt=a lighthouse", "--idempotency-key", "k-1").stdout.strip()
    again = operator("submit", MODEL, "prompt=a lighthouse", "--idempotency-key", "k-1", "--json")
    assert json.loads(again.stdout)["id"] == task_id
    assert "another order" in operator("submit", MODEL, "prompt=a harbour", "--idempotency-key", "k-1", code=1).stderr


def test_the_input_comes_from_a_file_or_standard_input_and_pairs_lie_over_it(operator: Operator) -> None:
    result = operator("submit", MODEL, "size=2", "--force", "--body", "-", "--json", stdin='{"size": 1, "prompt": "x"}')
    assert json.loads(result.stdout)["input"] == {"size": "2", "prompt": "x"}


def test_a_bad_order_is_told_problem_by_problem(operator: Operator) -> None:
    told = operator("submit", "../x", "webhookUrl=1", "--label", "l=x", code=2).stderr.splitlines()
    assert told[0].startswith("Error: ")
    assert [line.split(":")[0] for line in told[1:]] == ["  target", "  input.webhookUrl"]


def test_what_can_be_done_to_a_task(operator: Operator) -> None:
    task_id = operator.ended()
    assert "succeeded" in operator("reconcile", task_id).stdout
    assert json.loads(operator("resend", task_id, "--json").stdout)["callback"]["resent_at"]
    assert "succeeded already" in operator("cancel", task_id, code=1).stderr
    again = operator("submit-again", task_id).stdout.strip()
    assert json.loads(operator("task", again, "--json").stdout)["again_of"] == task_id


def test_a_list_can_be_had_to_its_end_as_one_document(operator: Operator) -> None:
    made = {operator("submit", MODEL, "prompt=a lighthouse", "--label", "many=1").stdout.strip() for _ in range(3)}
    assert "there are more" in operator("tasks", "--label", "many=1", "--limit", "2").stderr
    everything = json.loads(operator("tasks", "--label", "many=1", "--all", "--json").stdout)
    assert {task["id"] for task in everything["items"]} == made
    assert everything["next"] is None


def test_an_empty_list_prints_nothing_on_standard_output(operator: Operator) -> None:
    for words in (["tasks"], ["actions"], ["alerts"]):
        result = operator(*words, "--until", "2020-01-01")
        assert (result.stdout, result.stderr) == ("", f"no {words[0]}\n")


# ---------------------------------------------------------------- actions, deliveries, replays


def test_actions_are_shown_retried_and_skipped(operator: Operator) -> None:
    task_id = operator.ended()
    dead = operator("actions", "--state", "dead", "--task", task_id).stdout.splitlines()[1]
    assert "[bold]no[/bold]  use" not in dead
    assert "[bold]no[/bold] use" in dead
    action_id = dead.split()[0]
    assert "Tries" in operator("actions", "show", action_id).stdout
    operator("actions", "pause", "breaks")
    assert "owed" in operator("actions", "retry", action_id).stdout
    assert "owed or running already" in operator("actions", "retry", action_id, code=1).stderr
    assert "skipped" in operator("actions", "skip", action_id).stdout
    assert "paused" in operator("actions", "definitions").stdout
    assert json.loads(operator("actions", "resume", "breaks", "--json").stdout)["paused"] is False


def test_an_alert_is_marked_as_seen_and_closed(operator: Operator) -> None:
    operator.ended()
    alert = operator("alerts", "--state", "open", "--kind", "action_dead").stdout.splitlines()[1].split()[0]
    assert " seen " in operator("alerts", "ack", alert).stdout
    assert " closed " in operator("alerts", "close", alert).stdout
    assert json.loads(operator("alerts", "close", alert, "--json").stdout)["closed_at"]


def test_a_replay_is_counted_begun_shown_and_cancelled(operator: Operator) -> None:
    task_id = operator.ended()
    assert operator("replay", "--task", task_id, "--dry-run").stdout == "1 would be owed again\n"
    begun = operator("replay", "--task", task_id, "--since", "1h", "--rate", "5")
    number = begun.stdout.split()[1]
    assert "of 1" in operator("replay", "show", number).stdout
    assert json.loads(operator("replay", "cancel", number, "--json").stdout)["id"] == int(number)
    assert "narrow it" in operator("replay", "--mode", "again", code=2).stderr


def test_a_replay_is_waited_for_listed_and_taken_up_again(operator: Operator) -> None:
    task_id = operator.ended()
    waited = operator("replay", "--task", task_id, "--wait", code=1)
    assert "1 of 1 are dead again" in waited.stderr
    assert waited.stderr.splitlines()[0] == " ".join(waited.stdout.split()[:2])
    operator("actions", "pause", "breaks")
    number = operator("replay", "--task", task_id).stdout.split()[1]
    operator("replay", "cancel", number)
    assert number in [line.split()[0] for line in operator("replay", "list").stdout.splitlines()[1:]]
    assert "there are more" in operator("replay", "list", "--limit", "1").stderr
    assert "running" in operator("replay", "resume", number).stdout
    assert "has nothing that was cancelled" in operator("replay", "resume", number, code=1).stderr
    operator("actions", "resume", "breaks")
    assert "1 of 1" in operator("replay", "show", number, "--wait", code=1).stdout
    assert operator("replay", "list", "--until", "2020-01-01").stderr == "no replays\n"


def test_deliveries_come_with_their_totals_and_bodies(operator: Operator) -> None:
    task_id = operator.ended()
    listed = operator("deliveries", "--task", task_id, "--state", "readable").stdout
    for state in set(options.DELIVERY_STATES) - {"readable"}:
        assert operator("deliveries", "--task", task_id, "--state", state).stderr == "no deliveries\n"
    assert "callbacks received" in listed
    body = operator("deliveries", "body", listed.splitlines()[1].split()[0]).stdout
    assert json.loads(body)["event"] == "TASK_END"


def test_a_signing_secret_that_the_server_made_is_rotated(operator: Operator) -> None:
    assert "accepted until 2" in operator("secrets", "rotate").stdout
    assert "accepted_until" in json.loads(operator("secrets", "rotate", "--json").stdout)


def test_options_of_a_list_before_another_command_are_a_mistake(operator: Operator) -> None:
    assert "too early" in operator("actions", "--state", "dead", "show", "1", code=2).stderr


def test_a_backup_is_a_private_file_and_replaces_nothing_unasked(operator: Operator, tmp_path: Path) -> None:
    path = tmp_path / "copy.db"
    assert json.loads(operator("backup", str(path), "--json").stdout) == {
        "path": str(path),
        "bytes": path.stat().st_size,
    }
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "--overwrite" in operator("backup", str(path), code=2).stderr
    operator("backup", str(path), "--overwrite")
    assert "cannot be written" in operator("backup", str(tmp_path / "no" / "copy.db"), code=1).stderr


def test_every_document_is_json(operator: Operator) -> None:
    lists = (["tasks"], ["actions"], ["deliveries"], ["alerts"], ["actions", "definitions"], ["replay", "--dry-run"])
    for words in lists:
        json.loads(operator(*words, "--json").stdout)


# ---------------------------------------------------------------- ends


@pytest.mark.parametrize(
    "words",
    [
        ["task", "nope"],
        ["actions", "show", "999999"],
        ["actions", "pause", "nope"],
        ["alerts", "ack", "999999"],
        ["alerts", "close", "999999"],
    ],
)
def test_what_does_not_exist_ends_with_3(operator: Operator, words: list[str]) -> None:
    assert "there is no" in operator(*words, code=3).stderr


def test_a_wrong_token_ends_with_2_and_says_where_the_right_one_is(server: RunningServer) -> None:
    env = {"RECEIVER_URL": server.url, "RECEIVER_ADMIN_TOKEN": "a-wrong-token-of-some-length"}
    result = run("tasks", env=env)
    assert result.exit_code == 2
    assert "receiver token" in result.stderr
    assert "a-wrong-token" not in result.output


def test_no_server_ends_with_4_and_a_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    result = run("tasks", env={"RECEIVER_URL": url, "RECEIVER_ADMIN_TOKEN": "x" * 16})
    assert result.exit_code == 4
    assert result.stderr.startswith(f"Error: no server answers at {url} (")
    assert "`receiver serve`" in result.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ApiError(404, "not_found", "there is no task t"), 3),
        (ApiError(404, "http_error", "http://proxy.test answers 404"), 1),
        (ApiError(409, "ended", "the task has failed already"), 1),
        (ApiError(422, "invalid", "x", [{"path": "x", "message": "y"}]), 2),
        (ApiError(422, "invalid", "x", "not a list"), 2),
        (ApiError(400, "unknown_filter", "x is no filter here; there are: state", [{"path": "x"}]), 2),
        (ApiError(401, "unauthorized", "send it"), 2),
        (ApiError(502, "provider_error", "RunningHub: no", {"code": "1"}), 1),
        (ApiError(503, "disk_low", "full"), 1),
        (Unreachable("http://x.test", "refused"), 4),
        (SettingsError(["one", "two"]), 2),
        (Failed("broken"), 1),
    ],
)
def test_every_error_has_one_exit_code(error: ReceiverError, code: int) -> None:
    ended = ending(error)
    assert ended is not None
    assert ended.exit_code == code
    assert ended.message or ended.lines


def test_a_filter_that_the_server_does_not_know_ends_with_its_message() -> None:
    ended = ending(ApiError(400, "unknown_filter", "x is no filter here; there are: state", [{"path": "x"}]))
    assert ended is not None
    assert (ended.message, ended.lines) == ("x is no filter here; there are: state", [])


def test_an_error_of_the_program_is_not_dressed_up() -> None:
    assert ending(ValueError("a bug")) is None


def test_settings_problems_are_told_each_on_its_own_line(tmp_path: Path) -> None:
    (tmp_path / "receiver.toml").write_text('port = "x"\nnonsense = 1\n')
    for words in (["serve"], ["token"], ["tasks"]):
        result = run(*words, env={"RECEIVER_CONFIG": str(tmp_path / "receiver.toml")})
        assert result.exit_code == 2
        assert [line.split(": ")[1] for line in result.stderr.splitlines()] == ["port", "nonsense"]


# ---------------------------------------------------------------- finding the server


def test_the_server_is_found_by_what_it_left_beside_its_database(tmp_path: Path) -> None:
    (tmp_path / "receiver.toml").write_text('admin_token = "the-token-in-the-file"\n')
    environment = {"PORT": "4711", "HOST": "0.0.0.0"}
    assert find_server(environment, tmp_path)[:2] == ("http://127.0.0.1:4711", "the-token-in-the-file")
    left = address_file(tmp_path / "receiver.db")
    announce(left, "http://127.0.0.1:9999", 0.0)
    assert find_server(environment, tmp_path).url == "http://127.0.0.1:9999"
    left.write_bytes(b"\xff not an address")
    assert find_server(environment, tmp_path).url == "http://127.0.0.1:4711"


def test_a_laptop_needs_no_settings_when_both_are_given(tmp_path: Path) -> None:
    (tmp_path / "receiver.toml").write_text("this is not TOML")
    environment = {"RECEIVER_URL": "https://receiver.example.com", "RECEIVER_ADMIN_TOKEN": "the-token-of-there"}
    assert find_server(environment, tmp_path) == ("https://receiver.example.com", "the-token-of-there", None)


def test_the_token_in_the_database_is_told_to_this_machine_alone(server: RunningServer) -> None:
    known = {**server.environment, "RECEIVER_PUBLIC_URL": "https://receiver.example.com"}
    for url, token in (
        ("https://receiver.example.com", server.token),
        ("http://localhost:1", None),
        ("https://elsewhere.example.com", None),
        ("http://127.0.0.1.example.com", None),
    ):
        assert find_server({**known, "RECEIVER_URL": url}, server.directory) == (url, token, None)
    for url in (server.url, server.url.replace("127.0.0.1", "localhost")):
        found = find_server({**known, "RECEIVER_URL": url}, server.directory)
        assert (found.url, found.token, found.known is None) == (server.url, server.token, False)


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x", "http://", "http://x:port", "http://x\n", "http://[::1"])
def test_an_address_that_is_none_is_a_wrong_use(url: str) -> None:
    result = run("tasks", env={"RECEIVER_URL": url, "RECEIVER_ADMIN_TOKEN": "x" * 16})
    assert result.exit_code == 2
    assert result.stderr.startswith("RECEIVER_URL: expected")


# ---------------------------------------------------------------- what is printed


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain 灯塔", "plain 灯塔"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://evil.test\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]52;c;Y2xpcGJvYXJk", ""),
        ("\x9b2Jcleared", "cleared"),
        ("\x1b", ""),
        ("\x1bP+q\x1b\\x", "x"),
        ("one\r\ntwo\tthree", "one  two three"),
        ("a\x00b\x08c\x7fd\x85e", "abcde"),
        ("gpj.\u202eexe", "gpj.exe"),
        ("[red]not markup[/red]", "[red]not markup[/red]"),
    ],
)
def test_text_from_outside_is_harmless_on_a_terminal(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_a_document_is_harmless_on_a_terminal_and_the_same_json() -> None:
    @click.command()
    def command() -> None:
        document({"text": "a\x9b2J\x1b[2J\u202e灯"})

    printed = CliRunner().invoke(command).stdout
    assert not {"\x9b", "\x1b", "\u202e"} & set(printed)
    assert json.loads(printed) == {"text": "a\x9b2J\x1b[2J\u202e灯"}


def test_a_drawn_table_takes_no_markup_and_leaves_out_empty_columns() -> None:
    drawn = io.StringIO()
    draw(("id", "none", "state"), [("[bold]1[/bold]", "", "succeeded"), (":smile:", "", "failed")], drawn)
    assert drawn.getvalue().split() == ["id", "state", "[bold]1[/bold]", "succeeded", ":smile:", "failed"]


def test_columns_stand_below_one_another_whatever_their_script() -> None:
    assert aligned([("name", "x"), ("灯塔", "y"), ("a", "z")]) == ["name  x", "灯塔  y", "a     z"]


# ---------------------------------------------------------------- what is read


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("2h", "2026-11-22T06:00:00+00:00"),
        ("1.5m", "2026-11-22T07:58:30+00:00"),
        ("1w", "2026-11-15T08:00:00+00:00"),
        ("2026-11-22", "2026-11-22T00:00:00+00:00"),
        ("2026-11-22T08:00:00Z", "2026-11-22T08:00:00+00:00"),
        ("2026-11-22T08:00:00+02:00", "2026-11-22T08:00:00+02:00"),
        ("yesterday", None),
        ("2 h", None),
        ("99999999w", None),
        ("", None),
    ],
)
def test_a_moment_is_a_time_ago_or_a_time(text: str, read: str | None) -> None:
    assert options.read_moment(text, datetime(2026, 11, 22, 8, tzinfo=UTC).timestamp()) == read


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ([], {}),
        (["a=x"], {"a": "x"}),
        (["a=5", "b=1.5", "c=true", "d=null"], {"a": 5, "b": 1.5, "c": True, "d": None}),
        (['a="5"', "b=05", "c=", "d=x=y", "e= 5"], {"a": "5", "b": "05", "c": "", "d": "x=y", "e": 5}),
        (["a=[1,2]", 'b={"c": 1}', "c={not json"], {"a": [1, 2], "b": {"c": 1}, "c": "{not json"}),
        (["a=1", "a=x", "b[]=1", "c[]=1", "c=2"], {"a": [1, "x"], "b": [1], "c": [1, 2]}),
        (["灯=塔"], {"灯": "塔"}),
        (["a=" + "[" * 3000], {"a": "[" * 3000}),
    ],
)
def test_pairs_are_an_object(given: list[str], read: dict[str, object]) -> None:
    assert pairs.read_input(None, None, given) == read


@pytest.mark.parametrize(
    ("text", "body", "given"),
    [
        (None, None, ["a"]),
        (None, None, ["=1"]),
        (None, None, ["[]=1"]),
        (None, None, ["a=\udcff"]),
        ("{", None, []),
        ("[1]", None, []),
        (None, b"\xff", []),
        ("{}", b"{}", []),
    ],
)
def test_an_input_that_cannot_be_read_is_a_wrong_use(text: str | None, body: bytes | None, given: list[str]) -> None:
    with pytest.raises(click.UsageError):
        pairs.read_input(text, body, given)


# ---------------------------------------------------------------- without a server


def test_the_token_comes_from_the_settings_or_the_database(server: RunningServer, tmp_path: Path) -> None:
    assert run("token", env=server.environment).stdout.strip() == server.token
    given = run("token", "--json", env={"RECEIVER_ADMIN_TOKEN": "a-token-that-is-given"})
    assert json.loads(given.stdout) == {"admin_token": "a-token-that-is-given"}
    none = run("token", env={"RECEIVER_DATABASE": f"sqlite:///{tmp_path / 'none.db'}"})
    assert none.exit_code == 1
    assert "receiver serve" in none.stderr
    (tmp_path / "text.db").write_text("this is no database, but it is long enough to be taken for one" * 20)
    assert run("token", env={"RECEIVER_DATABASE": f"sqlite:///{tmp_path / 'text.db'}"}).exit_code == 1


def test_check_finds_what_is_missing_and_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    kinds = {
        "good-command": 'kind = "command"\ncommand = ["sh"]',
        "bad-command": 'kind = "command"\ncommand = ["no-such-program"]',
        "good-function": 'kind = "python"\nfunction = "os.path:join"',
        "bad-function": 'kind = "python"\nfunction = "os.path:nothing"',
        "good-folder": f'kind = "download"\ndirectory = "{tmp_path / "made" / "later"}"',
        "bad-folder": f'kind = "download"\ndirectory = "{tmp_path / "file" / "below"}"',
        "good-url": 'kind = "http"\nurl = "https://example.com"',
        "bad-url": 'kind = "http"\nurl = "http://127.0.0.1:8001/"',
        "good-near-url": 'kind = "http"\nurl = "http://localhost:8001/"\nallow_private = true',
        "good-target": 'kind = "command"\ncommand = ["sh"]\nwhen = { target = "rhart-video-*" }',
        "good-workflow": 'kind = "command"\ncommand = ["sh"]\nwhen = { target = "19041*" }',
        "bad-target": 'kind = "command"\ncommand = ["sh"]\nwhen = { target = "google/*" }',
    }
    toml = "".join(f'[[actions]]\nname = "{name}"\n{body}\n' for name, body in kinds.items())
    (tmp_path / "receiver.toml").write_text(f"callbacks.disk_floor = 0\n{toml}")
    env = {"RECEIVER_CONFIG": str(tmp_path / "receiver.toml"), "RECEIVER_DATABASE": f"sqlite:///{tmp_path / 'r.db'}"}
    result = run("check", "--json", env=env)
    assert result.exit_code == 2
    found = {each["what"]: each["ok"] for each in json.loads(result.stdout)["found"]}
    assert {what for what, ok in found.items() if not ok} == {
        f"action bad-{what}" for what in ("command", "function", "folder", "url", "target")
    }
    assert found.keys() >= {f"action {name}" for name in kinds}
    assert "no-such-program" in run("check", env=env).stdout
    assert not (tmp_path / "made").exists()
    (tmp_path / "receiver.toml").write_text("callbacks.disk_floor = 0\n")
    assert run("check", env=env).exit_code == 0


@pytest.mark.parametrize(
    ("status", "moved_to", "code", "told"),
    [
        (
            308,
            "https://www.b.test",
            2,
            "problem  runninghub.base_url       {url}: it answers 308: set runninghub.base_url to https://www.b.test",
        ),
        (
            302,
            "",
            2,
            "problem  runninghub.base_url  {url}: it answers 302 and stays there, as no site of RunningHub does:"
            " is runninghub.base_url right?",
        ),
        (503, "", 0, "warning  runninghub.base_url       {url}: HTTP status 503"),
        (200, "", 0, "ok       runninghub.base_url       {url} answers"),
    ],
)
def test_check_asks_the_site_once_without_the_key_and_names_the_address_to_set(
    tmp_path: Path, status: int, moved_to: str, code: int, told: str
) -> None:
    asked = []

    class Site(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append((self.path, self.headers["authorization"]))
            self.send_response(status)
            self.send_header("location", f"{moved_to}{self.path}")
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as site:
        thread = threading.Thread(target=site.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{site.server_port}"
        env = {
            "RUNNINGHUB_BASE_URL": url,
            "RUNNINGHUB_API_KEY": "0123456789abcdef",
            "RECEIVER_DATABASE": f"sqlite:///{tmp_path / 'r.db'}",
            "COLUMNS": "200",
        }
        result = run("check", env=env)
        site.shutdown()
        thread.join()
    assert (result.exit_code, asked) == (code, [("/openapi/v2/query", None)]), result.output
    assert told.format(url=url).split() in [line.split() for line in result.stdout.splitlines()]


def test_check_tells_everything_at_once_whatever_else_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "receiver.toml").write_text(
        'port = "x"\nnonsense = 1\ncallbacks.disk_floor = 0\n'
        '[[actions]]\nname = "two"\nkind = "command"\ncommand = ["no-such-program"]\ntimeout = 0\n'
        'when = { target = "google/*" }\n'
    )
    env = {
        "RECEIVER_CONFIG": str(tmp_path / "receiver.toml"),
        "RECEIVER_DATABASE": f"sqlite:///{tmp_path / 'r.db'}",
        "RUNNINGHUB_API_KEY": "'quoted-quoted-quoted'",
        "HOST": "x86_64-conda-linux-gnu",
    }
    result = run("check", "--json", env=env)
    assert result.exit_code == 2
    found = [(each["what"], each["found"]) for each in json.loads(result.stdout)["found"] if not each["ok"]]
    texts = "\n".join(text for _, text in found)
    assert [what for what, _ in found] == ["settings"] * 4 + ["host", "action two", "action two"]
    for said in ("port: ", "nonsense: ", "timeout: ", "quotes around it", "no-such-program", "when.target"):
        assert said in texts
    assert "HOST in the environment says so (conda sets it): unset HOST" in texts


def test_check_warns_of_what_is_allowed_and_seldom_meant(tmp_path: Path) -> None:
    env = {"RECEIVER_CONFIG": str(tmp_path / "r.toml"), "RECEIVER_DATABASE": f"sqlite:///{tmp_path / 'r.db'}"}
    (tmp_path / "r.toml").write_text("callbacks.disk_floor = 0\n")
    result = run("check", env=env)
    assert result.exit_code == 0
    noted = {line.split()[1] for line in result.stdout.splitlines() if line.startswith("warning")}
    assert noted == {"public_url", "runninghub.api_key"}


def test_a_host_of_conda_s_is_named_when_nobody_can_listen_on_it() -> None:
    result = run("serve", "--port", "0", env={"HOST": "x86_64-conda-linux-gnu"})
    assert result.exit_code == 2
    assert "HOST in the environment says so" in result.stderr


def test_the_example_of_settings_changes_nothing_until_it_is_uncommented(tmp_path: Path) -> None:
    path = tmp_path / "receiver.toml"
    path.write_text(run("config", "example").stdout)
    assert load_settings({}, tmp_path) == load_settings({}, tmp_path / "nowhere")
    for field in FIELDS:
        assert f"\n#{field.key.rpartition('.')[2]} = " in path.read_text()


def test_the_example_of_settings_is_valid_when_all_of_it_is_uncommented(tmp_path: Path) -> None:
    lines = [line[1:] if line[:1] == "#" and line[1:2] != " " else line for line in example_toml().splitlines()]
    (tmp_path / "receiver.toml").write_text("\n".join(lines))
    settings = load_settings({}, tmp_path)
    assert {definition.kind for definition in settings.definitions} == set(ActionKind)
    for field in FIELDS:
        if field.default not in (None, ()):
            assert getattr(settings, field.name) == field.default


def test_one_process_owns_the_file() -> None:
    result = run("serve", "--workers", "2")
    assert result.exit_code == 2
    assert "one process owns a SQLite file" in result.stderr


def test_a_port_that_is_taken_is_a_wrong_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for words in (["simulate"], ["serve", "--host", "127.0.0.1"]):
            result = run(*words, "--port", port)
            assert result.exit_code == 2
            assert f"cannot listen on 127.0.0.1:{port}: Address already in use;" in result.stderr


@pytest.mark.parametrize("rate", ["nan", "inf"])
def test_a_rate_that_is_none_is_a_wrong_use(rate: str) -> None:
    assert (
        run("replay", "--rate", rate, env={"RECEIVER_URL": "http://127.0.0.1:9", "RECEIVER_ADMIN_TOKEN": "x"}).exit_code
        == 2
    )


@pytest.mark.parametrize("words", [("task",), ("actions", "pause"), ("tasks", "--target"), ("replay", "--name")])
def test_what_is_no_text_is_a_wrong_use(words: tuple[str, ...]) -> None:
    result = run(*words, "\udcff", env={"RECEIVER_URL": "http://127.0.0.1:9", "RECEIVER_ADMIN_TOKEN": "x"})
    assert result.exit_code == 2
    assert "not UTF-8" in result.stderr


@pytest.mark.parametrize("seconds", ["x", "1,x", "-1", "inf", "nan"])
def test_seconds_that_are_none_are_a_wrong_use(seconds: str) -> None:
    assert run("simulate", "--retry-seconds", seconds).exit_code == 2


@pytest.mark.slow
def test_a_server_in_a_process_is_found_used_and_stopped(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in SILENT} | {"PORT": "0"}
    receiver = [sys.executable, "-m", "receiver"]
    with subprocess.Popen(
        [*receiver, "serve", "--host", "127.0.0.1"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("receiver serves http://127.0.0.1:")
            listed = subprocess.run(
                [*receiver, "tasks", "--json"], cwd=tmp_path, env=environment, capture_output=True, check=False
            )
            assert msgspec.json.decode(listed.stdout, type=PageView[TaskRow]).items == []
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        finally:
            with suppress(ProcessLookupError):
                process.kill()
