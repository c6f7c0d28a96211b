"""The manual is true: settings, commands, routes, filters, actions, alerts, numbers and files; and it is shown."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from documents import ROOT, TOPICS, blocks, names, rows, section

from receiver.actions.download.names import PLACES
from receiver.actions.settings import DEFINITIONS
from receiver.cli import main
from receiver.cli.docs import draw, read_topics, summary
from receiver.model import breaker, rules
from receiver.model.definitions import ActionKind, Definition, FailureClass, When
from receiver.model.fields import Field, fields_of
from receiver.model.records import ActionState, AlertKind, ReplayMode, TaskState
from receiver.server.definitions import read_definitions
from receiver.server.settings import FIELDS, load_settings
from receiver.web.routes import ENDPOINTS

# ---------------------------------------------------------------- settings


def row(field: Field) -> str:
    """A setting's line of the table."""
    default = field.default
    if default is None:
        default = "none"
    elif default == ():
        default = "made" if field.secret else "none"
    elif isinstance(default, bool):
        default = str(default).lower()
    elif isinstance(default, float):
        default = int(default)
    variables = ", else ".join(f"`{name}`" for name in field.variables)
    return f"| `{field.key}` | {variables} | {default} | {field.help} |"


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.key)
def test_every_setting_stands_in_the_table_with_its_variable_default_and_purpose(field: Field) -> None:
    lines = TOPICS["settings"].splitlines()
    assert row(field) in lines, f"docs/settings.md should have the line\n{row(field)}"


def test_the_table_has_no_other_setting() -> None:
    assert [cells[0] for cells in rows(TOPICS["settings"])] == [f"`{field.key}`" for field in FIELDS]


# ---------------------------------------------------------------- commands


def test_every_command_is_listed_and_has_help() -> None:
    assert isinstance(main, click.Group)
    listed = {name for cells in rows(TOPICS["commands"]) for name in names(cells[0])}
    assert listed == {f"receiver {name}" for name in main.commands}
    assert [name for name, command in main.commands.items() if not command.help] == []


# ---------------------------------------------------------------- layout


def test_every_room_of_the_program_stands_in_the_layout_and_no_other() -> None:
    inside = (ROOT / "receiver").iterdir()
    rooms = {f"{path.name}/" if path.is_dir() else path.name for path in inside if path.name[0] not in "_."}
    named = [name for cells in rows(TOPICS["layout"]) for name in names(cells[0]) if "scripts/" not in name]
    assert sorted(named) == sorted(rooms - {"py.typed"})
    assert len(rooms) + 2 <= 26, "one look must explain the program"


# ---------------------------------------------------------------- actions


@pytest.mark.parametrize("topic", [topic for topic in TOPICS if "```toml" in TOPICS[topic]])
def test_every_configuration_that_is_shown_loads(topic: str, tmp_path: Path) -> None:
    for block in blocks(TOPICS[topic], "toml"):
        (tmp_path / "receiver.toml").write_text(block)
        assert load_settings({}, tmp_path).definitions


def test_the_first_configuration_shows_one_action_of_each_kind(tmp_path: Path) -> None:
    (tmp_path / "receiver.toml").write_text(blocks(TOPICS["actions"], "toml")[0])
    settings = load_settings({}, tmp_path)
    assert [each.kind.value for each in settings.definitions] == ["download", "http", "command", "python"]


@pytest.mark.slow
def test_the_python_action_it_shows_does_what_its_tests_say(tmp_path: Path) -> None:
    files = dict(block.removeprefix("# ").split("\n", 1) for block in blocks(TOPICS["actions"], "python"))
    assert list(files) == ["shop/hooks.py", "test_hooks.py"]
    for name, code in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(code)
    (tmp_path / "receiver.toml").write_text(blocks(TOPICS["actions"], "toml")[0])
    python = [sys.executable, "-m"]
    words = [*python, "pytest", "-q", "-W", "error", "-p", "no:asyncio", "--basetemp", str(tmp_path / "temporary")]
    tested = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert "\n4 passed" in tested.stdout, tested.stdout + tested.stderr
    tried = subprocess.run(
        [*python, "receiver", "actions", "test", "index"], cwd=tmp_path, capture_output=True, text=True
    )
    assert tried.returncode == 0, tried.stdout + tried.stderr
    kinds = [*python, "mypy", "--strict", "--cache-dir", str(ROOT / ".mypy_cache"), "."]
    checked = subprocess.run(kinds, cwd=tmp_path, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_every_place_of_a_file_s_path_is_explained() -> None:
    explained = [name for cells in rows(section("actions", "Downloads")) for name in names(cells[0])]
    assert {name.strip("{}") for name in explained} == set(PLACES)


LEAST: dict[ActionKind, dict[str, object]] = {
    ActionKind.DOWNLOAD: {},
    ActionKind.HTTP: {"url": "https://example.com"},
    ActionKind.COMMAND: {"command": ["true"]},
    ActionKind.PYTHON: {"function": "os:getpid"},
}
"""What a definition of each kind cannot do without, beside its name and kind."""


def least(kind: ActionKind) -> Definition:
    problems: list[str] = []
    (definition,) = read_definitions([{"name": "least", "kind": kind.value, **LEAST[kind]}], "test", problems)
    assert problems == []
    return definition


def shown(value: object) -> str:
    """A default, as the table says it."""
    if isinstance(value, When) or value in (None, (), {}):
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else json.dumps(value) if isinstance(value, tuple) else str(value)


KEYS = list({key: None for each in DEFINITIONS.values() for key in fields_of(each)})


@pytest.mark.parametrize("key", KEYS)
def test_every_key_of_an_action_stands_in_the_table_with_its_kind_and_default(key: str) -> None:
    kinds = [kind for kind in ActionKind if key in fields_of(DEFINITIONS[kind])]
    defaults = {kind: shown(getattr(least(kind), key)) for kind in kinds}
    default = ", ".join(f"{value} for {kind}" for kind, value in defaults.items())
    if key in ("name", "kind") or any(key in needed for needed in LEAST.values()):
        default = "required"
    elif len(set(defaults.values())) == 1:
        (default,) = set(defaults.values())
    begin = f"| `{key}` | {'all' if len(kinds) == len(ActionKind) else ', '.join(kinds)} | {default} | "
    lines = TOPICS["actions"].splitlines()
    assert any(line.startswith(begin) for line in lines), f"docs/actions.md should have a line that begins\n{begin}"


def test_the_table_has_no_other_key() -> None:
    table = TOPICS["actions"].partition("\n## ")[0]
    assert {name for cells in rows(table) for name in names(cells[0])} == set(KEYS)


@pytest.mark.parametrize("kind", [kind for kind in ActionKind if LEAST[kind]])
def test_what_the_table_calls_required_is(kind: ActionKind) -> None:
    problems: list[str] = []
    read_definitions([{"name": "least", "kind": kind.value}], "test", problems)
    assert [problem.split(": ")[2] for problem in problems] == list(LEAST[kind])


@pytest.mark.parametrize("category", FailureClass)
def test_every_category_of_failure_is_explained(category: FailureClass) -> None:
    table = section("actions", "When an action fails")
    (line,) = [line for line in table.splitlines() if line.startswith(f"| `{category}` |")]
    assert line.endswith("| yes |" if category.accuses_target else "| no |")


def test_every_mode_of_replay_is_explained() -> None:
    assert [cells[0] for cells in rows(TOPICS["replay"])] == [f"`{mode}`" for mode in ReplayMode]


def test_every_state_is_explained() -> None:
    explained = [name for cells in rows(section("how-it-works", "States")) for name in names(cells[0])]
    assert set(explained) == {*TaskState, *ActionState}


def test_the_numbers_it_tells_are_those_of_the_program() -> None:
    told = " ".join(TOPICS["actions"].split())
    assert f"repeated after about {rules.BACKOFF_FIRST:g} seconds, then after three times" in told
    assert (rules.BACKOFF_FACTOR, rules.BACKOFF_CAP, rules.CRASHES) == (3, 3600, 3)
    assert f"none has succeeded for {breaker.CALM:g} seconds" in told
    assert f"a trial every {breaker.FIRST_REST:g} seconds" in told
    assert f"the time doubles, up to {breaker.LONGEST_REST:g} seconds" in told
    assert f"longer, up to {breaker.LONGEST_ASKED / 60:g} minutes" in told


# ---------------------------------------------------------------- operating


def test_every_alert_is_in_the_table_and_no_other() -> None:
    named = re.findall(r"^\| alert `(\w+)` \|", TOPICS["operating"], re.MULTILINE)
    assert sorted(named) == sorted(AlertKind)


# ---------------------------------------------------------------- the API


def test_every_route_is_in_the_table_and_no_other() -> None:
    there = {f"{each.method} /api{each.path.replace(':path', '')}" for each in ENDPOINTS}
    there |= {"POST /callbacks/{token}", "GET /healthz", "GET /readyz", "GET /metrics"}
    listed = [name for cells in rows(section("api", "Routes")) for name in names(cells[0])]
    assert sorted(listed) == sorted(there)


def test_every_list_stands_in_the_table_with_its_filters() -> None:
    there = {f"/api{each.path}": set(each.filters) for each in ENDPOINTS if each.filters is not None}
    assert {names(cells[0])[0]: set(names(cells[1])) for cells in rows(section("api", "Lists"))} == there


# ---------------------------------------------------------------- receiver docs


def docs(*words: str) -> Result:
    return CliRunner().invoke(main, ["docs", *words])


def test_without_a_topic_every_topic_is_listed_with_a_line() -> None:
    listed = docs()
    assert listed.exit_code == 0
    lines = {line.split()[0]: line.split(maxsplit=1)[1] for line in listed.stdout.splitlines()[1:]}
    assert lines == {topic: summary(text) for topic, text in TOPICS.items()}
    assert listed.stderr == "read one with `receiver docs TOPIC`\n"


def test_the_topics_are_listed_as_json() -> None:
    listed = json.loads(docs("--json").stdout)
    assert listed["next"] is None
    assert [item["topic"] for item in listed["items"]] == list(TOPICS)


@pytest.mark.parametrize("topic", TOPICS)
def test_every_topic_has_a_title_and_a_line_for_the_list(topic: str) -> None:
    assert TOPICS[topic].startswith("# ")
    assert len(summary(TOPICS[topic])) <= 80
    assert summary(TOPICS[topic]).endswith(".")


@pytest.mark.parametrize("topic", TOPICS)
def test_every_topic_is_shown_as_it_stands_but_for_its_links(topic: str) -> None:
    printed = docs(topic)
    assert printed.exit_code == 0
    assert ".md)" not in printed.stdout
    linked = re.sub(r"\[([a-z-]+)\]\(\1\.md\)", r"\1 (`receiver docs \1`)", TOPICS[topic])
    assert printed.stdout == linked
    assert json.loads(docs(topic, "--json").stdout) == {
        "topic": topic,
        "summary": summary(TOPICS[topic]),
        "text": linked,
    }


@pytest.mark.parametrize("topic", TOPICS)
def test_every_topic_is_drawn_for_a_terminal(topic: str) -> None:
    drawn = io.StringIO()
    draw(TOPICS[topic], drawn)
    assert TOPICS[topic].partition("\n")[0].removeprefix("# ") in drawn.getvalue()
    assert "\n## " not in drawn.getvalue()


@pytest.mark.slow
def test_a_terminal_gets_it_formatted() -> None:
    ours, theirs = os.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    ran = subprocess.Popen([sys.executable, "-m", "receiver", "docs", "layout"], stdout=theirs, env=environment)
    os.close(theirs)
    printed = b""
    try:
        while chunk := os.read(ours, 65536):
            printed += chunk
    except OSError:  # how a terminal says on Linux that nobody writes any more
        pass
    os.close(ours)
    assert ran.wait(30) == 0
    assert b"\x1b[" in printed
    assert b"# Layout" not in printed


@pytest.mark.parametrize(
    ("topic", "said"),
    [
        ("setings", "there is no topic 'setings'; did you mean settings?"),
        ("perf", "there is no topic 'perf'; did you mean performance?"),
        ("zzz", "there is no topic 'zzz'"),
        ("../pyproject", "there is no topic '../pyproject'"),
    ],
)
def test_an_unknown_topic_ends_with_2_and_names_the_topics(topic: str, said: str) -> None:
    ended = docs(topic)
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert ended.stderr == f"Error: {said}\nthe topics are {', '.join(TOPICS)}\n"


def test_a_topic_may_be_written_in_capitals() -> None:
    assert docs("API").stdout == docs("api").stdout


def test_the_topics_are_those_in_the_folder() -> None:
    assert read_topics() == TOPICS
