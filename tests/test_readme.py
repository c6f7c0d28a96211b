"""README is true: settings, commands, routes, actions, alerts, numbers, paths, and every order and file it shows."""

import ast
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from house import House
from test_cli import Operator
from test_client import RunningServer

from receiver.actions.download.names import PLACES
from receiver.actions.kinds import DEFINITIONS
from receiver.cli import main
from receiver.model import breaker, rules
from receiver.model.definitions import ActionKind, Definition, FailureClass, When
from receiver.model.fields import Field, fields_of
from receiver.model.records import ReplayMode
from receiver.server.definitions import read_definitions
from receiver.server.settings import FIELDS, load_settings
from receiver.store.ledger.definitions import BREAKER_ALERT
from receiver.web.api import Api
from receiver.web.resources import ResourceDoors

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def row(field: Field) -> str:
    """A setting's line of the table."""
    default = field.default
    if default is None:
        default = "none"
    elif default == ():
        default = "made"
    elif isinstance(default, bool):
        default = str(default).lower()
    elif isinstance(default, float):
        default = int(default)
    variables = ", else ".join(f"`{name}`" for name in field.variables)
    return f"| `{field.key}` | {variables} | {default} | {field.help} |"


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.key)
def test_every_setting_stands_in_the_table_with_its_variable_default_and_purpose(field: Field) -> None:
    assert row(field) in README.splitlines(), f"README should have the line\n{row(field)}"


def test_every_command_is_listed_and_has_help() -> None:
    assert isinstance(main, click.Group)
    listed = set(re.findall(r"^\| .*", README, re.MULTILINE))
    for name, command in main.commands.items():
        assert any(f"`receiver {name}`" in line for line in listed), f"README does not list `receiver {name}`"
        assert command.help, f"{name} has no help"
    named = set(re.findall(r"`receiver ([a-z-]+)`", README))
    assert named <= set(main.commands)


def test_the_configuration_it_shows_loads(tmp_path: Path) -> None:
    block = re.search(r"```toml\n(.*?)```", README, re.DOTALL)
    assert block is not None
    (tmp_path / "receiver.toml").write_text(block.group(1))
    settings = load_settings({}, tmp_path)
    assert [each.kind.value for each in settings.definitions] == ["download", "http", "command", "python"]


@pytest.mark.slow
def test_the_python_action_it_shows_does_what_its_tests_say(tmp_path: Path) -> None:
    blocks = dict(re.findall(r"```python\n# (\S+\.py)\n(.*?)```", README, re.DOTALL))
    assert list(blocks) == ["shop/hooks.py", "test_hooks.py"]
    for name, code in blocks.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(code)
    settings = re.search(r"```toml\n(.*?)```", README, re.DOTALL)
    assert settings is not None
    (tmp_path / "receiver.toml").write_text(settings[1])
    python = [sys.executable, "-m"]
    words = [*python, "pytest", "-q", "-W", "error", "-p", "no:asyncio", "--basetemp", str(tmp_path / "temporary")]
    tested = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert "\n4 passed" in tested.stdout, tested.stdout + tested.stderr
    kinds = [*python, "mypy", "--strict", "--cache-dir", str(ROOT / ".mypy_cache"), "."]
    checked = subprocess.run(kinds, cwd=tmp_path, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


LAYOUT = README[README.index("## How the code is laid out") :]


def test_every_room_of_the_program_stands_in_the_layout_and_no_other() -> None:
    inside = (ROOT / "receiver").iterdir()
    rooms = {f"{path.name}/" if path.is_dir() else path.name for path in inside if path.name[0] not in "_."}
    rows = re.findall(r"^\| (`.*?`) \|", LAYOUT, re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`([\w.]+/?)`", row)]
    assert sorted(named) == sorted(rooms - {"py.typed"})
    assert len(rooms) + 2 <= 26, "one look must explain the program"


def test_every_script_it_names_is_there_and_every_script_is_named() -> None:
    assert set(re.findall(r"scripts/(\w+)", README)) == {
        path.name for path in (ROOT / "scripts").iterdir() if path.is_file()
    }


def test_the_procfile_is_one_line_that_readme_quotes() -> None:
    line = (ROOT / "Procfile").read_text()
    assert line == "web: receiver serve\n"
    assert f"`{line.strip()}`" in README


def test_every_place_of_a_file_s_path_is_explained() -> None:
    section = README[README.index("#### Downloads") : README.index("#### HTTP")]
    table = "".join(line.rpartition("|")[0].rpartition("|")[0] for line in section.splitlines() if line[:1] == "|")
    assert set(re.findall(r"\{([\w.]+)\}", table)) == set(PLACES)


# ---------------------------------------------------------------- actions

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


@pytest.mark.parametrize("key", {key: None for each in DEFINITIONS.values() for key in fields_of(each)})
def test_every_key_of_an_action_stands_in_the_table_with_its_kind_and_default(key: str) -> None:
    kinds = [kind for kind in ActionKind if key in fields_of(DEFINITIONS[kind])]
    defaults = {kind: shown(getattr(least(kind), key)) for kind in kinds}
    default = ", ".join(f"{value} for {kind}" for kind, value in defaults.items())
    if key in ("name", "kind") or any(key in needed for needed in LEAST.values()):
        default = "required"
    elif len(set(defaults.values())) == 1:
        (default,) = set(defaults.values())
    begin = f"| `{key}` | {'all' if len(kinds) == len(ActionKind) else ', '.join(kinds)} | {default} | "
    assert any(line.startswith(begin) for line in README.splitlines()), (
        f"README should have a line that begins\n{begin}"
    )


@pytest.mark.parametrize("kind", [kind for kind in ActionKind if LEAST[kind]])
def test_what_the_table_calls_required_is(kind: ActionKind) -> None:
    problems: list[str] = []
    read_definitions([{"name": "least", "kind": kind.value}], "test", problems)
    assert [problem.split(": ")[2] for problem in problems] == list(LEAST[kind])


@pytest.mark.parametrize("category", FailureClass)
def test_every_category_of_failure_is_explained(category: FailureClass) -> None:
    section = README[README.index("### When an action fails") : README.index("### What each kind does")]
    (line,) = [line for line in section.splitlines() if line.startswith(f"| `{category}` |")]
    assert line.endswith("| yes |" if category.accuses_target else "| no |")


def test_every_mode_of_replay_is_explained() -> None:
    section = README[README.index("### Replay\n") : README.index("### Care")]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(ReplayMode)


def test_the_numbers_it_tells_are_those_of_the_program() -> None:
    told = " ".join(README.split())
    assert f"repeated after about {rules.BACKOFF_FIRST:g} seconds, then after three times" in told
    assert (rules.BACKOFF_FACTOR, rules.BACKOFF_CAP, rules.CRASHES) == (3, 3600, 3)
    assert f"After {breaker.FIRST_REST:g} seconds one of them is tried" in told
    assert f"up to {breaker.LONGEST_REST / 60:g} minutes; when it succeeds" in told


# ---------------------------------------------------------------- operating


def test_every_alert_is_in_the_table_and_no_other() -> None:
    raised = set()
    for path in (ROOT / "receiver").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("raise_alert", "open_alert")):
                kind = next((each for each in node.args if isinstance(each, ast.Constant)), None)
                raised |= {kind.value} if kind else set()
    named = set(re.findall(r"^\| alert `(\w+)` \|", README, re.MULTILINE))
    assert named == raised | {BREAKER_ALERT}


@pytest.mark.asyncio(loop_scope="module")
async def test_every_route_is_in_the_table_and_no_other(shared_house: House) -> None:
    service = shared_house.service
    there = {
        f"{method} /api{route.path.replace(':path', '')}"
        for route in [*Api(service).routes(), *ResourceDoors(service).routes()]
        for method in (route.methods or set()) - {"HEAD"}
    }
    there |= {"POST /callbacks/{token}", "GET /healthz", "GET /readyz"}
    table = "".join(line for line in README.splitlines() if re.match(r"\| `(GET|POST) /", line))
    assert set(re.findall(r"`((?:GET|POST|DELETE) /[^`?]*)`", table)) == there


# ---------------------------------------------------------------- using


@pytest.mark.story
def test_the_orders_it_shows_are_taken_and_succeed(server: RunningServer) -> None:
    block = re.search(r"```sh\n(receiver models .*?)```", README, re.DOTALL)
    assert block is not None
    lines = [shlex.split(line, comments=True) for line in block[1].replace("\\\n", " ").splitlines()]
    orders = [words[1:] for words in lines if words[1] == "submit"]
    operator = Operator(server)
    for words in orders:
        task_id = json.loads(operator(*[word for word in words if word != "--wait"], "--json").stdout)["id"]
        with server.client() as client:
            task = client.wait(task_id)
        assert task.state == "succeeded", task.error
    assert [words[1] for words in orders[1:]] == ["--workflow", "--app", "--quick"]


@pytest.mark.story
def test_the_request_it_shows_is_an_order(server: RunningServer) -> None:
    body = re.search(r"curl -X POST \S+/api/tasks .*?-d '(.*?)'", README, re.DOTALL)
    assert body is not None
    order = json.loads(body[1])
    with server.client() as client:
        assert client.submit(order["target"], order["input"], kind=order["kind"], labels=order["labels"]).id
