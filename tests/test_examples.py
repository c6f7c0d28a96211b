"""Every example in a help text and in the manual does what it says: typed into a shell, in a directory of its own.

There is a simulated RunningHub and a server on it, both started by the examples of their own help. What an example
names (a task, an action, a file) is put in the place of its made-up names first.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import pytest
from documents import EVERYTHING, blocks
from test_cli import COMMANDS, SILENT
from test_client import MODEL

from receiver.cli.simulate import introduction
from receiver.client import Client
from receiver.rehearse import PIXEL
from receiver.simulator import Options
from receiver.web.server import listen

pytestmark = pytest.mark.slow

TASK = "0197b0a2-5f0e(-7c61-9d39-0a4f3a7d1c55)?"
RUNS_ON = (("serve",), ("simulate",), ("demo",), ("tasks", "--follow"))
"""How commands begin that are run for as long as everything else is, or by a test of their own."""
SETTINGS = """
[callbacks]
disk_floor = 0
[[actions]]
name = "keep-files"
kind = "download"
[[actions]]
name = "notify-team"
kind = "command"
command = ["sh", "-c", "case $RECEIVER_IDEMPOTENCY_KEY in test:*) exit 0;; *) exit 1;; esac"]
on = ["succeeded", "failed"]
max_attempts = 1
breaker = 0
[[actions]]
name = "tell-the-shop"
kind = "command"
command = ["true"]
[[actions]]
name = "index"
kind = "python"
function = "shop:index"
after = ["keep-files"]
"""
FILES = {
    "shop.py": "def index(event):\n    return {'first': open(event.results[0].file, 'rb').read(4).hex()}\n",
    "order.json": json.dumps({"imageUrl": "https://example.com/one.jpg", "prompt": "she turns round"}),
    "orders.jsonl": json.dumps({"target": MODEL, "input": {"prompt": "a lighthouse"}}) + "\n",
    "orders.csv": f"target,prompt\n{MODEL},a lighthouse\n",
    "prompts.csv": "_subject,prompt\na harbour,a harbour at noon\n",
    "shots.csv": "_name,prompt\none,she turns round\n",
}


def commands_in(text: str) -> Iterator[str]:
    """The commands of a text; one that goes on in a further line, by a backslash or a quote, is one command."""
    command = ""
    for line in text.splitlines():
        command += line.strip().removesuffix("\\") + ("" if line.endswith("\\") else "\n")
        if command.strip() and not line.endswith("\\") and is_whole(command):
            yield command.strip()
            command = ""


def is_whole(command: str) -> bool:
    try:
        shlex.split(command, comments=True)
    except ValueError:
        return False
    return True


def examples() -> Iterator[tuple[str, str]]:
    """Every example that calls receiver, with the place where it stands."""
    for path, command in COMMANDS:
        shown = re.split(r"\x08\s*Examples?:\n", command.help or "")
        yield from ((" ".join(path), line) for text in shown[1:] for line in commands_in(text))
    for name, text in EVERYTHING.items():
        for block in blocks(text, "sh"):
            yield from ((f"{name}.md", line) for line in commands_in(block) if re.search(r"\breceiver ", line))
    for line in commands_in("\n".join(introduction(Options()))):
        if line.startswith("receiver submit"):
            yield "what simulate prints", line


PLACES: dict[str, str] = {}
for where, what in examples():
    PLACES.setdefault(what, where)
EXAMPLES = [(place, line) for line, place in PLACES.items()]
"""Each line once, at the first place where it stands."""


def verb(line: str) -> tuple[str, ...]:
    """The words behind `receiver`, without what stands before it."""
    return tuple(re.split(r"\breceiver ", line, maxsplit=1)[-1].split())


ONCE = [(place, line) for place, line in EXAMPLES if not {verb(line)[:1], verb(line)[:2]} & set(RUNS_ON)]


class Shop:
    """A directory in which a simulator and a server run, and somebody who types."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.directory = directory
        self._fill()
        port = free_port()
        tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        kept = {name: value for name, value in os.environ.items() if name not in SILENT and name[:9] != "RUNNINGHU"}
        self.environment = {**kept, "PATH": tools, "RUNNINGHUB_API_KEY": "any", "PYTHONUNBUFFERED": "1"}
        self.environment["RUNNINGHUB_BASE_URL"] = f"http://127.0.0.1:{port}"
        self._start(stack, f"receiver simulate --port {port} --task-seconds 0.3", "each callback is a line")
        mine = free_port()
        self.environment |= {"RECEIVER_PUBLIC_URL": f"http://127.0.0.1:{mine}", "PORT": str(mine), "HOST": "127.0.0.1"}
        self.url = f"http://127.0.0.1:{mine}"
        self._start(stack, "receiver serve", "receiver serves")
        token = self.type("receiver token").stdout.strip()
        self.client = stack.enter_context(Client(self.url, token))
        self.ended = self.new_task()

    def _fill(self) -> None:
        (self.directory / "receiver.toml").write_text(SETTINGS)
        for name, text in FILES.items():
            (self.directory / name).write_text(text)
        (self.directory / "photos").mkdir()
        for name in ("one.jpg", "two.jpg", "photos/one.jpg"):
            (self.directory / name).write_bytes(b"\xff\xd8\xff\xe0" + PIXEL)
        (self.directory / "style.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ")

    def _start(self, stack: ExitStack, command: str, ready: str) -> None:
        log = stack.enter_context((self.directory / f"{command.split()[1]}.log").open("wb"))
        process = subprocess.Popen(
            shlex.split(command), cwd=self.directory, env=self.environment, stdout=subprocess.PIPE, stderr=log
        )
        assert process.stdout is not None
        stack.callback(process.stdout.close)
        line = b""
        for line in process.stdout:
            if ready in line.decode():
                # What nobody reads would stop it one day.
                reader = threading.Thread(target=process.stdout.read)
                reader.start()
                stack.callback(reader.join)
                stack.callback(process.wait)
                stack.callback(process.kill)
                return
        process.kill()
        raise AssertionError(f"{command} ended; its last line was {line!r}")

    def type(self, line: str) -> subprocess.CompletedProcess[str]:
        """Runs a line in a shell."""
        return subprocess.run(
            ["sh", "-c", line], cwd=self.directory, env=self.environment, capture_output=True, text=True, timeout=60
        )

    def new_task(self) -> str:
        """A task that ended well and whose actions have been tried."""
        task = self.client.submit(MODEL, {"prompt": "a lighthouse"}, labels={"project": "north"})

        def tried(each: Any) -> bool:
            return bool(each.actions) and all(a.state in ("done", "dead") for a in each.actions)

        return self.client.wait(task.id, until=tried, timeout=30).id

    def dead_action(self) -> object:
        self.new_task()
        return self.client.actions(state="dead").items[0].id

    def open_alert(self) -> object:
        self.new_task()
        return self.client.alerts(state="open").items[0].id

    def waiting_task(self) -> object:
        """One that others keep in the queue."""
        return [self.client.submit(MODEL, {"prompt": "a lighthouse"}).id for _ in range(40)][-1]

    def replay(self) -> object:
        """One that is far from its end, so that it can be cancelled; of tasks that nothing else is about."""
        since = self.client.task(self.new_task()).created_at
        self.new_task()
        return self.client.replay({"name": "notify-team", "action_state": ["dead"], "since": since}, rate=0.01).id

    def cancelled_replay(self) -> object:
        made = self.replay()
        self.client.cancel_replay(int(str(made)))
        return made


def free_port() -> int:
    with listen("127.0.0.1", 0) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with ExitStack() as stack:
        yield Shop(tmp_path_factory.mktemp("shop"), stack)


STAND_INS: dict[tuple[str, ...], Callable[[Shop], object]] = {
    ("cancel",): Shop.waiting_task,
    ("actions", "show"): Shop.dead_action,
    ("actions", "retry"): Shop.dead_action,
    ("actions", "skip"): Shop.dead_action,
    ("alerts",): Shop.open_alert,
    ("deliveries",): lambda shop: shop.client.deliveries().items[0].id,
    ("replay", "show"): lambda shop: shop.client.replay({"name": "notify-team", "since": "2100-01-01T00:00:00Z"}).id,
    ("replay", "cancel"): Shop.replay,
    ("replay", "resume"): Shop.cancelled_replay,
}
"""What takes the place of the id in an example: in all that are not named it is a task that has ended."""


def filled(line: str, shop: Shop) -> str:
    """The example with things that there are in it."""
    words = verb(line)
    known = next((STAND_INS[words[:n]] for n in (2, 1) if words[:n] in STAND_INS), lambda shop: shop.ended)
    named = re.search(rf"{TASK}|(?<= )(ID|\d{{1,2}})(?= |$)", line.partition("#")[0])
    if named is not None and not re.search(r"--[a-z]+ $", line[: named.start()]):
        line = line[: named.start()] + str(known(shop)) + line[named.end() :]
    return line.replace("http://127.0.0.1:8000", shop.url).replace(" NAME", f" {MODEL}")


@pytest.mark.parametrize(("place", "line"), ONCE, ids=[f"{place}: {line}" for place, line in ONCE])
def test_an_example_does_what_it_says(shop: Shop, place: str, line: str) -> None:
    typed = filled(line, shop)
    if verb(line)[:1] == ("restore",):
        # It works while no server runs on the database: on another one.
        typed = f"receiver backup {verb(line)[1]} --force; RECEIVER_DATABASE=sqlite:///restored.db {typed}"
    ran = shop.type(typed.replace("fish_source receiver | source", "fish_source receiver | cat"))
    assert ran.returncode == 0, f"{typed}\n{ran.stdout}{ran.stderr}"


def test_the_examples_of_what_runs_on_are_valid_orders() -> None:
    for _, line in EXAMPLES:
        words = shlex.split(line, comments=True)
        at = words.index("receiver") if "receiver" in words else None
        if at is not None and {tuple(words[at + 1 : end]) for end in (at + 2, at + 3)} & set(RUNS_ON):
            command: click.Command = next(each for path, each in COMMANDS if path == (words[at + 1],))
            command.make_context(words[at + 1], words[at + 2 :])
