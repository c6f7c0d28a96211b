"""What receives callbacks: this program, and others. Each is started in a directory of its own, and stopped."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from servers import SECRET, SERVE
from servers import environment as told

from benchmarks import peers
from benchmarks.machine import free_port

PATIENCE = 30.0
"""Seconds for a server to start or to stop."""
PEER = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parent.parent)}


class Started(NamedTuple):
    """`pids` are its processes, its own and those of a database beneath it; `path` is where it wants callbacks, if not
    at their own."""

    port: int
    pids: list[int]
    path: str | None = None


class Contender(NamedTuple):
    name: str
    about: str
    start: Callable[[ExitStack, Path], Started]
    """Raises Missing where something is not installed."""
    ours: bool = False
    filled: bool = False


class Missing(Exception):
    """What is not installed."""


@contextmanager
def process(
    argv: Sequence[str | Path],
    directory: Path,
    environment: dict[str, str],
    user: str | None = None,
    end: int = signal.SIGKILL,
) -> Iterator[int]:
    """A program under measurement, its output in a file; it is gone afterwards."""
    with (directory / f"{Path(argv[0]).name}.log").open("ab") as log:
        made = subprocess.Popen(argv, cwd=directory, env=environment, stdout=log, stderr=log, user=user)
        try:
            yield made.pid
        finally:
            made.send_signal(end)
            made.wait(PATIENCE)


def wait_for(port: int, directory: Path, *, http: bool = True) -> None:
    """Waits until a server answers, or at least listens."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as probe:
                probe.sendall(b"GET /healthz HTTP/1.0\r\n\r\n" if http else b"")
                if not http or probe.recv(1):
                    return
        except OSError:
            time.sleep(0.02)
    said = "\n".join(each.read_text(errors="replace")[-2000:] for each in directory.glob("*.log"))
    raise TimeoutError(f"nothing answers on port {port}: {said}")


def _receiver(given: dict[str, str], stack: ExitStack, directory: Path) -> Started:
    """A provider that takes connections and never answers stands behind it."""
    silent = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1024))
    port = free_port()
    provider = f"http://127.0.0.1:{silent.getsockname()[1]}"
    environment = told(PORT=str(port), RUNNINGHUB_BASE_URL=provider, **given)
    pid = stack.enter_context(process(SERVE, directory, environment))
    wait_for(port, directory)
    return Started(port, [pid])


def _starlette(
    module: str, stack: ExitStack, directory: Path, *given: str, python: str | Path = sys.executable
) -> Started:
    port = free_port()
    pid = stack.enter_context(
        process([python, "-m", f"benchmarks.programs.{module}", str(port), *given], directory, PEER)
    )
    wait_for(port, directory)
    return Started(port, [pid])


def _naive(stack: ExitStack, directory: Path) -> Started:
    return _starlette("naive", stack, directory, str(directory / "naive.db"), SECRET)


def _redis(stack: ExitStack, directory: Path) -> Started:
    server, port = found("redis-server"), str(free_port())
    where = ["--bind", "127.0.0.1", "--port", port, "--dir", str(directory)]
    pid = stack.enter_context(
        process([server, *where, "--appendonly", "yes", "--appendfsync", "always", "--save", ""], directory, {})
    )
    wait_for(int(port), directory, http=False)
    started = _starlette("redis_stream", stack, directory, port, python=_peer("python"))
    return started._replace(pids=[*started.pids, pid])


def _postgres(stack: ExitStack, directory: Path) -> Started:
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    server, port = found("postgres", *places), str(free_port())
    home = Path(stack.enter_context(TemporaryDirectory(prefix="bench-postgres-")))
    user = None
    if os.geteuid() == 0:  # it refuses to run as root
        user = "postgres"
        shutil.chown(home, "postgres")
    create = [found("initdb", *places), "--no-sync", "--username=bench", "--auth=trust", f"--pgdata={home}/data"]
    made = subprocess.run(create, cwd=home, capture_output=True, text=True, user=user)
    if made.returncode:
        raise Missing(f"an initdb that works ({made.stderr.strip()})")
    where = ["-D", f"{home}/data", "-p", port, "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
    pid = stack.enter_context(process([server, *where], home, PEER, user, signal.SIGINT))
    wait_for(int(port), home, http=False)
    started = _starlette("postgres_rows", stack, directory, port, python=_peer("python"))
    return started._replace(pids=[*started.pids, pid])


def _hookspool(stack: ExitStack, directory: Path) -> Started:
    command, port = _peer("hookspool"), free_port()
    secret = directory / "secret"
    secret.touch(mode=0o600)
    secret.write_text(SECRET)
    (directory / "config.toml").write_text(
        f'[intake]\nlisten = "127.0.0.1:{port}"\n[limits]\nmin_free_bytes = 0\n'
        '[sources.bench]\nmodule = "hookspool.sources.template"\nscheme = "url-token"\nkey = "taskId"\n'
        f'dedup = "body_sha256"\naction = "none"\nsecrets.secret = {{ file = "{secret}" }}\n'
        '[destinations.none]\ntype = "script"\nargv = ["/bin/true"]\n'
    )
    environment = {**PEER, "HOOKSPOOL_HOME": str(directory)}
    subprocess.run([command, "migrate"], cwd=directory, env=environment, check=True, capture_output=True)
    pid = stack.enter_context(process([command, "intake"], directory, environment))
    wait_for(port, directory)
    return Started(port, [pid], f"/hooks/bench?token={SECRET}")


def _webhook(hook: dict[str, object], stack: ExitStack, directory: Path) -> Started:
    """Debian's. `hook` says what it does with a callback."""
    server, port = found("webhook"), free_port()
    token = {"match": {"type": "value", "value": SECRET, "parameter": {"source": "url", "name": "token"}}}
    (directory / "hooks.json").write_text(
        json.dumps([{"id": "bench", "trigger-rule": token, "command-working-directory": str(directory), **hook}])
    )
    argv = [server, "-hooks", "hooks.json", "-ip", "127.0.0.1", "-port", str(port)]
    pid = stack.enter_context(process(argv, directory, PEER))
    wait_for(port, directory)
    return Started(port, [pid], f"/hooks/bench?token={SECRET}")


def _peer(name: str) -> Path:
    """A command out of the packages of other programs. Raises Missing."""
    command = peers.program(name)
    if command is None:
        raise Missing("what it needs from the Python package index")
    return command


def found(name: str, *places: Path) -> str:
    """Where a program is. Raises Missing."""
    path = shutil.which(name) or next((str(each / name) for each in places if (each / name).exists()), None)
    if path is None:
        raise Missing(name)
    return path


AT_ONCE: dict[str, object] = {"execute-command": "/bin/true"}
KEPT: dict[str, object] = {
    "execute-command": "/bin/sh",
    "include-command-output-in-response": True,
    "pass-arguments-to-command": [
        {"source": "string", "name": "-c"},
        {"source": "string", "name": 'echo "$0" >> kept && sync -d kept'},
        {"source": "entire-payload"},
    ],
}

BARE = Contender("noop", "the bare route once more: what chance does", partial(_starlette, "noop"))
OURS = Contender("receiver", "receiver", partial(_receiver, {"RECEIVER_CONFIRM": "true"}), ours=True)
CONTENDERS = (
    BARE,
    OURS,
    Contender("believing", "receiver, confirm off", partial(_receiver, {"RECEIVER_CONFIRM": "false"}), ours=True),
    Contender("filled", "receiver on the long ledger", partial(_receiver, {}), ours=True, filled=True),
    Contender("redis", "a Starlette route that adds to a Redis stream, appendfsync always", _redis),
    Contender("postgres", "a Starlette route that inserts into PostgreSQL", _postgres),
    Contender("naive", "a Starlette route that inserts with sqlite-utils", _naive),
    Contender("hookspool", "hookspool", _hookspool),
    Contender(
        "webhook_kept",
        "Debian's webhook, which waits for a shell command that appends and syncs",
        partial(_webhook, KEPT),
    ),
    Contender(
        "webhook_at_once",
        "Debian's webhook, which answers before its command has run: nothing is kept",
        partial(_webhook, AT_ONCE),
    ),
)
