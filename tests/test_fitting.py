"""Lists fit the terminal: a line a task, ids that can be pasted back, and nothing cut that must be whole."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from test_cli import COMMANDS, Operator, run
from test_client import MODEL

from receiver.cli.fitting import CUT, fitted
from receiver.simulator import Fault

KEPT = frozenset({"id", "state"})
HEADERS = ("id", "state", "target", "labels", "created (UTC)", "error")
ROW = (
    "0197b0a2-5f0e",
    "succeeded",
    "google/veo3.1-pro/reference-to-video-official-stable",
    "project=north owner=ann",
    "2026-11-22 08:00:00",
    "1501 CONTENT_REFUSED",
)


def lines(width: int, *rows: tuple[str, ...], headers: tuple[str, ...] = HEADERS) -> list[list[str]]:
    return fitted(headers, rows, width, KEPT)[1]


@pytest.mark.parametrize("width", [40, 60, 70, 80, 100, 120])
def test_a_row_is_one_line_of_the_width_with_its_id_and_state_whole(width: int) -> None:
    names, cells, _ = fitted(HEADERS, [ROW], width, KEPT)
    assert len(cells) == 1
    assert sum(map(len, cells[0])) + 2 * (len(names) - 1) <= width
    assert cells[0][:2] == list(ROW[:2])


def test_what_fits_stays_as_it_is() -> None:
    assert fitted(HEADERS, [ROW], 200, KEPT) == (list(HEADERS), [list(ROW)], [])


def test_times_lose_their_year_and_seconds_before_any_text_is_cut() -> None:
    short = (*ROW[:2], "google/veo3.1", "", ROW[4], "")
    assert lines(56, short) == [["0197b0a2-5f0e", "succeeded", "google/veo3.1", "11-22 08:00"]]


def test_a_text_that_is_cut_says_so() -> None:
    (cells,) = lines(80, ROW)
    assert [cell[-1] for cell in (cells[2], cells[3], cells[5])] == [CUT] * 3


def test_columns_for_which_there_is_no_room_are_left_out_and_named() -> None:
    names, _, left_out = fitted(HEADERS, [ROW], 50, KEPT)
    assert names == ["id", "state", "target", "created (UTC)"]
    assert left_out == ["labels", "error"]


def test_the_message_of_an_alert_goes_on_in_further_lines() -> None:
    headers, message = ("id", "kind", "message"), "RunningHub cannot reach the public URL " * 3
    found = lines(50, ("1", "callback_missed", message), headers=headers)
    assert " ".join(line[2] for line in found) == message.strip()
    assert len(found) > 1
    assert {tuple(line[:2]) for line in found[1:]} == {("", "")}


def test_wide_characters_take_two_columns() -> None:
    (cells,) = lines(30, ("1", "灯塔" * 20), headers=("id", "name"))
    assert cells == ["1", "灯塔" * 6 + CUT]


@pytest.mark.story
@pytest.mark.parametrize("columns", ["60", "80"])
def test_every_list_fits_the_columns_it_is_given(operator: Operator, columns: str) -> None:
    operator.server.simulator.plan_next(Fault.FAILED)
    operator(
        "submit", MODEL, "prompt=ink", "--label", "project=the northern one", "--label", "shot=17", "--wait", code=1
    )
    operator.ended()
    operator.environment["COLUMNS"] = columns
    for words in (
        ["models", "google"],
        ["tasks"],
        ["actions"],
        ["deliveries"],
        ["alerts"],
        ["replay", "list"],
        ["actions", "definitions"],
    ):
        printed = operator(*words).stdout.splitlines()
        assert max(map(len, printed), default=0) <= int(columns), words
    with operator.server.client() as client:
        assert len(operator("tasks").stdout.splitlines()) == 1 + len(client.tasks().items)


@pytest.mark.story
def test_what_a_list_shows_as_an_id_can_be_given_to_every_command(operator: Operator) -> None:
    whole = operator.ended()
    listed = operator("tasks", "--limit", "1").stdout.splitlines()[1].split()[0]
    assert whole.startswith(listed)
    assert listed != whole
    for words in (["task", listed], ["reconcile", listed], ["resend", listed], ["wait", listed]):
        operator(*words)
    for words in (["actions", "--task"], ["deliveries", "--task"], ["tasks", "--q"]):
        assert listed in operator(*words, listed).stdout
    assert operator("replay", "--task", listed, "--dry-run").stdout == "1 would be owed again\n"
    assert operator("submit-again", listed).stdout.strip() != whole
    assert whole in operator("tasks", "--wide").stdout


@pytest.mark.story
def test_a_beginning_of_several_ids_ends_with_2_and_names_the_tasks(operator: Operator) -> None:
    made = [operator.ended() for _ in range(2)]
    told = operator("cancel", made[0][:4], code=2).stderr
    assert "tasks begin with" in told
    assert made[1] in told


@pytest.mark.slow
@pytest.mark.story
@pytest.mark.parametrize(("more", "fits"), [([], True), (["--wide"], False)])
def test_on_a_terminal_of_80_columns_a_task_is_one_line(
    operator: Operator, tmp_path: Path, more: list[str], fits: bool
) -> None:
    operator("submit", MODEL, "prompt=ink", "--label", "project=the northern one", "--wait")
    ours, theirs = pty.openpty()
    size = (24).to_bytes(2, "little") + (80).to_bytes(2, "little") + bytes(4)
    import fcntl
    import termios

    fcntl.ioctl(theirs, termios.TIOCSWINSZ, size)
    environment = {**os.environ, **operator.environment, "TERM": "xterm"}
    environment.pop("COLUMNS", None)
    command = [sys.executable, "-m", "receiver", "tasks", "--limit", "1", *more]
    ran = subprocess.Popen(command, stdout=theirs, env=environment, cwd=tmp_path)
    os.close(theirs)
    printed = b""
    try:
        while chunk := os.read(ours, 65536):
            printed += chunk
    except OSError:
        pass
    os.close(ours)
    assert ran.wait(30) == 0
    shown = re.sub(r"\x1b\[[0-9;]*m", "", printed.decode()).split("\r\n")[:-1]
    assert len(shown) == 2
    assert (max(map(len, shown)) <= 80) is fits


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[" ".join(path) for path, _ in COMMANDS])
def test_every_help_fits_a_terminal_of_80_columns(path: tuple[str, ...], command: click.Command) -> None:
    context = click.Context(command, info_name=" ".join(("receiver", *path)), terminal_width=80)
    assert [line for line in command.get_help(context).splitlines() if len(line) > 80] == []


def test_a_model_is_listed_with_its_endpoint_whole_and_its_name_only_where_there_is_room() -> None:
    narrow = run("models", "veo3.1-pro", env={"COLUMNS": "80"})
    assert CUT not in narrow.stdout
    assert "rhart-video-v3.1-pro-official/reference-to-video" in narrow.stdout
    assert "names are left out" in narrow.stderr
    assert "google/veo3.1-pro/reference-to-video-official-stable" in run("models", "veo3.1-pro", "--wide").stdout


def test_the_places_of_results_are_lines_that_can_be_copied(operator: Operator) -> None:
    task = operator.ended()
    (result,) = json.loads(operator("task", task, "--json").stdout)["results"]
    lines = [line.strip() for line in operator("task", task).stdout.splitlines()]
    assert result["url"] in lines


def test_what_a_try_came_to_is_a_sentence(operator: Operator) -> None:
    operator.ended()
    dead = json.loads(operator("actions", "--state", "dead", "--json").stdout)["items"][0]
    (line,) = [line for line in operator("actions", "show", str(dead["id"])).stdout.splitlines() if line[:3] == "1  "]
    assert "{" not in line
    assert "use, category: failed" in line


@pytest.mark.slow
def test_a_log_that_is_looked_at_has_short_lines_and_no_colours_for_whoever_wants_none() -> None:
    said = {}
    for name, value in (("TERM", "dumb"), ("NO_COLOR", "1"), ("TERM", "xterm")):
        script = (
            "import structlog; from receiver.server.logs import configure_logging\n"
            "configure_logging(); structlog.get_logger().info('task', state='queued')\n"
        )
        ours, theirs = os.openpty()
        environment = {**os.environ, "TERM": "xterm", name: value}
        ran = subprocess.Popen([sys.executable, "-c", script], stderr=theirs, env=environment)
        os.close(theirs)
        ran.wait(30)
        said[value] = os.read(ours, 65536).decode().strip()
        os.close(ours)
    assert re.fullmatch(r"\d\d:\d\d:\d\dZ \[info\] task   state=queued", said["dumb"])
    assert "\x1b" not in said["1"]
    assert "\x1b" in said["xterm"]


def test_a_list_of_commands_has_their_first_sentences_whole() -> None:
    groups = [(path, command) for path, command in COMMANDS if isinstance(command, click.Group)]
    for path, group in groups:
        assert "Commands:" in group.get_help(click.Context(group)) or path == ()
        assert [line for line in group.get_help(click.Context(group)).splitlines()[1:] if line.endswith("...")] == []
