"""What a server says when it starts: what it lacks, whom it waits for, and how its log is written."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from servers import environment, launched, running

from receiver.cli.variables import add_variables
from receiver.model.errors import SettingsError
from receiver.store.sqlite.database import Lock

LACKING = """
callbacks.disk_floor = 0
[[actions]]
name = "notify"
kind = "command"
command = ["no-such-program"]
[[actions]]
name = "keep"
kind = "download"
directory = "receiver.toml/below"
"""
BARE = {"RUNNINGHUB_API_KEY": "", "RECEIVER_PUBLIC_URL": ""}


async def said_at_start(directory: Path, **given: str) -> list[str]:
    """The lines of a server that was started and stopped, each about something that it lacks."""
    async with running(directory, given=environment(**given)) as server:
        await server.saying("action keep")
        await server.stop()
    return [line for line in server.err.splitlines() if "check" in line]


@pytest.mark.slow
async def test_what_check_knows_is_logged_when_the_server_starts(tmp_path: Path) -> None:
    (tmp_path / "receiver.toml").write_text(LACKING)
    lines = [json.loads(line) for line in await said_at_start(tmp_path, **BARE)]
    assert [line["what"] for line in lines] == ["public_url", "runninghub.api_key", "action notify", "action keep"]
    assert {line["level"] for line in lines} == {"warning"}
    assert "no program no-such-program" in lines[2]["found"]
    assert "is no directory" in lines[3]["found"]


@pytest.mark.slow
async def test_the_log_is_written_as_the_settings_say(tmp_path: Path) -> None:
    (tmp_path / "receiver.toml").write_text(LACKING)
    given = {"RECEIVER_LOG_FORMAT": "text", "RECEIVER_LOG_LEVEL": "warning"}
    lines = await said_at_start(tmp_path, **BARE, **given)
    assert all(" [warning] check " in line and "found=" in line for line in lines)
    async with running(tmp_path, given=environment(**given, RECEIVER_DATABASE="sqlite:///other.db")) as server:
        await server.stop()
    assert "serve" not in server.err


@pytest.mark.slow
async def test_a_second_server_says_at_once_whom_it_waits_for(tmp_path: Path) -> None:
    (tmp_path / "receiver.toml").write_text("callbacks.disk_floor = 0\n")
    lock = Lock(tmp_path / "receiver.db")
    lock.seize()
    async with launched(tmp_path) as server:
        await server.saying("waiting up to 30 s")
        lock.release()
        await server.ready()
        await server.stop()
    (line,) = [json.loads(line) for line in server.err.splitlines() if "waiting up to" in line]
    assert line["level"] == "warning"
    assert "another process is serving this database" in line["message"]


# ---------------------------------------------------------------- .env


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"RUNNINGHUB_API_KEY": "a key", "PORT": "9000", "RECEIVER_URL": "http://a"}),
        ({"PORT": "1"}, {"RUNNINGHUB_API_KEY": "a key", "PORT": "1", "RECEIVER_URL": "http://a"}),
        (
            {"RECEIVER_ADMIN_TOKEN": "ours"},
            {"RUNNINGHUB_API_KEY": "a key", "PORT": "9000", "RECEIVER_ADMIN_TOKEN": "ours"},
        ),
    ],
    ids=["nothing is set", "what is set stays", "our token goes to no address of theirs"],
)
def test_a_file_of_variables_adds_what_nobody_has_set(
    tmp_path: Path, before: Mapping[str, str], after: Mapping[str, str]
) -> None:
    (tmp_path / ".env").write_text('# a comment\nexport RUNNINGHUB_API_KEY="a key"\nPORT=9000\nRECEIVER_URL=http://a\n')
    found = dict(before)
    add_variables(found, tmp_path)
    assert found == after


def test_a_file_of_variables_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="not UTF-8"):
        add_variables({}, tmp_path)


def test_a_directory_of_that_name_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    add_variables({}, tmp_path)


@pytest.mark.slow
def test_every_command_reads_the_file_of_variables(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("RECEIVER_ADMIN_TOKEN='a-token-out-of-the-file'\n")
    given = {name: value for name, value in environment().items() if name != "RECEIVER_ADMIN_TOKEN"}
    words = [sys.executable, "-m", "receiver", "token"]
    printed = subprocess.run(words, cwd=tmp_path, env=given, capture_output=True, text=True, check=True)
    assert printed.stdout == "a-token-out-of-the-file\n"


def test_what_is_there_when_a_server_is_ready_is_never_looked_through_for_garbage_again() -> None:
    told = "gc.get_freeze_count() > 1000, gc.get_threshold(), sys.getswitchinterval()"
    code = f"import gc, sys; from receiver.server.memory import avoid_pauses; avoid_pauses(); print({told})"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "True (10000, 50, 50) 0.001"
