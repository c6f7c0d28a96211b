"""The action that runs a program: real processes, what they are given, and that all they started ends with them."""

import asyncio
import os
import re
import signal
import sys
import threading
from pathlib import Path

import msgspec
import pytest
import uvloop
from documents import section
from msgspec.structs import replace

from receiver.actions import ActionFailed, Done, Work, left_behind
from receiver.actions.child import Child
from receiver.actions.command import SECRET_VARIABLES, Runner
from receiver.actions.settings import CommandDefinition
from receiver.testing import ActionRunner, make_event

TASK = "019a0000-0000-7000-8000-000000000001"
KEY = f"{TASK}:save:1"


def command(*argv: str, attempt: int = 1) -> Work:
    definition = CommandDefinition(name="save", command=argv, timeout=5.0)
    body = dict(make_event("failed"))
    return Work(definition=definition, body=body, results=[], task_id=TASK, key=KEY, attempt=attempt)


def program(code: str) -> Work:
    return command(sys.executable, "-S", "-c", code)


async def done(asked: Work) -> Done:
    return await Runner()(asked)


async def failure(asked: Work) -> ActionFailed:
    with pytest.raises(ActionFailed) as caught:
        await done(asked)
    return caught.value


def is_running(pid: int) -> bool:
    """False for the dead, also for those that nobody has buried yet."""
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat")
        return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


async def test_a_program_gets_the_event_and_a_clean_environment() -> None:
    secrets = ("RUNNINGHUB_API_KEY", "RECEIVER_SECRETS", "RECEIVER_ADMIN_TOKEN", "RECEIVER_DATABASE", "DATABASE_URL")
    environment = dict.fromkeys(secrets, "secret") | {"PATH": os.environ["PATH"], "MINE": "kept"}
    asked = command("sh", "-c", "pwd; env; cat >&2", attempt=3)
    detail = (await Runner(environment)(asked)).detail
    lines = str(detail["stdout"]).splitlines()
    assert lines[0] == str(Path.cwd())
    assert {
        "MINE=kept",
        f"RECEIVER_TASK_ID={TASK}",
        "RECEIVER_EVENT_TYPE=task.failed",
        "RECEIVER_ACTION_NAME=save",
        "RECEIVER_ATTEMPT=3",
        f"RECEIVER_IDEMPOTENCY_KEY={KEY}",
    } <= set(lines)
    assert "secret" not in str(detail["stdout"])
    assert msgspec.json.decode(str(detail["stderr"])) == asked.body


async def test_the_server_s_own_environment_is_the_default() -> None:
    assert (await done(command("sh", "-c", 'test -n "$PATH"'))).detail["exit_code"] == 0


async def test_an_exit_code_is_a_failed_try() -> None:
    told = await failure(command("sh", "-c", "exit 3"))
    assert told.reason == "the program ended with exit code 3"
    told = await failure(command("sh", "-c", "echo because; echo why >&2; exit 3"))
    assert told.reason == "the program ended with exit code 3: why"
    assert not told.permanent
    assert told.detail["exit_code"] == 3
    assert told.detail["stderr"] == "why\n"


async def test_the_last_words_of_a_program_are_its_reason_whatever_they_are() -> None:
    told = await failure(command("sh", "-c", r"printf 'first\n \377%0300d\n\n' 7 >&2; exit 1"))
    assert told.reason.startswith("the program ended with exit code 1: \N{REPLACEMENT CHARACTER}000")
    assert len(told.reason) < 250


async def test_a_program_ended_by_a_signal_is_a_failed_try() -> None:
    told = await failure(command("sh", "-c", "kill -9 $$"))
    assert told.reason == "the program ended with SIGKILL"


async def test_nothing_is_read_by_a_shell() -> None:
    assert (await done(command("echo", "$(id)", ";", "*"))).detail["stdout"] == "$(id) ; *\n"


@pytest.mark.parametrize("argv", [(), ("",), ("no-such-program",), ("./no/such",), ("/",), ("a\0b",), ("/etc/passwd",)])
async def test_what_cannot_be_run_is_a_permanent_failure(argv: tuple[str, ...]) -> None:
    assert (await failure(command(*argv))).permanent


async def test_a_file_that_is_no_program_is_a_permanent_failure(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_bytes(b"\x00\x01")
    script.chmod(0o755)
    told = await failure(command(str(script)))
    assert told.permanent
    assert told.reason.endswith("cannot be run: Exec format error")


async def test_megabytes_of_output_are_drained_and_cut() -> None:
    code = "import os\nfor fd in (1, 2):\n os.write(fd, b'start'); [os.write(fd, b'.' * 65536) for _ in range(40)]\n"
    detail = (await done(program(code + " os.write(fd, b'end')"))).detail
    out, err = str(detail["stdout"]), str(detail["stderr"])
    assert (len(out), out.startswith("start")) == (2048, True)
    assert (len(err), err.endswith("end")) == (2048, True)


@pytest.mark.parametrize("script", ["exec <&-; exit 0", "exit 0"])
async def test_a_program_may_leave_a_large_event_unread(script: str) -> None:
    asked = command("sh", "-c", script)
    large = replace(asked, body={**asked.body, "big": "x" * 3_000_000})
    assert (await done(large)).detail["exit_code"] == 0


async def test_a_grandchild_with_open_pipes_does_not_hold_the_action() -> None:
    async with asyncio.timeout(3):
        detail = (await done(command("sh", "-c", "sleep 60 & echo $!"))).detail
    os.kill(int(str(detail["stdout"])), signal.SIGKILL)


async def cancelled_family(tmp_path: Path, trap: str, runner: Runner) -> list[int]:
    """Start a program with a grandchild, cancel it once both are there, and tell their process ids."""
    fifo = tmp_path / f"fifo-{threading.get_ident()}"
    os.mkfifo(fifo)
    script = f"{trap} sh -c '{trap} echo $$ $PPID >{fifo}; while :; do sleep 9; done' & wait; while :; do wait; done"
    task = asyncio.create_task(runner(command("sh", "-c", script)))
    pids = [int(pid) for pid in (await asyncio.to_thread(fifo.read_text)).split()]
    assert all(map(is_running, pids))
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert left_behind(caught.value)[0].startswith("the program and all it started were ended (SIG")
    return pids


async def test_a_cancelled_program_ends_with_its_whole_family(tmp_path: Path) -> None:
    pids = await cancelled_family(tmp_path, "", Runner(grace=0.2))
    assert not any(map(is_running, pids))


async def test_a_family_that_ignores_the_request_is_killed(tmp_path: Path) -> None:
    pids = await cancelled_family(tmp_path, 'trap "" TERM;', Runner(grace=0.1))
    assert not any(map(is_running, pids))


def test_a_program_that_ends_without_reading_its_input_succeeds_under_uvloop_too() -> None:
    async def many() -> list[int]:
        runs = [await Child(2.0).run(("true",), b"{}" * 500, dict(os.environ)) for _ in range(40)]
        return [outcome.code for outcome in runs]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        assert loop.run(many()) == [0] * 40


def test_a_family_is_ended_under_uvloop_too(tmp_path: Path) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        pids = loop.run(cancelled_family(tmp_path, 'trap "" TERM;', Runner(grace=0.1)))
        detail = loop.run(Runner()(command("sh", "-c", "cat; exit 0"))).detail
    assert not any(map(is_running, pids))
    assert "task.failed" in str(detail["stdout"])


async def test_a_time_out_ends_the_program_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.1):
            await Runner()(command("sleep", "60"))
    assert left_behind(caught.value) == ["the program and all it started were ended (SIGTERM)"]


@pytest.mark.slow
def test_a_program_that_takes_longer_than_its_timeout_ends_with_its_whole_family(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"sleep 60 & echo $$ $! > {pids}; wait"
    outcome = ActionRunner()({"kind": "command", "command": ["sh", "-c", script]}, timeout=1)
    assert (outcome.state, outcome.reason) == ("retry", "it took longer than its timeout of 1 s")
    assert outcome.detail["left_behind"] == ["the program and all it started were ended (SIGTERM)"]
    assert len(pids.read_text().split()) == 2
    assert not any(is_running(int(pid)) for pid in pids.read_text().split())


# ---- what the manual says of it


async def test_a_program_gets_just_the_variables_that_the_manual_lists() -> None:
    bare = Runner({"PATH": os.environ["PATH"]})
    lines = str((await bare(command("env"))).detail["stdout"]).splitlines()
    given = {name for name in (line.partition("=")[0] for line in lines) if name.startswith("RECEIVER_")}
    assert given == set(re.findall(r"^\| `(\w+)` \|", section("actions", "Commands"), re.MULTILINE))


def test_the_manual_names_the_variables_that_no_program_gets() -> None:
    withheld = section("actions", "Commands").partition("hold secrets:")[2].partition(".")[0]
    assert set(re.findall(r"`(\w+)`", withheld)) == SECRET_VARIABLES
