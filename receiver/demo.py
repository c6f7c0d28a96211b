"""The whole job once, told as a story: a simulated RunningHub and a real server, as processes, over real HTTP.

Every scene is checked through the API, and all of them once more against the database. No key and no network is needed.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from receiver.client import Client
from receiver.model.errors import ReceiverError
from receiver.model.links import Links
from receiver.model.records import Purpose
from receiver.model.views import ActionView, TaskDetail
from receiver.store.sqlite.offline import summary
from receiver.web.server import listen

MODEL = "google/veo3.1-pro/reference-to-video-official-stable"
INPUT = {
    "prompt": "Use the first image as the background. The characters from the second and third images meet in this "
    "scene, and an interesting story unfolds.",
    "imageUrls": ["https://www.runninghub.cn/view?filename=one.jpg", "https://www.runninghub.cn/view?filename=two.jpg"],
    "resolution": "1080p",
    "generateAudio": False,
}
ADMIN_TOKEN = "demo-admin-token-of-this-run"
BEGUN = time.monotonic()
PATIENCE = 15.0
"""Seconds for any one thing to happen."""
EXPECTED = {
    "tasks succeeded": 4,
    "events from callback": 3,
    "events from query": 1,
    "actions done": 5,
    "tries done": 5,
    "tries retry": 1,
    "tries dead": 1,
    "deliveries kept": 4,
    "deliveries counted": 5,
    "files": 4,
    "misses closed": 1,
}
CONFIG = """
public_url = "{server}"
port = {port}
admin_token = "{token}"
[callbacks]
disk_floor = 0
[runninghub]
base_url = "{simulator}"
api_key = "demo0000demo0000demo0000demo0000"
[[actions]]
name = "keep-files"
kind = "download"
directory = "{directory}/results"
[[actions]]
name = "tell"
kind = "http"
url = "http://127.0.0.1:{hook}/hook"
when = {{ labels = {{ tell = "yes" }} }}
after = ["keep-files"]
allow_private = true
max_attempts = 2
"""


class DemoFailed(ReceiverError):
    """Something that the story says did not happen."""


class Hook(ThreadingHTTPServer):
    """A user's own endpoint: broken until it is mended, and it remembers every idempotency key it saw."""

    def __init__(self) -> None:
        self.mended = False
        self.keys: list[str] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                hook.keys.append(self.headers["idempotency-key"])
                self.send_response(200 if hook.mended else 500)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """The story is told by somebody else."""

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


@dataclass(frozen=True)
class Stage:
    """What the scenes are played on."""

    client: Client
    simulator: str
    hook: Hook

    def submit(self, *faults: str, **labels: str) -> str:
        """Orders the example, with what shall go wrong with it."""
        _post(f"{self.simulator}/simulator/plan", {"faults": list(faults)})
        task = self.client.submit(MODEL, INPUT, labels=labels)
        tell(f"submitted as task {task.id}")
        return task.id

    def until(self, task_id: str, true: Callable[[TaskDetail], bool]) -> TaskDetail:
        """The task as soon as something is true of it. Raises TimeoutError when that takes too long."""
        return self.client.wait(task_id, until=true, timeout=PATIENCE)


def main() -> int:
    """Plays the story. Returns 0 only if all of it happened."""
    directory = Path(tempfile.mkdtemp(prefix="receiver-demo-"))
    database = directory / "receiver.db"
    try:
        with _stage(directory) as stage:
            for play in (_plain, _missed, _forged, _duplicate, _replayed):
                play(stage)
        scene("The ledger, read from the database file")
        found = summary(database)
        for name, count in EXPECTED.items():
            expect(found.get(name, 0) == count, f"{count:3d} {name}")
    except (ReceiverError, OSError) as problem:
        print(f"\nThe demo failed: {problem}\nThe server's log is {directory / 'server.log'}", file=sys.stderr)
        return 1
    print(f"""
All of it happened. Look at it afterwards, without changing anything:
  sqlite3 'file:{database}?mode=ro' 'select id, state from tasks'
  ls -l {directory / "results"}/*
  less {directory / "server.log"}""")
    return 0


def scene(title: str) -> None:
    """Begins a part of the story."""
    print(f"\n{title}", flush=True)


def tell(sentence: str) -> None:
    """Prints a sentence of the story with the seconds since its beginning."""
    print(f"  {time.monotonic() - BEGUN:5.1f} s  {sentence}", flush=True)


def expect(true: object, sentence: str) -> None:
    """Tells what is true, or stops the story."""
    if not true:
        raise DemoFailed(f"this did not happen: {sentence}")
    tell(sentence)


# ---------------------------------------------------------------- the scenes


def _plain(stage: Stage) -> None:
    scene(f"1. A task: {MODEL}")
    task_id = stage.submit()
    task = stage.until(task_id, _saved)
    delivery = task.deliveries[0]
    expect(delivery.claim == "succeeded", f"RunningHub called back: delivery {delivery.id} at {delivery.received_at}")
    event = task.event
    told = event is not None and event.source == "callback" and event.confirmed
    expect(told, f"RunningHub was asked and confirms it: task {task.provider_task_id} succeeded")
    file = Path(str(task.results[0].file))
    recorded = task.actions[0].tries[-1].detail["files"]
    content = file.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    saved = f"its result is saved: {file.name}, {len(content)} bytes, sha256 {digest[:16]}…"
    expect(digest in str(recorded), saved)


def _missed(stage: Stage) -> None:
    scene("2. A callback that never comes")
    task_id = stage.submit("lost_callback")
    stage.until(task_id, lambda task: task.state == "submitted")
    deadline = time.monotonic() + PATIENCE
    while (task := stage.client.reconcile(task_id)).state == "submitted" and time.monotonic() < deadline:
        time.sleep(0.3)
    expect(
        task.state == "succeeded" and not task.deliveries, "no callback came; asked by hand, RunningHub says: succeeded"
    )
    task = stage.until(task_id, lambda task: task.callback.miss == "late" and _saved(task))
    detail = next(check for check in task.checks if check.kind == "detail")
    why = detail.summary.partition(" on POST")[0] + ": " + detail.summary.rpartition(": ")[2]
    expect(task.callback.cause == "unreachable", f"the webhook detail says why: {why}")
    delivery = task.deliveries[0]
    expect(delivery.purpose == "resend", f"it was asked for again at a fresh URL and came: delivery {delivery.id}")
    expect(_saved(task), "its result is saved as well")


def _forged(stage: Stage) -> None:
    scene("3. A forged callback")
    before = len(stage.client.deliveries().items)
    task = stage.client.tasks().items[0]
    forged = Links(["a secret that somebody guessed"], stage.client.url).issue(task.id, Purpose.SUBMIT)
    status = _post(str(forged), {"event": "TASK_END", "taskId": "1", "eventData": {"status": "FAILED"}})
    expect(status == 404, "signed with a wrong secret: answered 404")
    expect(len(stage.client.deliveries().items) == before, "and nothing was stored")


def _duplicate(stage: Stage) -> None:
    scene("4. A callback that comes twice")
    task_id = stage.submit("duplicate")
    task = stage.until(task_id, lambda task: _saved(task) and bool(task.deliveries) and task.deliveries[0].count == 2)
    delivery = task.deliveries[0]
    expect(delivery.count == 2, f"delivery {delivery.id} was counted twice and kept once")
    expect(len(task.actions) == 1, "one event, one action")


def _replayed(stage: Stage) -> None:
    scene("5. An action that fails, dies and is replayed")
    task_id = stage.submit(tell="yes")
    task = stage.until(task_id, lambda task: len(task.actions) == 2 and _action(task, "tell").state == "dead")
    action = _action(task, "tell")
    expect(len(action.tries) == 2, f"action {action.id} failed twice and is dead: {action.reason}")
    stage.hook.mended = True
    stage.client.retry(action.id)
    tell("its endpoint was mended, and the action retried")
    task = stage.until(task_id, lambda task: _action(task, "tell").state == "done")
    keys = stage.hook.keys
    expect(len(keys) == 3 and len(set(keys)) == 1, f"done; all three tries carried the key {keys[0]}")


def _saved(task: TaskDetail) -> bool:
    """Whether the task's file is on disk by an action that is done."""
    done = any(action.name == "keep-files" and action.state == "done" for action in task.actions)
    return done and all(result.file for result in task.results)


def _action(task: TaskDetail, name: str) -> ActionView:
    return next(action for action in task.actions if action.name == name)


# ---------------------------------------------------------------- the stage


@contextmanager
def _stage(directory: Path) -> Iterator[Stage]:
    """The simulator, the server and the user's endpoint, all ended afterwards; the server by SIGTERM, with exit 0."""
    with ExitStack() as stack:
        hook = stack.enter_context(Hook())
        stack.callback(hook.shutdown)
        ports = _free_port(), _free_port()
        simulator, server = (f"http://127.0.0.1:{port}" for port in ports)
        simulate = f"simulate --port {ports[0]} --task-seconds 1 --retry-seconds 1,1,1"
        _start(stack, simulate, directory, "simulator.log")
        _answering(f"{simulator}/simulator/state")
        given = {"port": ports[1], "token": ADMIN_TOKEN, "directory": directory, "hook": hook.server_port}
        config = CONFIG.format(simulator=simulator, server=server, **given)
        (directory / "receiver.toml").write_text(config)
        running = _start(stack, "serve", directory, "server.log")
        _answering(f"{server}/readyz")
        tell(f"a simulated RunningHub at {simulator}, receiver at {server}, its ledger in {directory}")
        client = stack.enter_context(Client(server, ADMIN_TOKEN))
        yield Stage(client, simulator, hook)
        running.terminate()
        scene("6. The end")
        expect(running.wait(timeout=PATIENCE) == 0, "the server was told to stop, and stopped")


def _start(stack: ExitStack, command: str, directory: Path, log: str) -> subprocess.Popen[bytes]:
    """A `receiver` of its own process, free of the caller's settings, killed at the latest when the stage is left."""
    ours = ("RECEIVER_", "RUNNINGHUB_", "DATABASE_URL", "HOST", "PORT")
    foreign = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    output = stack.enter_context((directory / log).open("wb"))
    process = subprocess.Popen(
        [sys.executable, "-m", "receiver", *command.split()],
        cwd=directory,
        env=foreign,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
    )
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


def _free_port() -> int:
    with listen("127.0.0.1", 0) as listener:
        return int(listener.getsockname()[1])


def _answering(url: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with _direct.open(url, timeout=5):
                return
        except OSError as error:
            if time.monotonic() > deadline:
                raise DemoFailed(f"nothing answers at {url}: {error}") from error
            time.sleep(0.05)


def _post(url: str, document: object) -> int:
    """POSTs JSON and returns the HTTP status."""
    request = urllib.request.Request(url, json.dumps(document).encode(), {"content-type": "application/json"})
    try:
        with _direct.open(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refusal:
        refusal.close()
        return refusal.code


_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Everything is on this machine; a proxy of the environment is not asked."""
