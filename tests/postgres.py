"""A PostgreSQL server of the tests' own, made of the programs that are installed here; and how ledgers are put on it.

RECEIVER_TEST_POSTGRES names another server by its URL. The server is real and syncs to disk. It listens on the loopback
and in a directory of its own; it will not run as root, so it runs as somebody else then.
"""

import asyncio
import atexit
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

GIVEN = "RECEIVER_TEST_POSTGRES"
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "40",
    "fsync": "on",
    "synchronous_commit": "on",
    "autovacuum": "off",
    "shared_buffers": "32MB",
    "max_wal_senders": "4",
    "log_min_messages": "warning",
}
END_OURS = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'receiver'"
"""Ends all sessions of a server of ours."""
_numbers = itertools.count()


def programs() -> Path | None:
    """The newest directory with PostgreSQL's programs; None when there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


class Server:
    """A server in a directory of its own, which can be stopped, killed and started again."""

    def __init__(self, **settings: str) -> None:
        found = programs()
        assert found is not None
        self.programs = found
        self.directory = Path(tempfile.mkdtemp(prefix="receiver-postgres-"))
        self.data = self.directory / "data"
        self.user = self._somebody()
        self.settings = {**SETTINGS, **settings}
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        if self.user:
            os.chown(self.directory, pwd.getpwnam(self.user).pw_uid, -1)

    def make(self) -> "Server":
        """Makes a new database cluster."""
        self.run("initdb", "-D", self.data, "-U", "receiver", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8")
        return self

    def run(self, program: str, *arguments: object) -> None:
        command = [str(self.programs / program), *map(str, arguments)]
        done = subprocess.run(command, user=self.user, capture_output=True, cwd=self.directory, check=False)
        assert done.returncode == 0, done.stderr.decode()

    def start(self) -> "Server":
        options = {"port": str(self.port), "unix_socket_directories": str(self.directory), **self.settings}
        command = [str(self.programs / "postgres"), "-D", str(self.data)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, user=self.user, cwd=self.directory, stdout=log, stderr=log)
        self._wait_until_ready()
        return self

    def _wait_until_ready(self) -> None:
        while True:
            assert self._process is not None
            assert self._process.poll() is None, (self.directory / "log").read_text()
            try:
                psycopg.connect(self.url("public")).close()
                return
            except psycopg.OperationalError:
                time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Ends it: SIGINT ends all sessions first, SIGQUIT is a crash; and waits for the end of all its processes."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()
            self._process = None

    def kill(self) -> None:
        """Kills it with all its processes, as a power cut would, but that the system's memory survives."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        self.stop(signal.SIGKILL)
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)

    def tell(self, *statements: str) -> None:
        with psycopg.connect(self.url("public"), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def standby(self) -> "Server":
        """Another server that follows this one."""
        other = Server()
        source = f"host=127.0.0.1 port={self.port} user=receiver"
        other.run("pg_basebackup", "-D", other.data, "-d", source, "-R", "-X", "stream", "-c", "fast")
        return other.start()

    def promote(self) -> None:
        self.run("pg_ctl", "promote", "-w", "-D", self.data)

    def remove(self) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.directory, ignore_errors=True)

    def url(self, schema: str, *, port: int | None = None, database: str = "postgres") -> str:
        options = quote(f"-csearch_path={schema}", safe="")
        return f"postgresql://receiver@127.0.0.1:{port or self.port}/{database}?options={options}"

    @staticmethod
    def _somebody() -> str | None:
        if os.geteuid() != 0:
            return None
        return next(name for name in ("postgres", "nobody") if name in {each.pw_name for each in pwd.getpwall()})


@cache
def shared() -> Server:
    """One server for all tests that leave it as it is."""
    server = Server().make().start()
    atexit.register(server.remove)
    return server


def lacking() -> str | None:
    """Why there can be no server here; None when there can."""
    if os.environ.get(GIVEN) or programs():
        return None
    return f"PostgreSQL is not installed, and {GIVEN} names no server"


def require() -> None:
    """Skips a test when there can be no server here, and fails it where there must be one."""
    if why := lacking():
        if os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(why)


def new_ledger() -> str:
    """The URL of a ledger on the shared server, which is not made yet."""
    require()
    given = os.environ.get(GIVEN)
    schema = f"ledger_{os.getpid()}_{next(_numbers)}"
    url = given or shared().url("public")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"create schema {schema}".encode())
    if given is None:
        return shared().url(schema)
    return f"{given}{'&' if '?' in given else '?'}options={quote(f'-csearch_path={schema}', safe='')}"


async def execute(url: str, *statements: str) -> None:
    """Runs statements on a connection of their own."""

    def run() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    await asyncio.to_thread(run)
