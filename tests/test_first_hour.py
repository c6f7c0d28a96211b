"""The first hour that the manual shows happens so: every command of it is typed into a terminal of 80 columns.

What the commands print is compared with the manual. `FIRST_HOUR=write pytest tests/test_first_hour.py` writes it anew:
the commands are those in the manual, so a new one is first written there.
"""

import fcntl
import os
import pty
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import pytest
from documents import ROOT
from test_cli import SILENT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

MANUAL = ROOT / "receiver" / "docs" / "first-hour.md"
COLUMNS, LINES = 80, 24
RUNS_ON = {"simulate": "line from here on:", "serve": "Started server process"}
"""Commands that run until the end of the story, and the last words that they say when they are ready."""
PATIENCE = 60.0
HERE = "/home/ada/pictures"
"""Stands in the manual for the directory of the story, whose name is as long."""
TASKS = ("01a0c450-6c7b-7c61-9d39-0a4f3a7d1c55", "01a0c450-9a2e-7d20-8f10-5b1e7c2d9a44")
STEADY = (
    (r"\b\d\d:\d\d:\d\dZ", "08:00:00Z"),
    (r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "2026-11-22 08:00:00"),
    (r"\b\d\d-\d\d \d\d:\d\d(?!:)", "11-22 08:00"),
    (r"\b2\d{18}\b", "2125516248214089728"),
    (r"/files/[0-9a-f]{32}/", "/files/1/"),
    (r"\b[0-9a-f]{32}\.", "lighthouse."),
    (r"\b\d+ MiB free", "70000 MiB free"),
    (r"(?<=  )\d\.\d\d(?=  )", "0.02"),
    (r"(?<=  )\d\.\d{1,3}(?=  +[a-z])", "0.015"),
    (r"(?<=db: )\d+ bytes", "311296 bytes"),
    (r"process \[\d+\]", "process [4711]"),
)
"""What differs from run to run, and what stands for it."""


class Terminal:
    """A directory and its terminals. What is printed there is made steady; what is typed is made real."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self._directory = directory
        self._stack = stack
        self._ports = {"8000": free_port(), "9000": free_port()}
        self._tasks: list[str] = []
        tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        kept = {name: value for name, value in os.environ.items() if name not in (*SILENT, "COLUMNS", "FIRST_HOUR")}
        self._environment = {**kept, "PATH": tools, "TERM": "dumb", "LC_ALL": "C.UTF-8"}

    def real(self, text: str) -> str:
        for shown, port in self._ports.items():
            text = text.replace(shown, port)
        for shown, task in zip(TASKS, self._tasks, strict=False):
            text = text.replace(shown[:13], task[:13])
        return text

    def steady(self, text: str) -> str:
        for task in re.findall(r"\b[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f-]{17}\b", text):
            self._tasks += [task] if task not in self._tasks else []
        for shown, task in zip(TASKS, self._tasks, strict=False):
            text = text.replace(task, shown).replace(task[:13], shown[:13])
        for shown, port in self._ports.items():
            text = text.replace(port, shown)
        for pattern, shown in STEADY:
            text = re.sub(pattern, shown, text)
        lines = text.replace(str(self._directory), HERE).strip("\n").splitlines()
        return "\n".join(line.rstrip() for long in lines for line in wrapped(long))

    def write(self, name: str, text: str) -> None:
        (self._directory / name).write_text(self.real(text))

    def type(self, command: str) -> str:
        """What a command prints; of one that runs on, what it prints until it is ready."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        process = subprocess.Popen(
            ["sh", "-c", f"exec {self.real(command)}" if self._runs_on(command) else self.real(command)],
            cwd=self._directory,
            env=self._environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        screen = Screen(ours)
        for ending in (screen.thread.join, process.wait, partial(end, process)):  # the last one first
            self._stack.callback(ending)
        if ready := self._runs_on(command):
            screen.wait(lambda: ready in screen.text and screen.text.endswith("\n"))
        else:
            process.wait(PATIENCE)
            screen.thread.join(PATIENCE)
        return self.steady(screen.text)

    def _runs_on(self, command: str) -> str | None:
        return RUNS_ON.get(command.split()[1])


def wrapped(line: str) -> list[str]:
    """A line as it stands on a terminal."""
    line = line.rstrip()
    return [line[at : at + COLUMNS] for at in range(0, len(line), COLUMNS)] or [""]


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a command and all that it started: a terminal that anybody holds open is never through."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


class Screen:
    """All that appears on a terminal."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self._appeared = threading.Condition()
        self.text = ""
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _read(self) -> None:
        with suppress(OSError):  # how a terminal ends
            while some := os.read(self._terminal, 65536):
                with self._appeared:
                    self.text += some.decode().replace("\r\n", "\n")
                    self._appeared.notify_all()
        os.close(self._terminal)

    def wait(self, condition: Callable[[], bool]) -> None:
        with self._appeared:
            assert self._appeared.wait_for(condition, PATIENCE), self.text


def free_port() -> str:
    """One of four digits, so that no line gets longer or shorter by it."""
    for port in range(8100 + os.getpid() % 800, 9999):
        with socket.socket() as trial, suppress(OSError):
            trial.bind(("127.0.0.1", port))
            if str(port) not in TAKEN:
                TAKEN.add(str(port))
                return str(port)
    raise AssertionError("no port of four digits is free")


TAKEN: set[str] = {"9000"}


def commands(block: str) -> Iterator[str]:
    """The commands of a block, one that goes on in the next line as it stands."""
    lines = block.splitlines()
    for at, line in enumerate(lines):
        if line.startswith("$ "):
            end = next(number for number in range(at, len(lines)) if not lines[number].endswith("\\"))
            yield "\n".join(lines[at : end + 1]).removeprefix("$ ")


def happened(manual: str, terminal: Terminal) -> str:
    """The manual with what its commands print now."""

    def block(found: re.Match[str]) -> str:
        language, text = found[1], found[2]
        if language == "toml":
            terminal.write("receiver.toml", text)
            return found[0]
        shown = "\n".join(f"$ {command}\n{terminal.type(command)}".rstrip() for command in commands(text))
        return f"```console\n{shown}\n```"

    return re.sub(r"```(toml|console)\n(.*?)\n```", block, manual, flags=re.DOTALL)


@pytest.mark.skipif(shutil.which("dd") is None, reason="the story needs dd")
def test_the_first_hour_happens_as_the_manual_tells() -> None:
    manual = MANUAL.read_text()
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="hour-", dir="/tmp"))
        assert len(directory) == len(HERE)
        told = happened(manual, Terminal(Path(directory), stack))
    if os.environ.get("FIRST_HOUR") == "write":
        MANUAL.write_text(told)
    else:
        assert told == manual


def test_the_first_hour_fits_a_terminal_of_80_columns() -> None:
    blocks = re.findall(r"```console\n(.*?)\n```", MANUAL.read_text(), re.DOTALL)
    assert [line for block in blocks for line in block.splitlines() if len(line) > COLUMNS] == []
