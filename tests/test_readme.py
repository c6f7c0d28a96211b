"""README is short and true: its links, scripts and commands exist, and the orders and files it shows work."""

import json
import re
import shlex
from pathlib import Path

import pytest
from documents import EVERYTHING, README, ROOT, TOPICS, blocks, names, rows
from test_cli import Operator
from test_client import RunningServer

from receiver.cli import main
from receiver.server.settings import load_settings


def test_it_is_read_in_one_sitting() -> None:
    assert len(README.splitlines()) <= 250


def test_it_leads_to_every_topic_of_the_manual_and_to_no_other() -> None:
    table = README[README.index("## Where to read on") :]
    assert {cells[0] for cells in rows(table)} == {f"[{topic}](receiver/docs/{topic}.md)" for topic in TOPICS}


@pytest.mark.parametrize("name", EVERYTHING)
def test_every_relative_link_leads_to_a_file(name: str) -> None:
    folder = ROOT if name == "README" else ROOT / "receiver" / "docs"
    links = re.findall(r"\]\(([^)]+)\)", EVERYTHING[name])
    assert [link for link in links if "://" not in link and not (folder / link).is_file()] == []


@pytest.mark.parametrize("name", EVERYTHING)
def test_every_command_that_is_named_exists(name: str) -> None:
    commands = set(re.findall(r"`receiver ([a-z-]+)", EVERYTHING[name]))
    assert commands <= set(main.commands)


def test_every_topic_that_is_named_exists() -> None:
    named = re.findall(r"receiver docs ([a-z-]+)", "".join(EVERYTHING.values()))
    assert set(named) <= set(TOPICS)


def test_every_script_that_is_named_is_there_and_every_script_is_explained() -> None:
    scripts = {path.name for path in (ROOT / "scripts").iterdir() if path.name != "__pycache__"}
    assert {match for text in EVERYTHING.values() for match in re.findall(r"scripts/(\w+(?:\.\w+)?)", text)} == scripts
    explained = {names(cells[0])[0] for cells in rows(TOPICS["layout"]) if "scripts/" in cells[0]}
    assert explained == {f"scripts/{name}" for name in scripts}


def test_the_procfile_is_one_line_that_readme_quotes() -> None:
    line = (ROOT / "Procfile").read_text()
    assert line == "web: receiver serve\n"
    assert f"`{line.strip()}`" in README


def test_the_configuration_it_shows_loads(tmp_path: Path) -> None:
    (block,) = blocks(README, "toml")
    (tmp_path / "receiver.toml").write_text(block)
    settings = load_settings({}, tmp_path)
    assert [each.kind.value for each in settings.definitions] == ["download", "http", "python"]


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
@pytest.mark.parametrize("name", ["README", "api"])
def test_the_request_that_is_shown_is_an_order(name: str, server: RunningServer) -> None:
    body = re.search(r"curl -X POST \S+/api/tasks .*?-d '(.*?)'", EVERYTHING[name], re.DOTALL)
    assert body is not None
    order = json.loads(body[1])
    with server.client() as client:
        assert client.submit(order["target"], order["input"], kind=order["kind"], labels=order["labels"]).id


@pytest.mark.story
@pytest.mark.parametrize("name", ["README", "api"])
def test_the_program_that_is_shown_prints_the_results(
    name: str, server: RunningServer, capsys: pytest.CaptureFixture[str]
) -> None:
    (program,) = blocks(EVERYTHING[name], "python")
    exec(program.replace("http://127.0.0.1:8000", server.url), {"token": server.token})
    assert "url='http" in capsys.readouterr().out
